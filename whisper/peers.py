"""The package openai-whisper beside this folder: its import name is ``whisper``, which a checkout's folder also has."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType

from zoo.shared.bench import MissingPeer

_ALIAS = "openai_whisper"


def openai_whisper(module: str = "") -> ModuleType:
    """Import openai-whisper, or a module of it, under another name than its own.

    The package is found by its metadata, not by its import name, and refers to itself relatively, so it works under
    the name ``openai_whisper`` whatever the working folder holds.

    Args:
        module: A module of it, such as ``audio``; the package when empty.

    Raises:
        MissingPeer: It is not installed.
    """
    if _ALIAS not in sys.modules:
        _load()
    return importlib.import_module(f"{_ALIAS}.{module}" if module else _ALIAS)


def _load() -> None:
    try:
        first = distribution("openai-whisper").locate_file("whisper/__init__.py")
    except PackageNotFoundError as error:
        raise MissingPeer("this needs openai-whisper, which is not installed; `pip install openai-whisper`") from error
    spec = importlib.util.spec_from_file_location(_ALIAS, str(first))
    assert spec is not None, first
    assert spec.loader is not None, first
    package = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = package
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numba, about threads
            spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[_ALIAS]
        raise
