"""What ``zoo verify`` needs to know of DCGAN: outputs to compare, and data with something broken in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from zoo.dcgan.model import DCGAN
from zoo.verify.cases import Damage

_IMAGES = 64


def outputs(model: DCGAN) -> dict[str, Tensor]:
    """Generated images, and the discriminator's logits and last map for them, on latent vectors of a fixed seed."""
    images = model.generator(model.draw(4, seed=0))
    return {
        "images": images,
        "logits": model.discriminator(images),
        "features": model.discriminator.activations(images)[-1],
    }


def damaged(folder: Path) -> list[Damage]:
    """An image that is no image, one that cannot be opened, and one that is too small."""
    corrupt = _images(folder / "corrupt")
    (corrupt / "003.png").write_bytes(b"no picture")
    unreadable = _images(folder / "unreadable")
    (unreadable / "005.png").unlink()
    (unreadable / "005.png").symlink_to("nowhere")
    small = _images(folder / "small")
    Image.new("RGB", (9, 40)).save(small / "007.png")
    return [
        Damage(what="an image is corrupt", settings=_settings(corrupt), named=["003.png"]),
        Damage(what="an image cannot be opened", settings=_settings(unreadable), named=["005.png"]),
        Damage(what="an image is too small", settings=_settings(small), named=["007.png"]),
    ]


def _settings(source: Path) -> dict[str, Any]:
    return {"data": {"source": str(source), "batch_size": 12, "held_out": 0.0, "workers": 1}, "report": False}


def _images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(_IMAGES):
        pixels = draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((24, 24)).save(folder / f"{number:03d}.png")
    return folder
