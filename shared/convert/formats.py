"""What a family says of each foreign format: how to recognise it, its rule table, what an export consists of."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.shared.convert.rules import RuleTable, Shapes
from zoo.shared.convert.source import Source


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A config that fits weights.

    Attributes:
        config: The family's config.
        assumed: Fields that the weights do not settle, each with a sentence that says what was assumed.
        part: What the format's names would begin with if the other parts of the model were there, too; None where all
            are. The other parts stay untrained.
    """

    config: Any
    assumed: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None


class Converter(ABC):
    """One foreign format of one family.

    Attributes:
        name: The format's name, as ``--to`` takes it.
        library: The library that reads the format; stands in model cards.
        single_file: An export is one file, not a folder.
    """

    name: str
    library: str
    single_file: bool = False

    @abstractmethod
    def recognise(self, source: Source) -> Recognised | None:
        """Infer the config of weights in this format; None if they are in another.

        Raises:
            UserError: The weights are in this format, but of a model that zoo does not have.
        """

    @abstractmethod
    def infer(self, shapes: Shapes) -> Recognised | None:
        """Infer the config from shapes under zoo's own names; None if they are of another family."""

    @abstractmethod
    def table(self, config: Any) -> RuleTable:
        """The rules between this format and zoo."""

    @abstractmethod
    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write the model into an empty folder, with all that the format's own library needs.

        Args:
            model: The model.
            preprocessor: Its tokenizer and transforms; None writes none.
            folder: Where; it gets its final name only when this function has returned.

        Returns:
            The file with the weights.

        Raises:
            UserError: The format cannot hold this model.
        """

    def foreign_state(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's tensors under the format's names."""
        state = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
        return self.table(model.config).to_foreign(state, what=f"the format {self.name} has no place for this model")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> Path:
    """Write a safetensors file and wait until it is on disk.

    Args:
        path: The file.
        tensors: Name to tensor.
        metadata: Further entries of the header; what is not text is written as JSON.
    """
    from safetensors.torch import save_file

    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    # transformers refuses files that do not say which framework wrote them
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata={"format": "pt", **texts})
    _readable(path)  # safetensors makes private files
    sync(path)
    return path


def save_pickle(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a PyTorch state dict, or one with plain values beside it, and wait until it is on disk."""
    torch.save(dict(content), path)
    sync(path)
    return path


def _readable(path: Path) -> None:
    """Give a file that a library made private the permissions of a plain new file."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
