"""Writing token files (:mod:`zoo.shared.text.token_files`) so that a killed run can go on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path, read_json, write_json, write_text
from zoo.shared.text.token_files import FORMAT, part_name, read_index
from zoo.shared.text.tokens import ROW, UNKNOWN_YEAR, Tokenizer, ended, token_type

SHARD_TOKENS = 1 << 25


class TokenWriter:
    """Writes a token file, shard by shard; after a kill it goes on behind the last whole shard.

    A shard ends with the document that fills it. Its table and ids are written before its tokens, whose final name
    says that all three are there.

    Args:
        folder: Where to write; made if missing.
        tokenizer: Its files go into the folder.
        plan: What else must be equal for a run to go on: sources and options. It is kept in the index, but for
            ``changed``, which is only for unfinished files.
        shard_tokens: Tokens after which a shard is full.

    Attributes:
        done: Documents that are on disk already and are not to be added again.
        finished: Whether the whole file is.

    Raises:
        UserError: The folder holds something else.
    """

    def __init__(
        self, folder: str | Path, *, tokenizer: Tokenizer, plan: dict[str, Any], shard_tokens: int = SHARD_TOKENS
    ) -> None:
        self.folder = Path(folder)
        self._tokenizer = tokenizer
        self._limit = shard_tokens
        self._dtype = token_type(tokenizer.vocab_size)
        self._head = {
            "format": FORMAT,
            "dtype": self._dtype.name,
            "vocab_size": tokenizer.vocab_size,
            "end_of_text": tokenizer.end_of_text,
            "fingerprint": tokenizer.fingerprint,
            "shard_tokens": shard_tokens,
            **plan,
        }
        self._shards: list[dict[str, int]] = []
        self._tokens: list[NDArray[Any]] = []
        self._rows: list[tuple[int, int, int, int]] = []
        self._names: list[str] = []
        self._held = 0
        self._start = self.done = self._bytes = 0
        self.finished = (self.folder / "index.json").is_file()
        if self.finished:
            self._check_plan(read_index(self.folder), {k: v for k, v in self._head.items() if k != "changed"})
            self.done = int(read_index(self.folder)["documents"])
            (self.folder / "unfinished.json").unlink(missing_ok=True)
        elif (self.folder / "unfinished.json").is_file():
            self._check_plan(read_json(self.folder / "unfinished.json"), self._head)
            self._go_on()
        else:
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise UserError(f"{self.folder} holds something else; choose another --out")
            write_json(self.folder / "unfinished.json", self._head)

    @property
    def empty(self) -> bool:
        """Whether no document was ever added."""
        return not self.done and not self._names

    def add(self, document_id: str, tokens: NDArray[Any], *, size: int, year: int | None = None) -> None:
        """Append a document.

        Args:
            document_id: Its name.
            tokens: Its ids, without end-of-text.
            size: UTF-8 bytes of its text.
            year: Its year, if known.
        """
        tokens = ended(np.asarray(tokens, dtype=self._dtype), self._tokenizer.end_of_text)
        self._rows.append((self._start + self._held, len(tokens), size, UNKNOWN_YEAR if year is None else year))
        self._names.append(json.dumps(document_id, ensure_ascii=False))
        self._tokens.append(tokens)
        self._held += len(tokens)
        if self._held >= self._limit:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """Write what is left and the index; returns the index.

        Raises:
            UserError: No document was added.
        """
        if self.finished:
            return read_index(self.folder)
        if self._names:
            self._flush()
        if not self.done:
            raise UserError(f"{self.folder.name}: not a single document was written")
        self._tokenizer.save(self.folder)
        with atomic_path(self.folder / "lengths.npy") as temporary, temporary.open("wb") as opened:
            np.save(opened, np.asarray(self._tokenizer.token_lengths(), dtype="<i4"))
        index = {key: value for key, value in self._head.items() if key != "changed"}
        index |= {"documents": self.done, "tokens": self._start, "bytes": self._bytes, "shards": self._shards}
        write_json(self.folder / "index.json", index)
        (self.folder / "unfinished.json").unlink(missing_ok=True)
        self.finished = True
        return index

    def _check_plan(self, old: Any, new: dict[str, Any]) -> None:
        # Both went through JSON or will: tuples and lists are the same there.
        wanted = json.loads(json.dumps(new))
        differs = [key for key, value in wanted.items() if not isinstance(old, dict) or old.get(key) != value]
        if differs:
            raise UserError(
                f"{self.folder} holds tokens that were made in another way ({', '.join(differs)} differ); "
                "choose another --out, or delete it"
            )

    def _go_on(self) -> None:
        """Count the whole shards of a killed run, and clear away what it was writing."""
        for temporary in self.folder.glob(".*.part"):
            temporary.unlink()
        while (path := self.folder / part_name("tokens", len(self._shards))).is_file():
            tokens = np.fromfile(path, dtype=self._dtype)
            table = np.load(self.folder / part_name("documents", len(self._shards)), allow_pickle=False)
            assert int(table["tokens"].sum()) == len(tokens), "a shard's table is written before its tokens"
            self._count(len(tokens), int(tokens.max(initial=0)), table)

    def _flush(self) -> None:
        number, table, tokens = len(self._shards), np.array(self._rows, dtype=ROW), np.concatenate(self._tokens)
        largest = int(tokens.max(initial=0))
        assert largest < self._tokenizer.vocab_size, f"token {largest} of {self._tokenizer.vocab_size}"
        with atomic_path(self.folder / part_name("documents", number)) as temporary, temporary.open("wb") as opened:
            np.save(opened, table)
        write_text(self.folder / part_name("ids", number), "".join(name + "\n" for name in self._names))
        with atomic_path(self.folder / part_name("tokens", number)) as temporary:
            tokens.tofile(temporary)
        self._count(len(tokens), largest, table)
        self._rows, self._names, self._tokens, self._held = [], [], [], 0

    def _count(self, tokens: int, largest: int, table: NDArray[Any]) -> None:
        self._shards.append({"tokens": tokens, "documents": len(table), "largest": largest})
        self._start += tokens
        self._bytes += int(table["bytes"].sum())
        self.done += len(table)
