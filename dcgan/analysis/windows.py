"""Forgetting to draw something (Section 6.3.1): feature maps that belong to a region of images are switched off.

A logistic regression tells positions inside boxes from others by what the maps of one layer are there; the maps with a
positive weight are dropped, and the same latent vectors are drawn again.

Shapes: N images, Z numbers of a latent vector, F maps, S side of a map, C channels, H = W side of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.dcgan.model import DCGAN, Generator
from zoo.dcgan.pictures import grid, stacked, titled
from zoo.dcgan.sampling import images_of
from zoo.shared.errors import UserError
from zoo.shared.files import read_json

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels."""

REGIONS: dict[str, Box] = {
    "top": (0, 0, 1, 0.5),
    "bottom": (0, 0.5, 1, 1),
    "left": (0, 0, 0.5, 1),
    "right": (0.5, 0, 1, 1),
    "middle": (0.25, 0.25, 0.75, 0.75),
}
"""Regions of an image, in shares of its side."""

_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What dropping maps does; images in [-1, 1].

    Attributes:
        before: Images ``(N, C, H, W)``.
        after: The same without the maps that belong to the boxes.
        control: The same without as many maps chosen at random.
        maps: Maps dropped.
        of: Maps that there are.
        accuracy: Of the regression, on positions of images that it was not fitted to; half of the positions are
            inside boxes. None where there is one image only.
        inside: Mean absolute change of a pixel inside the boxes: by the maps dropped, by random ones.
        outside: The same outside the boxes.
    """

    before: Tensor
    after: Tensor
    control: Tensor
    maps: int
    of: int
    accuracy: float | None
    inside: tuple[float, float]
    outside: tuple[float, float]


def region(name: str, count: int, side: int) -> dict[int, list[Box]]:
    """A region of :data:`REGIONS` as a box in each of ``count`` images of ``side`` pixels."""
    left, top, right, bottom = (share * side for share in REGIONS[name])
    return {number: [(left, top, right, bottom)] for number in range(count)}


def read_boxes(path: str | Path, *, count: int, side: int) -> dict[int, list[Box]]:
    """Boxes from a JSON file: ``[{"index": 3, "box": [x0, y0, x1, y1]}, ...]``, several of an image if need be.

    Args:
        path: The file.
        count: Samples that there are.
        side: Pixels of an image's side.

    Raises:
        UserError: It cannot be read, or a box is outside of its image.
    """
    shape = f'{path} must be a list like [{{"index": 3, "box": [x0, y0, x1, y1]}}]'
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise UserError(shape)
    boxes: dict[int, list[Box]] = {}
    for entry in entries:
        try:
            number = entry["index"]
            x0, y0, x1, y1 = (float(edge) for edge in entry["box"])
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"{shape}; {entry!r} is none") from error
        if not isinstance(number, int) or not 0 <= number < count:
            raise UserError(f"{path}: there is no sample {number}; they are numbered from 0 to {count - 1}")
        if not (0 <= x0 < x1 <= side and 0 <= y0 < y1 <= side):
            raise UserError(f"{path}: box {entry['box']} is not inside an image of {side} x {side} pixels")
        boxes.setdefault(number, []).append((x0, y0, x1, y1))
    return boxes


def inside(boxes: Sequence[Box], cells: int, side: int) -> np.ndarray:
    """Which cells of a map ``(cells, cells)`` have their middle inside a box, booleans."""
    middles = (np.arange(cells) + 0.5) * side / cells
    found = np.zeros((cells, cells), bool)
    for x0, y0, x1, y1 in boxes:
        found |= ((middles >= y0) & (middles < y1))[:, None] & ((middles >= x0) & (middles < x1))[None, :]
    return found


def second_highest(generator: Generator) -> int:
    """The layer of the paper: what the last convolution but two gives (the 256 maps of 16x16 of a 64x64 model).

    The paper drops about 200 maps, more than the 128 of the layer after it has. The first map is a projection and no
    convolution, so small models give what comes after it.
    """
    return min(len(generator.layers) - 1, max(1, len(generator.layers) - 2))


@torch.no_grad()
def maps_of(model: DCGAN, z: Tensor, layer: int) -> Tensor:
    """Activations ``(N, F, S, S)`` that go into a layer of the generator, on the CPU."""
    found = list[Tensor]()
    hook = model.generator.layers[layer].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].cpu()))
    try:
        images_of(model, z)
    finally:
        hook.remove()
    return torch.cat(found)


def drop_maps(
    model: DCGAN, z: Tensor, boxes: Mapping[int, Sequence[Box]], *, layer: int | None = None, seed: int = 0
) -> Dropped:
    """Find the maps that belong to boxes, and draw without them.

    Args:
        model: As :func:`~zoo.dcgan.sampling.ready` leaves it.
        z: Latent vectors ``(N, Z)``.
        boxes: Number of a sample to its boxes.
        layer: Whose maps; by default :func:`second_highest`. Layer 0 is the generator's first map.
        seed: Chooses the negatives and the random maps of the control.

    Raises:
        UserError: No such layer, or boxes that hold no position of the map, or all of them.
    """
    layer = second_highest(model.generator) if layer is None else layer
    last = len(model.generator.layers) - 1
    if not 0 <= layer <= last:
        raise UserError(f"there is no layer {layer}; the generator's are numbered from 0 to {last}")
    maps = maps_of(model, z[sorted(boxes)], layer)
    features, labels, groups = positions(
        maps, [boxes[number] for number in sorted(boxes)], model.config.image_size, seed
    )
    weights, accuracy = fit(features, labels, groups)
    chosen = torch.from_numpy(weights > 0)
    shuffled = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))]
    before, after, control = (
        images_of(model, z, drop=drop)
        for drop in (None, *({layer: (~mask).float().to(z.device)} for mask in (chosen, shuffled)))
    )
    side = model.config.image_size
    within = torch.from_numpy(np.stack([inside(boxes.get(number, ()), side, side) for number in range(len(z))]))
    changes = [(drawn - before).abs().mean(1) for drawn in (after, control)]
    return Dropped(
        before=before,
        after=after,
        control=control,
        maps=int(chosen.sum()),
        of=len(chosen),
        accuracy=accuracy,
        inside=(float(changes[0][within].mean()), float(changes[1][within].mean())),
        outside=(float(changes[0][~within].mean()), float(changes[1][~within].mean())),
    )


def positions(
    maps: Tensor, boxes: Sequence[Sequence[Box]], side: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions inside boxes, and as many random ones of the same images outside of them.

    Args:
        maps: ``(N, F, S, S)``.
        boxes: Those of each image.
        side: Pixels of an image's side.
        seed: Chooses the random ones.

    Returns:
        Features ``(M, F)``, whether they are inside ``(M,)``, and the image of each ``(M,)``.
    """
    draw = np.random.default_rng(seed)
    columns = maps.flatten(2).transpose(1, 2).numpy()  # (N, S * S, F)
    features, labels, groups = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for number, own in enumerate(boxes):
        within = inside(own, maps.shape[-1], side).ravel()
        positive, rest = np.flatnonzero(within), np.flatnonzero(~within)
        count = min(len(positive), len(rest))
        taken = np.concatenate([draw.choice(positive, count, False), draw.choice(rest, count, False)])
        features.append(columns[number, taken])
        labels.append(within[taken])
        groups.append(np.full(len(taken), number))
    if not sum(map(len, labels)):
        raise UserError(
            f"the boxes hold no position of the {maps.shape[-1]} x {maps.shape[-1]} maps, or all of them; "
            "draw larger or smaller ones"
        )
    return np.concatenate(features), np.concatenate(labels), np.concatenate(groups)


def fit(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Weights ``(F,)`` of a logistic regression, and its accuracy on images that were left out of the fit."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score

    regression = LogisticRegression(max_iter=1000)
    folds, accuracy = min(_FOLDS, len(np.unique(groups))), None
    if folds > 1:
        scores = cross_val_score(regression, features, labels, groups=groups, cv=GroupKFold(folds))
        accuracy = float(scores.mean())
    return regression.fit(features, labels).coef_[0], accuracy


def draw_dropped(found: Dropped, boxed: Sequence[int], *, columns: int = 12) -> Image.Image:
    """Samples of each kind in a row, those with boxes first.

    Args:
        found: From :func:`drop_maps`.
        boxed: Numbers of the samples with boxes.
        columns: Samples shown.
    """
    shown = [*boxed, *(number for number in range(len(found.before)) if number not in set(boxed))][:columns]
    rows = (
        ("before", found.before),
        (f"without the {found.maps} of {found.of} maps that belong to the boxes", found.after),
        (f"without {found.maps} random maps", found.control),
    )
    return stacked(*(titled(grid(images[shown], columns=columns), title) for title, images in rows))
