"""Pictures of an evaluation: images by class, and images beside their nearest training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from zoo.dcgan.evaluation.measure import Results
from zoo.dcgan.evaluation.scores import SURE
from zoo.shared.files import atomic_path

_INK, _FAINT, _OURS, _REAL = "#1d1d1f", "#77777c", "#3a6ea5", "#c9c9c4"
_SHOWN = 10  # images of a class, and classes
_CLOSEST, _FIRST = 6, 6  # generated images with their neighbours: the closest ones, and the first


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw everything there is to draw: ``memorisation.png``, and ``classes.png`` where there are classes.

    Args:
        results: What :func:`~zoo.dcgan.evaluation.measure.measure` found.
        folder: Where the pictures go.
    """
    found = [draw_neighbours(results, folder / "memorisation.png")]
    if results.generated.coverage is not None:
        found.append(draw_classes(results, folder / "classes.png"))
    return found


def draw_classes(results: Results, path: Path) -> Path:
    """Draw the first generated images of every class, those that are of none, and how many each class has."""
    kept, coverage = results.kept, results.generated.coverage
    assert kept.probabilities is not None
    assert coverage is not None
    surest, classes = kept.probabilities.max(1)
    real = results.real.coverage if results.real else None
    common = torch.tensor((real or coverage).histogram)
    shown = common.argsort(descending=True, stable=True)[:_SHOWN].sort().values.tolist()
    rows = [(_short(results.classes[k]), (surest > SURE) & (classes == k)) for k in shown]
    rows.append(("not sure", surest <= SURE))
    figure = Figure(figsize=(11, 0.9 + 0.62 * len(rows)), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    title = f"the classifier is sure of {coverage.confident:.0%} of {results.generated.images:,} generated images"
    figure.suptitle(f"{title}: {coverage.seen} of {len(results.classes)} classes", x=0.01, ha="left", color=_INK)
    sheets, bars = figure.subplots(1, 2, width_ratios=[_SHOWN + 2, 5])
    strips = [_strip(kept.generated[chosen.nonzero().flatten()[:_SHOWN]], columns=_SHOWN) for _, chosen in rows]
    sheets.imshow(torch.cat(strips).numpy(), interpolation="nearest", aspect="equal")
    height = strips[0].shape[0]
    sheets.set_yticks([height * (line + 0.5) for line in range(len(rows))], [name for name, _ in rows], color=_INK)
    _bare(sheets)
    ours = [float(chosen.double().mean()) for _, chosen in rows]
    places = torch.arange(len(rows))
    bars.barh(places - 0.2, ours, 0.4, color=_OURS, label="generated")
    if results.real and real:
        theirs = [real.histogram[k] / results.real.images for k in shown]
        bars.barh(places + 0.2, [*theirs, 1 - real.confident], 0.4, color=_REAL, label="real, held out")
    bars.set_ylim(len(rows) - 0.5, -0.5)
    bars.set_yticks([])
    bars.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bars.tick_params(colors=_FAINT, labelsize=8)
    for side in ("top", "right", "left"):
        bars.spines[side].set_visible(False)
    bars.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return _save(figure, path)


def draw_neighbours(results: Results, path: Path) -> Path:
    """Draw generated images beside their nearest training images: those that come closest to one, and the first."""
    kept = results.kept
    order = kept.features.distances[:, 0].argsort()
    blocks = [
        (f"the {_CLOSEST} closest to a training image", order[:_CLOSEST]),
        ("the first that were drawn", torch.arange(min(_FIRST, len(order)))),
    ]
    figure = Figure(figsize=(7.6, 10), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_sentence(results), x=0.01, ha="left", color=_INK, fontsize=11)
    axes = figure.subplots(2, 3, width_ratios=[1, 4, 4])
    for line, (words, rows) in zip(axes, blocks, strict=True):
        columns = (
            ("generated", kept.generated[rows][:, None]),
            ("nearest training images in pixels", kept.train[kept.pixels.rows[rows]]),
            ("nearest in features", kept.train[kept.features.rows[rows]]),
        )
        for axis, (name, images) in zip(line, columns, strict=True):
            sheet = torch.cat([_strip(each, columns=images.shape[1]) for each in images])
            axis.imshow(sheet.numpy(), interpolation="nearest", aspect="equal")
            axis.set_title(name, color=_FAINT, fontsize=9)
            axis.set_yticks([])
            _bare(axis)
        line[0].set_ylabel(words, color=_INK, fontsize=10)
    return _save(figure, path)


def _sentence(results: Results) -> str:
    """What the distances say, for people."""
    compared = (
        f"{results.generated.images:,} generated images and their nearest of {results.train_images:,} training images"
    )
    if results.memorisation is None:
        return f"{compared}\nnothing is held out, so there are no distances to compare with"
    lines = [
        f"{space}: {each.ratio:.2f} times as far as held-out images; {each.near:.1%} are as near as their nearest 1 %"
        for space, each in results.memorisation.items()
    ]
    return "\n".join([compared, *lines])


def _strip(images: Tensor, *, columns: int) -> Tensor:
    """Bytes ``(N, C, H, W)`` side by side on white: ``(H + 2, columns * (W + 2), 3)``."""
    count, _, height, width = images.shape
    sheet = torch.full((columns, 3, height + 2, width + 2), 255, dtype=torch.uint8)
    sheet[:count, :, 1:-1, 1:-1] = images.expand(-1, 3, -1, -1)
    return sheet.permute(2, 0, 3, 1).reshape(height + 2, -1, 3)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _bare(axis: Any) -> None:
    """Leave nothing of an axis but its labels."""
    axis.set_xticks([])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path
