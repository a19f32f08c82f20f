"""Classifying with sentences: embeddings, prompt ensembles, accuracy (Section 3.1 of the paper).

Shapes: N images, M texts, C classes, K templates, E embedding, S image side.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.shared.errors import UserError

TEMPLATES = ("a photo of a {}.",)
Images = Tensor | Sequence[Image.Image | str | Path]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Put a model into evaluation mode, without gradients, and back again; yields its device."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters()).device
    finally:
        model.train(training)


def encode_images(
    encode: Callable[[Tensor], Tensor],
    model: nn.Module,
    preprocessor: Any,
    images: Images,
    *,
    batch_size: int,
) -> Tensor:
    """Run a function of the image tower over images, in batches.

    Args:
        encode: Maps ``(B, 3, S, S)`` to ``(B, D)``.
        model: The model that ``encode`` belongs to.
        preprocessor: Turns PIL images and paths into tensors.
        images: N images, or tensor ``(N, 3, S, S)`` that is preprocessed already.
        batch_size: Images of a batch.

    Returns:
        ``(N, D)``, float32, on the CPU.
    """
    if not len(images):
        raise UserError("there is no image to embed")
    rows = []
    with evaluating(model) as device:
        dtype = next(model.parameters()).dtype
        for first in range(0, len(images), batch_size):
            chunk = images[first : first + batch_size]
            x = chunk if isinstance(chunk, Tensor) else preprocessor.images(chunk)
            rows.append(encode(x.to(device, dtype)).float().cpu())
    return torch.cat(rows)


def embed_images(model: nn.Module, preprocessor: Any, images: Images, *, batch_size: int = 64) -> Tensor:
    """Embed images.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it.
        images: PIL images, paths, or a preprocessed tensor ``(N, 3, S, S)``.
        batch_size: Images of a batch.

    Returns:
        Unit vectors ``(N, E)``, float32, on the CPU.
    """
    encode: Any = model.encode_image
    return F.normalize(encode_images(encode, model, preprocessor, images, batch_size=batch_size), dim=-1)


def embed_texts(model: nn.Module, preprocessor: Any, texts: str | Sequence[str], *, batch_size: int = 256) -> Tensor:
    """Embed texts.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it, or just its tokenizer.
        texts: M texts.
        batch_size: Texts of a batch.

    Returns:
        Unit vectors ``(M, E)``, float32, on the CPU.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise UserError("there is no text to embed")
    tokenize = getattr(preprocessor, "text", preprocessor)
    encode: Any = model.encode_text
    with evaluating(model) as device:
        rows = [
            encode(tokenize(texts[first : first + batch_size]).to(device)).float().cpu()
            for first in range(0, len(texts), batch_size)
        ]
    return F.normalize(torch.cat(rows), dim=-1)


def fill(template: str, name: str) -> str:
    """Put a class name into a template's ``{}``.

    Raises:
        UserError: The template has no ``{}``.
    """
    if "{}" not in template:
        raise UserError(f"template {template!r} has no {{}} for the label; write 'a photo of a {{}}.'")
    return template.replace("{}", name)  # not str.format: names may hold braces


