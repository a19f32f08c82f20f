"""Tempo of speech without its pitch, in batch: overlap-add of similar pieces (WSOLA; Verhelst and Roelands 1993).

Output is laid out of windowed pieces half a piece apart. Each is taken near where its time lies in the input, at the
place that best goes on from the piece before, so that periods of the voice join. The search goes step by step in
time, for all recordings of the batch at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PIECE = 640  # samples, 40 ms: two periods of a low voice
_STEP = _PIECE // 2
_REACH = 128  # samples to both sides, together a period of 62 Hz
_COARSE = 4  # the search hears up to 2 kHz, where voices are periodic


def change_tempo(audio: Tensor, factors: Tensor) -> Tensor:
    """Play faster or slower at the same pitch.

    Args:
        audio: ``(B, S)`` float32.
        factors: ``(B,)``: above 1 is faster and shorter, by so much.

    Returns:
        ``(B, S)``: zeros follow what became shorter, and what became longer is cut off.
    """
    count = -(-audio.shape[1] // _STEP) + 1
    lead = _REACH + _STEP  # so that the first piece is not before the start
    tail = int(audio.shape[1] * max(0.0, float(factors.max()) - 1)) + 4 * _PIECE
    padded = torch.nn.functional.pad(audio, (lead, tail))
    padded = padded[:, : padded.shape[1] // _COARSE * _COARSE]
    coarse = torch.nn.functional.avg_pool1d(padded[:, None], _COARSE)[:, 0]
    begins = _search(coarse, factors, count) * _COARSE
    rows = torch.arange(len(audio), device=audio.device)[:, None]
    pieces = padded.reshape(-1).unfold(0, _PIECE, 1)  # a view of all rows one after the other
    pieces = pieces.index_select(0, (begins + rows * padded.shape[1]).view(-1)).view(len(audio), count, _PIECE)
    pieces = pieces * torch.hann_window(_PIECE, device=audio.device)
    # Pieces begin half a piece before the output does, so every sample lies under two of them.
    laid = pieces.new_zeros(len(audio), (count + 1) * _STEP)
    laid[:, : count * _STEP] += pieces[:, :, :_STEP].flatten(1)
    laid[:, _STEP:] += pieces[:, :, _STEP:].flatten(1)
    return laid[:, _STEP : _STEP + audio.shape[1]]


def _search(coarse: Tensor, factors: Tensor, count: int) -> Tensor:
    """Where the pieces begin in the coarse samples ``(B, C)``: ``(B, count)``."""
    wide, lags = _STEP // _COARSE, 2 * _REACH // _COARSE + 1
    regions = coarse.unfold(1, wide + lags - 1, 1)  # (B, places, region), a view
    steps = torch.arange(count, device=coarse.device, dtype=torch.float64) * _STEP
    first = (steps * factors.double()[:, None] / _COARSE).round().long().clamp_max(regions.shape[1] - 1)
    rows = torch.arange(len(coarse), device=coarse.device)[:, None]
    # All that does not depend on the choices is computed for all steps at once: spectra and energies of the regions.
    region = regions[rows, first]  # (B, count, region)
    spectra = torch.fft.rfft(region)
    sums = torch.nn.functional.pad(region.double().square().cumsum(-1), (1, 0))
    energy = (sums[..., wide:] - sums[..., :-wide]).float()  # (B, count, lags)
    usual = energy.mean((1, 2), keepdim=True).clamp_min(1e-12)
    weight = torch.maximum(energy, 1e-3 * usual).rsqrt()
    # In silence everything goes on equally well, or as rounding has it; then a piece is taken where its time lies.
    bonus = torch.zeros_like(energy[:, 0])
    bonus[:, lags // 2] = 1e-3 * usual[:, 0, 0].sqrt()
    within = wide + torch.arange(wide, device=coarse.device)
    places = [first[:, :1] + lags // 2]
    for step in range(1, count):
        follow = coarse.gather(1, places[-1] + within)  # what goes on from the piece before
        template = torch.fft.rfft(follow, n=region.shape[-1]).conj()
        likeness = torch.fft.irfft(spectra[:, step] * template, n=region.shape[-1])[:, :lags]
        best = torch.addcmul(bonus, likeness, weight[:, step]).argmax(1, keepdim=True)
        places.append(first[:, step : step + 1] + best)
    return torch.cat(places, 1)
