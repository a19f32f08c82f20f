"""Local WebDataset tars, read at random through an index of byte offsets that is written once."""

from __future__ import annotations

import glob
import hashlib
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.shared.data.images import IMAGE_SUFFIXES, BadSample, open_image
from zoo.shared.data.samples import Progress, cache_folder
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json

IMAGES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
_VERSION = 1  # of the index file


class TarSource:
    """Pairs from WebDataset tars: files that share a name up to the first dot are one sample.

    Captions come from ``.txt``, or from ``caption`` or ``text`` in ``.json``; a class from ``.cls``, when a
    ``classnames.txt`` beside the first tar names the classes.

    Args:
        pattern: Tar files: a path, a shell pattern, or a range in braces as in ``data/{000..009}.tar``.
        progress: Called with a line for each tar that is indexed.

    Raises:
        UserError: No such files, or one is damaged.
    """

    def __init__(self, pattern: str, *, progress: Progress = lambda line: None) -> None:
        self.name = Path(pattern).name
        self.paths = find_tars(pattern)
        self._samples: list[tuple[int, str, dict[str, list[int]]]] = []
        for number, path in enumerate(self.paths):
            entries = tar_index(path, progress=progress)
            self._samples += [
                (number, key, members) for key, members in entries if not members.keys().isdisjoint(IMAGES)
            ]
        names = self.paths[0].parent / "classnames.txt"
        self.classes = tuple(names.read_text(encoding="utf-8").split("\n")) if names.exists() else ()
        self.classes = tuple(name.strip() for name in self.classes if name.strip())

    def __len__(self) -> int:
        return len(self._samples)

    def id(self, i: int) -> str:
        """Tar and key."""
        number, key, _ = self._samples[i]
        return f"{self.paths[number].name}/{key}"

    def image(self, i: int) -> Image.Image:
        """The sample's image."""
        members = self._samples[i][2]
        return open_image(self._read(i, next(name for name in IMAGES if name in members)))

    def captions(self, i: int) -> Sequence[str]:
        """The sample's text, line by line, or the caption in its JSON."""
        members = self._samples[i][2]
        found: list[Any] = []
        try:
            if "txt" in members:
                found = self._read(i, "txt").decode("utf-8").splitlines()
            elif "json" in members:
                row = json.loads(self._read(i, "json"))
                cell = (row.get("caption") or row.get("text")) if isinstance(row, dict) else None
                found = cell if isinstance(cell, list) else [cell]
        except ValueError as error:
            raise BadSample(f"its text cannot be read: {error}") from error
        texts = [str(text).strip() for text in found if text is not None and str(text).strip()]
        if not texts and (label := self.label(i)) is not None:
            texts = [self.classes[label]]
        if not texts:
            raise BadSample("has no caption")
        return texts

    def title(self, i: int) -> str:
        """The first caption."""
        return self.captions(i)[0]

    def concept(self, i: int) -> str:
        """The sample itself."""
        return self.id(i)

    def label(self, i: int) -> int | None:
        """The class in the sample's ``.cls``."""
        if not self.classes or "cls" not in self._samples[i][2]:
            return None
        text = self._read(i, "cls").strip()
        return int(text) if text.isdigit() and int(text) < len(self.classes) else None

    def _read(self, i: int, member: str) -> bytes:
        number, _, members = self._samples[i]
        offset, size = members[member]
        with self.paths[number].open("rb") as opened:  # no open file is shared between worker processes
            opened.seek(offset)
            return opened.read(size)


def find_tars(pattern: str) -> list[Path]:
    """Files that a path, a shell pattern or a range in braces stands for, each range and pattern in order.

    Raises:
        UserError: There is none, or one of a range is missing.
    """
    from braceexpand import braceexpand

    found: list[Path] = []
    for one in braceexpand(str(Path(pattern).expanduser())):
        matches = [one] if Path(one).is_file() else sorted(glob.glob(one))
        if not matches:
            raise UserError(f"there is no tar file {one}")
        found += [Path(match) for match in matches]
    return found


def tar_index(path: Path, *, progress: Progress = lambda line: None) -> list[tuple[str, dict[str, list[int]]]]:
    """Samples of a tar in its order: key, and for each extension the offset and size of the file.

    It is cached under the tar's size and time of change, so a tar that is replaced is indexed anew.

    Raises:
        UserError: The file is no tar, or damaged.
    """
    state = path.stat()
    identity = f"{_VERSION}:{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"
    cached = cache_folder() / "tars" / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    if cached.exists():
        return [(key, members) for key, members in read_json(cached)]
    progress(f"indexing {path}")
    samples: dict[str, dict[str, list[int]]] = {}
    try:
        with tarfile.open(path, "r:") as opened:
            for member in opened:
                folder, _, name = member.name.rpartition("/")
                stem, dot, extension = name.partition(".")
                if member.isfile() and dot and stem:
                    key = f"{folder}/{stem}" if folder else stem
                    samples.setdefault(key, {})[extension.lower()] = [member.offset_data, member.size]
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path} is no plain tar or is damaged ({error}); fetch it again") from error
    index = list(samples.items())
    write_json(cached, index)
    return index
