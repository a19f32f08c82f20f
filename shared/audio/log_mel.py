"""Log-mel features as Whisper takes them (arXiv:2212.04356, section 2.2), in batch on the audio's device.

Legend: B batch, S samples at 16 kHz, F frames of 10 ms, M mel bins, K = 201 frequencies of the transform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16_000
WINDOW = 400
HOP = 160
CHUNK_SECONDS = 30
CHUNK_SAMPLES = CHUNK_SECONDS * SAMPLE_RATE
CHUNK_FRAMES = CHUNK_SAMPLES // HOP
LEAST = 1e-10  # powers below count as this
RANGE = 8.0  # decades of power kept under the maximum

Maximum = Literal["item", "tensor"]

_FREQUENCIES = WINDOW // 2 + 1
_CPU_FRAMES, _GPU_FRAMES = 512, 1 << 18  # frames at once: what a core's cache holds; what a GPU's memory spares
_LINEAR_STEP, _BREAK, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27  # Slaney's mel scale
_WARP_BREAK = 4800.0  # Hz; formants lie below


def mel_edges(bins: int) -> Tensor:
    """Edges in Hz of ``bins`` overlapping bands, even on Slaney's mel scale from 0 to 8 kHz: ``(bins + 2,)`` float64.

    The scale is linear up to 1 kHz and logarithmic above.
    """
    top = _BREAK / _LINEAR_STEP + math.log(SAMPLE_RATE / 2 / _BREAK) / _LOG_STEP
    mels = torch.linspace(0, top, bins + 2, dtype=torch.float64)
    above = _BREAK * torch.exp(_LOG_STEP * (mels - _BREAK / _LINEAR_STEP))
    return torch.where(mels < _BREAK / _LINEAR_STEP, mels * _LINEAR_STEP, above)


def warp_frequencies(frequencies: Tensor, factors: Tensor) -> Tensor:
    """Where vocal-tract-length perturbation moves frequencies (Jaitly and Hinton 2013).

    Straight lines: through the origin with the factor as slope up to about 4.8 kHz, from there to 8 kHz, which stays.

    Args:
        frequencies: In Hz ``(N,)``.
        factors: Warp of each item ``(B,)``, about 0.9 to 1.1; above 1 sounds as a shorter tract does.

    Returns:
        Frequencies in Hz ``(B, N)``.
    """
    factors = factors.to(frequencies)[:, None]
    nyquist = SAMPLE_RATE / 2
    reach = _WARP_BREAK * factors.clamp_max(1)
    slope = (nyquist - reach) / (nyquist - reach / factors)
    return torch.where(frequencies <= reach / factors, frequencies * factors, nyquist - slope * (nyquist - frequencies))


def mel_filters(bins: int, factors: Tensor | None = None) -> Tensor:
    """Triangular mel filters of equal area, equal to ``librosa.filters.mel`` at Whisper's settings.

    Args:
        bins: Mel bins M.
        factors: Warp of each item's frequency axis ``(B,)``; see :func:`warp_frequencies`.

    Returns:
        Weights ``(M, K)``, or ``(B, M, K)`` with factors; float32 on the factors' device.
    """
    edges = mel_edges(bins)[None]
    grid = torch.linspace(0, SAMPLE_RATE / 2, _FREQUENCIES, dtype=torch.float64)
    if factors is not None:
        # A voice whose formants lie higher by the factor is what filters that lie lower by it see.
        edges = warp_frequencies(edges[0].to(factors.device), 1 / factors.double())
    grid = grid.to(edges.device)
    lower, centre, upper = edges[:, :-2, None], edges[:, 1:-1, None], edges[:, 2:, None]
    rise, fall = (grid - lower) / (centre - lower), (upper - grid) / (upper - centre)
    weights = torch.minimum(rise, fall).clamp_min(0) * (2 / (upper - lower))
    return (weights[0] if factors is None else weights).float()


@lru_cache(maxsize=16)
def _constants(bins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Window ``(400,)`` and filters ``(M, K)`` on a device."""
    return torch.hann_window(WINDOW).to(device), mel_filters(bins).to(device)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices as such, whatever autocast and the run's matmul precision say."""
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    kernels = torch.backends.cuda.matmul if device.type == "cuda" else cpu
    before = kernels.fp32_precision
    kernels.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        kernels.fp32_precision = before


