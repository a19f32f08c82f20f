"""A Whisper, the speech that it is examined on, and what it writes.

Shapes: N windows, S samples at 16 kHz, A states of sound, D width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.speech.records import SpeechList, Utterance
from zoo.whisper.speech.sounds import samples_of
from zoo.whisper.transcription.history import History
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.together import decode_until_good
from zoo.whisper.transcription.transcribe import transcribe
from zoo.whisper.transcription.windows import check_options

_BATCHES = 8  # whose sounds are read before they are sorted by length


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What every benchmark is given.

    Attributes:
        model: In ``eval()`` mode.
        preprocessor: Its own.
        source: Speech with texts.
        options: How texts are written; language and task are the utterance's.
        batch_size: Windows at once.
        limit: Utterances at most, evenly spread.
        seed: Of noise.
        snrs: Signal to noise in decibels, for the benchmark of noise.
        say: Called with a line before something that takes time.
    """

    model: Whisper
    preprocessor: WhisperPreprocessor
    source: SpeechList
    options: TranscriptionOptions
    batch_size: int = 16
    limit: int | None = None
    seed: int = 0
    snrs: tuple[float, ...] = (40.0, 20.0, 10.0, 5.0, 0.0, -5.0)
    say: Callable[[str], object] = lambda line: None

    def chosen(self, wanted: Callable[[Utterance], bool], *, otherwise: str) -> list[int]:
        """Numbers of the utterances that a benchmark is about, at most ``limit`` of them.

        Args:
            wanted: Whether an utterance is.
            otherwise: What to do where none is, for people.

        Raises:
            UserError: None is.
        """
        found = [i for i in range(len(self.source)) if wanted(self.source[i])]
        if not found:
            raise UserError(f"{self.source.name} has nothing to measure this on; {otherwise}")
        if self.limit is None or len(found) <= self.limit:
            return found
        return [found[i * len(found) // self.limit] for i in range(self.limit)]


@dataclass
class Work:
    """What has been done.

    Attributes:
        texts: Number of the utterance to what was written for it.
        seconds: Of sound.
        spent: Seconds of computing, without reading the sound.
        unreadable: Ids of utterances and what is wrong with them.
    """

    texts: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    spent: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the real-time factor is time over sound, so less is faster."""
        factor = self.spent / self.seconds if self.seconds else None
        return {"seconds": self.seconds, "real_time_factor": factor, "unreadable": self.unreadable}


Change = Callable[[int, Tensor], Tensor]


def write_all(
    exam: Exam, numbers: Sequence[int], *, change: Change = lambda number, samples: samples, told: bool = True
) -> Work:
    """Write down utterances, each by itself.

    What fits into the model's window is decoded in batches; longer ones go window after window.

    Args:
        exam: Model and speech.
        numbers: Of the utterances.
        change: What to do to the sound ``(S,)`` of an utterance first.
        told: Whether the model is told the language; otherwise it hears it.
    """
    work = Work()
    for language, task, clips in _groups(exam, numbers, change, told, work):
        options = replace(exam.options, language=language, task=task)
        check_options(exam.preprocessor.tokenizer, options)
        started = time.perf_counter()
        if len(clips[0][1]) > exam.model.config.window_samples:
            for number, samples in clips:
                work.texts[number] = transcribe(
                    exam.model,
                    samples,
                    preprocessor=exam.preprocessor,
                    options=replace(options, without_timestamps=False),
                )["text"].strip()
        else:
            tokenizer, prompt = exam.preprocessor.tokenizer, told_before(exam, options)
            states = hear_all(exam, [samples for _, samples in clips])
            results = decode_until_good(exam.model, tokenizer, states, options, language=language, prompt=prompt)
            work.texts.update({number: found.text for (number, _), found in zip(clips, results, strict=True)})
        work.spent += time.perf_counter() - started
        work.seconds += sum(len(samples) for _, samples in clips) / SAMPLE_RATE
    return work


Group = tuple[str | None, str, list[tuple[int, Tensor]]]


def _groups(exam: Exam, numbers: Sequence[int], change: Change, told: bool, work: Work) -> Iterator[Group]:
    """Batches of one language and task, and of like length; longer than the window or not."""
    window, step = exam.model.config.window_samples, _BATCHES * exam.batch_size
    for first in range(0, len(numbers), step):
        found: dict[tuple[str, str, bool], list[tuple[int, Tensor]]] = {}
        for number in numbers[first : first + step]:
            utterance = exam.source[number]
            try:
                samples = change(number, samples_of(utterance))
            except BadSample as error:
                work.unreadable[utterance.id] = str(error)
                continue
            key = (utterance.language or "", utterance.task, len(samples) > window)
            found.setdefault(key, []).append((number, samples))
        for (language, task, _), clips in sorted(found.items()):
            clips.sort(key=lambda clip: len(clip[1]))
            for place in range(0, len(clips), exam.batch_size):
                yield (language or None if told else None), task, clips[place : place + exam.batch_size]
        done = min(first + step, len(numbers))
        if done < len(numbers):
            exam.say(f"{done:,} of {len(numbers):,} utterances")


@torch.inference_mode()
def hear_all(exam: Exam, clips: Sequence[Tensor]) -> Tensor:
    """States ``(N, A, D)`` of clips ``(S,)`` no longer than the window, followed by silence."""
    some = next(exam.model.parameters())
    window = exam.model.config.window_samples
    padded = torch.stack([torch.nn.functional.pad(clip, (0, window - len(clip))) for clip in clips])
    return exam.model.hear(exam.preprocessor.features(padded.to(some.device)).to(some.dtype))


def told_before(exam: Exam, options: TranscriptionOptions) -> list[int]:
    """Ids of initial prompt and hotwords."""
    return History(exam.preprocessor.tokenizer, options, context=exam.model.config.text_context).prompt()
