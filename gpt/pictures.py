"""What a language model finds surprising, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.shared.files import atomic_path

_WIDTH, _LINES = 92, 30  # characters of a line, lines of a picture
_MOST = 14  # bits of the darkest colour


def surprise_sheet(pieces: Sequence[tuple[str, float]], path: Path, *, title: str) -> None:
    """Draw a text whose background says how many bits each piece cost.

    Args:
        pieces: Text and bits of each token.
        path: The PNG file.
        title: Heading.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    lines = layout(pieces)
    colours = ScalarMappable(Normalize(0, _MOST), matplotlib.colormaps["YlOrRd"])
    figure = Figure(figsize=(10, 0.27 * len(lines) + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(len(lines), -0.3)
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=11)
    for row, line in enumerate(lines):
        column = 0
        for text, bits in line:
            red, green, blue, _ = matplotlib.colormaps["YlOrRd"](bits / _MOST)
            axes.add_patch(
                matplotlib.patches.Rectangle((column, row + 0.02), len(text), 0.96, color=(red, green, blue), lw=0)
            )
            ink = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "black"
            for place, letter in enumerate(text):
                axes.text(
                    column + place + 0.5, row + 0.5, letter, family="DejaVu Sans Mono", fontsize=9, color=ink,
                    ha="center", va="center", parse_math=False,
                )  # fmt: skip
            column += len(text)
    figure.colorbar(colours, ax=axes, shrink=0.6, aspect=12, label="bits to say the token", pad=0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def layout(pieces: Sequence[tuple[str, float]]) -> list[list[tuple[str, float]]]:
    """Break a text into lines, keeping each character's bits; as many lines as a picture holds."""
    lines: list[list[tuple[str, float]]] = [[]]
    used = 0
    for text, bits in pieces:
        for number, part in enumerate(text.replace("\t", "    ").split("\n")):
            if number or used + len(part) > _WIDTH:
                lines.append([])
                used = 0
            if part:
                lines[-1].append((part, bits))
                used += len(part)
    while lines and not lines[0]:
        lines.pop(0)
    return lines[:_LINES]
