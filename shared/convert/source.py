"""Opening weights wherever they lie: a folder, a file, or a reference to the Hugging Face Hub.

What a file is, is told from its content. Nothing that is opened here can run code.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.shared.convert.ctranslate2 import is_ctranslate2, read_ctranslate2
from zoo.shared.convert.joblib_lists import is_joblib, read_joblib
from zoo.shared.convert.parts import part_files
from zoo.shared.convert.tensorflow import index_files, is_index, read_tensorflow
from zoo.shared.convert.torchscript import is_torchscript, read_torchscript
from zoo.shared.data.samples import unpacked
from zoo.shared.errors import UserError
from zoo.shared.files import read_json

Kind = Literal["safetensors", "pickle", "torchscript", "numpy", "ctranslate2", "tensorflow", "joblib"]

ARRAY = "array."
"""Beginning of the names of tensors in a set of NumPy files, which has none; the number in the order follows."""

# What a folder's weights may be called, the first one found is taken. In a folder that holds two formats
# (open_clip's repositories often do) the settings decide; see `_weights_of`.
_HF_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.bin",
)
_OPEN_CLIP_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_SHAPES_FILE = "params_shapes.json"  # OpenAI's arrays: all numbers in a row, cut into files of equal size
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_MAX_HEADER = 100 << 20  # the limit of the safetensors format itself


@dataclass
class Source:
    """Weights that have been found but not yet read.

    Attributes:
        path: What the user named, or the folder it was downloaded to.
        files: The files with the tensors.
        kind: What the files are.
        parts: Names of the files' parts of the model, which begin their tensors' names; empty where there is one file,
            or where names are different in all of them.
        folder: Folder with the settings and preprocessing files; None for a file that stands alone.
        config: Contents of ``config.json`` or ``open_clip_config.json``; empty where there is none.
    """

    path: Path
    files: list[Path]
    kind: Kind
    parts: tuple[str, ...] = ()
    folder: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        metadata: dict[str, Any] = {}
        for place, file in enumerate(self.files[:1] if self.kind == "numpy" else self.files):
            found, told = _READERS[self.kind](file)
            start = f"{self.parts[place]}." if self.parts else ""
            tensors.update({f"{start}{key}": tensor for key, tensor in found.items()})
            metadata.update(told)
        return tensors, metadata

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Name to tensor. Those of safetensors files are read one by one, when asked for."""
        return _Safetensors(self.files) if self.kind == "safetensors" else self._content[0]

    @property
    def metadata(self) -> dict[str, Any]:
        """What else the file holds: a safetensors header's metadata, or the plain values beside a state dict."""
        return self._content[1]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape; of safetensors files only the header is read."""
        if isinstance(self.tensors, _Safetensors):
            return self.tensors.shapes
        return {key: tuple(tensor.shape) for key, tensor in self.tensors.items()}

    def under(self, start: str) -> Source:
        """The same tensors with names that begin with ``start``, as those of a folder of parts do."""
        renamed = dataclasses.replace(self)
        renamed.__dict__["tensors"] = {f"{start}{key}": tensor for key, tensor in self.tensors.items()}
        return renamed

    @property
    def weights_file(self) -> Path:
        """The file with the tensors, or the first of several."""
        return self.files[0]


class _Safetensors(Mapping[str, Tensor]):
    """The tensors of one or several safetensors files, read one by one."""

    def __init__(self, files: list[Path]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._where: dict[str, Any] = {}
        for file in files:
            opened = _open_safetensors(file)
            for key in opened.keys():  # noqa: SIM118 - it is no mapping
                self._where[key] = opened
                self.shapes[key] = tuple(opened.get_slice(key).get_shape())

    def __getitem__(self, key: str) -> Tensor:
        return self._where[key].get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def open_source(reference: str | Path) -> Source:
    """Find weights.

    Args:
        reference: A folder (zoo's, Hugging Face's or open_clip's), a file (safetensors, a pickled state dict,
            a checkpoint, a TorchScript archive), ``hf:owner/name[@revision]`` or ``pack:NAME``, a sample pack.

    Returns:
        What was found; tensors are read later.

    Raises:
        UserError: Nothing is there, it holds no weights, it is damaged, or it would run code.
    """
    text = str(reference)
    if text.startswith("hf:"):
        return _open_folder(_download(text.removeprefix("hf:")))
    if text.startswith("pack:"):
        return _open_folder(unpacked(text.removeprefix("pack:")))
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            return _open_folder(path)
        if not path.exists():
            raise UserError(f"no weights at {text}; give a folder, a file or hf:owner/name")
        return _open_file(path)
    except OSError as error:
        raise UserError(f"cannot read {text}: {error.strerror or error}") from error


def _open_folder(folder: Path) -> Source:
    if (folder / _SHAPES_FILE).exists():
        return Source(path=folder, folder=folder, files=_numpy_files(folder), kind="numpy")
    config, names = _settings_of(folder)
    files = _weights_of(folder, names) or index_files(folder)
    if not files and (parts := part_files(folder)):
        files = list(parts.values())
        return Source(path=folder, folder=folder, files=files, kind=_kind_of(files[0]), parts=tuple(parts))
    if not files:
        wanted = ", ".join((*_HF_FILES[:1], _HF_FILES[2], *_OPEN_CLIP_FILES[:1]))
        raise UserError(f"{folder} holds no weights; expected one of {wanted}")
    return Source(path=folder, folder=folder, files=files, kind=_kind_of(files[0]), config=config)


def _open_file(path: Path) -> Source:
    kind = _kind_of(path)
    # A folder's own weights file means the folder: its settings say what shapes cannot.
    if path.name in (*_HF_FILES, *_OPEN_CLIP_FILES):
        config, names = _settings_of(path.parent)
        if config and path in _weights_of(path.parent, names):
            return Source(path=path, folder=path.parent, files=[path], kind=kind, config=config)
    return Source(path=path, files=[path], kind=kind)


def _settings_of(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings in a folder, and the names under which their weights lie, in order of preference."""
    standard, open_clip = (_settings(folder / name) for name in ("config.json", "open_clip_config.json"))
    if "model_cfg" in open_clip and not ("model_type" in standard or standard.get("format") == "zoo"):
        return open_clip, (*_OPEN_CLIP_FILES, *_HF_FILES)
    if "model_cfg" in open_clip and not any((folder / name).exists() for name in _HF_FILES):
        return open_clip, _OPEN_CLIP_FILES
    return standard, _HF_FILES if standard else (*_HF_FILES, *_OPEN_CLIP_FILES)


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold settings")
    return content


