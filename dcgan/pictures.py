"""Pictures of generated images: grids, and rows with labels."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from zoo.dcgan.data import to_bytes
from zoo.shared.files import atomic_path

_LEAST = 56  # images smaller than this are drawn larger, a whole number of times
_GAP = 2


def grid(images: Tensor, *, columns: int | None = None) -> Image.Image:
    """Images side by side on white.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        columns: Images in a row; by default as many as make it square.
    """
    from torchvision.utils import make_grid

    pixels = to_bytes(images)
    times = max(1, _LEAST // pixels.shape[-1])
    pixels = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    sheet = make_grid(pixels, nrow=columns, padding=_GAP, pad_value=255)
    return Image.fromarray(sheet.permute(1, 2, 0).to(torch.uint8).numpy())


def save_grid(images: Tensor, path: Path, *, columns: int | None = None) -> Path:
    """Write :func:`grid` as a PNG."""
    return save_picture(grid(images, columns=columns), path)


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Write a picture under its name when it is complete; the ending gives the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        picture.save(temporary, format=Image.registered_extensions().get(path.suffix.lower(), "PNG"))
    return path
