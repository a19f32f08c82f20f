"""Augmentation of speech for training: speed, tempo, pitch, vocal tract, noise, telephone and gain.

The data set draws what happens to a sample (:class:`WaveformAugment`), the device does it to the batch
(:func:`augment_waveforms`); the vocal tract's factor is handed on to :class:`zoo.shared.audio.log_mel.LogMel`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.audio.time_scale import change_tempo

Range = tuple[float, float]

_GRID = 20  # resampling factors are twentieths, so that a few short filters serve all
_NOISE = 1 << 21  # samples of noise that all white noise is cut from
_LONGEST = 1 << 20
_TAPS, _BLOCK = 257, 1024
_TELEPHONE = (300.0, 3400.0)  # Hz, the band of ITU-T G.712
_NO_NOISE, _WHITE, _BABBLE = 0, 1, 2


class WaveDraw(TypedDict):
    """What a sample has drawn, ready to be collated.

    Attributes:
        resample: Twentieths of the speed at which it is played: 22 is 1.1 times as fast and as high. int64.
        stretch: Tempo afterwards, at the same pitch.
        warp: Vocal-tract factor for the features.
        noise: 0 none, 1 white, 2 babble. int64.
        place: Where white noise is cut from the table. int64.
        snr: Signal to noise in dB.
        telephone: Whether only the telephone's band is left.
        gain: In dB.
    """

    resample: Tensor
    stretch: Tensor
    warp: Tensor
    noise: Tensor
    place: Tensor
    snr: Tensor
    telephone: Tensor
    gain: Tensor


@dataclass(frozen=True, kw_only=True)
class WaveformAugment:
    """What samples draw. The defaults change nothing; each range is of factors unless said otherwise.

    Attributes:
        speed: Faster and higher, or slower and lower, in steps of 0.05 (Ko et al. 2015: 0.9 to 1.1).
        tempo: Faster or slower at the same pitch.
        pitch: Higher or lower at the same tempo, in steps of 0.05.
        warp: Vocal-tract length (Jaitly and Hinton 2013: 0.9 to 1.1).
        noise: Chance of noise.
        babble: Share of the noise that is other people's speech, where the data set provides it.
        snr: Signal to noise in dB.
        telephone: Chance of a telephone's band.
        gain: In dB; what leaves [-1, 1] is clipped, as a recorder clips it.

    Raises:
        ValueError: A range that falls or holds no factors, or a chance outside [0, 1].
    """

    speed: Range = (1.0, 1.0)
    tempo: Range = (1.0, 1.0)
    pitch: Range = (1.0, 1.0)
    warp: Range = (1.0, 1.0)
    noise: float = 0.0
    babble: float = 0.0
    snr: Range = (5.0, 30.0)
    telephone: float = 0.0
    gain: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, float | int):
                if not 0 <= value <= 1:
                    raise ValueError(f"{name} is a chance and must be from 0 to 1, not {value}")
            elif not value[0] <= value[1]:
                raise ValueError(f"{name} must rise, not {tuple(value)}")
            elif name not in ("snr", "gain") and not 0.5 <= value[0] <= value[1] <= 2:
                raise ValueError(f"{name} must lie within 0.5 and 2, not {tuple(value)}")

    def draw(self, rng: np.random.Generator, *, samples: int, room: int) -> WaveDraw:
        """Draw one sample's augmentation; as many random numbers whatever the settings.

        Args:
            rng: Random numbers of the sample.
            samples: Its length.
            room: Length of the batch; what would not fit slower is left at its speed.
        """
        speed, tempo, pitch, warp, kind, babble, snr, telephone, gain = rng.random(9).tolist()
        place = int(rng.integers(_NOISE - _LONGEST))
        quick, high = _on_grid(speed, self.speed), _on_grid(pitch, self.pitch)
        resample = round(quick * high * _GRID)
        stretch = _between(tempo, self.tempo) / high
        if samples * _GRID > room * resample * stretch:
            resample, stretch = _GRID, 1.0
        noise = _NO_NOISE if kind >= self.noise else _BABBLE if babble < self.babble else _WHITE
        return {
            "resample": torch.tensor(resample),
            "stretch": torch.tensor(stretch, dtype=torch.float64),
            "warp": torch.tensor(_between(warp, self.warp), dtype=torch.float64),
            "noise": torch.tensor(noise),
            "place": torch.tensor(place),
            "snr": torch.tensor(_between(snr, self.snr)),
            "telephone": torch.tensor(telephone < self.telephone),
            "gain": torch.tensor(_between(gain, self.gain)),
        }


def _between(at: float, limits: Range) -> float:
    return limits[0] + at * (limits[1] - limits[0])


def _on_grid(at: float, limits: Range) -> float:
    """A twentieth within the limits, or 1 where they hold none."""
    low, high = math.ceil(limits[0] * _GRID - 1e-9), math.floor(limits[1] * _GRID + 1e-9)
    return (low + int(at * (high - low + 1))) / _GRID if high >= low else 1.0


@torch.no_grad()
def augment_waveforms(
    audio: Tensor, draws: WaveDraw, *, samples: Tensor, babble: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Do to each sample what it has drawn: speed, tempo and pitch, then noise, telephone, gain.

    Args:
        audio: ``(B, S)`` float32 at 16 kHz, zeros after each sample's end.
        draws: Collated draws; each field ``(B,)``.
        samples: Length of each sample ``(B,)``.
        babble: Speech of others ``(B, S)`` for samples that drew babble; see :func:`babble_of`.

    Returns:
        The audio ``(B, S)`` in [-1, 1] and the lengths ``(B,)`` that it now has.

    Raises:
        ValueError: A sample drew babble and there is none, or the batch is longer than the noise (65 s).
    """
    audio, samples = change_speed(audio, draws["resample"], samples=samples)
    stretch = draws["stretch"]
    chosen = (stretch != 1).nonzero()[:, 0]
    if len(chosen):
        samples = torch.where(stretch != 1, (samples / stretch).long(), samples).clamp_max(audio.shape[1])
        audio = audio.index_copy(0, chosen, change_tempo(audio[chosen], stretch[chosen]))
        audio = audio * _inside(audio, samples)
    noisy = (draws["noise"] != _NO_NOISE).nonzero()[:, 0]
    if len(noisy):
        noise = _noise_of(audio, draws, noisy, babble)
        louder = add_noise(audio[noisy], noise, snr=draws["snr"][noisy], samples=samples[noisy])
        audio = audio.index_copy(0, noisy, louder)
    called = draws["telephone"].nonzero()[:, 0]
    if len(called):
        audio = audio.index_copy(0, called, telephone_band(audio[called]))
    factors = 10 ** (draws["gain"].float() / 20)
    return (audio * factors[:, None]).clamp_(-1, 1), samples


