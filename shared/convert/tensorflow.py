"""Reading TensorFlow's checkpoints without TensorFlow.

``NAME.index`` is a sorted table in LevelDB's format from variable names to small protocol messages, which say type,
shape, and where the numbers lie in ``NAME.data-00000-of-00001``. Only what checkpoints use of both formats is read.

Sources: LevelDB's table format (github.com/google/leveldb, doc/table_format.md) and TensorFlow's
``tensor_bundle.proto``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.shared.errors import UserError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # two places of blocks, padded, and the magic number
_TEXT = 7
# Numbers of TensorFlow's `DataType`.
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    19: np.dtype("<f2"),
}


def index_files(folder: Path) -> list[Path]:
    """The index of a folder's checkpoint: the one that the file ``checkpoint`` names, or the only one."""
    found = sorted(folder.glob("*.index"))
    told = folder / "checkpoint"
    if len(found) > 1 and told.is_file():
        named = re.search(r'^model_checkpoint_path: "([^"]+)"', told.read_text(encoding="utf-8"), re.MULTILINE)
        found = [path for path in found if named and path.stem == Path(named[1]).name]
    return found if len(found) == 1 else []


def is_index(path: Path) -> bool:
    """Whether a file is the index of a checkpoint, by its last bytes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        return file.read() == struct.pack("<Q", _MAGIC)


def read_tensorflow(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All variables by name.

    Args:
        path: The index.

    Returns:
        The tensors; nothing else is kept beside them. Texts are left out, they are notes for TensorFlow.

    Raises:
        UserError: A file is missing or damaged, or has a type that is not known.
    """
    try:
        entries = dict(_table(path.read_bytes()))
        header = _message(entries.pop(b""))
        if header.get(2):
            raise UserError(f"{path} was written by a machine with another order of bytes; convert it there")
        shards = _number(header, 1)
        files = [path.with_name(f"{path.stem}.data-{shard:05}-of-{shards:05}") for shard in range(shards)]
        tensors = {}
        for key, value in entries.items():
            found = _read_entry(key.decode("utf-8"), _message(value), files)
            if found is not None:
                tensors[key.decode("utf-8")] = found
    except UserError:
        raise
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise UserError(f"{path} is damaged or cut short; copy or download it again") from error
    return tensors, {}


def _read_entry(name: str, entry: dict[int, list[Any]], files: list[Path]) -> Tensor | None:
    kind = _number(entry, 1)
    if kind == _TEXT:
        return None
    if kind not in _TYPES or 7 in entry:
        raise UserError(f"{files[0]}: {name} has type {kind} or is cut into slices, which zoo cannot read")
    shape = [_number(_message(dim), 1) for dim in _message(entry[2][0]).get(2, [])] if 2 in entry else []
    file, dtype = files[_number(entry, 3)], _TYPES[kind]
    if not file.is_file():
        raise UserError(f"{file} is missing; copy it beside its index")
    count = _number(entry, 5) // dtype.itemsize
    numbers = np.fromfile(file, dtype=dtype, count=count, offset=_number(entry, 4))
    if len(numbers) != count:
        raise UserError(f"{file} is cut short: {name} lies behind its end; copy or download it again")
    return torch.from_numpy(numbers.reshape(shape))


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table: an index block says where the blocks lie that hold them."""
    footer = data[-_FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("no table")
    _, at = _varint(footer, 0)  # of the block about blocks
    _, at = _varint(footer, at)
    for _, place in _block(data, footer, at):
        yield from _block(data, place, 0)


def _block(data: bytes, place: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block whose offset and size stand in ``place``; a key repeats the start of the last."""
    offset, at = _varint(place, at)
    size, _ = _varint(place, at)
    block = data[offset : offset + size]
    if data[offset + size] != 0:
        raise UserError("the index of this checkpoint is compressed, which TensorFlow does not do; write it again")
    (restarts,) = struct.unpack("<I", block[-4:])
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _message(data: bytes) -> dict[int, list[Any]]:
    """The fields of a protocol message: number to values, which are numbers or bytes."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            value, at = data[at : at + size], at + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: dict[int, list[Any]], field: int) -> int:
    """A number; messages leave out those that are zero."""
    return int(fields.get(field, [0])[-1])
