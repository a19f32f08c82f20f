"""What a search for near-duplicates writes: lists, sheets that a person judges by, and the images that are kept."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zoo.dcgan.configs import DcganConfig
from zoo.dcgan.hash_groups import Progress
from zoo.dcgan.pictures import grid, save_picture, stacked
from zoo.dcgan.pixels import fit, to_signed
from zoo.shared.data.folders import ImageFolder
from zoo.shared.data.image_sources import ImageSource

_ROWS, _ACROSS, _SIDE = 12, 10, 64  # of a sheet: rows, images in a row, side of an image in pixels
_TEXT = 14


@dataclass(frozen=True)
class Outcome:
    """Which images are alike. N images could be read.

    Attributes:
        source: Where the images are.
        numbers: Their numbers in the source ``(N,)``.
        leaders: For each the place, of N, of the first one that is alike; its own where it is kept ``(N,)``.
        bits: Bits in which it differs from that one ``(N,)``.
        pixels: Root mean square difference of their pixels, of 255 ``(N,)``.
    """

    source: ImageSource
    numbers: NDArray[np.int64]
    leaders: NDArray[np.int64]
    bits: NDArray[np.int64]
    pixels: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.int64]:
        """Places of the images that are kept."""
        return np.flatnonzero(self.leaders == np.arange(len(self.leaders)))

    @property
    def dropped(self) -> NDArray[np.int64]:
        """Places of the others."""
        return np.flatnonzero(self.leaders != np.arange(len(self.leaders)))

    def id(self, place: int) -> str:
        """What a person recognises an image by."""
        return self.source.id(int(self.numbers[place]))

    def pair(self, place: int) -> dict[str, Any]:
        """A dropped image and the one that it duplicates."""
        return {
            "image": self.id(place),
            "duplicate_of": self.id(self.leaders[place]),
            "bits_apart": int(self.bits[place]),
            "pixels_apart": round(float(self.pixels[place]), 2),
        }

    def groups(self) -> list[tuple[int, NDArray[np.int64]]]:
        """Each image that stands for others, with those, by falling number."""
        if not len(self.dropped):
            return []
        by_leader = self.dropped[np.argsort(self.leaders[self.dropped], kind="stable")]
        leaders, starts = np.unique(self.leaders[by_leader], return_index=True)
        found = zip(map(int, leaders), np.split(by_leader, starts[1:]), strict=True)
        return sorted(found, key=lambda group: -len(group[1]))


def write_lists(outcome: Outcome, folder: Path) -> None:
    """Write ``kept.txt``, an id a line, and ``dropped.jsonl``, a pair a line."""
    with (folder / "kept.txt").open("w", encoding="utf-8", errors="surrogateescape") as kept:
        kept.writelines(f"{outcome.id(place)}\n" for place in outcome.kept)
    with (folder / "dropped.jsonl").open("w", encoding="utf-8") as dropped:
        dropped.writelines(json.dumps(outcome.pair(place)) + "\n" for place in outcome.dropped)


def draw_sheets(outcome: Outcome, folder: Path) -> list[Path]:
    """Write ``groups.png``, the largest groups, and ``doubtful.png``, the pairs whose pixels differ most.

    Returns:
        The files; none where nothing was dropped.
    """
    if not len(outcome.dropped):
        return []
    groups = []
    for first, others in outcome.groups()[:_ROWS]:
        title = f"kept: {_shown(outcome.id(first))}; like it: {len(others):,}"
        groups.append(_row(outcome, title, [first, *_most_different(outcome, others)[: _ACROSS - 1]]))
    worst, pairs = _most_different(outcome, outcome.dropped)[: _ROWS * _ACROSS // 2], []
    for start in range(0, len(worst), _ACROSS // 2):
        part = worst[start : start + _ACROSS // 2]
        title = "pairs of a kept and a dropped one; pixels differ by " + ", ".join(
            f"{outcome.pixels[place]:.1f}" for place in part
        )
        pairs.append(_row(outcome, title, [int(p) for place in part for p in (outcome.leaders[place], place)]))
    return [
        save_picture(stacked(*groups), folder / "groups.png"),
        save_picture(stacked(*pairs), folder / "doubtful.png"),
    ]


def put_images(outcome: Outcome, folder: Path, progress: Progress) -> dict[str, int]:
    """Put what is kept into a folder: the files of a folder under their names, other images as PNGs by class.

    Files are hard links where the disk allows it.

    Returns:
        How many are links, and how many copies.
    """
    folder.mkdir()
    source, linked = outcome.source, 0
    for done, number in enumerate(map(int, outcome.numbers[outcome.kept]), 1):
        target = folder / _name(source, number)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, ImageFolder):
            linked += _link(source.files[number], target)
        else:
            source.image(number).save(target)
        progress("writing", done, len(outcome.kept))
    return {"linked": linked, "copied": len(outcome.kept) - linked}


def _most_different(outcome: Outcome, places: NDArray[np.int64]) -> list[int]:
    return [int(place) for place in places[np.argsort(-outcome.pixels[places], kind="stable")]]


def _row(outcome: Outcome, title: str, places: list[int]) -> Image.Image:
    """Images side by side on the left, with a line of text above them."""
    config = DcganConfig(image_size=_SIDE, channels=3)
    images = [fit(outcome.source.image(int(outcome.numbers[i])), config=config, enlarge=True) for i in places]
    picture = grid(to_signed(torch.from_numpy(np.stack(images))), columns=len(images))
    font = ImageFont.load_default(_TEXT)
    sheet = Image.new("RGB", (max(picture.width, int(font.getlength(title)) + 4), picture.height + 2 * _TEXT), "white")
    ImageDraw.Draw(sheet).text((2, _TEXT), title, fill="black", font=font, anchor="lm")
    sheet.paste(picture, (0, 2 * _TEXT))
    return sheet


def _shown(name: str) -> str:
    """A name without what the font of pictures cannot draw, and not too long for a line."""
    name = " ".join("".join(letter for letter in name if letter.isascii() or letter.isalnum()).split())
    return name if len(name) <= 60 else f"...{name[-57:]}"


def _name(source: ImageSource, number: int) -> str:
    """Path of an image below the folder that it is put into."""
    if isinstance(source, ImageFolder):
        return source.id(number)
    label = source.label(number)
    return f"{number:07}.png" if label is None else f"{_class_folder(source.classes[label])}/{number:07}.png"


def _class_folder(name: str) -> str:
    """A class as a folder that reads as a class again; numbers alone would be shards."""
    found = re.sub(r"[^\w-]+", "_", name).strip("_")
    return f"class_{found}" if found.isdigit() or not found else found


def _link(file: Path, target: Path) -> bool:
    """Link to a file, or copy it from another disk; says whether it is a link."""
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copy2(file, target)
        return False
    return True
