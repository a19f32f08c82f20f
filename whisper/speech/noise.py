"""Noise and babble to mix speech with, for augmentation and for curves of error rate over noise.

White noise and a pub's babble are what Whisper's robustness is measured with (arXiv:2212.04356, Section 3.7 and
figure 5); babble is made here of other clips that speak at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.shared.data.images import BadSample
from zoo.whisper.speech.records import SpeechSource

if TYPE_CHECKING:
    from torch import Tensor

COLOURS = ("white", "pink", "brown")
_SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}
_VOICES = 6
_TRIES = 20  # utterances drawn for each voice


def noise(rng: np.random.Generator, samples: int, *, colour: str = "white") -> NDArray[np.float32]:
    """Noise ``(samples,)`` with a root mean square of 1.

    Args:
        rng: Decides it.
        samples: How much, at 16 kHz.
        colour: ``white``, ``pink`` (power falls with frequency) or ``brown`` (with its square).
    """
    drawn = rng.standard_normal(samples)
    if slope := _SLOPES[colour]:
        spectrum = np.fft.rfft(drawn)
        bins = np.arange(len(spectrum), dtype=float)
        # Below 20 Hz it stays level: there nothing is heard, and most of brown noise would be.
        floor = max(1.0, 20 * samples / 16000)
        drawn = np.fft.irfft(spectrum / np.maximum(bins, floor) ** slope, samples)
    return _to_one(drawn)


def _to_one(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    level = float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
    return (samples / level if level else samples).astype(np.float32)


def babble(
    source: SpeechSource, rng: np.random.Generator, samples: int, *, but: Sequence[str] = (), voices: int = _VOICES
) -> Tensor:
    """Several people who speak at once, none of whom is to be understood.

    Args:
        source: Utterances whose sounds are mixed; those without speech and those that cannot be read are passed over.
        rng: Decides who speaks, and from where on.
        samples: How much, at 16 kHz.
        but: Ids of utterances that are not to be heard in it, such as the one that it goes under.
        voices: How many speak at once.

    Returns:
        ``(samples,)`` float32 with a root mean square of 1.

    Raises:
        BadSample: Of many utterances none could be used.
    """
    from zoo.shared.audio.waveforms import babble_of
    from zoo.whisper.speech.sounds import samples_of

    clips: list[Tensor] = []
    for _ in range(_TRIES * voices):
        utterance = source[int(rng.integers(len(source)))]
        if utterance.no_speech or utterance.id in but:
            continue
        try:
            clips.append(samples_of(utterance))
        except BadSample:
            continue
        if len(clips) == voices:
            return babble_of(clips, rng, samples=samples)
    raise BadSample(f"among {_TRIES * voices} utterances drawn for babble there are not {voices} with speech")
