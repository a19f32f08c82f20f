"""Lists of arrays that joblib pickled, as the Theano code of 2015 saved its weights. Read without running anything.

Two forms: the arrays in files of their own beside the list (joblib before 0.10), or behind their records in it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.shared.errors import UserError

_HEAD = 4096  # bytes within which a list names joblib


class _Record:
    """An inert stand-in for joblib's record of an array."""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Name:
    """An inert stand-in for a class that a record mentions."""

    def __init__(self, *_: Any) -> None:
        pass


class _Reader(pickle._Unpickler):  # the one in Python lets a record's array be read
    """Rebuilds lists and arrays; knows no other class."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self.file = file
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """Records of arrays and the types of their numbers; nothing else."""
        if module.startswith("joblib.numpy_pickle") and name in ("NumpyArrayWrapper", "NDArrayWrapper"):
            return _Record
        if (module.split(".")[0], name) == ("numpy", "dtype"):
            return np.dtype
        if (module.split(".")[0], name) in (("numpy", "ndarray"), ("numpy", "memmap")):
            return _Name
        raise UserError(f"{self.path} is refused: it holds {module}.{name}, not only arrays")

    def load_build(self) -> None:
        """Set a record's state, and put the array in its place."""
        super().load_build()  # type: ignore[misc]  # the stubs leave it out
        found = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(found, _Record):
            self.stack[-1] = self._array(found.state)  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build

    def _array(self, state: dict[str, Any]) -> np.ndarray:
        if "filename" in state:
            name = Path(str(state["filename"])).name
            return np.load(self.path.parent / name, allow_pickle=False)
        dtype, shape = state["dtype"], tuple(int(n) for n in state["shape"])
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise UserError(f"{self.path} is refused: it holds objects, not only arrays of numbers")
        if state.get("numpy_array_alignment_bytes") is not None:
            self.file.seek(self.file.read(1)[0], 1)
        count = int(np.prod(shape, dtype=np.int64))
        content = self.file.read(count * dtype.itemsize)
        return np.frombuffer(content, dtype, count).reshape(shape, order=state.get("order", "C"))


def is_joblib(path: Path) -> bool:
    """Whether a pickle is a list that joblib wrote."""
    with path.open("rb") as file:
        return b"joblib" in file.read(_HEAD)


def read_joblib(path: Path) -> list[Tensor]:
    """The arrays of a list, in its order.

    Raises:
        UserError: It is damaged, incomplete or holds anything else than arrays.
    """
    try:
        with path.open("rb") as file:
            found = _Reader(file, path).load()
    except FileNotFoundError as error:
        raise UserError(f"{path} needs {Path(str(error.filename)).name} beside it; copy or download both") from error
    except (pickle.UnpicklingError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}); copy or download it again") from error
    if not isinstance(found, list) or not all(isinstance(item, np.ndarray) for item in found):
        raise UserError(f"{path} is no list of arrays")
    return [torch.from_numpy(np.array(item)) for item in found]
