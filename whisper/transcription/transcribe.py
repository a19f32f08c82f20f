"""Recordings of any length to text: what ``zoo.whisper.transcribe`` is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo.shared.audio.files import duration, from_array, stream_audio
from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.audio.long_form import LongLogMel
from zoo.whisper.decoding import detect_language
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.segments import FRAMES_PER_SECOND, FRAMES_PER_STATE
from zoo.whisper.transcription.windows import Recording, check_options, hear
from zoo.whisper.writers import clock

Audio = str | Path | bytes | BinaryIO | np.ndarray | Tensor
Result = dict[str, Any]


class Progress(Protocol):
    """Called while a recording is worked on."""

    def __call__(self, stage: str, done: float, total: float | None) -> object:
        """Note how far it is.

        Args:
            stage: ``reading`` or ``transcribing``.
            done: Seconds of the recording.
            total: Its length, where it is known.
        """
        ...


def transcribe(
    model: Whisper,
    audio: Audio,
    *,
    preprocessor: WhisperPreprocessor | None = None,
    options: TranscriptionOptions | None = None,
    verbose: bool | None = None,
    on_segment: Callable[[dict[str, Any]], object] | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Result:
    """Write down what is said in a recording.

    The recording is read as a stream, so memory does not grow with its length.

    Args:
        model: On any device.
        audio: A path, the bytes of a file, a binary file object, or samples ``(S,)`` at 16 kHz.
        preprocessor: The model's tokenizer and features; needed for models with a vocabulary of their own.
        options: What is wanted.
        verbose: True: segments are written to standard output as they come. False: a progress bar on standard error.
        on_segment: Called with each segment that says something, as soon as it is known.
        progress: Called with how far it is.
        **changes: Options by name; see :class:`~zoo.whisper.transcription.options.TranscriptionOptions`.

    Returns:
        The reference's dictionary: ``text``, ``segments``, ``language``.

    Raises:
        UserError: An unknown option, one that the model cannot do, or a recording that cannot be read.
    """
    chosen = TranscriptionOptions.of(options, changes)
    preprocessor = preprocessor or WhisperPreprocessor.for_model(model.config)
    check_options(preprocessor.tokenizer, chosen)
    if verbose and on_segment is None:
        on_segment = write_line
    if verbose is False and progress is None:
        from zoo.whisper.transcription.show import progress_bar

        shown: Any = progress_bar("")
    else:
        shown = nullcontext(progress)
    was_training = model.training
    model.eval()
    try:
        with shown as note, open_features(model, preprocessor, audio, progress=note) as features:
            return _transcribe(model, preprocessor, features, chosen, on_segment, note)
    finally:
        model.train(was_training)


def _transcribe(
    model: Whisper,
    preprocessor: WhisperPreprocessor,
    features: LongLogMel,
    options: TranscriptionOptions,
    on_segment: Callable[[dict[str, Any]], object] | None,
    progress: Progress | None,
) -> Result:
    tokenizer = preprocessor.tokenizer
    language = options.language or find_language(model, tokenizer, features, options.languages)
    recording = Recording(model, tokenizer, features, options, language=language)
    segments: list[dict[str, Any]] = []
    for found in recording.segments():
        for segment in found:
            segments.append(segment.as_dict(len(segments)))
            if segment.text and on_segment is not None:
                on_segment(segments[-1])
        if progress is not None:
            total = features.frames / FRAMES_PER_SECOND
            progress("transcribing", min(total, recording.position / FRAMES_PER_SECOND), total)
    return {"text": tokenizer.decode(recording.history.written), "segments": segments, "language": language}


def line_of(segment: Mapping[str, Any]) -> str:
    """A segment with its times, for people."""
    return f"[{clock(segment['start'])} --> {clock(segment['end'])}] {segment['text'].strip()}"


def write_line(segment: Mapping[str, Any]) -> None:
    """Write a segment to standard output, at once."""
    sys.stdout.write(line_of(segment) + "\n")
    sys.stdout.flush()


def find_language(
    model: Whisper, tokenizer: WhisperTokenizer, features: LongLogMel, languages: Sequence[str] | None = None
) -> str:
    """The code of the likeliest language of the first window; the only one of a model that has one.

    Args:
        model: In ``eval()`` mode.
        tokenizer: Its tokenizer.
        features: The recording.
        languages: Codes among which to choose; by default all.
    """
    if not tokenizer.multilingual:
        return tokenizer.languages[0] if tokenizer.languages else "en"
    with torch.inference_mode():
        # Silence after the end of a short recording, as in the reference, where decoding gets zeros.
        states = hear(model, features.window(0, FRAMES_PER_STATE * model.config.audio_context))
        (probabilities,) = detect_language(model, tokenizer, states, languages=languages)
    return max(probabilities, key=lambda code: probabilities[code])


def open_features(
    model: Whisper, preprocessor: WhisperPreprocessor, audio: Audio, *, progress: Progress | None = None
) -> LongLogMel:
    """Features of a recording, to be closed after use.

    Args:
        model: They are computed on its device.
        preprocessor: How.
        audio: As for :func:`transcribe`.
        progress: Called while the recording is read.

    Raises:
        UserError: The recording cannot be read.
    """
    if isinstance(audio, np.ndarray | Tensor):
        samples = from_array(audio)
        blocks: Iterator[Tensor] = iter(samples.split(30 * SAMPLE_RATE))
        total: float | None = len(samples) / SAMPLE_RATE
    else:
        total = duration(audio) if progress is not None and isinstance(audio, str | Path) else None
        blocks = stream_audio(audio)
    if progress is not None:
        blocks = _noted(blocks, progress, total)
    device = next(model.parameters()).device
    return LongLogMel(blocks, log_mel=preprocessor.log_mel, device=device)


def _noted(blocks: Iterator[Tensor], progress: Progress, total: float | None) -> Iterator[Tensor]:
    """The blocks, telling how much has been read."""
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        progress("reading", done / SAMPLE_RATE, total)
