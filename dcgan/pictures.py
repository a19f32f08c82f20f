"""Pictures of generated images: grids, sheets of them with titles, loops."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zoo.dcgan.pixels import to_bytes
from zoo.shared.files import atomic_path

_LEAST = 56  # images smaller than this are drawn larger, a whole number of times
_GAP = 2
_TEXT = 14  # height of text in pixels, and the white between pictures


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


def save_each(images: Tensor, folder: Path) -> list[Path]:
    """Write every image ``(N, C, H, W)`` in [-1, 1] as a PNG of its own size, named by its number."""
    digits = max(4, len(str(len(images) - 1)))
    return [
        save_picture(Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy()), folder / f"{number:0{digits}}.png")
        for number, pixels in enumerate(to_bytes(images))
    ]


def titled(picture: Image.Image, title: str) -> Image.Image:
    """A picture with a line of text above it, which may be wider than the picture."""
    font = ImageFont.load_default(_TEXT)
    width = max(picture.width, math.ceil(font.getlength(title)))
    sheet = Image.new("RGB", (width, picture.height + 2 * _TEXT), "white")
    ImageDraw.Draw(sheet).text((width / 2, _TEXT), title, fill="black", font=font, anchor="mm")
    sheet.paste(picture, ((width - picture.width) // 2, 2 * _TEXT))
    return sheet


def beside(*pictures: Image.Image | str) -> Image.Image:
    """Pictures, and signs such as ``+`` between them, from left to right, on a common middle line."""
    drawn = [_sign(entry) if isinstance(entry, str) else entry for entry in pictures]
    height = max(picture.height for picture in drawn)
    sheet = Image.new("RGB", (sum(picture.width for picture in drawn) + _TEXT * (len(drawn) - 1), height), "white")
    left = 0
    for picture in drawn:
        sheet.paste(picture, (left, (height - picture.height) // 2))
        left += picture.width + _TEXT
    return sheet


def stacked(*pictures: Image.Image) -> Image.Image:
    """Pictures from top to bottom, aligned on the left."""
    height = sum(picture.height for picture in pictures) + _TEXT * (len(pictures) - 1)
    sheet = Image.new("RGB", (max(picture.width for picture in pictures), height), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + _TEXT
    return sheet


def save_loop(frames: list[Image.Image], path: Path, *, milliseconds: int) -> Path:
    """Write an animated GIF that begins again at its end."""
    with atomic_path(path) as temporary:
        first, *others = frames
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return path


def _sign(text: str) -> Image.Image:
    font = ImageFont.load_default(2 * _TEXT)
    sheet = Image.new("RGB", (math.ceil(font.getlength(text)), 2 * _TEXT), "white")
    ImageDraw.Draw(sheet).text((sheet.width / 2, _TEXT), text, fill="black", font=font, anchor="mm")
    return sheet