def zero_shot_classifier(
    model: nn.Module,
    preprocessor: Any,
    classnames: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    *,
    batch_size: int = 256,
) -> Tensor:
    """Build the weights of a classifier out of class names (Section 3.1.4).

    The K sentences of a class are embedded and normalised each, averaged, and normalised again.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it, or just its tokenizer.
        classnames: C names.
        templates: K sentences with ``{}`` where the name goes.
        batch_size: Texts of a batch.

    Returns:
        One unit vector a column: ``(E, C)``, float32, on the CPU.

    Raises:
        UserError: No names, no templates, or a template without ``{}``.
    """
    names = [classnames] if isinstance(classnames, str) else list(classnames)
    templates = [templates] if isinstance(templates, str) else list(templates)
    if not names or not all(name.strip() for name in names):
        raise UserError("labels are empty; give at least one name, like 'a cat'")
    if not templates:
        raise UserError("templates are empty; give at least one, like 'a photo of a {}.'")
    together = max(1, batch_size // len(templates))
    columns = []
    for first in range(0, len(names), together):
        chunk = names[first : first + together]
        texts = [fill(template, name) for name in chunk for template in templates]
        vectors = embed_texts(model, preprocessor, texts, batch_size=batch_size)
        columns.append(F.normalize(vectors.unflatten(0, (len(chunk), len(templates))).mean(dim=1), dim=-1))
    return torch.cat(columns).T.contiguous()


def classify(
    model: nn.Module,
    preprocessor: Any,
    images: Images,
    labels: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    *,
    batch_size: int = 64,
) -> Tensor:
    """Say how probable each label is for each image, one of the labels being true.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it.
        images: PIL images, paths, or a preprocessed tensor ``(N, 3, S, S)``.
        labels: C names.
        templates: Sentences with ``{}`` where the name goes; several are averaged.
        batch_size: Images of a batch.

    Returns:
        Probabilities ``(N, C)``; each row sums to 1.
    """
    classifier = zero_shot_classifier(model, preprocessor, labels, templates)
    embedded = embed_images(model, preprocessor, images, batch_size=batch_size)
    return probabilities(model, embedded, classifier)


def probabilities(model: nn.Module, embeddings: Tensor, classifier: Tensor) -> Tensor:
    """Turn image embeddings ``(N, E)`` and a classifier ``(E, C)`` into probabilities ``(N, C)``."""
    scale: Any = model.logit_scale
    return (scale.detach().float().cpu().exp() * embeddings @ classifier).softmax(dim=-1)


def top_k_accuracy(scores: Tensor, labels: Tensor, *, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Share of rows whose label is among the best k.

    Args:
        scores: ``(N, C)``.
        labels: Index of the right class ``(N,)``.
        ks: Each gives one entry ``top{k}``.
    """
    right = scores.gather(1, labels[:, None])
    # Of equal scores the first wins, as with argmax: a model that says nothing is right as often as chance.
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    rank = ((scores > right) | ((scores == right) & earlier)).sum(dim=1)
    return {f"top{k}": int((rank < k).sum()) / len(rank) for k in ks}


def zero_shot_accuracy(
    model: nn.Module,
    preprocessor: Any,
    data: tuple[Images, Tensor] | Iterable[tuple[Images, Tensor]],
    classnames: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    *,
    ks: Sequence[int] = (1, 5),
    batch_size: int = 64,
) -> dict[str, float]:
    """Measure how often the right class is among the best k.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it.
        data: Images and their labels ``(N,)``; or a loader that yields such pairs.
        classnames: C names, in the labels' order.
        templates: Sentences with ``{}`` where the name goes; several are averaged.
        ks: Each gives one entry ``top{k}``.
        batch_size: Images of a batch.

    Returns:
        ``{"top1": ..., "top5": ...}``, from 0 to 1.
    """
    classifier = zero_shot_classifier(model, preprocessor, classnames, templates)
    batches: Any = [data] if isinstance(data, tuple) else data
    scores, labels = [], []
    for images, label in batches:
        scores.append(embed_images(model, preprocessor, images, batch_size=batch_size) @ classifier)
        labels.append(torch.as_tensor(label).cpu())
    if not scores:
        raise UserError("there is no image to measure on")
    return top_k_accuracy(torch.cat(scores), torch.cat(labels), ks=ks)


@lru_cache
def _metadata() -> ModuleType:
    """open_clip's file of names and templates, run by itself: importing all of open_clip takes seconds."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise UserError("ImageNet's names come with open_clip; `pip install open_clip_torch`")
    path = Path(package.submodule_search_locations[0]) / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("_zoo_zero_shot_metadata", path)
    if spec is None or spec.loader is None or not path.exists():
        raise UserError(f"{path} is missing; reinstall open_clip_torch")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imagenet_names() -> list[str]:
    """The 1,000 class names that CLIP's authors rewrote, in ImageNet's order."""
    return list(_metadata().IMAGENET_CLASSNAMES)


def imagenet_templates() -> list[str]:
    """The 80 sentences of the paper's ensemble, with ``{}`` for the name."""
    return [template("{}") for template in _metadata().OPENAI_IMAGENET_TEMPLATES]
