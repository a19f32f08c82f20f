"""Figures at the end of a run, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a report.

    Attributes:
        name: What was measured, in words.
        key: Its name in ``metrics.json``.
        value: The number.
        chance: What guessing gets, in the same unit.
        percent: Show as a percentage.
    """

    name: str
    key: str
    value: float
    chance: float | None = None
    percent: bool = True

    def show(self, value: float | None) -> str:
        """A number of this figure's unit, as text."""
        if value is None:
            return ""
        return f"{100 * value:.1f} %" if self.percent else f"{value:.4g}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a family has to say about a finished run.

    Attributes:
        title: Heading; says on which data the figures were measured.
        figures: The numbers.
        pictures: Files that were drawn.
        next_commands: Commands worth trying with the weights; ``{weights}`` stands for their folder.
    """

    title: str
    figures: list[Figure] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    next_commands: list[str] = field(default_factory=list)


def show_reports(console: Console, reports: dict[str, Report]) -> None:
    """Print the figures of one or more runs side by side.

    Args:
        console: Where to print.
        reports: Label of a run to its report; the first one gives title and rows.
    """
    first = next(iter(reports.values()))
    if not first.figures:
        if first.next_commands:  # somebody has looked, and says why there is nothing
            console.print(first.title, highlight=False)
        return
    table = Table(title=first.title, title_justify="left", header_style="bold")
    table.add_column("measured")
    for label in reports:
        table.add_column(label, justify="right")
    chance = any(figure.chance is not None for figure in first.figures)
    if chance:
        table.add_column("chance", justify="right")
    for figure in first.figures:
        row = [escape(figure.name)]
        for report in reports.values():
            match = next((f for f in report.figures if f.key == figure.key), None)
            row.append(match.show(match.value) if match else "")
        table.add_row(*row, *([figure.show(figure.chance)] if chance else []))
    console.print(table)
