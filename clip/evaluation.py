"""The benchmarks of ``zoo eval clip`` on any set of image–text pairs.

Shapes: N pairs, D features, E embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.clip.corruption import corruption_curve, draw_corruption
from zoo.clip.probing import linear_probe, probe_features
from zoo.clip.retrieval import retrieval_recall
from zoo.clip.zero_shot import embed_images, embed_texts, top_k_accuracy, zero_shot_classifier
from zoo.shared.data.images import BadSample
from zoo.shared.data.pairs import PairSource
from zoo.shared.errors import UserError

BENCHMARKS = ("zero-shot", "retrieval", "linear-probe", "corruption")
# Plain sentences, into which the class names of anybody's data fit.
TEMPLATES = ("{}", "a picture of {}", "an image of {}", "{}.")
_NEED_LABELS = ("zero-shot", "linear-probe")
_CORRUPTED = 256  # images damaged, at most
_VALIDATION = 5  # one in so many training samples chooses the probe's penalty

Encode = Callable[[nn.Module, Any, Any], Tensor]
Progress = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Read:
    """What was computed of a source.

    Attributes:
        vectors: ``(N, D)``.
        indices: The N samples that could be read.
        skipped: How many could not.
    """

    vectors: Tensor
    indices: list[int]
    skipped: int

    def labelled(self, source: PairSource) -> tuple[Tensor, Tensor]:
        """Vectors and labels of the samples that have a label."""
        found = [(row, label) for row, i in enumerate(self.indices) if (label := source.label(i)) is not None]
        rows = torch.tensor([row for row, _ in found], dtype=torch.int64)
        return self.vectors[rows], torch.tensor([label for _, label in found], dtype=torch.int64)


def spread(count: int, limit: int | None) -> list[int]:
    """Numbers below ``count``, or ``limit`` of them evenly spread."""
    if limit is None or count <= limit:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def read_images(
    encode: Encode,
    model: nn.Module,
    preprocessor: Any,
    source: PairSource,
    *,
    limit: int | None = None,
    batch_size: int = 64,
) -> Read:
    """Encode the images of a source, leaving out what cannot be read.

    Raises:
        UserError: Not one can be read.
    """
    rows, indices, numbers = [], [], spread(len(source), limit)
    for first in range(0, len(numbers), batch_size):
        tensors = []
        for i in numbers[first : first + batch_size]:
            try:
                source.title(i)
                tensors.append(preprocessor.image(source.image(i)))
            except BadSample:
                continue
            indices.append(i)
        if tensors:
            rows.append(encode(model, preprocessor, torch.stack(tensors)))
    if not rows:
        raise UserError(f"{source.name}: none of the {len(numbers)} samples can be read")
    return Read(vectors=torch.cat(rows), indices=indices, skipped=len(numbers) - len(indices))


def run_benchmarks(
    model: nn.Module,
    preprocessor: Any,
    data: Any,
    names: Sequence[str] = BENCHMARKS,
    *,
    templates: Sequence[str] | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    progress: Progress = lambda line: None,
) -> dict[str, dict[str, Any]]:
    """Run benchmarks on the held-out pairs of a data module.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it.
        data: A data module that was set up: ``held_out_source`` is measured on, ``train_source`` trains the probe.
        names: Some of :data:`BENCHMARKS`. Asked for all of them, those that need labels are left out without any.
        templates: Sentences for zero-shot classification; those of the training report when None.
        limit: Samples of each source, at most.
        out: Folder for pictures.
        progress: Called with a line before each benchmark.

    Returns:
        Benchmark to its figures.

    Raises:
        UserError: Unknown benchmark, or a source that lacks what it needs.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise UserError(f"unknown benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    source: PairSource = data.held_out_source
    if not len(source):
        raise UserError(f"{source.name} has no held-out samples to measure on")
    progress(f"embedding {len(spread(len(source), limit))} held-out images of {source.name}")
    held_out = read_images(embed_images, model, preprocessor, source, limit=limit)
    vectors, labels = held_out.labelled(source)
    if not (source.classes and len(labels)):
        missing = [name for name in names if name in _NEED_LABELS]
        if missing and tuple(names) != BENCHMARKS:
            raise UserError(f"{', '.join(missing)}: {source.name} has no labels; use data with classes")
        names = [name for name in names if name not in _NEED_LABELS]
        classifier = None
    else:
        classifier = zero_shot_classifier(model, preprocessor, source.classes, templates or TEMPLATES)

    results: dict[str, dict[str, Any]] = {}
    for name in names:
        progress(name)
        if name == "zero-shot":
            assert classifier is not None
            results[name] = _zero_shot(vectors, labels, classifier, source)
        elif name == "retrieval":
            results[name] = _retrieval(model, preprocessor, held_out, source)
        elif name == "linear-probe":
            results[name] = _probe(model, preprocessor, data, limit)
        else:
            results[name] = _corruption(model, preprocessor, source, held_out.indices, classifier, out)
    for figures in results.values():
        figures["skipped"] = held_out.skipped
    return results


def _zero_shot(vectors: Tensor, labels: Tensor, classifier: Tensor, source: PairSource) -> dict[str, Any]:
    ks = (1, 5) if len(source.classes) > 5 else (1,)
    largest = Counter(labels.tolist()).most_common(1)[0][1] / len(labels)
    return {
        **top_k_accuracy(vectors @ classifier, labels, ks=ks),
        "largest_class": largest,
        "classes": len(source.classes),
        "images": len(labels),
    }


def _retrieval(model: nn.Module, preprocessor: Any, held_out: Read, source: PairSource) -> dict[str, Any]:
    texts = embed_texts(model, preprocessor, [source.title(i) for i in held_out.indices])
    return {**retrieval_recall(held_out.vectors, texts), "images": len(held_out.indices)}


def _probe(model: nn.Module, preprocessor: Any, data: Any, limit: int | None) -> dict[str, Any]:
    test_source, train_source = data.held_out_source, data.train_source
    if not train_source or not len(train_source):
        raise UserError("linear-probe: this data has no training part")
    train = read_images(probe_features, model, preprocessor, train_source, limit=limit)
    x, y = train.labelled(train_source)
    x_test, y_test = read_images(probe_features, model, preprocessor, test_source, limit=limit).labelled(test_source)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    cut = max(1, len(y) // _VALIDATION)
    chosen, fitted = order[:cut], order[cut:]
    result = linear_probe((x[fitted], y[fitted]), (x[chosen], y[chosen]), (x_test, y_test))
    return {
        "accuracy": result.accuracy,
        "best_c": result.best_c,
        "validation_accuracy": result.validation_accuracy,
        "sweep": result.sweep,
        "train_images": len(y),
        "images": len(y_test),
    }


def _corruption(
    model: nn.Module,
    preprocessor: Any,
    source: PairSource,
    indices: list[int],
    classifier: Tensor | None,
    out: str | Path | None,
) -> dict[str, Any]:
    if classifier is not None:
        indices = [i for i in indices if source.label(i) is not None]
    indices = [indices[i] for i in spread(len(indices), _CORRUPTED)]
    images = [source.image(i) for i in indices]
    labels = None if classifier is None else torch.tensor([source.label(i) for i in indices])
    curve = corruption_curve(model, preprocessor, images, labels=labels, classifier=classifier)
    figures: dict[str, Any] = {
        "strengths": list(curve.strengths),
        "cosine": curve.cosine,
        "accuracy": curve.accuracy,
        "images": curve.count,
    }
    if out is not None:
        figures["picture"] = str(Path(out) / "corruption.png")
        draw_corruption(curve, figures["picture"], example=images[0])
    return figures
