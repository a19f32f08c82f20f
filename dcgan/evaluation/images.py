"""Images to measure: bytes in memory, and those of a data module."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.dcgan.data import ImageItems
from zoo.dcgan.pixels import to_bytes

_CHUNK = 512  # images that are floats at a time


class Labelled(NamedTuple):
    """Images and what they show."""

    images: Tensor
    """Bytes ``(N, C, H, W)``."""
    labels: Tensor
    """Class of each ``(N,)``; -1 where there is none."""

    @property
    def named(self) -> Labelled:
        """Those that have a label."""
        rows = self.labels >= 0
        return Labelled(self.images[rows], self.labels[rows])


def read(items: ImageItems | None, *, limit: int) -> Labelled:
    """Read a part of a data set in an order that is random but always the same, leaving out what cannot be read.

    Args:
        items: The part; None is an empty one.
        limit: Read so many images at most.
    """
    if items is None:
        return Labelled(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))[:limit]
    chunks = [items.tensor(chunk.tolist()) for chunk in order.split(_CHUNK)]
    return Labelled(torch.cat([to_bytes(images) for images, _ in chunks]), torch.cat([labels for _, labels in chunks]))