def _weights_of(folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        path = folder / name
        if path.exists():
            return _shards(path) if name.endswith(".index.json") else [path]
    endings = ("safetensors", "bin", "pt", "pth", "jl")
    alone = sorted(path for ending in endings for path in folder.glob(f"*.{ending}"))
    return alone if len(alone) == 1 else []


def _shards(index: Path) -> list[Path]:
    content = read_json(index)
    names = content.get("weight_map", {}) if isinstance(content, dict) else {}
    if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
        raise UserError(f"{index} does not say where the weights lie")
    files = [index.parent / name for name in sorted(set(names.values()))]
    absent = [file.name for file in files if not file.exists() or file.parent != index.parent]
    if absent:
        raise UserError(f"{index.parent} lacks {len(absent)} of {len(files)} weight files ({', '.join(absent[:3])})")
    return files


def _kind_of(path: Path) -> Kind:
    """What a file is, from its first bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
    if size == 0:
        raise UserError(f"{path} is empty; copy or download it again")
    if head[:4] == b"PK\x03\x04":
        return "torchscript" if is_torchscript(path) else "pickle"
    if len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= _MAX_HEADER:
        return "safetensors"
    if head[:1] == b"\x80":
        return "joblib" if is_joblib(path) else "pickle"
    if head.startswith(b"version "):
        raise UserError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull`")
    if is_ctranslate2(head):
        return "ctranslate2"
    if path.suffix == ".index" and is_index(path):
        return "tensorflow"
    raise UserError(f"{path} is not a weights file; expected safetensors, a PyTorch state dict or an OpenAI archive")


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or cut short ({error}); copy or download it again") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return {}, dict(_open_safetensors(path).metadata() or {})


def _read_torchscript(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return read_torchscript(path), {}


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # it reads them, or raises
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "GLOBAL" not in str(error):
            raise UserError(f"{path} is damaged or no PyTorch file; copy or download it again") from error
        raise UserError(
            f"{path} is refused: reading it would run code, as it holds more than tensors; "
            "save its state_dict() only, better as safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or cut short; copy or download it again") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict")
    return _state_of(content, path)


def _state_of(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict in what was unpickled, and the plain values beside it."""
    state, rest = content, {}
    for key in _STATE_KEYS:
        if isinstance(content.get(key), Mapping):
            state = content[key]
            rest = {str(k): v for k, v in content.items() if k != key and not isinstance(v, Tensor)}
            break
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors by name; expected a state dict")
    if "pytorch-lightning_version" in rest:  # a training checkpoint: the model is one attribute of the task
        models = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        tensors = models or tensors
    return {_plain(key, tensors): value for key, value in tensors.items()}, rest


def _plain(key: str, keys: Mapping[str, Tensor]) -> str:
    """A key without the marks of torch.compile and of DistributedDataParallel."""
    if all(name.startswith("module.") for name in keys):
        key = key.removeprefix("module.")
    return key.replace("_orig_mod.", "")


def _numpy_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("params_*.npy"), key=lambda path: (len(path.name), path.name))
    if not files:
        raise UserError(f"{folder} lacks the arrays params_0.npy, params_1.npy, ...")
    return files


