"""Results of the speed measurements as a table, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from zoo.shared.bench import BEST, SAME, Result


def as_table(results: Sequence[Result]) -> Table:
    """One line a comparison."""
    table = Table(title="peer's time over zoo's, of the minima", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("row", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("ratio", "rounds", "goal", "floor", "MB", "peer's"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(
            result.row,
            {SAME: "same", BEST: "best"}.get(result.comparison, ""),
            _ratio(result),
            _rounds(result),
            _goal(result),
            "" if result.floor is None else f"{result.floor:.0%}",
            _megabytes(result.zoo_memory),
            _megabytes(result.peer_memory),
        )
    return table


def _ratio(result: Result) -> str:
    figure = f"{result.figure:.3g} {result.unit}" if result.figure is not None else f"{result.ratio:.2f}x"
    return figure + {True: " [green]✓[/]", False: " [red]✗[/]", None: "  "}[result.reached]


def _rounds(result: Result) -> str:
    if result.low is None or result.high is None:
        return ""
    return f"{result.low:.2f}–{result.high:.2f}"


def _goal(result: Result) -> str:
    if result.limit is not None:
        return f"< {result.limit:g} {result.unit}"
    return "" if result.goal is None else f"{result.goal:g}x"


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def show(console: Console, results: Sequence[Result], machine: Mapping[str, Any]) -> None:
    """Print the table, what the rows are, and the machine."""
    console.print(as_table(results))
    for row in dict.fromkeys(result.row for result in results):
        of_row = [result for result in results if result.row == row]
        note = f" ({of_row[0].note})" if of_row[0].note else ""
        console.print(f"{row}: {of_row[0].what}{note}", highlight=False, markup=False)
        for result in of_row:
            if result.peer:
                modes = f"  {result.comparison}: {result.peer} / zoo ({result.zoo})"
                console.print(f"{modes}, results differ by {result.difference:.1g}", highlight=False, markup=False)
    console.print("floor: matmul operations over this machine's measured rate, over zoo's time", highlight=False)
    console.print("MB: peak of a process that holds one side only", highlight=False)
    for name, values in machine.items():
        shown = ", ".join(f"{key} {value}" for key, value in values.items())
        console.print(f"{name}: {shown}", highlight=False, markup=False)


def as_json(results: Sequence[Result], machine: Mapping[str, Any]) -> str:
    """Everything that was measured."""
    rows = [{**dataclasses.asdict(result), "reached": result.reached} for result in results]
    return json.dumps({**machine, "results": [_finite(row) for row in rows]}, indent=2) + "\n"


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def plot(results: Sequence[Result], path: str | Path, *, title: str) -> None:
    """Draw the ratios as bars, with a mark where each goal is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [result for result in results if result.limit is None]
    figure = Figure(figsize=(9, 1.6 + 0.42 * max(1, len(shown))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = {True: "#2f7d5b", False: "#c0563b", None: "#7a8ca3"}
    for place, result in enumerate(shown):
        axes.barh(place, result.ratio, color=colours[result.reached], height=0.62)
        if result.low is not None and result.high is not None:
            axes.plot([result.low, result.high], [place, place], color="black", linewidth=1)
        if result.goal is not None:
            axes.plot([result.goal] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2.2)
        end = max(result.ratio, result.high or 0.0, result.goal or 0.0)
        axes.text(end + 0.02, place, f"{result.ratio:.2f}x", va="center", fontsize=9)
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(shown)), [f"{result.row}\n{result.comparison}" for result in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("peer's time over zoo's (thick mark: goal; thin line: single rounds)", fontsize=9)
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120)
