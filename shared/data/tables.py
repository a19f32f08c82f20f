"""Image–text pairs listed in a table: CSV, TSV, JSONL or parquet, img2dataset's columns included."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.shared.data.images import BadSample, open_image
from zoo.shared.errors import UserError

IMAGE_COLUMNS = (
    "image", "image_path", "filepath", "file_path", "path", "filename", "file_name", "file", "img", "img_path", "jpg"
)  # fmt: skip
CAPTION_COLUMNS = ("caption", "captions", "text", "title", "sentence", "description", "txt", "raw")

Columns = Mapping[str, Sequence[Any]]


class TableSource:
    """Pairs from the rows of a table. Rows with the same image are one concept.

    Relative paths are taken from the table's folder. In a table that img2dataset wrote, the rows that it failed to
    download are left out and counted, and images are found by their key.

    Args:
        path: The table.
        image_column: Column of image paths (or of image bytes, in parquet); found by its name when None.
        caption_column: Column of captions, each a text or a list of texts; found by its name when None.

    Attributes:
        left_out: Rows that img2dataset marks as not downloaded.

    Raises:
        UserError: The table cannot be read, or a column is not found.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, path: str | Path, *, image_column: str | None = None, caption_column: str | None = None) -> None:
        self.path = Path(path).expanduser()
        self.name = self.path.name
        columns = read_columns(self.path)
        count = len(next(iter(columns.values()), []))
        self._rows: Sequence[int] = range(count)
        self._captions = _choose(columns, caption_column, CAPTION_COLUMNS, "caption", self.path)
        downloaded = image_column is None and {"key", "status"} <= set(columns) and "jpg" not in columns
        if downloaded:
            self._rows = [row for row in range(count) if columns["status"][row] == "success"]
            shard = self.path.with_suffix("").name
            self._images: Sequence[Any] = [f"{shard}/{key}" for key in columns["key"]]
        else:
            self._images = _choose(columns, image_column, IMAGE_COLUMNS, "image", self.path)
        self._find = self._by_key if downloaded else self._by_path
        self.left_out = count - len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def id(self, i: int) -> str:
        """The image's path as the table has it, or the row's number when the table holds the image itself."""
        cell = self._images[self._rows[i]]
        if isinstance(cell, Mapping):
            cell = cell.get("path")
        return cell if isinstance(cell, str) and cell else f"{self.name} row {self._rows[i] + 1}"

    def image(self, i: int) -> Image.Image:
        """The row's image."""
        cell = self._images[self._rows[i]]
        if isinstance(cell, Mapping):  # how `datasets` writes images: {"bytes": ..., "path": ...}
            cell = cell.get("bytes") or cell.get("path")
        if not cell:
            raise BadSample(f"row {self._rows[i] + 1} names no image")
        return open_image(cell if isinstance(cell, bytes) else self._find(str(cell)))

    def captions(self, i: int) -> Sequence[str]:
        """The row's captions."""
        cell = self._captions[self._rows[i]]
        texts = cell if isinstance(cell, list | tuple) else [cell]
        found = [str(text).strip() for text in texts if text is not None and str(text).strip()]
        if not found:
            raise BadSample(f"row {self._rows[i] + 1} has no caption")
        return found

    def title(self, i: int) -> str:
        """The row's first caption."""
        return self.captions(i)[0]

    def concept(self, i: int) -> str:
        """The image."""
        return self.id(i)

    def label(self, i: int) -> int | None:
        """None: a table has no classes."""
        return None

    def _by_path(self, cell: str) -> Path:
        return self.path.parent / Path(cell).expanduser()

    def _by_key(self, cell: str) -> Path:
        for suffix in (".jpg", ".png", ".webp"):
            if (found := self.path.parent / f"{cell}{suffix}").exists():
                return found
        return self.path.parent / f"{cell}.jpg"


def read_columns(path: Path) -> Columns:
    """Columns of a table by name.

    Raises:
        UserError: The table cannot be read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} is no table; use {', '.join(_READERS)}")
    try:
        return reader(path)
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _delimited(delimiter: str) -> Callable[[Path], Columns]:
    def read(path: Path) -> Columns:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.reader(opened, delimiter=delimiter)
            header = next(rows, None)
            if not header:
                raise UserError(f"{path} is empty; its first line must name the columns")
            columns: dict[str, list[str | None]] = {name: [] for name in header}
            for row in rows:
                if row:
                    for place, name in enumerate(header):
                        columns[name].append(row[place] if place < len(row) else None)
            return columns

    return read


def _jsonl(path: Path) -> Columns:
    with path.open(encoding="utf-8") as opened:
        rows = [json.loads(line) for line in opened if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"every line of {path} must be a JSON object")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


class _ArrowColumn(Sequence[Any]):
    """A column that stays in Arrow's memory and gives Python values one by one."""

    def __init__(self, column: Any) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, row: Any) -> Any:
        return self.column[row].as_py()


def _parquet(path: Path) -> Columns:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path} needs pyarrow: pip install 'paper-zoo[data]'") from error
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return {name: _ArrowColumn(table.column(name)) for name in table.column_names}


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def _choose(columns: Columns, wanted: str | None, usual: Sequence[str], what: str, path: Path) -> Sequence[Any]:
    by_lower = {name.strip().lower(): name for name in reversed(list(columns))}
    if wanted is not None:
        if wanted in columns:
            return columns[wanted]
        raise UserError(f"{path} has no column {wanted!r}; it has {', '.join(columns)}")
    for name in usual:
        if name in by_lower:
            return columns[by_lower[name]]
    raise UserError(
        f"{path}: which column holds the {what}s? it has {', '.join(columns)}; name one with --data.{what}_column"
    )