class LogMel(nn.Module):
    """Log-mel features of audio at 16 kHz.

    Without state: constants are kept for each device in float32, so casting a model that holds it to bfloat16
    changes nothing here.

    Args:
        bins: Mel bins: 80, or 128 for large-v3 and turbo.
    """

    def __init__(self, *, bins: int = 80) -> None:
        super().__init__()
        if bins not in (80, 128):
            raise ValueError(f"bins must be 80 or 128, not {bins}")
        self.bins = bins

    def extra_repr(self) -> str:
        """The bins."""
        return f"bins={self.bins}"

    @torch.no_grad()
    def forward(
        self, audio: Tensor, *, maximum: Maximum = "item", padding: int = 0, warp: Tensor | None = None
    ) -> Tensor:
        """Features of whole recordings.

        Args:
            audio: ``(B, S)`` or ``(S,)`` floats in [-1, 1]; with the padding more than 200 samples.
            maximum: What lies more than 8 decades under the maximum is raised to there. ``item``: of each item, so
                that a sample does not depend on its neighbours. ``tensor``: of all that is passed, as the reference.
            padding: Zeros to append to each item; the reference appends 30 s to a file that it cuts afterwards.
            warp: Vocal-tract-length factors ``(B,)``; see :func:`mel_filters`.

        Returns:
            ``(B, M, F)`` or ``(M, F)`` float32 with F = (S + padding) // 160.

        Raises:
            ValueError: Not floats, another shape, or too short to be reflected at its ends.
        """
        if audio.dim() not in (1, 2) or not audio.is_floating_point():
            raise ValueError(f"audio must be floats (B, S) or (S,), not {audio.dtype} {tuple(audio.shape)}")
        if maximum not in ("item", "tensor"):
            raise ValueError(f"maximum must be item or tensor, not {maximum!r}")
        if audio.shape[-1] + padding <= WINDOW // 2:
            raise ValueError(f"{audio.shape[-1]} samples are too few to be reflected at the ends; pad to 201 or more")
        rows = audio.float().reshape(-1, audio.shape[-1])
        if padding:
            rows = torch.nn.functional.pad(rows, (0, padding))
        features = self._fill(_reflected(rows), rows, frames=rows.shape[1] // HOP, warp=warp)
        greatest = features.amax((1, 2), keepdim=True) if maximum == "item" else features.max()
        return scale(features, greatest).view(*audio.shape[:-1], *features.shape[1:])

    @torch.no_grad()
    def decades(self, padded: Tensor, *, warp: Tensor | None = None) -> Tensor:
        """Logarithms to base 10 of the mel powers, before anything looks at the maximum.

        Args:
            padded: ``(B, P)`` float32 whose frames begin at 0, 160, 320 ...
            warp: Vocal-tract-length factors ``(B,)``.

        Returns:
            ``(B, M, F)`` with F the frames of 400 samples that fit.
        """
        frames = (padded.shape[1] - WINDOW) // HOP + 1
        return self._fill([(0, padded)], padded, frames=frames, warp=warp)

    def _fill(self, parts: list[tuple[int, Tensor]], like: Tensor, *, frames: int, warp: Tensor | None) -> Tensor:
        """Decades ``(B, M, frames)`` of parts ``(B, P)``, each with the number of its first frame."""
        window, filters = _constants(self.bins, like.device)
        result = like.new_empty(len(like), self.bins, frames)
        with _full_precision(like.device):
            own = filters if warp is None else mel_filters(self.bins, warp.to(like.device))
            for first, part in parts:
                inputs = part.unfold(1, WINDOW, HOP)  # (B, F, 400), a view
                out = result[:, :, first : first + inputs.shape[1]]
                if like.device.type == "cpu":
                    for item in range(len(part)):
                        for start in range(0, out.shape[2], _CPU_FRAMES):
                            piece = slice(start, start + _CPU_FRAMES)
                            of_item = own if warp is None else own[item]
                            out[item, :, piece] = _decades(inputs[item, piece], window, of_item)
                else:
                    step = max(1, _GPU_FRAMES // max(1, len(part)))
                    for start in range(0, out.shape[2], step):
                        piece = slice(start, start + step)
                        out[:, :, piece] = _decades(inputs[:, piece], window, own)
        return result


def _reflected(rows: Tensor) -> list[tuple[int, Tensor]]:
    """Rows ``(B, S)`` reflected at both ends, as parts with the numbers of their first frames.

    The long middle is a view: padding all of it would take as long as the features themselves. There is no frame that
    is centred on the end, because the reference drops it.
    """
    half, frames = WINDOW // 2, rows.shape[1] // HOP
    head = rows[:, 1 : half + 1].flip(1)
    tail = rows[:, -half - 1 : -1].flip(1)
    first = -(-half // HOP)  # the first frame that lies inside, and the one after the last
    last = (rows.shape[1] - half) // HOP + 1
    if last <= first:
        return [(0, torch.cat([head, rows, tail], 1)[:, : frames * HOP + WINDOW - HOP])]
    parts = [
        (0, torch.cat([head, rows[:, : first * HOP - HOP + half]], 1)),
        (first, rows[:, first * HOP - half : last * HOP - HOP + half]),
    ]
    if last < frames:
        end = torch.cat([rows[:, last * HOP - half :], tail], 1)
        parts.append((last, end[:, : (frames - last) * HOP + WINDOW - HOP]))
    return parts


def _decades(frames: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """Mel powers in decades ``(..., M, F)`` of frames ``(..., F, 400)``."""
    parts = torch.view_as_real(torch.fft.rfft(frames * window)).square_()
    # Adding two strided views is several times as fast as a sum over the last axis, or as abs().
    power = parts[..., 0] + parts[..., 1]
    return torch.matmul(filters, power.transpose(-1, -2)).clamp_(min=LEAST).log10_()


def scale(decades: Tensor, greatest: Tensor) -> Tensor:
    """Raise what lies more than 8 decades under the maximum to there, and bring the rest near [-1, 1]; in place."""
    return torch.maximum(decades, greatest - RANGE, out=decades).add_(4.0).div_(4.0)


def plain_log_mel(audio: Tensor, *, bins: int) -> Tensor:
    """The same of one recording ``(S,)`` as the definition reads: the twin that tests compare with."""
    window, filters = _constants(bins, audio.device)
    spectrum = torch.stft(audio, WINDOW, HOP, window=window, center=True, pad_mode="reflect", return_complex=True)
    decades = (filters @ spectrum[:, :-1].abs().square()).clamp(min=LEAST).log10()
    return (torch.maximum(decades, decades.max() - RANGE) + 4) / 4


def pad_or_trim(audio: Tensor, samples: int = CHUNK_SAMPLES) -> Tensor:
    """Cut the last axis to ``samples``, or append zeros."""
    return torch.nn.functional.pad(audio[..., :samples], (0, max(0, samples - audio.shape[-1])))
