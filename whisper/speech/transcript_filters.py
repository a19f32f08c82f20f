"""The filters of Whisper's training data (arXiv:2212.04356, Section 2.1).

Transcripts that other machines made are told by their case and punctuation; the language of a text must be the one that
is spoken, except that English text for other speech is translation; texts that resemble an earlier one go.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from zoo.shared.errors import UserError
from zoo.shared.text.document_readers import Document
from zoo.whisper.languages import LANGUAGES
from zoo.whisper.speech.records import Utterance

CASE_LETTERS = 40
"""Letters with two cases that a source must have before its case says anything."""

PUNCTUATION_WORDS = 100
"""Words that a source must have before missing commas say anything."""

CONFIDENCE = 0.9
"""Probability from which on the language of a text is believed."""

LANGUAGE_LETTERS = 20
"""Letters that a text must have before its language is looked at."""

SIMILARITY = 0.8
"""Jaccard similarity from which on two texts are the same."""

_NGRAM = 3  # words: sentences of a bounded domain share most of their single words
_HASHES, _ROWS = 64, 2
_EXAMPLES = 5

# What people write and simple machines do not: in the scripts of the languages that have it.
_COMPLEX = frozenset(",!?;:，、！？；：،؛؟。।՞՜፣;·")
_CODES = {"jv": "jw", "nb": "no", "fil": "tl", "iw": "he"}
# Written so much alike that a sentence does not tell them apart.
_ALIKE = (frozenset({"no", "nn", "da"}), frozenset({"hr", "bs", "sr"}), frozenset({"id", "ms"}))


@dataclass
class Dropped:
    """What a filter dropped or changed: numbers by reason, and the first examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, utterance: Utterance, **more: str) -> None:
        """Take note of an utterance."""
        self.counts[reason] += 1
        if len(self.examples[reason]) < _EXAMPLES:
            self.examples[reason].append({"id": utterance.id, "text": utterance.text[:160], **more})

    def report(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"counts": dict(self.counts), "examples": dict(self.examples)}


def machine_made(texts: Iterable[str]) -> str | None:
    """Why the texts of one source were hardly written by people, or None.

    Args:
        texts: All texts of the source: a single sentence says little.

    Returns:
        ``all upper case``, ``all lower case``, ``no commas, exclamation or question marks`` or None.
    """
    upper = lower = words = marks = 0
    for text in texts:
        upper += sum(character.isupper() for character in text)
        lower += sum(character.islower() for character in text)
        words += len(text.split())
        marks += sum(character in _COMPLEX for character in text)
    if upper + lower >= CASE_LETTERS and not (upper and lower):
        return "all upper case" if upper else "all lower case"
    if words >= PUNCTUATION_WORDS and not marks:
        return "no commas, exclamation or question marks"
    return None


