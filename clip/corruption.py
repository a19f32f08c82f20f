"""What is left of the embedding when the image is damaged: blur, noise and drawing, at several strengths.

Shapes: N images, C classes, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor, nn

from zoo.clip.zero_shot import embed_images, top_k_accuracy
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path

STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def blur(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Gaussian blur; at strength 1 its radius is a twelfth of the short side."""
    return image.filter(ImageFilter.GaussianBlur(strength * min(image.size) / 12))


def noise(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Gaussian noise, the same for the same seed; at strength 1 its deviation is 60 % of the range."""
    values = np.asarray(image, dtype=np.float32)
    drawn = np.random.default_rng(seed).standard_normal(values.shape, dtype=np.float32)
    return Image.fromarray((values + drawn * (153 * strength)).clip(0, 255).astype(np.uint8))


def sketch(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Fade into a pencil drawing: dark lines where brightness changes, white elsewhere."""
    grey = ImageOps.grayscale(image)
    soft = grey.filter(ImageFilter.GaussianBlur(max(1.0, min(image.size) / 40)))
    difference = ImageChops.difference(grey, soft).point(lambda value: 255 - min(255, 4 * value))
    return Image.blend(image, difference.convert("RGB"), strength)


Corruption = Callable[[Image.Image, float, int], Image.Image]
CORRUPTIONS: dict[str, Corruption] = {"blur": blur, "noise": noise, "sketch": sketch}


@dataclass(frozen=True, kw_only=True)
class CorruptionCurve:
    """How embeddings change as images are damaged.

    Attributes:
        strengths: From 0 (clean) to 1.
        cosine: Kind of damage to the mean cosine with the clean embedding, one for each strength.
        accuracy: Kind of damage to the accuracy, where a classifier was given.
        count: Images measured.
    """

    strengths: tuple[float, ...]
    cosine: dict[str, list[float]]
    accuracy: dict[str, list[float]] | None
    count: int


def corruption_curve(
    model: nn.Module,
    preprocessor: Any,
    images: Sequence[Image.Image],
    *,
    labels: Tensor | None = None,
    classifier: Tensor | None = None,
    kinds: Mapping[str, Corruption] = CORRUPTIONS,
    strengths: Sequence[float] = STRENGTHS,
    batch_size: int = 64,
) -> CorruptionCurve:
    """Embed damaged images and compare with the clean ones.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it.
        images: N images in RGB.
        labels: Class of each image ``(N,)``; needs ``classifier``.
        classifier: Weights ``(E, C)`` from :func:`zoo.clip.zero_shot.zero_shot_classifier`.
        kinds: Name to function of image, strength and seed.
        strengths: From 0 to 1.
        batch_size: Images of a batch.

    Raises:
        UserError: No images, or labels without a classifier.
    """
    if (labels is None) != (classifier is None):
        raise UserError("accuracy under corruption needs both labels and a classifier")
    if not all(0 <= strength <= 1 for strength in strengths) or not strengths:
        raise UserError(f"strengths must lie between 0 and 1, not {list(strengths)}")
    clean = embed_images(model, preprocessor, images, batch_size=batch_size)
    cosine: dict[str, list[float]] = {kind: [] for kind in kinds}
    accuracy: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind, corrupt in kinds.items():
        for strength in strengths:
            embedded = clean
            if strength > 0:
                damaged = [corrupt(image, strength, seed) for seed, image in enumerate(images)]
                embedded = embed_images(model, preprocessor, damaged, batch_size=batch_size)
            cosine[kind].append(float((embedded * clean).sum(dim=-1).mean()))
            if labels is not None and classifier is not None:
                accuracy[kind].append(top_k_accuracy(embedded @ classifier, labels, ks=(1,))["top1"])
    return CorruptionCurve(
        strengths=tuple(strengths),
        cosine=cosine,
        accuracy=accuracy if labels is not None else None,
        count=len(images),
    )


def draw_corruption(
    curve: CorruptionCurve,
    path: str | Path,
    *,
    example: Image.Image | None = None,
    kinds: Mapping[str, Corruption] = CORRUPTIONS,
) -> None:
    """Draw the curves, above one image at every strength.

    Args:
        curve: From :func:`corruption_curve`.
        path: Picture to write.
        example: An image that shows what the strengths mean.
        kinds: The damage that ``curve`` was measured with.

    Raises:
        UserError: The picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = ("#3a6ea5", "#c8553d", "#5b8c5a", "#8a6bb1", "#b0892f")
    panels = [("cosine with the clean embedding", curve.cosine)]
    if curve.accuracy is not None:
        panels.insert(0, ("zero-shot accuracy", curve.accuracy))
    rows = len(curve.cosine) if example is not None else 0
    figure = Figure(figsize=(5.2 * len(panels), 3.8 + 0.95 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    heights = [3.8, 0.95 * rows] if rows else [1.0]
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    top, bottom = parts[0], parts[1] if rows else None
    top.suptitle(f"Under corruption ({curve.count} images)", fontsize=12, fontweight="bold")
    for axis, (label, lines) in zip(top.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for colour, (kind, values) in zip(colours * 9, lines.items(), strict=False):
            axis.plot(curve.strengths, values, marker="o", markersize=4, color=colour, label=kind)
        low = min(0.0, *(min(values) for values in lines.values()))
        axis.set(xlabel="strength", ylabel=label, ylim=(low * 1.05, 1.03))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e4e4e0")
        axis.set_axisbelow(True)
    axis.legend(frameon=False)
    if bottom is not None and example is not None:
        grid = bottom.subplots(rows, len(curve.strengths), squeeze=False)
        for row, kind in zip(grid, curve.cosine, strict=True):
            for axis, strength in zip(row, curve.strengths, strict=True):
                axis.imshow(kinds[kind](example, strength, 0) if strength > 0 else example)
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                if row is grid[-1]:
                    axis.set_xlabel(f"{strength:g}", fontsize=9)
            row[0].set_ylabel(kind, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lstrip(".") or "png", dpi=120)
