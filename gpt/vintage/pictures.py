"""Curves over years with a mark at the cutoff, for one model or for a model and its twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo.gpt.vintage.measures import Period
from zoo.shared.files import atomic_path

_COLOURS = ("#b5651d", "#1f5f99")  # sepia for the vintage model, blue for the twin


def year_curves(
    curves: Mapping[str, Sequence[Period]],
    path: Path,
    *,
    title: str,
    label: str,
    cutoff: int | None = None,
    differences: Sequence[Period] | None = None,
) -> None:
    """Draw means by period with bars of two standard errors.

    Args:
        curves: Name of a model to its periods; at most two.
        path: The PNG file.
        title: Heading.
        label: What was measured.
        cutoff: The last year of the training text.
        differences: The first model's figures less the second one's, drawn below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 1 if differences is None else 2
    figure = Figure(figsize=(9, 4 if rows == 1 else 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[3, 2][:rows])[:, 0]
    for (name, periods), colour in zip(curves.items(), _COLOURS, strict=False):
        _curve(axes[0], periods, name, colour)
    axes[0].set_ylabel(label)
    axes[0].set_title(title, loc="left", fontsize=11)
    if differences is not None:
        _curve(axes[1], differences, "difference", "#444444")
        axes[1].axhline(0, color="#999999", lw=0.8)
        axes[1].set_ylabel("difference")
    for place, panel in enumerate(axes):
        if cutoff is not None:
            mark = f"cutoff {cutoff}" if place == 0 else None
            panel.axvline(cutoff + 0.5, color="#c0392b", ls="--", lw=1.2, label=mark)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    axes[-1].set_xlabel("year of the text")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _curve(axes: object, periods: Sequence[Period], name: str, colour: str) -> None:
    rows: list[tuple[float, float, float]] = []
    for place, one in enumerate(periods):
        if place and one.first > periods[place - 1].last + 1:
            rows.append((one.first, np.nan, np.nan))  # no line over years without a text
        rows.append(((one.first + one.last) / 2, one.value, 2 * (one.error or 0.0)))
    middles, values, bars = np.array(rows).T
    axes.plot(middles, values, color=colour, marker="o", ms=3.5, lw=1.4, label=name)  # type: ignore[attr-defined]
    axes.fill_between(middles, values - bars, values + bars, color=colour, alpha=0.15, lw=0)  # type: ignore[attr-defined]


def accuracy_bars(
    shares: Mapping[str, Sequence[tuple[float, float, float]]], groups: Sequence[str], path: Path, *, title: str,
    chance: Sequence[float],
) -> None:  # fmt: skip
    """Draw shares with their intervals, side by side in groups.

    Args:
        shares: Name of a model to, for each group, a share and the bounds of its interval.
        groups: Names of the groups.
        path: The PNG file.
        title: Heading.
        chance: Of each group what guessing gets.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    wide = 0.7 / len(shares)
    for number, ((name, rows), colour) in enumerate(zip(shares.items(), _COLOURS, strict=False)):
        places = np.arange(len(groups)) + (number - (len(shares) - 1) / 2) * wide
        values = np.array([row[0] for row in rows])
        bounds = np.array([[row[0] - row[1] for row in rows], [row[2] - row[0] for row in rows]])
        bounds = np.maximum(0.0, bounds)  # at a share of 0 or 1, rounding puts a bound on the wrong side
        axes.bar(places, values, wide * 0.92, color=colour, yerr=bounds, capsize=3, label=name, alpha=0.85)
    for place, level in enumerate(chance):
        axes.hlines(level, place - 0.42, place + 0.42, color="#c0392b", ls="--", label="_" if place else "chance")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
