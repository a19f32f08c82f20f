"""Local WebDataset tars, read at random through an index of byte offsets that is written once."""

from __future__ import annotations

import glob
import hashlib
import json
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.shared.data.images import IMAGE_SUFFIXES, BadSample, open_image
from zoo.shared.data.samples import Progress, cache_folder
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json

IMAGES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
_VERSION = 2  # of the index file
BLOCK = 512  # a tar's unit; a block of zeros ends it
AFTER = "{} and after"  # a tar that breaks off between two files: whether the last sample has all of its own is unknown

Members = dict[str, list[int]]


class TarSource:
    """Pairs from WebDataset tars: files that share a name up to the first dot are one sample.

    Captions come from ``.txt``, or from ``caption`` or ``text`` in ``.json``; a class from ``.cls``, when a
    ``classnames.txt`` beside the first tar names the classes. Where a tar breaks off stands one bad sample.

    Args:
        pattern: Tar files: a path, a shell pattern, or a range in braces as in ``data/{000..009}.tar``.
        progress: Called with a line for each tar that is indexed.

    Raises:
        UserError: No such files, or one is no tar.
    """

    def __init__(self, pattern: str, *, progress: Progress = lambda line: None) -> None:
        self.name = Path(pattern).name
        self.paths = find_tars(pattern)
        self._samples: list[tuple[int, str, Members]] = []
        for number, path in enumerate(self.paths):
            entries, broken = tar_index(path, progress=progress)
            self._samples += [
                (number, key, members) for key, members in entries if not members.keys().isdisjoint(IMAGES)
            ]
            if broken is not None:
                self._samples.append((number, broken, {}))
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
        members = self._members(i)
        return open_image(self._read(i, next(name for name in IMAGES if name in members)))

    def captions(self, i: int) -> Sequence[str]:
        """The sample's text, line by line, or the caption in its JSON."""
        members = self._members(i)
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

    def _members(self, i: int) -> Members:
        members = self._samples[i][2]
        if not members:
            raise BadSample("the tar breaks off here; fetch it again")
        return members

    def _read(self, i: int, member: str) -> bytes:
        number, _, members = self._samples[i]
        offset, size = members[member]
        try:
            with self.paths[number].open("rb") as opened:  # no open file is shared between worker processes
                opened.seek(offset)
                return opened.read(size)
        except OSError as error:
            raise BadSample(f"its tar cannot be read: {error}") from error


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


def split_name(name: str) -> tuple[str, str] | None:
    """Key (with its folder) and lower-case extension of a file in a tar; None if it belongs to no sample."""
    folder, _, file = name.rpartition("/")
    stem, dot, extension = file.partition(".")
    if not (dot and stem):
        return None
    return f"{folder}/{stem}" if folder else stem, extension.lower()


def tar_index(path: Path, *, progress: Progress = lambda line: None) -> tuple[list[tuple[str, Members]], str | None]:
    """Samples of a tar in its order: key, and for each extension the offset and size of the file.

    It is cached under the tar's size and time of change, so a tar that is replaced is indexed anew.

    Returns:
        The complete samples, and the name of what is broken when the tar breaks off, or None.

    Raises:
        UserError: The file cannot be opened or is no tar.
    """
    try:
        state = path.stat()
        identity = f"{_VERSION}:{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"
        cached = cache_folder() / "tars" / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
        if cached.exists():
            found = read_json(cached)
            return [(key, members) for key, members in found["samples"]], found["broken"]
        progress(f"indexing {path}")
        samples, broken = _index(path)
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path} is no plain tar or is damaged ({error}); fetch it again") from error
    if broken is not None:
        progress(f"{path} breaks off at {broken}; its {len(samples)} samples before that are used")
    write_json(cached, {"samples": samples, "broken": broken})
    return samples, broken


def _index(path: Path) -> tuple[list[tuple[str, Members]], str | None]:
    samples: dict[str, Members] = {}
    size, end, last = path.stat().st_size, 0, ""
    with tarfile.open(path, "r:") as opened:
        with suppress(tarfile.ReadError):  # where the tar breaks off; what is missing is seen below
            for member in opened:
                last, end = member.name, member.offset_data + member.size
                if end <= size and member.isfile() and (split := split_name(member.name)):
                    samples.setdefault(split[0], {})[split[1]] = [member.offset_data, member.size]
        stopped = opened.offset
    key = (split_name(last) or (last,))[0]
    if end > size:
        samples.pop(key, None)
        return list(samples.items()), key
    with path.open("rb") as raw:
        raw.seek(stopped)
        ended = raw.read(BLOCK) == bytes(BLOCK)
    return list(samples.items()), None if ended else AFTER.format(key)
