"""Documents from people's files: plain text, JSON lines, parquet and what the ``datasets`` library keeps.

Everything is streamed: memory holds one document (or one row group of a parquet file) at a time.
"""

from __future__ import annotations

import datetime
import glob
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path

LINES = (".jsonl", ".ndjson", ".json")
PACKED = (".gz", ".zst")
PLAIN = (".txt", ".md", ".text")
FOREIGN = (".csv", ".tsv", ".zip", ".tar", ".pdf", ".docx", ".epub", ".html", ".npy", ".bin", ".arrow")

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
    """A document that cannot be read: its message names file and place."""


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
    """

    text_column: str = "text"
    year_column: str | None = None
    split_on: str | None = None


class Documents:
    """Documents of files, in a fixed order; can be read more than once.

    Args:
        sources: As :func:`open_documents`.
        reading: Columns and separator.
        bad: ``stop`` raises at a document that cannot be read, ``skip`` counts it.

    Attributes:
        sources: What is read, in order.
        skipped: Reason to number of documents that the last reading left out.
        bytes_read: Bytes of the sources that are behind the reader; a source counts when it is done.
    """

    def __init__(self, sources: Sequence[str], *, reading: Reading, bad: Literal["stop", "skip"] = "stop") -> None:
        self.sources = find_sources(sources)
        self.reading = reading
        self.bad = bad
        self.skipped: Counter[str] = Counter()
        self.bytes_read = 0

    @property
    def size(self) -> int:
        """Bytes of all sources on disk."""
        return sum(source.size for source in self.sources)

    def __iter__(self) -> Iterator[Document]:
        self.skipped = Counter()
        self.bytes_read = 0
        count = 0
        for source in self.sources:
            for item in _reader(source)(source, self.reading):
                if isinstance(item, BadDocument):
                    if self.bad == "stop":
                        raise UserError(f"{item}; mend it, or leave such documents out with --bad skip")
                    self.skipped["unreadable"] += 1
                elif not item.text.strip():
                    self.skipped["blank"] += 1
                else:
                    count += 1
                    yield item
            self.bytes_read += source.size
        if not count:
            left_out = ", ".join(f"{number:,} {reason}" for reason, number in self.skipped.items())
            names = ", ".join(source.name for source in self.sources[:3])
            raise UserError(f"{names}: no document with text in it" + (f" ({left_out})" if left_out else ""))


def open_documents(
    sources: Sequence[str | Path] | str | Path,
    *,
    text_column: str = "text",
    year_column: str | None = None,
    split_on: str | None = None,
    bad: Literal["stop", "skip"] = "stop",
) -> Documents:
    """Open documents.

    Args:
        sources: Files, folders and patterns; ``.jsonl``, ``.json`` (JSON lines), ``.parquet``, any of the former and
            plain text with ``.gz`` or ``.zst``, folders of ``save_to_disk``, ``hf:owner/name`` or
            ``hf:owner/name:split``. A file with another ending is plain text. In a folder, the files with known
            endings are read, in the order of their names.
        text_column: Column of the texts.
        year_column: Column of the years: numbers, dates, or texts with a year in them.
        split_on: A line that parts the documents of a plain text file.
        bad: What becomes of a document that cannot be read.

    Raises:
        UserError: Something is missing, or of no known kind; while reading: what cannot be read.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    reading = Reading(text_column=text_column, year_column=year_column, split_on=split_on)
    return Documents([str(source) for source in given], reading=reading, bad=bad)


def find_sources(words: Sequence[str]) -> list[Source]:
    """Files behind what a user wrote, each once, in order.

    Raises:
        UserError: Nothing is there.
    """
    found: dict[str, Source] = {}
    for word in words:
        for name in _expand(word):
            if name.startswith("hf:"):
                found[name] = Source(name, None, 0, 0)
                continue
            path = Path(name).expanduser()
            if _kind(path) in FOREIGN:
                raise UserError(f"{name} is no text file; write its texts as .txt, .jsonl or .parquet")
            files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
            size = sum(file.stat().st_size for file in files)
            found[name] = Source(name, path, size, max((file.stat().st_mtime_ns for file in files), default=0))
    if not found:
        raise UserError("name at least one file with text")
    return list(found.values())


def _expand(word: str) -> list[str]:
    if word.startswith("hf:"):
        return [word]
    path = Path(word).expanduser()
    if path.is_dir():
        if _is_saved(path):
            return [word]
        known = (*LINES, *PLAIN, ".parquet")
        files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) in known)
        if not files:
            raise UserError(f"{word} holds no text files ({', '.join(known)})")
        return [str(file) for file in files]
    if path.exists():
        return [word]
    if glob.has_magic(word):
        matches = sorted(glob.glob(str(path), recursive=True))
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise UserError(f"no file fits {word!r}")
        return [str(file) for file in files]
    raise UserError(f"no such file: {word}")


def _is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of the datasets library wrote the folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file()


def _kind(path: Path) -> str:
    """The ending that says what a file holds, without that of its compression."""
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.suffix.lower()


Item = Document | BadDocument
Reader = Callable[[Source, Reading], Iterator[Item]]


def _reader(source: Source) -> Reader:
    if source.path is None or source.path.is_dir():
        return _read_datasets
    kind = _kind(source.path)
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
        return BadDocument(f"{source.name} is not UTF-8 at byte {offset + error.start:,}")


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
                yield BadDocument(f"{place} is not JSON ({error})")
                continue
            if not isinstance(row, dict):
                yield BadDocument(f"{place} is not a JSON object")
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
    for column, option in ((reading.text_column, "--text-column"), (reading.year_column, "--year-column")):
        if column is not None and column not in names:
            raise UserError(f"{where} has no column {column!r}; it has {', '.join(names)}: name one with {option}")


def _from_row(row: Mapping[str, Any], reading: Reading, place: str, name: str) -> Item:
    if reading.text_column not in row:
        return BadDocument(f"{place} has no {reading.text_column!r}")
    text = row[reading.text_column]
    if text is None:
        return Document("", name)  # counted as blank
    if not isinstance(text, str):
        return BadDocument(f"{place}: {reading.text_column!r} holds no text")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        return BadDocument(f"{place}: {reading.text_column!r} cannot be written as UTF-8")
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


def write_documents(path: str | Path, documents: Iterable[Document]) -> int:
    """Write documents as JSON lines with ``id``, ``text`` and ``year``; returns how many."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as opened:
        for document in documents:
            row = {"id": document.id, "text": document.text, "year": document.year}
            opened.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
