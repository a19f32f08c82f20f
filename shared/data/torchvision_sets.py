"""Image sets that torchvision downloads or reads: MNIST, FashionMNIST, CIFAR-10, SVHN, CelebA, LSUN and their like."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.shared.data.images import BadSample
from zoo.shared.data.samples import cache_folder
from zoo.shared.errors import UserError

_PARTS: dict[str, dict[str, Any]] = {
    "CelebA": {"split": "train"},
    "SVHN": {"split": "train"},
    "LSUN": {"classes": ["bedroom_train"]},
}
"""What is read of sets whose parts have another name than ``train``."""


class TorchvisionSource:
    """The training part of a set of torchvision, through its own loader.

    Args:
        name: The class of ``torchvision.datasets``, in any spelling of case.
        root: Where its files are, or are downloaded to; by default a folder in zoo's cache.

    Raises:
        UserError: No such set, or its files cannot be had.
    """

    def __init__(self, name: str, root: str | Path | None = None) -> None:
        from torchvision import datasets

        known = {key.lower().replace("-", ""): key for key in datasets.__all__}
        key = known.get(name.lower().replace("-", ""))
        if key is None:
            raise UserError(f"torchvision has no set {name!r}; it has MNIST, FashionMNIST, CIFAR10, SVHN, CelebA, LSUN")
        kind = getattr(datasets, key)
        takes = inspect.signature(kind).parameters
        if "root" not in takes:
            raise UserError(f"torchvision's {key} is no set of images that zoo can read")
        where = Path(root).expanduser() if root else cache_folder() / "torchvision"
        options = _PARTS.get(key, {"train": True} if "train" in takes else {})
        where.mkdir(parents=True, exist_ok=True)
        try:
            self.data = self._open(kind, where, options, may_download="download" in takes)
        except ImportError as error:
            raise UserError(f"torchvision's {key} needs another package: {error}") from error
        except Exception as error:  # each set has errors of its own: sockets, archives, missing files
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"torchvision's {key} is not to be had in {where} ({reason}); with a network it is downloaded there, "
                "otherwise give its folder with --data.root"
            ) from error
        self.name = key
        self._labels = self._all_labels()
        numbered = map(str, range(max(self._labels) + 1)) if self._labels else ()
        self.classes = tuple(getattr(self.data, "classes", numbered)) if self._labels else ()

    @staticmethod
    def _open(kind: Any, where: Path, options: dict[str, Any], *, may_download: bool) -> Any:
        """What lies there already, or else what can be downloaded."""
        try:
            return kind(str(where), **options)
        except RuntimeError:
            if not may_download:
                raise
            return kind(str(where), **options, download=True)

    def _all_labels(self) -> list[int] | None:
        for name in ("targets", "labels"):
            found = getattr(self.data, name, None)
            if found is not None and len(found) == len(self.data):
                return [int(label) for label in found]
        return None

    def __len__(self) -> int:
        return len(self.data)

    def id(self, i: int) -> str:
        """Number in the set."""
        return f"{self.name} {i}"

    def image(self, i: int) -> Image.Image:
        """The image, in its own mode."""
        try:
            found = self.data[i]
        except Exception as error:
            raise BadSample(f"cannot be read: {error}") from error
        return found[0] if isinstance(found, tuple) else found

    def concept(self, i: int) -> str:
        """The image itself."""
        return self.id(i)

    def label(self, i: int) -> int | None:
        """Its class, where the set has one a sample."""
        return None if self._labels is None else self._labels[i]
