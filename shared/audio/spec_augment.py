"""SpecAugment (Park et al. 2019, arXiv:1904.08779): time warp, frequency masks and time masks of log-mel features.

The data set draws where (:func:`draw_spec_augment`), the device does it to the whole batch (:func:`spec_augment`).
The paper warps by an image warp with fixed borders whose control points lie on one line in time; in that one
dimension it is taken as what it comes to, two straight pieces that meet at the warped frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

PolicyName = Literal["LB", "LD", "SM", "SS"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is drawn; the paper's letters in brackets.

    Attributes:
        warp: Frames by which one frame is moved, less than this (W).
        width: Mel bins of a frequency mask, less than this at 80 bins; grows with the bins (F).
        bands: Frequency masks (m_F).
        length: Frames of a time mask, less than this (T).
        share: Greatest share of the recording in a time mask (p).
        spans: Time masks (m_T).
    """

    warp: int
    width: int
    bands: int
    length: int
    share: float
    spans: int


POLICIES: dict[PolicyName, Policy] = {  # the paper's table 1
    "LB": Policy(warp=80, width=27, bands=1, length=100, share=1.0, spans=1),  # LibriSpeech basic
    "LD": Policy(warp=80, width=27, bands=2, length=100, share=1.0, spans=2),  # LibriSpeech double
    "SM": Policy(warp=40, width=15, bands=2, length=70, share=0.2, spans=2),  # Switchboard mild
    "SS": Policy(warp=40, width=27, bands=2, length=70, share=0.2, spans=2),  # Switchboard strong
}


class SpecDraw(TypedDict):
    """What a sample has drawn, ready to be collated.

    Attributes:
        warp: Warped frame and the frame that it moves to ``(2,)``; equal when nothing moves.
        bands: First mel bin and the one after the last of each frequency mask ``(m_F, 2)``.
        spans: First frame and the one after the last of each time mask ``(m_T, 2)``.
    """

    warp: Tensor
    bands: Tensor
    spans: Tensor


def draw_spec_augment(rng: np.random.Generator, policy: Policy, *, frames: int, bins: int) -> SpecDraw:
    """Draw one sample's warp and masks; as many random numbers whatever the sizes.

    Args:
        rng: Random numbers of the sample.
        policy: What to draw, such as ``POLICIES["LB"]``.
        frames: Frames of the recording, without what pads it.
        bins: Mel bins.
    """
    warp = min(policy.warp, (frames - 1) // 2)  # leaves a frame to warp in a recording that is shorter than 2 W
    at, move = rng.random(2)
    centre = warp + int(at * (frames - 2 * warp)) if frames else 0
    target = centre + int(np.trunc((2 * move - 1) * warp)) if frames else 0
    bands, spans = [], []
    for size, start in rng.random((policy.bands, 2)):
        width = min(int(size * policy.width * bins / 80), bins)
        first = int(start * (bins - width))
        bands.append((first, first + width))
    for size, start in rng.random((policy.spans, 2)):
        length = int(size * min(policy.length, policy.share * frames))
        first = int(start * (frames - length))
        spans.append((first, first + length))
    return {
        "warp": torch.tensor([centre, target]),
        "bands": torch.tensor(bands, dtype=torch.int64).view(-1, 2),
        "spans": torch.tensor(spans, dtype=torch.int64).view(-1, 2),
    }


def spec_augment(features: Tensor, draws: SpecDraw, *, frames: Tensor) -> Tensor:
    """Warp and mask a batch where it is; a sample's result depends on no other sample.

    Masks take the mean of the recording's features, as the paper's zeros do after its normalisation.

    Args:
        features: ``(B, M, F)``.
        draws: Collated draws: ``warp (B, 2)``, ``bands (B, m_F, 2)``, ``spans (B, m_T, 2)``.
        frames: Frames of each recording ``(B,)``; those after stay as they are.

    Returns:
        ``(B, M, F)`` of the same type.
    """
    bins, length = features.shape[1:]
    time = torch.arange(length, device=features.device)
    bin_ = torch.arange(bins, device=features.device)
    inside = time < frames[:, None]  # (B, F)
    total = frames.clamp_min(1)[:, None]
    mean = (features.float() * inside[:, None]).sum((1, 2)) / (total[:, 0] * bins)
    result = time_warp(features, draws["warp"], frames=frames)
    bands, spans = draws["bands"][..., None], draws["spans"][..., None]
    hidden_bins = ((bin_ >= bands[:, :, 0]) & (bin_ < bands[:, :, 1])).any(1)  # (B, M)
    hidden_time = ((time >= spans[:, :, 0]) & (time < spans[:, :, 1])).any(1) & inside
    hidden = (hidden_bins[:, :, None] & inside[:, None]) | hidden_time[:, None]
    return torch.where(hidden, mean.to(features)[:, None, None], result)


def time_warp(features: Tensor, warp: Tensor, *, frames: Tensor) -> Tensor:
    """Move one frame of each recording and stretch what lies on its two sides, interpolating linearly.

    Args:
        features: ``(B, M, F)``.
        warp: The frame and where it moves to ``(B, 2)``.
        frames: Frames of each recording ``(B,)``; its first and last stay, and so does all that follows.
    """
    time = torch.arange(features.shape[2], device=features.device, dtype=torch.float32)
    source, target = warp[:, :1].float(), warp[:, 1:].float()
    last = (frames[:, None] - 1).float()
    before = time * source / target.clamp_min(1)
    after = source + (time - target) * (last - source) / (last - target).clamp_min(1)
    place = torch.where(time < target, before, after)
    place = torch.where((time > last) | (source == target), time, place)
    low = place.floor().long().clamp(0, features.shape[2] - 1)
    part = (place - low)[:, None].to(features.dtype)
    high = (low + 1).clamp_max(features.shape[2] - 1)
    index = (len(features), features.shape[1], features.shape[2])
    lower = features.gather(2, low[:, None].expand(index))
    upper = features.gather(2, high[:, None].expand(index))
    return torch.lerp(lower, upper, part.expand(index))
