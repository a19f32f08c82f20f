"""Opening image files as the CLIP preprocessing expects them, and the error that marks a sample as bad."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


class BadSample(Exception):
    """One sample of a data set cannot be used; the message says why. Loaders replace it and count it."""


def open_image(source: str | Path | bytes) -> Image.Image:
    """Decode an image as upright 8-bit RGB.

    Transparency is dropped, not blended, because open_clip's ``convert("RGB")`` does so; 16-bit greys are scaled
    to 8 bits, where Pillow's own conversion would clip almost all of them to white.

    Args:
        source: A path, or the bytes of an image file.

    Raises:
        BadSample: The file is missing, truncated or not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF blocks and odd palettes are common and harmless
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
                opened.load()
                return to_rgb(ImageOps.exif_transpose(opened))
    except FileNotFoundError as error:
        raise BadSample(f"no such file: {source!s}") from error
    except Image.UnidentifiedImageError as error:
        raise BadSample("not an image that Pillow knows") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
        raise BadSample(f"cannot be decoded: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB; see :func:`open_image`."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.max(initial=0) > 255:
            grey = grey >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA").convert("RGB")  # one step warns about palettes with transparency
    return image.convert("RGB")
