"""Documents that know too much for their date (Talkie's leakage filter): by dated terms and by a learnt classifier.

A wrong date, a modern introduction or a footnote lets later knowledge into a corpus with a cutoff. A list of terms with
the year from which on people wrote them catches what is certain; a classifier of n-grams, learnt from documents before
and after the cutoff, catches the rest. A date after the cutoff is dropped without asking either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.shared.errors import UserError
from zoo.shared.text.classifier import FEWEST, DocumentClassifier, sample
from zoo.shared.text.documents import Document
from zoo.shared.text.quality import Examples, batches, snippet

THRESHOLD = 0.5

# Term -> first year in which ordinary print had it in its present sense. Words with an older sense are left out. A term
# with capitals counts only as written here or in capitals throughout: `nato` is Latin too, and `cou'dna` is in verse.
TERMS: dict[str, int] = {
    "phonograph": 1877, "motor car": 1895, "motorcar": 1895, "cinematograph": 1895, "x rays": 1896, "radium": 1898,
    "radioactive": 1898, "radioactivity": 1898, "zeppelin": 1900, "aeroplane": 1903, "suffragette": 1906,
    "airplane": 1907, "television": 1907, "atomic bomb": 1914, "atomic number": 1914, "isotope": 1914,
    "isotopes": 1914, "League of Nations": 1914, "jazz": 1915, "thyroxine": 1915, "bolshevik": 1917,
    "bolsheviks": 1917, "soviet": 1917, "Leninism": 1918, "airport": 1919, "airports": 1919, "fascism": 1919,
    "fascist": 1919, "protons": 1920, "insulin": 1921, "soviet union": 1922, "robot": 1923, "robots": 1923,
    "Hitler": 1923, "quantum mechanics": 1925, "zipper": 1925, "radio and television": 1928,
    "radio or television": 1928, "penicillin": 1929, "astronaut": 1929, "polyester": 1929, "neutron": 1932,
    "neutrons": 1932, "New Deal": 1932, "positron": 1933, "gestapo": 1934, "testosterone": 1935, "steroid": 1936,
    "nylon": 1938, "blitzkrieg": 1939, "second world war": 1939, "World War I": 1939, "World War II": 1939,
    "jeep": 1941, "radar": 1941, "plutonium": 1942, "United Nations": 1942, "DNA": 1944, "genocide": 1944,
    "Cold War": 1945, "transistor": 1948, "NATO": 1949, "integrated circuit": 1953, "sputnik": 1957, "software": 1958,
    "lasers": 1960, "vietnam war": 1964, "quarks": 1964, "ISBN": 1967, "microprocessor": 1970,
    "Project Gutenberg": 1971, "anchorwoman": 1973, "internet": 1974, "email": 1980, "emails": 1980, "e-mail": 1980,
    "e-mails": 1980, "world wide web": 1990, "http": 1991, "website": 1993, "websites": 1993, "https": 1995,
    "smartphone": 1997, "wikipedia": 2001, "facebook": 2004, "youtube": 2005, "covid": 2020,
}  # fmt: skip

# Parts possessives, so that the name is found; keeps `e-mail`, whose parts stand side by side in older texts too.
_WORD = re.compile(r"(?<![^\W_])e-mails?(?![^\W_])|[^\W_]+", re.IGNORECASE)


def read_terms(path: str | Path) -> dict[str, int]:
    """Terms of a file with lines ``term<TAB>year``; blank lines and lines that begin with ``#`` are passed over.

    A term in lower case counts in any case, one with capitals as written and in capitals throughout.

    Raises:
        UserError: The file cannot be read, or a line is not of this form.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    terms = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        term, tab, year = line.rpartition("\t")
        if not tab or not year.strip().isdigit() or not _words(term):
            raise UserError(f"{path} line {number}: expected a term, a tab and a year")
        terms[" ".join(_words(term))] = int(year)
    if not terms:
        raise UserError(f"{path} holds no terms")
    return terms


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _spellings(term: str) -> tuple[str, ...]:
    """How a term must be written to count: in any case (its lower case alone), or as listed and in capitals."""
    return (term,) if term == term.lower() else (term, term.upper())


class TermFilter:
    """Finds terms in documents.

    Args:
        terms: Term to the year from which on it was written. A term in lower case counts in any case, one with capitals
            as written and in capitals throughout.
        cutoff: Terms of later years count.
    """

    def __init__(self, terms: Mapping[str, int], *, cutoff: int) -> None:
        self._years = {term: year for term, year in terms.items() if year > cutoff}
        # Number of words -> those words -> term.
        self._plain: dict[int, dict[tuple[str, ...], str]] = {}
        self._named: dict[int, dict[tuple[str, ...], str]] = {}
        for term in self._years:
            for spelling in (spellings := _spellings(term)):
                words = tuple(_words(spelling))
                table = self._plain if len(spellings) == 1 else self._named
                table.setdefault(len(words), {})[words] = term

    def find(self, text: str) -> dict[str, int]:
        """The late terms of a text as they are listed, with their years."""
        words = _words(text)
        found: dict[str, int] = {}
        for by_length, sequence in ((self._plain, [word.lower() for word in words]), (self._named, words)):
            for length, terms in by_length.items():
                grams = zip(*(sequence[shift:] for shift in range(length)), strict=False)
                found |= {(term := terms[gram]): self._years[term] for gram in terms.keys() & set(grams)}
        return found


