"""Whether a generator has memorised: how near its images are to training images, beside how near held-out ones are.

Shapes: N images, T training images, D numbers of an image, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.dcgan.evaluation.scores import _at_least

NEIGHBOURS = 4
_NEAR = 0.01  # the percentile of held-out images' distances that counts as near
_ROWS = 256  # rows of the distance matrix at a time


class Nearest(NamedTuple):
    """Nearest training images of N images."""

    distances: Tensor
    """Euclidean ``(N, k)``, rising."""
    rows: Tensor
    """Which training images ``(N, k)``."""


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Distances to the nearest training image, in pixels or in features.

    A generator that has memorised has a ratio far below 1 and a share far above 1 %.

    Attributes:
        generated: Median over generated images.
        held_out: Median over held-out images.
        ratio: The first over the second.
        near: Share of generated images as near as the nearest 1 % of held-out ones.
    """

    generated: float
    held_out: float
    ratio: float
    near: float


def nearest(images: Tensor, train: Tensor, *, k: int = NEIGHBOURS) -> Nearest:
    """The k nearest training images of each image.

    Args:
        images: ``(N, D)``.
        train: ``(T, D)``, T of at least k.
        k: How many.
    """
    images, train = _at_least(1, images).float(), _at_least(k, train).float()
    rows = torch.cat([torch.cdist(part, train).topk(k, largest=False).indices for part in images.split(_ROWS)])
    # Again, as differences: products lose small distances, which are the ones that tell.
    exact = torch.cat(
        [(a[:, None] - train[r]).norm(dim=2) for a, r in zip(images.split(_ROWS), rows.split(_ROWS), strict=True)]
    )
    distances, order = exact.sort(1)
    return Nearest(distances, rows.gather(1, order))


def memorisation(generated: Nearest, held_out: Nearest) -> Memorisation:
    """Compare the distances of generated and of held-out images to the same training images."""
    ours, theirs = generated.distances[:, 0].double(), held_out.distances[:, 0].double()
    medians = float(ours.median()), float(theirs.median())
    return Memorisation(
        generated=medians[0],
        held_out=medians[1],
        ratio=medians[0] / max(medians[1], 1e-12),
        near=float((ours <= theirs.quantile(_NEAR)).double().mean()),
    )
