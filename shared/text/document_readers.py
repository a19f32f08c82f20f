"""Reading documents out of one source of each kind: plain text, JSON lines, parquet, the ``datasets`` library."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zoo.shared.errors import UserError

LINES = (".jsonl", ".ndjson", ".json")
PACKED = (".gz", ".zst")

_YEAR = re.compile(r"(?<!\d)([12]\d{3})(?!\d)")


@dataclass(frozen=True, slots=True)
class Document:
    """One text.

    Attributes:
        text: The text, never blank.
        id: The row's ``id``, or the file's path and the place in it.
        year: Year of publication; None where it is unknown.
    """

    text: str
    id: str
    year: int | None = None


class BadDocument(Exception):
    """A document that cannot be read.

    Args:
        place: File, and where in it.
        reason: What is wrong, as the rest of a sentence that begins with the place.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place} {reason}")
        self.place = place
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Source:
    """One file, folder of ``datasets``, or data set on the Hub that is read as a whole.

    Attributes:
        name: What the user wrote, with the path inside it.
        path: The file or folder; None on the Hub.
        size: Bytes on disk; 0 on the Hub.
        changed: When it was last changed, in nanoseconds.
    """

    name: str
    path: Path | None
    size: int
    changed: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the readers need to know.

    Attributes:
        text_column: Column of the texts.
        year_column: Column of the years; None takes a column ``year`` where there is one.
        split_on: A line that parts the documents of a plain text file; None makes each file one document.
        text_option: The option that names the column of the texts, for people who must name another.
    """

    text_column: str = "text"
    year_column: str | None = None
    split_on: str | None = None
    text_option: str = "--text-column"


def kind_of(path: Path) -> str:
    """The ending that says what a file holds, without that of its compression."""
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.suffix.lower()


Item = Document | BadDocument
Reader = Callable[[Source, Reading], Iterator[Item]]


def reader_of(source: Source) -> Reader:
    """The function that reads a source of this kind."""
    if source.path is None or source.path.is_dir():
        return _read_datasets
    kind = kind_of(source.path)
    return _read_lines if kind in LINES else _read_parquet if kind == ".parquet" else _read_plain


def _open(source: Source) -> AbstractContextManager[IO[bytes]]:
    """The bytes of a file, unpacked."""
    assert source.path is not None
    ending = source.path.suffix.lower()
    try:
        if ending == ".gz":
            import gzip

            return gzip.open(source.path)  # type: ignore[return-value]
        if ending == ".zst":
            try:
                import pyarrow
            except ImportError as error:
                raise UserError(f"{source.name} needs pyarrow: pip install 'paper-zoo[data]'") from error
            return pyarrow.CompressedInputStream(pyarrow.OSFile(str(source.path)), "zstd")
        return source.path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {source.name}: {error.strerror or error}") from error


def _chunks(source: Source, *, lines: bool) -> Iterator[bytes]:
    """Lines of a file, or pieces of 1 MiB; what cannot be unpacked is the user's to mend."""
    try:
        with _open(source) as opened:
            if lines:
                yield from _split_lines(opened)
            else:
                while piece := opened.read(1 << 20):
                    yield piece
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read {source.name}: {error}") from error


