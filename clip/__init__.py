"""CLIP: learning transferable visual models from natural language supervision (arXiv:2103.00020)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loaded on first use, so that reading the registry imports no torch.
_PUBLIC = {
    "CLIP": "model",
    "ClipConfig": "configs",
    "ClipTask": "task",
    "ClipTokenizer": "tokenizer",
    "ClipPreprocessor": "preprocessing",
    "classify": "zero_shot",
    "embed_images": "zero_shot",
    "embed_texts": "zero_shot",
    "imagenet_names": "zero_shot",
    "imagenet_templates": "zero_shot",
    "search": "retrieval",
    "embed_folder": "retrieval",
    "zero_shot_classifier": "zero_shot",
    "retrieval_recall": "retrieval",
    "linear_probe": "probing",
    "corruption_curve": "corruption",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"zoo.clip.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'zoo.clip' has no attribute {name!r}")
