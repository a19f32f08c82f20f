"""Checkpoints in shards: folders to which every process writes its part, complete or absent, read without running code.

Beside the files of ``torch.distributed.checkpoint`` lie ``meta.pt``, which holds everything that is not sharded, and
``manifest.json``, the sizes and checksums of all files.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem

from zoo.shared.distributed import agree, rank, world_size
from zoo.shared.errors import UserError

META = "meta.pt"
MANIFEST = "manifest.json"


def save_folder(path: Path, shards: dict[str, Any], rest: dict[str, Any]) -> None:
    """Write a checkpoint folder; every process must call this with the same path.

    Args:
        path: The folder. What is there already is replaced when the new one is complete.
        shards: State dicts with DTensors, of which each process writes its own shards.
        rest: What the first process writes.

    Raises:
        UserError: It cannot be written; the earlier checkpoint is untouched. The first process says it, the others
            exit.
    """
    temporary = path.with_name(f".{path.name}.part")

    def begin() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(".*.ckpt.part"):  # of runs that were killed while they wrote
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        temporary.mkdir()

    def complete() -> None:
        torch.save(rest, temporary / META)
        sums = {name: value for part in parts for name, value in part.items()}
        sums |= {name: checksum(temporary / name) for name in (META, ".metadata")}
        (temporary / MANIFEST).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")
        for name in (META, MANIFEST):
            with (temporary / name).open("rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            path.replace(path.with_name(f".{path.name}.old.ckpt.part"))
        temporary.replace(path)
        shutil.rmtree(path.with_name(f".{path.name}.old.ckpt.part"), ignore_errors=True)

    _on_first(path, begin)
    failure: BaseException | None = None
    sums: dict[str, list[int]] = {}
    try:
        dcp.save(shards, storage_writer=dcp.FileSystemWriter(temporary, sync_files=True))
        sums = {file.name: checksum(file) for file in temporary.glob(f"__{rank()}_*")}
    except (CheckpointException, OSError, RuntimeError) as error:
        failure = error
    parts: list[Any] = [(failure and _reason(failure)) or sums]
    if world_size() > 1:
        parts = [None] * world_size()
        dist.all_gather_object(parts, (failure and _reason(failure)) or sums)
    failures = [part for part in parts if isinstance(part, str)]
    if failures:
        _stop(path, failures[0])
    _on_first(path, complete)


def _on_first(path: Path, action: Callable[[], None]) -> None:
    """Let the first process act, and all of them stop when it cannot."""
    failure = None
    if rank() == 0:
        try:
            action()
        except (OSError, RuntimeError) as error:
            failure = _reason(error)
    failure = agree(failure)
    if failure is not None:
        _stop(path, failure)


def _stop(path: Path, failure: str) -> None:
    if rank() == 0:
        shutil.rmtree(path.with_name(f".{path.name}.part"), ignore_errors=True)
        raise UserError(f"cannot write the checkpoint {path}: {failure}; the last one is untouched; is the disk full?")
    raise SystemExit(0)  # the first process says why


def _reason(error: BaseException) -> str:
    """What went wrong, in one line; the failures of all processes are inside of a ``CheckpointException``."""
    if isinstance(error, CheckpointException) and error.failures:
        return _reason(next(iter(error.failures.values()))[0])
    return " ".join(str(error).split()) or type(error).__name__


def checksum(path: Path) -> list[int]:
    """Size in bytes and CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            value = zlib.crc32(piece, value)
        return [file.tell(), value]


def intact_folder(path: Path) -> bool:
    """Whether a checkpoint folder has all its files as they were written."""
    try:
        sums = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return bool(sums) and all(checksum(path / name) == value for name, value in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def load_folder(path: Path, shards: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint folder that any number of processes has written; every process must call this.

    Args:
        path: The folder.
        shards: State dicts of the same names; their tensors, sharded in whatever way, are filled.

    Returns:
        What was saved as ``rest``.

    Raises:
        UserError: It is damaged, or holds another model.
    """
    try:
        dcp.load(shards, storage_reader=_Reader(path), planner=_Planner())
        return torch.load(path / META, weights_only=True)
    except (CheckpointException, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {_reason(error)}") from error


class _Planner(dcp.DefaultLoadPlanner):
    """Refuses values that are more than tensors, numbers and lists of them; torch's own planner unpickles anything."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)


class _Reader(dcp.FileSystemReader):
    """Reads the index, which torch pickles, as the few kinds of records that it holds."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with self.fs.create_stream(self._get_metadata_path(), "rb") as file:
            metadata = _IndexUnpickler(file).load()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    ALLOWED: ClassVar = {
        "torch.distributed.checkpoint.metadata": {
            "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
            "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
        },
        "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
        "torch": {"Size", "bfloat16", "float16", "float32", "float64", "int64", "int32", "uint8", "bool"},
        "torch.serialization": {"_get_layout"},
        "pathlib": {"PosixPath", "WindowsPath"},
        "pathlib._local": {"PosixPath", "WindowsPath"},
    }  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint needs")
        return super().find_class(module, name)
