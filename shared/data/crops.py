"""Crops, flips and normalisation of a batch on the accelerator, with the parameters drawn elsewhere.

A crop with its own box per sample and an antialiased resize is linear in the rows and in the columns, so it is two
batched matrix products with weights ``(B, S, H)`` and ``(B, S, W)``. Legend: B batch, C channels, H and W the
canvas's height and width, S the side of the result.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


def _kernel(x: Tensor, mode: str) -> Tensor:
    """The interpolation kernel at distances ``x`` in units of its own scale."""
    x = x.abs()
    if mode == "bilinear":
        return (1 - x).clamp_min(0)
    # Keys' cubic with a = -1/2, which Pillow and torch's antialiased resize use.
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def resize_weights(start: Tensor, stop: Tensor, *, size: int, pixels: int, mode: str = "bilinear") -> Tensor:
    """Weights of a line's pixels in each of ``size`` output pixels, antialiased.

    Only pixels whose cell lies in the crop count, as if the line had been cut first.

    Args:
        start: Where the crops begin, in pixels ``(B,)``; may be fractional.
        stop: Where they end ``(B,)``.
        size: Output pixels S.
        pixels: Pixels of the line L.
        mode: ``bilinear`` or ``bicubic``.

    Returns:
        Weights ``(B, S, L)`` in float32, each row summing to 1.
    """
    start, stop = start.float()[:, None, None], stop.float()[:, None, None]
    scale = (stop - start) / size  # input pixels per output pixel
    stretch = scale.clamp_min(1)  # the kernel widens when shrinking and stays as it is when enlarging
    places = torch.arange(size, device=start.device, dtype=torch.float32)[None, :, None] + 0.5
    centres = start + places * scale
    cells = torch.arange(pixels, device=start.device, dtype=torch.float32)[None, None] + 0.5
    reach = _SUPPORT[mode] * stretch
    distance = cells - centres
    weights = _kernel(distance / stretch, mode) * (distance.abs() <= reach)
    inside = (cells > start) & (cells < stop)
    weights = weights * inside
    total = weights.sum(-1, keepdim=True)
    nearest = torch.nn.functional.one_hot(centres.floor().long().clamp(0, pixels - 1).squeeze(-1), pixels).to(
        weights
    )  # a crop thinner than a pixel may contain no pixel's centre
    return torch.where(total.abs() > 1e-6, weights / torch.where(total == 0, 1, total), nearest)


def crop_resize(
    images: Tensor, boxes: Tensor, *, size: int, mode: str = "bilinear", flips: Tensor | None = None
) -> Tensor:
    """Cut a box out of each image and resize it to a square, antialiased as torchvision does with integer boxes.

    Args:
        images: Canvases ``(B, C, H, W)``, bytes or floats.
        boxes: ``(B, 4)``: left, top, right, bottom in pixels of the canvas; may be fractional.
        size: Side S of the result.
        mode: ``bilinear`` or ``bicubic``.
        flips: ``(B,)`` bool: which results to mirror left to right.

    Returns:
        Floats ``(B, C, S, S)``: in [0, 1] when the images are bytes, otherwise in the images' range.
    """
    height, width = images.shape[-2:]
    columns = resize_weights(boxes[:, 0], boxes[:, 2], size=size, pixels=width, mode=mode)
    rows = resize_weights(boxes[:, 1], boxes[:, 3], size=size, pixels=height, mode=mode)
    if flips is not None:  # mirrored weights give a mirrored image
        columns = torch.where(flips[:, None, None], columns.flip(1), columns)
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    with torch.autocast(images.device.type, enabled=False):
        cut = torch.matmul(pixels, columns.transpose(1, 2)[:, None])
        cut = torch.matmul(rows[:, None], cut)
    # A cubic kernel overshoots at edges; images of bytes have no values beyond their range.
    return cut.clamp(0, 1) if images.dtype == torch.uint8 and mode == "bicubic" else cut


def normalise(images: Tensor, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Subtract the mean and divide by the standard deviation of each channel of ``(B, C, H, W)``."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def draw_box(
    rng: np.random.Generator,
    *,
    width: float,
    height: float,
    scale: tuple[float, float] = (1.0, 1.0),
    ratio: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, float, float, float]:
    """Draw a random crop of part of an image's area, as in Inception's training.

    Args:
        rng: Random numbers of the sample.
        width: Width of the image.
        height: Height of the image.
        scale: Least and greatest part of the area.
        ratio: Least and greatest width over height, drawn evenly in its logarithm.

    Returns:
        left, top, right, bottom. Without a fitting crop in ten tries, the largest central one of an allowed ratio.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        wide, high = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if wide <= width and high <= height:
            left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
            return left, top, left + wide, top + high
    aspect = min(max(width / height, ratio[0]), ratio[1])
    wide, high = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
