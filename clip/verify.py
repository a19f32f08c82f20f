"""What ``zoo verify`` needs to know of CLIP: outputs to compare, and data with something broken in it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from zoo.clip.model import CLIP
from zoo.verify.cases import Damage

_PAIRS = 64


def outputs(model: CLIP) -> dict[str, Tensor]:
    """Both towers' embeddings and the logits, on inputs drawn from a fixed seed."""
    draw = torch.Generator().manual_seed(0)
    size, config = model.config.image_size, model.config
    images = torch.randn(2, 3, size, size, generator=draw)
    tokens = torch.randint(1, config.vocab_size - 1, (2, config.context), generator=draw)
    tokens[:, -1] = config.vocab_size - 1  # the end of the text
    image, text = model.encode_image(images), model.encode_text(tokens)
    return {"image": image, "text": text, "logits": model(images, tokens)[0]}


def damaged(folder: Path) -> list[Damage]:
    """An image that is no image, one that cannot be opened, and a tar that breaks off."""
    return [_corrupt_image(folder / "corrupt"), _unreadable_image(folder / "unreadable"), _truncated_tar(folder)]


def _settings(source: Path) -> dict[str, Any]:
    return {"data": {"source": str(source), "batch_size": 12, "held_out": 0.0, "workers": 1}, "report": False}


def _table(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = ["path,caption"]
    for number in range(_PAIRS):
        (folder / f"{number:03d}.png").write_bytes(_picture(number))
        lines.append(f"{number:03d}.png,picture {number}")
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "pairs.csv"


def _picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), (4 * number, 255 - number, 7 * number % 256)).save(file, "png")
    return file.getvalue()


def _corrupt_image(folder: Path) -> Damage:
    table = _table(folder)
    (folder / "003.png").write_bytes(b"no picture")
    return Damage(what="an image is corrupt", settings=_settings(table), named=["003.png"])


def _unreadable_image(folder: Path) -> Damage:
    table = _table(folder)
    (folder / "005.png").unlink()
    (folder / "005.png").symlink_to("nowhere")
    return Damage(what="an image cannot be opened", settings=_settings(table), named=["005.png"])


def _truncated_tar(folder: Path) -> Damage:
    path = folder / "pairs.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(_PAIRS):
            for name, content in ((f"{number:03d}.png", _picture(number)), (f"{number:03d}.txt", b"a picture")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10 // 512 * 512 - 700])
    return Damage(what="a tar breaks off", settings=_settings(path), named=["pairs.tar"])
