"""Reading the weights in a TorchScript archive without running anything in it.

Such an archive is a zip file whose ``data.pkl`` pickles the tree of modules. OpenAI published CLIP so.
``torch.jit.load`` would run its code and ``weights_only`` refuses it, so the pickle is read here by an
unpickler that knows nothing but tensors and inert records.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.shared.errors import UserError

_STORAGES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Record:
    """A module of the archive: its attributes and nothing else."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __new__(cls, *_: object) -> Record:
        """Take and ignore what the pickle passes; ``__init__`` is not called by it."""
        record = super().__new__(cls)
        record.attributes = {}
        return record

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, dict) else {}


class _StorageType:
    """Stands for a storage class; names a type of number."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    # as_strided checks that the view lies inside of the storage
    return storage.as_strided(tuple(size), tuple(stride), int(offset))


def _rebuild_parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _first(value: Any, *_: object) -> Any:
    return value


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{
        ("torch.jit._pickle", name): _first
        for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
    },
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self.archive = archive
        self.root = root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return Record
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, storage, key, _, numel = pid
        if kind != "storage" or not isinstance(storage, _StorageType):
            raise pickle.UnpicklingError(f"it refers to a {kind!r}")
        if key not in self.storages:
            info = self.archive.getinfo(f"{self.root}data/{key}")
            size = int(numel) * storage.dtype.itemsize
            if info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError(f"tensor {key} has {info.file_size} bytes, must be {size}")
            content = bytearray(self.archive.read(info))
            self.storages[key] = (
                torch.frombuffer(content, dtype=storage.dtype) if size else torch.empty(0, dtype=storage.dtype)
            )
        return self.storages[key]


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip file with constants beside its pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return any(name.endswith("/constants.pkl") for name in names) and any(n.endswith("/data.pkl") for n in names)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read all parameters and buffers of a TorchScript archive; nothing in it is run.

    Args:
        path: The archive.

    Returns:
        Dotted name to tensor, in the archive's own types (OpenAI's weights are float16).

    Raises:
        UserError: The archive is damaged, or its pickle asks for more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            module = _Unpickler(archive, root).load()
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is refused: {error}; get the file from its publisher again") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"{path} is a damaged TorchScript archive ({error!r:.120}); download it again") from error
    if not isinstance(module, Record):
        raise UserError(f"{path} is a TorchScript archive without a module")
    return _flatten(module)


def _flatten(module: Record) -> dict[str, Tensor]:
    """Walk the tree of modules; a module met twice keeps its first name's tensors and gets the second's too."""
    tensors: dict[str, Tensor] = {}
    pending: list[tuple[str, Record, frozenset[int]]] = [("", module, frozenset())]
    while pending:
        prefix, record, above = pending.pop()
        if id(record) in above:
            continue  # a module that contains itself
        for name, value in record.attributes.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, Record):
                pending.append((f"{prefix}{name}.", value, above | {id(record)}))
    return tensors
