"""CTranslate2's ``model.bin`` (faster-whisper): numbers by name, in any of its types, with nothing that could run.

A file is a version, the name of a kind of model, its revision, variables and other names of theirs, all
little-endian. Matrices in int8 or int16 come with a scale for each row.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.shared.errors import UserError

_VERSIONS = range(5, 7)
_TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
_SCALE = "_scale"


def is_ctranslate2(head: bytes) -> bool:
    """Whether a file that begins so is one: a small version, then the length of a name that ends in "Spec"."""
    if len(head) < 9:
        return False
    version, length = struct.unpack("<IH", head[:6])
    return 0 < version < 64 and 4 < length < 256 and head[6:9].isalpha()


def read_ctranslate2(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All variables by name, matrices in whole numbers widened to float32.

    Args:
        path: The file.

    Returns:
        The tensors, and ``{"spec": ..., "revision": ...}``.

    Raises:
        UserError: The file is cut short, of a later version, or has a type that is not known.
    """
    reader = _Reader(path)
    version = reader.number("I")
    if version not in _VERSIONS:
        raise UserError(f"{path} has version {version} of CTranslate2's format, not 5 or 6; convert the model again")
    told = {"spec": reader.text(), "revision": reader.number("I")}
    tensors = dict(reader.variable() for _ in range(reader.number("I")))
    for _ in range(reader.number("I")):
        alias, name = reader.text(), reader.text()
        tensors[alias] = tensors[name]
    whole = [name for name, tensor in tensors.items() if name + _SCALE in tensors and not tensor.is_floating_point()]
    for name in whole:
        scale = tensors.pop(name + _SCALE)
        tensor = tensors[name].float()
        tensors[name] = tensor / scale.float().view(-1, *[1] * (tensor.dim() - 1))
    return tensors, told


def write_ctranslate2(
    path: Path, tensors: Mapping[str, Tensor], *, spec: str, revision: int, aliases: Mapping[str, str]
) -> Path:
    """Write a file and wait until it is on disk.

    Args:
        path: The file.
        tensors: Name to tensor, in a type that the format has.
        spec: Name of the kind of model.
        revision: Its revision.
        aliases: Further names of some tensors.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<I", _VERSIONS[-1]) + _packed(spec) + struct.pack("<II", revision, len(tensors)))
        for name, tensor in tensors.items():
            kind, shape = _TYPES.index(tensor.dtype), tuple(tensor.shape)
            content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            head = struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, kind, len(content))
            file.write(_packed(name) + head + content)
        file.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases.items():
            file.write(_packed(alias) + _packed(name))
        file.flush()
        os.fsync(file.fileno())
    return path


def _packed(text: str) -> bytes:
    content = text.encode() + b"\0"
    return struct.pack("<H", len(content)) + content


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = path.read_bytes()
        self.at = 0

    def take(self, count: int) -> bytes:
        self.at += count
        if self.at > len(self.content):
            raise UserError(f"{self.path} is damaged or cut short; copy or download it again")
        return self.content[self.at - count : self.at]

    def number(self, kind: str) -> int:
        (number,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return int(number)

    def text(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode("utf-8", errors="replace")

    def variable(self) -> tuple[str, Tensor]:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, size = self.number("B"), self.number("I")
        if kind >= len(_TYPES):
            raise UserError(f"{self.path} holds numbers of the kind {kind}, which this reader does not know")
        dtype, count = _TYPES[kind], 1
        for length in shape:
            count *= length
        content = self.take(size)
        if count * dtype.itemsize != size:
            raise UserError(f"{self.path} is damaged: {name} does not have the size that it says; copy it again")
        tensor = torch.frombuffer(bytearray(content), dtype=dtype) if size else torch.empty(0, dtype=dtype)
        return name, tensor.view(shape)
