"""Hearing what records point to: mono float32 at 16 kHz."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import soundfile
import torch
from torch import Tensor

from zoo.shared.audio.files import duration, from_array, read_audio
from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.whisper.speech.records import ArraySound, FileSound, Sound, StoredSound, Utterance
from zoo.whisper.speech.store import read_samples

_MARGIN = 0.05  # seconds read around a part, so that resampling it knows what is beside it


def samples_of(utterance: Utterance) -> Tensor:
    """The sound of an utterance: ``(S,)`` float32 in [-1, 1] at 16 kHz.

    Raises:
        BadSample: It cannot be read, or nothing of it lies between the utterance's times.
    """
    samples = read_sound(utterance.sound, utterance.start, utterance.end)
    if not len(samples):
        raise BadSample("its sound is empty")
    return samples


def read_sound(sound: Sound, start: float = 0.0, end: float | None = None) -> Tensor:
    """A part of a sound: ``(S,)`` float32 in [-1, 1] at 16 kHz.

    Args:
        sound: Where it is.
        start: Where the part begins, in seconds.
        end: Where it ends; None is the end.

    Raises:
        BadSample: It cannot be read.
    """
    first, last = round(start * SAMPLE_RATE), None if end is None else round(end * SAMPLE_RATE)
    if isinstance(sound, FileSound):
        return _read_file(sound, start, end)
    if isinstance(sound, ArraySound):
        samples = sound.samples[first:last]
    else:
        count = sound.count - first if last is None else min(last, sound.count) - first
        try:
            samples = read_samples(sound.path, sound.first + first, max(count, 0))
        except (OSError, ValueError) as error:
            raise BadSample(f"its store cannot be read: {error}") from error
    if samples.dtype == np.int16:
        return torch.from_numpy(samples.astype(np.float32) / 32768)
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))


def seconds_of(sound: Sound) -> float:
    """Length of a sound in seconds.

    Raises:
        BadSample: It cannot be read.
    """
    if isinstance(sound, StoredSound):
        return sound.count / SAMPLE_RATE
    if isinstance(sound, ArraySound):
        return len(sound.samples) / SAMPLE_RATE
    try:
        return duration(sound.path if sound.size is None else _bytes(sound))
    except UserError as error:
        raise BadSample(str(error)) from error


def _bytes(sound: FileSound) -> bytes:
    try:
        with sound.path.open("rb") as opened:  # no open file is shared between worker processes
            opened.seek(sound.offset)
            return opened.read(-1 if sound.size is None else sound.size)
    except OSError as error:
        raise BadSample(f"its sound cannot be read: {error}") from error


def _read_file(sound: FileSound, start: float, end: float | None) -> Tensor:
    first, last = round(start * SAMPLE_RATE), None if end is None else round(end * SAMPLE_RATE)
    source = sound.path if sound.size is None else _bytes(sound)
    try:
        if first or last is not None:
            part = _read_part(source, start, end)
            if part is not None:
                return part
        return read_audio(source)[first:last]
    except UserError as error:
        raise BadSample(str(error)) from error


def _read_part(source: object, start: float, end: float | None) -> Tensor | None:
    """The part alone, without decoding what is before it; None where the format does not allow that."""
    try:
        with soundfile.SoundFile(BytesIO(source) if isinstance(source, bytes) else source) as opened:
            rate = opened.samplerate
            if not opened.seekable() or start * rate >= opened.frames:
                return None
            # Whole hundredths of a second, so that the part's samples lie where those of the whole sound do.
            begin = max(0, int((start - _MARGIN) * 100)) * rate // 100 if rate % 100 == 0 else 0
            stop = opened.frames if end is None else min(opened.frames, round((end + _MARGIN) * rate))
            opened.seek(begin)
            read = opened.read(stop - begin, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, TypeError):
        return None
    if not len(read):
        return None
    samples = from_array(read.mean(1), rate=rate)
    skip = round((start - begin / rate) * SAMPLE_RATE)
    return (
        samples[skip:] if end is None else samples[skip : skip + round(end * SAMPLE_RATE) - round(start * SAMPLE_RATE)]
    )
