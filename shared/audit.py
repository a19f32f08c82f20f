"""Checks before compute is spent: what the first loss and the data must look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.markup import escape

from zoo.shared.distributed import agree
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


class AuditBeforeTraining(Callback):
    """Looks at model and data before the first step; the first of several processes does, and stops them all.

    Args:
        audit: The family's audit: task and data module to checks.
        console: Where the checks are shown.
    """

    def __init__(self, audit: Callable[[Any, Any], list[Check]], console: Console) -> None:
        self.audit = audit
        self.console = console

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Run the checks, while the model is still where it was built."""
        failure: UserError | None = None
        if trainer.is_global_zero:
            try:
                checks = self.audit(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
                show_checks(self.console, checks)
                stop_on_failure(checks)
            except UserError as error:
                failure = error
        if agree(failure is None):
            return
        if failure is None:
            raise SystemExit(0)  # the first process says why
        raise failure
