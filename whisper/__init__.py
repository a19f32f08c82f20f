"""Whisper (Radford et al. 2022, arXiv:2212.04356)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loaded on first use, so that reading the registry imports no torch. No module here may have one of these names.
_PUBLIC = {
    "transcribe": "transcription.transcribe",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"zoo.whisper.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'zoo.whisper' has no attribute {name!r}")