def _split_lines(opened: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while piece := opened.read(1 << 20):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _decode(data: bytes, source: Source, offset: int) -> str | BadDocument:
    """Text of bytes that begin at ``offset`` of a file."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadDocument(source.name, f"is not UTF-8 at byte {offset + error.start:,}")


def _read_plain(source: Source, reading: Reading) -> Iterator[Item]:
    if reading.split_on is None:
        yield _plain_document(b"".join(_chunks(source, lines=False)), source, source.name, 0)
        return
    separator = reading.split_on.strip().encode()
    held: list[bytes] = []
    begin = offset = number = 0
    for line in _chunks(source, lines=True):
        offset += len(line)
        if line.strip() == separator:
            yield _plain_document(b"".join(held), source, f"{source.name}:{number}", begin)
            held, begin, number = [], offset, number + 1
        else:
            held.append(line)
    yield _plain_document(b"".join(held), source, f"{source.name}:{number}", begin)


def _plain_document(data: bytes, source: Source, name: str, offset: int) -> Item:
    text = _decode(data, source, offset)
    return text if isinstance(text, BadDocument) else Document(text.removeprefix("\ufeff"), name)


def _read_lines(source: Source, reading: Reading) -> Iterator[Item]:
    offset = 0
    checked = False
    for number, line in enumerate(_chunks(source, lines=True), 1):
        text = _decode(line, source, offset)
        offset += len(line)
        if isinstance(text, BadDocument):
            yield text
        elif text.strip():
            place = f"{source.name} line {number}"
            try:
                row = json.loads(text.removeprefix("\ufeff"))
            except ValueError as error:
                yield BadDocument(place, f"is not JSON ({error})")
                continue
            if not isinstance(row, dict):
                yield BadDocument(place, "is not a JSON object")
                continue
            if not checked:  # the first row stands for all; what a later one lacks is that row's own fault
                check_columns(list(row), reading, place)
                checked = True
            yield _from_row(row, reading, place, f"{source.name}:{number}")


def _read_parquet(source: Source, reading: Reading) -> Iterator[Item]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{source.name} needs pyarrow: pip install 'paper-zoo[data]'") from error
    try:
        with parquet.ParquetFile(source.path) as table:
            names = table.schema_arrow.names
            check_columns(names, reading, source.name)
            wanted = {reading.text_column, reading.year_column or "year", "id"}
            number = 0
            for batch in table.iter_batches(1024, columns=[name for name in names if name in wanted]):
                for row in batch.to_pylist():
                    yield _from_row(row, reading, f"{source.name} row {number}", f"{source.name}:{number}")
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"cannot read {source.name}: {' '.join(str(error).split())}") from error


def _read_datasets(source: Source, reading: Reading) -> Iterator[Item]:
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{source.name} needs the datasets library: pip install 'paper-zoo[data]'") from error
    try:
        if source.path is not None:
            found = datasets.load_from_disk(str(source.path))
            if isinstance(found, datasets.DatasetDict):
                if "train" not in found:
                    raise UserError(f"{source.name} has no split `train`; name one of its folders: {', '.join(found)}")
                found = found["train"]
        else:
            name, _, split = source.name.removeprefix("hf:").partition(":")
            found = datasets.load_dataset(name, split=split or "train", streaming=True)
    except UserError:
        raise
    except Exception as error:  # of many libraries: network, permissions, scripts
        raise UserError(f"cannot open {source.name}: {' '.join(str(error).split())[:200]}") from error
    for number, row in enumerate(found):
        if number == 0:
            check_columns(list(row), reading, source.name)
        yield _from_row(row, reading, f"{source.name} row {number}", f"{source.name}:{number}")


def check_columns(names: Sequence[str], reading: Reading, where: str) -> None:
    """Refuse a column that a table does not have.

    Raises:
        UserError: Names the columns that there are.
    """
    for column, option in ((reading.text_column, reading.text_option), (reading.year_column, "--year-column")):
        if column is not None and column not in names:
            raise UserError(f"{where} has no column {column!r}; it has {', '.join(names)}: name one with {option}")


def _from_row(row: Mapping[str, Any], reading: Reading, place: str, name: str) -> Item:
    if reading.text_column not in row:
        return BadDocument(place, f"has no {reading.text_column!r}")
    text = row[reading.text_column]
    if text is None:
        return Document("", name)  # counted as blank
    if not isinstance(text, str):
        return BadDocument(place, f"holds no text in {reading.text_column!r}")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        return BadDocument(place, f"holds text in {reading.text_column!r} that cannot be written as UTF-8")
    own = row.get("id")
    return Document(text, str(own) if isinstance(own, str | int) and own != "" else name, read_year(row, reading))


def read_year(row: Mapping[str, Any], reading: Reading) -> int | None:
    """The year of a row: a number, a date, or the first number of four digits in a text; None where there is none."""
    value = row.get(reading.year_column or "year")
    if isinstance(value, datetime.date):  # a datetime is one too
        return value.year
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value) if value == value and abs(value) < 10_000 else None
    match = _YEAR.search(str(value))
    return int(match.group(1)) if match else None
