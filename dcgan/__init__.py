"""DCGAN: unsupervised representation learning with deep convolutional generative adversarial networks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loaded on first use, so that reading the registry imports no torch.
_PUBLIC = {
    "DCGAN": "model",
    "DcganConfig": "configs",
    "DcganDataModule": "data",
    "DcganPreprocessor": "preprocessing",
    "DcganTask": "task",
    "estimate_statistics": "model",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"zoo.dcgan.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'zoo.dcgan' has no attribute {name!r}")