def _inside(audio: Tensor, samples: Tensor) -> Tensor:
    """``(B, S)`` bool: where the samples are."""
    return torch.arange(audio.shape[1], device=audio.device) < samples[:, None]


def change_speed(audio: Tensor, twentieths: Tensor, *, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Play at another speed, which changes length and pitch.

    Args:
        audio: ``(B, S)``.
        twentieths: Speed of each in twentieths ``(B,)``.
        samples: Length of each ``(B,)``.

    Returns:
        ``(B, S)`` and the new lengths ``(B,)``; what does not fit is cut off.
    """
    from torchaudio.functional import resample  # deferred: it takes a second to import

    result = audio
    for speed in twentieths.unique().tolist():
        if speed == _GRID:
            continue
        rows = (twentieths == speed).nonzero()[:, 0]
        played = resample(audio[rows], speed, _GRID)[:, : audio.shape[1]]
        played = torch.nn.functional.pad(played, (0, audio.shape[1] - played.shape[1]))
        result = result.index_copy(0, rows, played)
    return result, (samples * _GRID).div(twentieths, rounding_mode="floor").clamp_max(audio.shape[1])


def add_noise(audio: Tensor, noise: Tensor, *, snr: Tensor, samples: Tensor) -> Tensor:
    """Add noise at a given ratio of powers, both measured from each sample's start to its end.

    Args:
        audio: ``(B, S)``; silence gets no noise, since no ratio to it exists.
        noise: ``(B, S)``.
        snr: Power of the signal over the noise's in dB ``(B,)``.
        samples: Length of each sample ``(B,)``; nothing is added after it.
    """
    inside = _inside(audio, samples)
    noise = noise * inside
    of_signal, of_noise = (audio * inside).square().sum(1), noise.square().sum(1)
    scale = (of_signal / of_noise.clamp_min(1e-12) * 10 ** (-snr.float() / 10)).sqrt()
    return torch.addcmul(audio, noise, scale[:, None])


@lru_cache(maxsize=4)
def _noise_table(device: torch.device) -> Tensor:
    """White noise ``(N,)``, the same on every device; a sample draws only where its piece begins."""
    table = np.random.Generator(np.random.Philox(key=0)).standard_normal(_NOISE, dtype=np.float32)
    return torch.from_numpy(table).to(device)


def _noise_of(audio: Tensor, draws: WaveDraw, rows: Tensor, babble: Tensor | None) -> Tensor:
    """The noise of some rows ``(R, S)``."""
    length = audio.shape[1]
    if length > _LONGEST:
        raise ValueError(f"batches of {length} samples are longer than the noise; at most {_LONGEST}")
    table = _noise_table(audio.device)
    white = torch.stack([table[place : place + length] for place in draws["place"][rows].tolist()])
    wants_babble = draws["noise"][rows] == _BABBLE
    if not wants_babble.any():
        return white
    if babble is None:
        raise ValueError("a sample drew babble, but the batch brings none; pass babble or set its share to 0")
    return torch.where(wants_babble[:, None], babble[rows].to(white), white)


def babble_of(clips: Sequence[Tensor], rng: np.random.Generator, *, samples: int) -> Tensor:
    """Several people talking at once: clips at equal power, each repeated from a drawn place on.

    Args:
        clips: Recordings ``(S_i,)`` that the data set chose by rule; silent ones are left out.
        rng: Random numbers of the sample.
        samples: Wanted length.

    Returns:
        ``(samples,)`` float32 at unit power; zeros if every clip is silent.
    """
    mixed = torch.zeros(samples)
    for clip, at in zip(clips, rng.random(len(clips)).tolist(), strict=True):
        power = clip.square().mean() if len(clip) else torch.tensor(0.0)
        if power > 1e-10:
            turned = clip.float().roll(-int(at * len(clip))) / power.sqrt()
            mixed += turned.repeat(-(-samples // len(clip)))[:samples]
    return mixed / mixed.square().mean().sqrt().clamp_min(1e-6) if samples else mixed


@lru_cache(maxsize=4)
def _telephone_response(device: torch.device) -> Tensor:
    """Frequency response of the band, for blocks: a windowed sinc (-3 dB near its edges, -60 dB 250 Hz away)."""
    place = torch.arange(_TAPS, dtype=torch.float64) - _TAPS // 2
    low, high = (2 * edge / SAMPLE_RATE for edge in _TELEPHONE)
    taps = high * torch.sinc(high * place) - low * torch.sinc(low * place)
    taps = taps * torch.hamming_window(_TAPS, periodic=False, dtype=torch.float64)
    return torch.fft.rfft(taps, n=_BLOCK).to(torch.complex64).to(device)


def telephone_band(audio: Tensor) -> Tensor:
    """Leave 300 to 3400 Hz of ``(B, S)``, without delay."""
    # Overlap-save: blocks small enough for the cache, of which the first _TAPS - 1 results are circular.
    useful = _BLOCK - _TAPS + 1
    count = -(-audio.shape[1] // useful)
    delay = _TAPS // 2
    padded = torch.nn.functional.pad(audio, (_TAPS - 1 - delay, count * useful - audio.shape[1] + delay))
    spectra = torch.fft.rfft(padded.unfold(1, _BLOCK, useful))
    filtered = torch.fft.irfft(spectra * _telephone_response(audio.device), n=_BLOCK)
    return filtered[..., _TAPS - 1 :].flatten(1)[:, : audio.shape[1]]
