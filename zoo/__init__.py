"""zoo: the models from DCGAN to Whisper, under one registry and one command line.

Importing this module imports no torch; models, training and conversion are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

if find_spec("zoo.shared") is None:
    raise ImportError("zoo is not installed: run `make install` (or `pip install -e .`) in the checkout")

__version__ = "0.1.0"

_PUBLIC = {
    "list_models": "registry",
    "is_model": "registry",
    "get_config": "registry",
    "model_info": "registry",
    "register_model": "registry",
    "register_family": "registry",
    "create_model": "factory",
    "create_task": "factory",
    "create_datamodule": "factory",
    "create_preprocessor": "factory",
    "load": "weights",
    "save_weights": "weights",
    "train": "training",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"zoo.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
