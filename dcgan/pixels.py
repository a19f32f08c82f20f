"""Between the images that people have and the tensors of the networks. Brings neither Lightning nor data sets."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.dcgan.configs import DcganConfig
from zoo.shared.data.images import BadSample, to_rgb


def to_signed(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes to floats in [-1, 1] (Section 4)."""
    return images.to(dtype).div_(127.5).sub_(1)


def to_bytes(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to bytes."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def fit(image: Image.Image, *, config: DcganConfig, enlarge: bool) -> np.ndarray:
    """An image of any size and mode as bytes ``(C, S, S)``: short side to S, the middle square, the model's colours.

    Args:
        image: The image.
        config: Shapes of the model.
        enlarge: Also if it is smaller than S.

    Raises:
        BadSample: It is smaller than S and may not be enlarged.
    """
    side = config.image_size
    grey = config.channels == 1 and image.mode == "L"
    image = image if grey else to_rgb(image).convert("L" if config.channels == 1 else "RGB")
    if image.size != (side, side):
        short = min(image.size)
        if short < side and not enlarge:
            raise BadSample(
                f"is {image.width} x {image.height} pixels, smaller than the model's {side}; choose a smaller model "
                "(--model.image_size), or --data.enlarge true"
            )
        scaled = [max(side, round(length * side / short)) for length in image.size]
        image = image.resize((scaled[0], scaled[1]), Image.Resampling.BICUBIC)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = np.array(image)
    return pixels[None] if config.channels == 1 else pixels.transpose(2, 0, 1)
