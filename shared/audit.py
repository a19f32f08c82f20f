"""Checks before compute is spent: what the first loss and the data must look like."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

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
    """Print the checks, a line each."""
    console.print("[bold]audit before the first step[/]")
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark = "[green]ok  [/]" if check.passed else "[red]FAIL[/]"
        line = escape(f"{check.name:<{width}}  {check.found}  (expected: {check.expected})")
        console.print(f"  {mark} {line}", highlight=False, soft_wrap=True)


def stop_on_failure(checks: list[Check]) -> None:
    """Stop the run when something is impossible.

    Raises:
        UserError: A check failed.
    """
    failed = [f"{c.name}: found {c.found}, expected {c.expected}" for c in checks if not c.passed]
    if failed:
        raise UserError("the audit stopped the run: " + "; ".join(failed) + " (--no-audit goes on all the same)")
