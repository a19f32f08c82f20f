"""Where somebody speaks, by Silero's voice-activity model (v6, MIT licence), and pieces short enough for Whisper.

Spans equal those of faster-whisper, which carries the network; differs in: the last 4 ms of a recording count.

Shapes: S samples at 16 kHz, W windows of 512 samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoo.shared.data.samples import get_pack, open_pack
from zoo.shared.errors import UserError
from zoo.whisper.configs import SAMPLE_RATE

PACK = "voice-activity"
WINDOW = 512

Probabilities = NDArray[np.float32]

_BEFORE = 64  # samples of the window before, which the network hears too
_WINDOWS = 10_000  # at once: five minutes
_LEAST_CUT = round(0.098 * SAMPLE_RATE)  # a silence as short as this is a place to cut speech that is too long


class Span(NamedTuple):
    """A part of a recording, in samples."""

    start: int
    stop: int

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds."""
        return self.start / SAMPLE_RATE, self.stop / SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class VoiceOptions:
    """What counts as speech. Lengths are in seconds.

    Raises:
        UserError: A probability outside of 0 and 1, or a negative length.
    """

    threshold: float = 0.5
    """Speech begins in a window of at least this probability."""
    silence_threshold: float | None = None
    """Silence begins in a window of less than this one; None: 0.15 under the threshold."""
    min_speech: float = 0.0
    """Shorter speech counts as silence."""
    min_silence: float = 2.0
    """Shorter silence counts as speech."""
    padding: float = 0.4
    """Added to both ends of speech, as far as the silence goes."""
    longest: float = math.inf
    """Longer speech is cut, at its last pause where it has one."""

    def __post_init__(self) -> None:
        for name in ("threshold", "silence_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UserError(f"{name} must be between 0 and 1, not {value}")
        for name in ("min_speech", "min_silence", "padding"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, but is {getattr(self, name)}")
        if self.longest <= 2 * self.padding + WINDOW / SAMPLE_RATE:
            raise UserError(f"longest={self.longest:g} s leaves no room for {self.padding:g} s of padding at both ends")

    @property
    def quiet(self) -> float:
        """The probability under which silence begins."""
        return max(self.threshold - 0.15, 0.01) if self.silence_threshold is None else self.silence_threshold

    def at_most(self, seconds: float) -> VoiceOptions:
        """The same, where no speech is longer than this.

        Raises:
            UserError: The padding does not fit.
        """
        return replace(self, longest=min(self.longest, seconds))


@cache
def _network() -> Any:
    """The network, read out of its sample pack."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("finding speech needs onnxruntime: pip install 'paper-zoo[speech]'") from error
    settings = onnxruntime.SessionOptions()
    settings.inter_op_num_threads = settings.intra_op_num_threads = 1  # windows follow one another
    settings.enable_cpu_mem_arena = False
    settings.log_severity_level = 4
    network = open_pack(PACK).read(get_pack(PACK).files[0])
    return onnxruntime.InferenceSession(network, settings, providers=["CPUExecutionProvider"])


class VoiceMeter:
    """Measures a recording that comes in blocks.

    Raises:
        UserError: onnxruntime is not installed, or the pack cannot be had.
    """

    def __init__(self) -> None:
        self._network = _network()
        self._state = {"h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}
        self._rest = np.zeros(_BEFORE, np.float32)  # what was heard before, then what is not measured yet
        self._found: list[Probabilities] = []
        self.samples = 0

    def add(self, block: Tensor) -> None:
        """Hear the next block ``(S,)`` of floats in [-1, 1]."""
        self.samples += len(block)
        self._rest = np.concatenate([self._rest, block.detach().cpu().numpy().astype(np.float32, copy=False)])
        step = _WINDOWS * WINDOW
        while len(self._rest) >= _BEFORE + step:
            self._measure(self._rest[: _BEFORE + step])
            self._rest = self._rest[step:]

    def finish(self) -> Probabilities:
        """How probable speech is in each window ``(W,)``; silence fills the last one, and W is ``S // 512 + 1``."""
        self._measure(np.pad(self._rest, (0, WINDOW - (len(self._rest) - _BEFORE) % WINDOW)))
        return np.concatenate(self._found)

    def _measure(self, samples: NDArray[np.float32]) -> None:
        windows = np.lib.stride_tricks.sliding_window_view(samples, _BEFORE + WINDOW)[::WINDOW]
        inputs = {"input": np.ascontiguousarray(windows), **self._state}
        found, self._state["h"], self._state["c"] = self._network.run(None, inputs)
        self._found.append(found)


def speech_probabilities(audio: Tensor) -> Probabilities:
    """How probable speech is in each window ``(W,)`` of a recording ``(S,)``; see :class:`VoiceMeter`."""
    meter = VoiceMeter()
    meter.add(audio)
    return meter.finish()


def speech_spans(probabilities: Probabilities, samples: int, options: VoiceOptions) -> list[Span]:
    """Where somebody speaks.

    Args:
        probabilities: ``(W,)`` of :func:`speech_probabilities`.
        samples: Length of the recording.
        options: What counts as speech.
    """
    return _padded(_bare_spans(probabilities, samples, options), samples, round(options.padding * SAMPLE_RATE))


def _bare_spans(probabilities: Probabilities, samples: int, options: VoiceOptions) -> list[Span]:
    """Spans without padding.

    Speech goes on through windows that are neither clearly speech nor clearly silence, and through short silence.
    """
    longest = SAMPLE_RATE * (options.longest - 2 * options.padding) - WINDOW
    least_silence, least_speech = SAMPLE_RATE * options.min_silence, SAMPLE_RATE * options.min_speech
    spans: list[Span] = []
    start: int | None = None  # of the speech that goes on
    silent: int | None = None  # since when it has been silent
    pause: int | None = None  # the last silence at which too long speech can be cut
    after: int | None = None  # where speech went on after that
    for number, probability in enumerate(probabilities.tolist()):
        at = number * WINDOW
        if probability >= options.threshold:
            if silent is not None:
                silent = None
                if pause is not None and after is None:
                    after = at
            if start is None:
                start = at
                continue
        if start is not None and at - start > longest:
            spans.append(Span(start, at if pause is None else pause))
            forced = pause is None
            start, silent, pause, after = after, None, None, None
            if forced:
                continue
        if start is not None and probability < options.quiet:
            silent = at if silent is None else silent
            if at - silent > _LEAST_CUT:
                if pause != silent:
                    after = None
                pause = silent
            if at - silent >= least_silence:
                if silent - start > least_speech:
                    spans.append(Span(start, silent))
                start, silent, pause, after = None, None, None, None
    if start is not None and samples - start > least_speech:
        spans.append(Span(start, samples))
    return spans


def _padded(spans: Sequence[Span], samples: int, padding: int) -> list[Span]:
    """Spans widened at both ends; two share a silence that is too short for both."""
    if not spans:
        return []
    starts, stops = [span.start for span in spans], [span.stop for span in spans]
    starts[0] = max(0, starts[0] - padding)
    for place in range(len(spans) - 1):
        silence = starts[place + 1] - stops[place]
        share = silence // 2 if silence < 2 * padding else padding
        stops[place] += share
        starts[place + 1] -= share
    stops[-1] = min(samples, stops[-1] + padding)
    return [Span(start, stop) for start, stop in zip(starts, stops, strict=True)]


def merge_spans(spans: Iterable[Span], *, longest: int) -> list[Span]:
    """Neighbours together with the silence between them, so that as few windows as possible are needed.

    Args:
        spans: In their order.
        longest: Samples of a merged span at most; spans that are longer by themselves are cut into even parts.
    """
    merged: list[Span] = []
    for span in spans:
        if merged and span.stop - merged[-1].start <= longest:
            merged[-1] = Span(merged[-1].start, span.stop)
            continue
        parts = max(1, math.ceil((span.stop - span.start) / longest))
        edges = [span.start + (span.stop - span.start) * part // parts for part in range(parts + 1)]
        merged.extend(Span(*pair) for pair in pairwise(edges))
    return merged