class AnachronismFilter:
    """Drops documents that are dated after the cutoff, name something later, or read as later ones do.

    Args:
        cutoff: Last year that is allowed.
        terms: Term to year.
        classifier: From :func:`learn_dates`; None uses dates and terms alone.
        threshold: Probability of being later from which on the classifier drops a document.
    """

    def __init__(
        self,
        cutoff: int,
        *,
        terms: Mapping[str, int] = TERMS,
        classifier: DocumentClassifier | None = None,
        threshold: float = THRESHOLD,
    ) -> None:
        self.cutoff, self.classifier, self.threshold = cutoff, classifier, threshold
        self._terms = TermFilter(terms, cutoff=cutoff)
        self._counts: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._examples: list[dict[str, Any]] = []
        self._kept, self._dropped = Examples(), Examples()

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents that are kept, in their order."""
        for batch in batches(documents):
            scores = [0.0] * len(batch) if self.classifier is None else self.classifier.score(batch).tolist()
            for document, score in zip(batch, scores, strict=True):
                if self._keeps(document, score):
                    yield document

    def _keeps(self, document: Document, score: float) -> bool:
        self._counts["undated"] += document.year is None
        if document.year is not None and document.year > self.cutoff:
            self._counts["dated after the cutoff"] += 1
            return False
        found = self._terms.find(document.text)
        if found:
            self._counts["with late terms"] += 1
            self._found.update(found.keys())
            if len(self._examples) < 10:
                year, text = document.year, document.text
                self._examples.append({"id": document.id, "year": year, "terms": found, "text": _around(text, found)})
            return False
        drop = self.classifier is not None and score > self.threshold
        if self.classifier is not None:
            (self._dropped if drop else self._kept).add(document, score)
        self._counts["late by the classifier" if drop else "kept"] += 1
        return not drop

    def report(self) -> dict[str, Any]:
        """Counts by reason, terms by frequency, and examples."""
        reasons = ("kept", "dated after the cutoff", "with late terms", "late by the classifier", "undated")
        report: dict[str, Any] = {
            "cutoff": self.cutoff,
            "counts": {reason: self._counts[reason] for reason in reasons},
            "terms": dict(self._found.most_common(20)),
            "examples": self._examples,
            "classifier": None,
        }
        if self.classifier is not None:
            quality = self.classifier.quality
            report["classifier"] = {
                "threshold": self.threshold,
                "accuracy": quality.accuracy,
                "auc": quality.auc,
                "after": quality.positives,
                "before": quality.negatives,
                "kept": self._kept.report(),
                "dropped": self._dropped.report(),
            }
        return report


def learn_dates(
    documents: Iterable[Document], *, cutoff: int, modern: Iterable[Document] = (), seed: int = 0
) -> DocumentClassifier | None:
    """Learn later documents from earlier ones, by n-grams of one and two words.

    Args:
        documents: Those with a known year are learnt from; read twice.
        cutoff: Last year of the earlier side.
        modern: Further documents of the later side, dated or not.
        seed: Chooses among more documents than are learnt from.

    Returns:
        A classifier whose score is the probability of being later; None where a side has too few documents.
    """
    early, late = (
        sample(
            (d for d in documents if d.year is not None and (d.year > cutoff) == is_late), seed=seed, purpose="dated"
        )
        for is_late in (False, True)
    )
    late = late + sample(modern, seed=seed, purpose="modern")
    if min(len(early), len(late)) < FEWEST:
        return None
    return DocumentClassifier(late, early, longest=2, inverse_penalty=1.0, seed=seed)  # dates are often wrong


def _around(text: str, found: Mapping[str, int]) -> str:
    """The place of the first of the terms that were found."""
    places = [place.start() for term in found if (place := _pattern(term).search(text))]
    start = max(min(places) - 60, 0) if places else 0
    return snippet(text[start:])


def _pattern(term: str) -> re.Pattern[str]:
    """Finds a term, however its words are set apart."""
    spellings = _spellings(term)
    either = "|".join(r"[\W_]+".join(re.escape(word) for word in _words(spelling)) for spelling in spellings)
    return re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])", re.IGNORECASE if len(spellings) == 1 else 0)
