"""Checks before compute is spent: what the first loss and the data must look like."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from zoo.shared.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at before the first step.

    Attributes:
        name: What was checked.
        found: What was found, as text.
        expected: What a sound run shows, as text.
        passed: Whether ``found`` is possible in a sound run.
    """

    name: str
    found: str
    expected: str
    passed: bool


def show_checks(console: Console, checks: list[Check]) -> None:
    """Print the checks as a table."""
    table = Table(title="audit before the first step", title_justify="left", header_style="bold", box=None)
    for column in ("", "checked", "found", "expected"):
        table.add_column(column)
    for check in checks:
        mark = "[green]ok[/]" if check.passed else "[red]FAIL[/]"
        table.add_row(mark, check.name, check.found, check.expected)
    console.print(table)


def stop_on_failure(checks: list[Check]) -> None:
    """Stop the run when something is impossible.

    Raises:
        UserError: A check failed.
    """
    failed = [f"{c.name}: found {c.found}, expected {c.expected}" for c in checks if not c.passed]
    if failed:
        raise UserError("the audit stopped the run: " + "; ".join(failed) + " (--no-audit goes on all the same)")