class MachineMadeFilter:
    """Drops the sources whose transcripts other machines made."""

    def __init__(self) -> None:
        self.dropped = Dropped()
        self.sources: dict[str, str] = {}

    def __call__(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """The utterances that are kept, in their order."""
        texts: dict[str, list[str]] = defaultdict(list)
        for utterance in utterances:
            if not utterance.no_speech:
                texts[utterance.source].append(utterance.text)
        reasons = {source: reason for source, of_it in texts.items() if (reason := machine_made(of_it))}
        self.sources = reasons
        kept = []
        for utterance in utterances:
            reason = None if utterance.no_speech else reasons.get(utterance.source)
            if reason is None:
                kept.append(utterance)
            else:
                self.dropped.add(reason, utterance)
        return kept

    def report(self) -> dict[str, Any]:
        """What was dropped, and the sources."""
        return {**self.dropped.report(), "sources": self.sources}


class LanguageFilter:
    """Drops texts in another language than the one that is spoken; English texts become translations.

    Args:
        detect: Gives code and probability of a text's language; py3langid by default.
    """

    def __init__(self, detect: Callable[[str], tuple[str, float]] | None = None) -> None:
        self.detect = detect or text_language
        self.known = frozenset(LANGUAGES) if detect else detectable_languages()
        self.dropped, self.translated = Dropped(), Dropped()
        self.short = 0
        self.unsure = 0

    def __call__(self, utterances: Iterable[Utterance]) -> Iterator[Utterance]:
        """The utterances that are kept, in their order, some of them as translations."""
        for utterance in utterances:
            kept = self._judge(utterance)
            if kept is not None:
                yield kept

    def _judge(self, utterance: Utterance) -> Utterance | None:
        if utterance.no_speech or utterance.language is None:
            return utterance
        if sum(character.isalpha() for character in utterance.text) < LANGUAGE_LETTERS:
            self.short += 1
            return utterance
        expected = "en" if utterance.task == "translate" else utterance.language
        written, probability = self.detect(utterance.text)
        if written == expected or any({written, expected} <= group for group in _ALIKE):
            return utterance
        if probability < CONFIDENCE or expected not in self.known:
            self.unsure += 1
            return utterance
        if written == "en" and utterance.task == "transcribe":
            self.translated.add(f"{utterance.language} speech, English text", utterance)
            return replace(utterance, task="translate")
        self.dropped.add(f"{expected} expected, {written} written", utterance, probability=f"{probability:.2f}")
        return None

    def report(self) -> dict[str, Any]:
        """What was dropped, what became translation, and how many texts could not be judged."""
        return {
            **self.dropped.report(),
            "translations": self.translated.report(),
            "too_short": self.short,
            "unsure": self.unsure,
        }


def text_language(text: str) -> tuple[str, float]:
    """The language of a text: code and probability among the languages that Whisper knows.

    Raises:
        UserError: py3langid is not installed.
    """
    code, probability = _identifier().classify(text)
    return _CODES.get(code, code), float(probability)


def detectable_languages() -> frozenset[str]:
    """The languages of Whisper's that :func:`text_language` knows; a text in another one is taken for one of these.

    Raises:
        UserError: py3langid is not installed.
    """
    return frozenset(_CODES.get(label, label) for label in _identifier().labels)


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise UserError(
            "telling the language of texts needs py3langid: pip install 'paper-zoo[data]', or leave it out with "
            "--only machine duplicates"
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    names = {_CODES.get(label, label): label for label in identifier.labels}
    identifier.set_languages([label for code, label in names.items() if code in LANGUAGES])
    return identifier


class DuplicateFilter:
    """Drops utterances whose text resembles that of an earlier one, or one of an evaluation set.

    Two utterances of the same sound (one to transcribe, one to translate) are no duplicates: tasks are compared apart.

    Args:
        against: Utterances that are evaluated on; none that resembles one of them is kept.
        threshold: Jaccard similarity of the sets of three words in a row from which on texts are the same.
    """

    def __init__(self, against: Iterable[Utterance] = (), *, threshold: float = SIMILARITY) -> None:
        from zoo.shared.text.duplicates import Deduplicator

        self._make = lambda: Deduplicator(threshold=threshold, hashes=_HASHES, rows=_ROWS, ngram=_NGRAM)
        self._against = [utterance for utterance in against if not utterance.no_speech]
        self._by_task: dict[str, Any] = {}
        self.dropped = Dropped()
        self._make()  # says now that datasketch is missing, or what does not fit

    def __call__(self, utterances: Iterable[Utterance]) -> Iterator[Utterance]:
        """The utterances that are kept, in their order."""
        for utterance in utterances:
            if utterance.no_speech or self._new(utterance):
                yield utterance
            else:
                self.dropped.add("resembles an earlier text", utterance)

    def _new(self, utterance: Utterance) -> bool:
        if utterance.task not in self._by_task:
            made = self._make()
            for _ in made(Document(other.text, other.id) for other in self._against):
                pass
            self._by_task[utterance.task] = made
        return any(True for _ in self._by_task[utterance.task]([Document(utterance.text, utterance.id)]))

    def report(self) -> dict[str, Any]:
        """What was dropped, with the pairs."""
        pairs = {task: made.report()["examples"] for task, made in self._by_task.items()}
        return {**self.dropped.report(), "pairs": pairs}