def _read_numpy(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All arrays of the set that ``path`` is the first file of."""
    folder = path.parent
    shapes = read_json(folder / _SHAPES_FILE)
    if not isinstance(shapes, list) or not all(isinstance(shape, list) for shape in shapes):
        raise UserError(f"{folder / _SHAPES_FILE} is no list of shapes")
    try:
        numbers = np.concatenate([np.load(file, allow_pickle=False).ravel() for file in _numpy_files(folder)])
    except (ValueError, EOFError) as error:
        raise UserError(f"the arrays of {folder} are damaged ({error}); copy or download them again") from error
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) != len(numbers):
        raise UserError(
            f"{folder} holds {len(numbers):,} numbers, its shapes say {sum(sizes):,}; copy or download it again"
        )
    flat = torch.from_numpy(numbers).split(sizes)
    parts = zip(flat, shapes, strict=True)
    return {f"{ARRAY}{number}": part.view(*shape) for number, (part, shape) in enumerate(parts)}, {}


def _read_joblib(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return {f"{ARRAY}{number}": array for number, array in enumerate(read_joblib(path))}, {}


_READERS: Mapping[Kind, Callable[[Path], tuple[dict[str, Tensor], dict[str, Any]]]] = {
    "safetensors": _read_safetensors,
    "pickle": _read_pickle,
    "torchscript": _read_torchscript,
    "numpy": _read_numpy,
    "ctranslate2": read_ctranslate2,
    "tensorflow": read_tensorflow,
    "joblib": _read_joblib,
}


def _download(reference: str) -> Path:
    """Fetch a repository's settings, then its weights in the best of its formats."""
    from huggingface_hub import snapshot_download

    name, _, revision = reference.partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"hf:{reference} is no reference to the Hub; write hf:owner/name or hf:owner/name@revision")

    def fetch(*patterns: str) -> Path:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))

    try:
        folder = fetch("*.json", "*.txt")
        _, names = _settings_of(folder)
        # The index files are there already, so each format is asked for with its shards.
        for wanted in names:
            if wanted.endswith(".index.json"):
                continue
            stem, _, ending = wanted.rpartition(".")
            folder = fetch(wanted, f"{stem}-*-of-*.{ending}")
            if any(folder.glob(f"{stem}*.{ending}")):
                return folder
        return fetch("*.safetensors", "*.bin", "*.pt", "*.pth")
    except UserError:
        raise
    except Exception as error:  # every layer below has errors of its own: sockets, HTTP, the Hub, the cache
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"cannot fetch hf:{reference}: {reason:.200}; check the name and the network, or give a local folder"
        ) from error


def parse_json(text: str, what: str) -> dict[str, Any]:
    """Read settings that are stored as text in a file's metadata.

    Raises:
        UserError: They are damaged.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"the settings in {what} are damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"the settings in {what} are damaged")
    return content
