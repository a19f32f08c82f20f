"""Error rates, BLEU and the rest that speech recognition is measured by.

Texts are normalised as in Radford et al. 2022, arXiv:2212.04356, section 4.4 and appendix C, by ``whisper_normalizer``.
Differs from it in: without the four contractions that it adds to OpenAI's (kinda, sorta, dunno, cause).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from zoo.shared.errors import UserError
from zoo.whisper.evaluation.edits import align, distance
from zoo.whisper.languages import UNSPACED

Normaliser = Callable[[str], str]

_ADDED = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b")


@cache
def english() -> Normaliser:
    """OpenAI's normaliser of English: numbers as digits, contractions in full, American spelling, no fillers."""
    from whisper_normalizer.english import EnglishTextNormalizer

    normalise = EnglishTextNormalizer()
    for pattern in _ADDED:
        normalise.replacers.pop(pattern, None)
    return normalise


@cache
def basic(*, letters: bool = False, diacritics: bool = True) -> Normaliser:
    """OpenAI's normaliser of all other languages: lower case without signs and without what stands in brackets.

    Args:
        letters: Put spaces between all characters, so that errors are those of characters.
        diacritics: Keep them.
    """
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(remove_diacritics=not diacritics, split_letters=letters)


def normaliser(language: str | None) -> Normaliser:
    """The normaliser of a language: English has one of its own; where no spaces are written, characters are words."""
    return english() if language in (None, "en") else basic(letters=language in UNSPACED)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Edits from what was said to what was written; sums with ``+``."""

    words: int = 0
    """That were said."""
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    characters: int = 0
    """That were said, spaces included."""
    character_errors: int = 0

    @property
    def word_errors(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float | None:
        """Errors for each word; None where nothing was said."""
        return self.word_errors / self.words if self.words else None

    @property
    def cer(self) -> float | None:
        """Errors for each character; None where nothing was said."""
        return self.character_errors / self.characters if self.characters else None

    def __add__(self, other: Errors) -> Errors:
        return Errors(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"wer": self.wer, "cer": self.cer, **asdict(self)}


def count_errors(said: str, written: str, *, language: str | None, plain: bool = False) -> Errors:
    """The errors of one text.

    Args:
        said: The reference.
        written: The model's.
        language: Code of the language that both are in; decides the normaliser. None: English.
        plain: Compare the texts as they are.
    """
    if not plain:
        normalise = normaliser(language)
        said, written = normalise(said), normalise(written)
    words, found = said.split(), written.split()
    kinds = Counter(edit.kind for edit in align(words, found))
    reference, hypothesis = " ".join(words), " ".join(found)
    return Errors(
        words=len(words),
        substitutions=kinds["substitution"],
        deletions=kinds["deletion"],
        insertions=kinds["insertion"],
        characters=len(reference),
        character_errors=distance(reference, hypothesis),
    )


def wer_error(counts: Sequence[Errors]) -> float | None:
    """Standard error of the WER of utterances that were drawn; None for fewer than two, or without words.

    The linear approximation for a ratio of sums.
    """
    total = sum(counts, Errors())
    if len(counts) < 2 or total.wer is None:
        return None
    spread = sum((one.word_errors - total.wer * one.words) ** 2 for one in counts)
    return float((spread * len(counts) / (len(counts) - 1)) ** 0.5 / total.words)


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """BLEU of a corpus as ``sacrebleu`` computes it, with its signature, which says how.

    Raises:
        UserError: ``sacrebleu`` is not installed.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise UserError("BLEU needs sacrebleu: pip install 'paper-zoo[eval]'") from error
    metric = BLEU()
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return {"bleu": score.score, "signature": str(metric.get_signature())}


def language_accuracy(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """How often the language was told.

    Args:
        pairs: Spoken and detected code.

    Returns:
        ``accuracy``, ``utterances``, ``by_language`` (share of each spoken one) and ``confusions`` (``es>pt``: count,
        the most frequent first).

    Raises:
        ValueError: No pairs.
    """
    counted = Counter(pairs)
    if not counted:
        raise ValueError("no language was detected")
    spoken: Counter[str] = Counter()
    for (language, _), count in counted.items():
        spoken[language] += count
    wrong = {f"{said}>{heard}": count for (said, heard), count in counted.most_common() if said != heard}
    return {
        "accuracy": 1 - sum(wrong.values()) / spoken.total(),
        "utterances": spoken.total(),
        "by_language": {language: counted[language, language] / count for language, count in sorted(spoken.items())},
        "confusions": wrong,
    }
