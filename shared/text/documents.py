"""Documents from people's files: plain text, JSON lines, parquet and what the ``datasets`` library keeps.

Everything is streamed: memory holds one document (or one row group of a parquet file) at a time.
"""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path
from zoo.shared.text.document_readers import LINES, BadDocument, Document, Reading, Source, kind_of, reader_of

__all__ = ["Document", "Documents", "find_sources", "open_documents", "write_documents"]

PLAIN = (".txt", ".md", ".text")
FOREIGN = (".csv", ".tsv", ".zip", ".tar", ".pdf", ".docx", ".epub", ".html", ".npy", ".bin", ".arrow")


class Documents:
    """Documents of files, in a fixed order; can be read more than once.

    Args:
        sources: As :func:`open_documents`.
        reading: Columns and separator.
        bad: ``stop`` raises at a document that cannot be read, ``skip`` counts it.

    Attributes:
        sources: What is read, in order.
        skipped: Reason to number of documents that the last reading left out.
        unreadable: Place to reason of those that could not be read.
        bytes_read: Bytes of the sources that are behind the reader; a source counts when it is done.
    """

    def __init__(self, sources: Sequence[str], *, reading: Reading, bad: Literal["stop", "skip"] = "stop") -> None:
        self.sources = find_sources(sources)
        self.reading = reading
        self.bad = bad
        self.skipped: Counter[str] = Counter()
        self.unreadable: dict[str, str] = {}
        self.bytes_read = 0

    @property
    def size(self) -> int:
        """Bytes of all sources on disk."""
        return sum(source.size for source in self.sources)

    def __iter__(self) -> Iterator[Document]:
        self.skipped = Counter()
        self.unreadable = {}
        self.bytes_read = 0
        count = 0
        for source in self.sources:
            for item in reader_of(source)(source, self.reading):
                if isinstance(item, BadDocument):
                    if self.bad == "stop":
                        raise UserError(f"{item}; mend it, or leave such documents out with --bad skip")
                    self.skipped["unreadable"] += 1
                    self.unreadable[item.place] = item.reason
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
    text_option: str = "--text-column",
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
        text_option: The option that names the column of the texts, for people who must name another.

    Raises:
        UserError: Something is missing, or of no known kind; while reading: what cannot be read.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    reading = Reading(text_column=text_column, year_column=year_column, split_on=split_on, text_option=text_option)
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
            if kind_of(path) in FOREIGN:
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
        files = sorted(file for file in path.rglob("*") if file.is_file() and kind_of(file) in known)
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


def write_documents(path: str | Path, documents: Iterable[Document]) -> int:
    """Write documents as JSON lines with ``id``, ``text`` and ``year``; returns how many."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as opened:
        for document in documents:
            row = {"id": document.id, "text": document.text, "year": document.year}
            opened.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
