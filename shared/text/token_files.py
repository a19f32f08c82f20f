"""Token files: documents as token ids in a folder, memory-mapped, packed one after another.

The folder holds ``tokens-00000.bin`` ... (``uint16`` where the vocabulary fits, otherwise ``uint32``, little-endian),
beside each a table ``documents-00000.npy`` (:data:`ROW`) and the documents' names ``ids-00000.txt`` (a JSON string on
each line), ``lengths.npy`` (bytes per token), the tokenizer's own files, and ``index.json``, which is written last: a
folder without it is unfinished.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError
from zoo.shared.files import read_json
from zoo.shared.text.tokens import ROW, MemoryTokens, Tokenizer, Tokens, TokenView, from_texts, token_type

__all__ = ["MemoryTokens", "TokenFile", "TokenView", "Tokens", "from_texts"]

FORMAT = 1


class TokenFile(Tokens):
    """A folder of tokens, memory-mapped. Can be sent to other processes, which open the files when they read.

    Args:
        folder: What :class:`zoo.shared.text.token_writer.TokenWriter` wrote.
        tokenizer: The tokenizer that the model uses; it must be the one that wrote the file.

    Attributes:
        folder: The folder.
        index: The contents of ``index.json``.

    Raises:
        UserError: Not a token file, unfinished, truncated, or of another tokenizer.
    """

    def __init__(self, folder: str | Path, *, tokenizer: Tokenizer | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.index = read_index(self.folder)
        index = self.index
        dtype = np.dtype(index["dtype"])
        self._dtype = dtype
        if dtype != token_type(index["vocab_size"]):
            raise self._damaged(f"{index['vocab_size']:,} ids cannot be of type {dtype.name}")
        if tokenizer is not None and tokenizer.fingerprint != index["fingerprint"]:
            raise UserError(
                f"{folder} was written with another tokenizer; prepare the data again with this one, "
                f"or use the tokenizer in {folder}"
            )
        tables = [self._check_shard(number, shard) for number, shard in enumerate(index["shards"])]
        documents = np.concatenate(tables) if tables else np.zeros(0, dtype=ROW)
        self._ends = np.cumsum([shard["tokens"] for shard in index["shards"]], dtype=np.int64)
        counted = {"tokens": int(documents["tokens"].sum()), "documents": len(documents)}
        counted["bytes"] = int(documents["bytes"].sum())
        if any(counted[name] != index[name] for name in counted):
            raise self._damaged("its tables and its index differ")
        if not np.array_equal(documents["start"], np.cumsum(documents["tokens"]) - documents["tokens"]):
            raise self._damaged("its documents do not follow one another")
        if any(shard["largest"] >= index["vocab_size"] for shard in index["shards"]):
            raise self._damaged(f"it has ids beyond its vocabulary of {index['vocab_size']:,}")
        lengths = self._load("lengths.npy")
        if lengths.shape != (index["vocab_size"],):
            raise self._damaged("lengths.npy does not fit the vocabulary")
        self._maps: dict[int, NDArray[Any]] = {}
        self._ids: list[str] | None = None
        super().__init__(
            documents,
            vocab_size=index["vocab_size"],
            end_of_text=index["end_of_text"],
            lengths=lengths.astype(np.int64),
            fingerprint=index["fingerprint"],
        )

    def __len__(self) -> int:
        return int(self.index["tokens"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    @property
    def ids(self) -> list[str]:
        """Names of the documents."""
        if self._ids is None:
            self._ids = []
            for number in range(len(self.index["shards"])):
                lines = (self.folder / part_name("ids", number)).read_text(encoding="utf-8").split("\n")[:-1]
                self._ids += [json.loads(line) for line in lines]
            if len(self._ids) != len(self.documents):
                raise self._damaged("its lists of ids do not fit its documents")
        return self._ids

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens ``start`` to ``stop``."""
        out = np.empty(stop - start, dtype=np.int64)
        shard = int(np.searchsorted(self._ends, start, side="right"))
        done = 0
        while start < stop:
            begin = int(self._ends[shard - 1]) if shard else 0
            until = min(stop, int(self._ends[shard]))
            out[done : done + until - start] = self._map(shard)[start - begin : until - begin]
            done += until - start
            start, shard = until, shard + 1
        return out

    def _map(self, number: int) -> NDArray[Any]:
        if number not in self._maps:
            # A plain array over the map: indexing a memmap itself costs more than the copy.
            opened = np.memmap(self.folder / part_name("tokens", number), dtype=self._dtype, mode="r")
            self._maps[number] = np.asarray(opened)
        return self._maps[number]

    def _check_shard(self, number: int, shard: dict[str, int]) -> NDArray[Any]:
        path = self.folder / part_name("tokens", number)
        size, wanted = path.stat().st_size if path.is_file() else -1, shard["tokens"] * self._dtype.itemsize
        if size != wanted:
            found = f"{size:,} of {wanted:,} bytes" if size >= 0 else "missing"
            raise self._damaged(f"{path.name}: {found}")
        table = self._load(part_name("documents", number))
        if table.dtype != ROW or int(table["tokens"].sum()) != shard["tokens"]:
            raise self._damaged(f"{part_name('documents', number)} does not fit its tokens")
        return table

    def _load(self, name: str) -> NDArray[Any]:
        try:
            return np.load(self.folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(f"{name} cannot be read") from error

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self.folder} is damaged ({reason}); delete it and run `zoo data prepare` again")


def part_name(kind: str, number: int) -> str:
    """Name of a shard's file of tokens, documents or ids."""
    ending = {"tokens": "bin", "documents": "npy", "ids": "txt"}[kind]
    return f"{kind}-{number:05d}.{ending}"


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a token file.

    Raises:
        UserError: There is none, or it is of another format.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; `zoo data prepare` makes one")
    if not (folder / "index.json").is_file():
        if (folder / "unfinished.json").is_file():
            raise UserError(f"{folder} is unfinished; run the same `zoo data prepare` again to go on with it")
        parts = [part for part in ("train", "held-out") if (folder / part / "index.json").is_file()]
        hint = f"; did you mean {folder / parts[0]}?" if parts else "; `zoo data prepare` makes one"
        raise UserError(f"{folder} is no token file{hint}")
    index = read_json(folder / "index.json")
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f"{folder} is not in this version's format of token files; prepare the data again")
    return index
