"""The picture of a training run: captions and the images that the model finds for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from zoo.shared.files import atomic_path

INK, FAINT, RIGHT = "#1d1d1f", "#77777c", "#2e8b57"


def retrieval_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[Image.Image, bool, float]]]], path: Path, *, title: str
) -> None:
    """Draw one row a caption: the words, then the best images from left to right, the right one framed.

    Args:
        rows: Caption, and its hits: image, whether it is the caption's own, and the cosine.
        path: The PNG file.
        title: Line above the picture.
    """
    columns = max(len(hits) for _, hits in rows)
    figure = Figure(figsize=(3.2 + 1.15 * columns, 0.7 + 1.25 * len(rows)), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13)
    axes = figure.subplots(len(rows), columns + 1, squeeze=False, width_ratios=[2.6, *[1] * columns])
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (caption, hits) in zip(axes, rows, strict=True):
        line[0].text(1.0, 0.5, caption, ha="right", va="center", color=INK, fontsize=11, wrap=True)
        for axis, (image, own, cosine) in zip(line[1:], hits, strict=False):
            axis.imshow(image, interpolation="lanczos")
            axis.set_title(f"{cosine:.2f}", color=RIGHT if own else FAINT, fontsize=8, pad=2)
            if own:
                frame = Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, color=RIGHT, linewidth=3)
                axis.add_patch(frame)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
