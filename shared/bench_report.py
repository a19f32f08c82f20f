"""Results of the speed measurements as a table, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zoo.shared.bench import Result


def as_table(results: Sequence[Result]) -> Table:
    """One line a comparison."""
    table = Table(title="speed: peer's time over zoo's, of the minima")
    for heading in ("row", "comparison", "peer", "zoo"):
        table.add_column(heading, overflow="fold")
    for heading in ("ratio", "rounds", "goal", "floor", "memory", "rate"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            result.row, result.comparison, result.peer, result.zoo, _ratio(result), _rounds(result),
            "" if result.goal is None else f"{result.goal:g}x",
            "" if result.floor is None else f"{result.floor:.0%}",
            _memory(result), _rate(result),
        )  # fmt: skip
    return table


def _ratio(result: Result) -> str:
    if result.comparison == "limit":
        return result.note.partition(";")[0]
    mark = {True: " [green]✓[/]", False: " [red]✗[/]", None: ""}[result.reached]
    return f"{result.ratio:.2f}x{mark}"


def _rounds(result: Result) -> str:
    if result.low is None or result.high is None or result.comparison == "limit":
        return ""
    return f"{result.low:.2f}–{result.high:.2f}"


def _memory(result: Result) -> str:
    if result.peer_memory is None or result.zoo_memory is None:
        return ""
    return f"{result.zoo_memory:,.0f} / {result.peer_memory:,.0f} MB"


def _rate(result: Result) -> str:
    return "" if result.rate is None else f"{result.rate:,.4g} {result.unit}/s"


def show(console: Console, results: Sequence[Result], machine: Mapping[str, Any]) -> None:
    """Print the table, what the rows are, and the machine."""
    console.print(as_table(results))
    for row in dict.fromkeys(result.row for result in results):
        first = next(result for result in results if result.row == row)
        note = f" ({first.note})" if first.note and first.comparison != "limit" else ""
        console.print(f"{row}: {first.what}{note}", highlight=False, markup=False)
    console.print("memory: peak of a process that holds one side only, zoo / peer", highlight=False)
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

    shown = [result for result in results if result.comparison != "limit"]
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
