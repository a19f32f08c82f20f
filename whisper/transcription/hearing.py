"""Reading a recording once for everything that is measured of it: features, speech, loudness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoo.shared.audio.files import from_array, stream_audio
from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.audio.long_form import LongLogMel
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.transcription.segments import Segment
from zoo.whisper.transcription.transcribe import Audio, Result
from zoo.whisper.transcription.voice_activity import WINDOW, Probabilities, VoiceMeter

LOUDNESS_STEP = 0.1
"""Seconds of which a loudness is measured."""

_STEP = round(LOUDNESS_STEP * SAMPLE_RATE)
_FLOOR = 1e-10  # power of what is silent in every way: -100 dB

Loudness = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A window whose text was not taken.

    Attributes:
        start: Seconds.
        end: Seconds.
        text: What the decoder wrote.
    """

    start: float
    end: float
    text: str


@dataclass(kw_only=True)
class Heard:
    """A recording, and what was found in it.

    Attributes:
        features: To be closed once everything is transcribed.
        voice: Probability of speech in each 32 ms.
        loudness: Of each 100 ms, in decibels of full scale.
        language: Code.
        segments: What was said.
        skipped: Windows in which the model hears no speech.
    """

    features: LongLogMel
    voice: Probabilities
    loudness: Loudness
    language: str = ""
    segments: list[Segment] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.features.samples / SAMPLE_RATE

    def voice_between(self, start: float, end: float) -> Probabilities:
        """Probabilities of the windows that lie between two times in seconds, as far as they are windows."""
        return self.voice[round(start * SAMPLE_RATE / WINDOW) : round(end * SAMPLE_RATE / WINDOW)]

    def close(self) -> None:
        """Forget the features, and put what was found into the order of time."""
        self.features.close()
        self.segments.sort(key=lambda segment: (segment.start, segment.end))
        self.skipped.sort(key=lambda skipped: skipped.start)

    def as_dict(self, tokenizer: WhisperTokenizer) -> Result:
        """The reference's dictionary."""
        text = tokenizer.decode([token for segment in self.segments for token in segment.tokens])
        segments = [segment.as_dict(number) for number, segment in enumerate(self.segments)]
        return {"text": text, "segments": segments, "language": self.language}


def read_recording(model: Whisper, preprocessor: WhisperPreprocessor, audio: Audio) -> Heard:
    """Read a recording as a stream.

    Args:
        model: Features are computed on its device.
        preprocessor: How.
        audio: A path, the bytes of a file, a binary file object, or samples ``(S,)`` at 16 kHz.

    Raises:
        UserError: It cannot be read, or there is no onnxruntime.
    """
    voice, loudness = VoiceMeter(), LoudnessMeter()

    def measured() -> Iterator[Tensor]:
        for block in blocks_of(audio):
            voice.add(block)
            loudness.add(block)
            yield block

    device = next(model.parameters()).device
    features = LongLogMel(measured(), log_mel=preprocessor.log_mel, device=device)
    return Heard(features=features, voice=voice.finish(), loudness=loudness.finish())


def blocks_of(audio: Audio) -> Iterator[Tensor]:
    """A recording in blocks of 30 seconds at 16 kHz.

    Raises:
        UserError: It cannot be read.
    """
    if isinstance(audio, np.ndarray | Tensor):
        yield from from_array(audio).split(30 * SAMPLE_RATE)
    else:
        yield from stream_audio(audio)


class LoudnessMeter:
    """Measures the loudness of a recording that comes in blocks."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._found: list[Loudness] = []

    def add(self, block: Tensor) -> None:
        """Hear the next block ``(S,)``."""
        samples = np.concatenate([self._rest, block.detach().cpu().numpy().astype(np.float32, copy=False)])
        whole = len(samples) // _STEP * _STEP
        self._found.append(_decibels(samples[:whole].reshape(-1, _STEP)))
        self._rest = samples[whole:]

    def finish(self) -> Loudness:
        """Decibels of full scale of each 100 ms: a sine as loud as can be has -3."""
        last = [_decibels(self._rest[None])] if len(self._rest) else []
        return np.concatenate([*self._found, *last])


def _decibels(rows: NDArray[np.float32]) -> Loudness:
    power = np.square(rows, dtype=np.float64).mean(1)
    return np.asarray(10 * np.log10(np.maximum(power, _FLOOR)), np.float32)
