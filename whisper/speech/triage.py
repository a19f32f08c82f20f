"""Which sources of speech to look at: those where a first model errs most and that are large.

Whisper, arXiv:2212.04356, Section 2.1: after a first model was trained, sources were ranked by error rate and size, and
looked at by people; what was transcribed in part only, or badly aligned, went.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.whisper.languages import UNSPACED
from zoo.whisper.speech.records import Utterance
from zoo.whisper.speech.sounds import seconds_of

_WORST = 3


@dataclass(frozen=True, kw_only=True)
class SourceErrors:
    """How far a model's transcripts are from those of a source.

    Attributes:
        source: Its name.
        utterances: How many were compared.
        hours: How long they last.
        error_rate: Word errors by words of the source's texts (characters where words are not spaced).
        wrong_hours: Error rate, at most 1, times hours: what the ranking goes by.
        worst: The utterances with the highest error rates: id, the source's text and the model's.
    """

    source: str
    utterances: int
    hours: float
    error_rate: float
    wrong_hours: float
    worst: tuple[dict[str, str], ...]


def rank_sources(utterances: Iterable[Utterance], hypotheses: Mapping[str, str]) -> list[SourceErrors]:
    """Sources, the one with most that is probably wrong first.

    Args:
        utterances: What the sources say; those without a hypothesis are passed over.
        hypotheses: Id of an utterance to a model's transcript.

    Raises:
        UserError: No utterance has a hypothesis.
    """
    errors: dict[str, list[tuple[int, int, Utterance]]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for utterance in utterances:
        if utterance.no_speech or utterance.id not in hypotheses:
            continue
        reference, hypothesis = (_words(text, utterance) for text in (utterance.text, hypotheses[utterance.id]))
        errors[utterance.source].append((_distance(reference, hypothesis), len(reference), utterance))
        seconds[utterance.source] += _seconds(utterance)
    if not errors:
        raise UserError("no utterance has a transcript of the model to compare with; ids must be those of the speech")
    ranked = []
    for source, rows in errors.items():
        rate = sum(row[0] for row in rows) / max(sum(row[1] for row in rows), 1)
        worst = sorted(rows, key=lambda row: -row[0] / max(row[1], 1))[:_WORST]
        ranked.append(
            SourceErrors(
                source=source,
                utterances=len(rows),
                hours=seconds[source] / 3600,
                error_rate=rate,
                wrong_hours=min(rate, 1.0) * seconds[source] / 3600,
                worst=tuple({"id": u.id, "text": u.text, "model": hypotheses[u.id]} for e, _, u in worst if e),
            )
        )
    return sorted(ranked, key=lambda errors: (-errors.wrong_hours, errors.source))


def read_hypotheses(path: str | Path) -> dict[str, str]:
    """A model's transcripts: JSON lines with ``id`` and ``text``.

    Raises:
        UserError: The file cannot be read, or a line is not of that form.
    """
    found: dict[str, str] = {}
    try:
        with Path(path).expanduser().open(encoding="utf-8") as opened:
            for number, line in enumerate(opened, 1):
                row = json.loads(line) if line.strip() else None
                if row is None:
                    continue
                if (
                    not isinstance(row, dict)
                    or not isinstance(row.get("id"), str)
                    or not isinstance(row.get("text"), str)
                ):
                    raise UserError(f"{path} line {number}: it must be an object with id and text, both texts")
                found[row["id"]] = row["text"]
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read {path}: {error}") from error
    return found


def _words(text: str, utterance: Utterance) -> list[str]:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    language = "en" if utterance.task == "translate" else utterance.language
    if "normalizers" not in _CACHE:
        _CACHE["normalizers"] = (BasicTextNormalizer(), EnglishTextNormalizer())
    basic, english = _CACHE["normalizers"]
    plain = (english if language == "en" else basic)(text)
    return list(plain.replace(" ", "")) if language in UNSPACED else plain.split()


_CACHE: dict[str, tuple] = {}


def _distance(reference: list[str], hypothesis: list[str]) -> int:
    """Words that must be changed, left out or put in."""
    row = list(range(len(hypothesis) + 1))
    for number, word in enumerate(reference, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(hypothesis, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]


def _seconds(utterance: Utterance) -> float:
    if utterance.end is not None:
        return utterance.end - utterance.start
    try:
        return seconds_of(utterance.sound) - utterance.start
    except BadSample:
        return 0.0
