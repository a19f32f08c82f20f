"""What a Whisper is measured by (Radford et al. 2022, arXiv:2212.04356, sections 3 and 4.5)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.whisper.decoding import detect_language
from zoo.whisper.evaluation.differences import word_differences
from zoo.whisper.evaluation.exam import Exam, hear_all, write_all
from zoo.whisper.evaluation.scores import Errors, bleu, count_errors, language_accuracy, wer_error
from zoo.whisper.speech.records import Utterance
from zoo.whisper.speech.sounds import samples_of
from zoo.whisper.transcription.accounting import transcribe_accounted
from zoo.whisper.transcription.transcribe import transcribe

_WORST = 5  # utterances that are shown
_RECORDING = 180.0  # seconds of a recording that is put together
_PAUSES = (0.3, 2.0)  # seconds between its utterances


def recognition(exam: Exam) -> dict[str, Any]:
    """Error rates of words and characters, over all, by language and by source; the worst utterances.

    Utterances without speech count apart: nothing should be written for them.
    """
    numbers = exam.chosen(lambda one: one.task == "transcribe", otherwise="give speech with text in its own language")
    work = write_all(exam, numbers)
    spoken = [number for number in work.texts if not exam.source[number].no_speech]
    counts = errors_of(exam, spoken, work.texts)
    silent = [work.texts[number] for number in work.texts if exam.source[number].no_speech]
    return {
        **summary([counts[number] for number in spoken]),
        "by_language": _by(exam, counts, "language"),
        "by_source": _by(exam, counts, "source"),
        "without_speech": {"utterances": len(silent), "with_text": sum(bool(text) for text in silent)},
        "worst": _worst(exam, counts, work.texts),
        **work.as_dict(),
    }


def errors_of(exam: Exam, numbers: Sequence[int], texts: dict[int, str]) -> dict[int, Errors]:
    """Errors of each utterance."""
    return {
        number: count_errors(exam.source[number].text, texts[number], language=exam.source[number].language)
        for number in numbers
    }


def summary(counts: Sequence[Errors]) -> dict[str, Any]:
    """Rates of some utterances, with the standard error of the WER."""
    return {**sum(counts, Errors()).as_dict(), "utterances": len(counts), "wer_error": wer_error(counts)}


def _by(exam: Exam, counts: dict[int, Errors], name: str) -> dict[str, Any]:
    groups: dict[str, list[Errors]] = {}
    for number, errors in counts.items():
        groups.setdefault(getattr(exam.source[number], name) or "", []).append(errors)
    return {group: summary(found) for group, found in sorted(groups.items())}


def _worst(exam: Exam, counts: dict[int, Errors], texts: dict[int, str]) -> list[dict[str, Any]]:
    order = sorted(counts, key=lambda number: -counts[number].word_errors)
    return [
        {"id": exam.source[number].id, "said": exam.source[number].text, "written": texts[number]}
        for number in order[:_WORST]
        if counts[number].word_errors
    ]


def translation(exam: Exam) -> dict[str, Any]:
    """BLEU of English text of speech in other languages, over all and by language."""
    numbers = exam.chosen(
        lambda one: one.task == "translate",
        otherwise="give speech with English text, such as --data prompts-es:translate",
    )
    bleu([""], [""])  # told before the work where it cannot be computed
    work = write_all(exam, numbers)
    groups: dict[str, list[int]] = {}
    for number in work.texts:
        groups.setdefault(exam.source[number].language or "", []).append(number)

    def score(chosen: Sequence[int]) -> dict[str, Any]:
        references = [exam.source[number].text for number in chosen]
        return {**bleu(references, [work.texts[number] for number in chosen]), "utterances": len(chosen)}

    by_language = {language: score(found) for language, found in sorted(groups.items())}
    return {**score(list(work.texts)), "by_language": by_language, **work.as_dict()}


def language(exam: Exam) -> dict[str, Any]:
    """How often the spoken language is told from the first window."""
    if not exam.preprocessor.tokenizer.multilingual:
        raise UserError("this model knows one language and tells none apart; give --weights of a multilingual one")
    numbers = exam.chosen(lambda one: one.language is not None and not one.no_speech, otherwise="give speech")
    pairs: list[tuple[str, str]] = []
    unreadable: dict[str, str] = {}
    for first in range(0, len(numbers), exam.batch_size):
        clips: list[Tensor] = []
        said: list[str] = []
        for number in numbers[first : first + exam.batch_size]:
            utterance = exam.source[number]
            try:
                clips.append(samples_of(utterance)[: exam.model.config.window_samples])
            except BadSample as error:
                unreadable[utterance.id] = str(error)
                continue
            said.append(utterance.language or "")
        if clips:
            found = detect_language(
                exam.model, exam.preprocessor.tokenizer, hear_all(exam, clips), languages=exam.options.languages
            )
            pairs += zip(said, (max(one, key=lambda code: one[code]) for one in found), strict=True)
    if not pairs:
        raise UserError(f"no sound of {exam.source.name} can be read; {next(iter(unreadable.values()))}")
    return {**language_accuracy(pairs), "unreadable": unreadable}


def long_form(exam: Exam) -> dict[str, Any]:
    """Recordings of three minutes, put together of utterances with pauses: window after window against batches.

    Returns:
        For both ways errors, real-time factor and the words that differ; for batches coverage too.
    """
    numbers = exam.chosen(
        lambda one: one.task == "transcribe" and not one.no_speech, otherwise="give speech with text in its language"
    )
    reports: dict[str, Any] = {"recordings": 0, "seconds": 0.0, "differences": []}
    counts: dict[str, list[Errors]] = {"in_sequence": [], "batched": []}
    spent = {"in_sequence": 0.0, "batched": 0.0}
    coverage: list[dict[str, Any]] = []
    for spoken, samples, said in _recordings(exam, numbers):
        options = replace(exam.options, language=spoken, without_timestamps=False)
        started = time.perf_counter()
        one = transcribe(exam.model, samples, preprocessor=exam.preprocessor, options=options)
        between = time.perf_counter()
        (other,) = transcribe_accounted(
            exam.model, [samples], preprocessor=exam.preprocessor, options=options, batch_size=exam.batch_size
        )
        spent["in_sequence"] += between - started
        spent["batched"] += time.perf_counter() - between
        for name, result in (("in_sequence", one), ("batched", other)):
            counts[name].append(count_errors(said, result["text"], language=spoken))
        name = f"recording {reports['recordings'] + 1}"
        reports["differences"] += [{"recording": name, **asdict(found)} for found in word_differences(one, other)]
        coverage.append({"recording": name, **other["coverage"]})
        reports["recordings"] += 1
        reports["seconds"] += len(samples) / SAMPLE_RATE
        exam.say(f"{name}: {len(samples) / SAMPLE_RATE:.0f} s")
    for name, found in counts.items():
        reports[name] = {**sum(found, Errors()).as_dict(), "real_time_factor": spent[name] / reports["seconds"]}
    return {**reports, "coverage": coverage}


def _recordings(exam: Exam, numbers: Sequence[int]) -> Iterator[tuple[str | None, Tensor, str]]:
    """Language, sound ``(S,)`` and text of recordings, each of one language."""
    pauses = np.random.Generator(np.random.Philox(key=[exam.seed, 0]))
    groups: dict[str | None, list[Utterance]] = {}
    for number in numbers:
        groups.setdefault(exam.source[number].language, []).append(exam.source[number])
    for spoken, utterances in groups.items():
        sounds: list[Tensor] = []
        said: list[str] = []
        for place, utterance in enumerate(utterances):
            try:
                sounds.append(samples_of(utterance))
            except BadSample as error:
                exam.say(f"left out {utterance.id}: {error}")
                continue
            said.append(utterance.text)
            sounds.append(torch.zeros(round(float(pauses.uniform(*_PAUSES)) * SAMPLE_RATE)))
            if sum(map(len, sounds)) >= _RECORDING * SAMPLE_RATE or place + 1 == len(utterances):
                yield spoken, torch.cat(sounds), " ".join(said)
                sounds, said = [], []
