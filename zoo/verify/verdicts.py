"""What a check found, and how it is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One thing that was checked.

    Attributes:
        check: The check: ``resume``, ``accumulation``, ...
        subject: The model, and what was done to it.
        what: What must hold, in words.
        found: The figure, as text.
        passed: Whether it holds.
        applies: False for what cannot be checked here; ``found`` says why, and it counts neither way.
    """

    check: str
    subject: str
    what: str
    found: str
    passed: bool
    applies: bool = True


def within(check: str, subject: str, what: str, *, value: float, limit: float) -> Verdict:
    """The verdict on a figure that must not exceed a limit; not-a-number fails."""
    return Verdict(
        check=check, subject=subject, what=what, found=f"{value:.1e} (limit {limit:.0e})", passed=value <= limit
    )


def broke(check: str, subject: str, what: str, error: Exception) -> Verdict:
    """The verdict on a check that could not be finished."""
    found = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Verdict(check=check, subject=subject, what=what, found=found, passed=False)


class Printer:
    """Shows verdicts as they come: one line each in a terminal, or one JSON document at the end.

    Args:
        as_json: Print JSON instead of lines.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.verdicts: list[Verdict] = []
        self.console = Console(stderr=as_json)

    def begin(self, check: str, subject: str) -> None:
        """Say what is being checked now."""
        if self.console.is_terminal:
            self.console.print(f"[dim]{check} {subject} ...[/]", highlight=False)

    def show(self, verdicts: Iterable[Verdict]) -> None:
        """Keep verdicts for the table, and show the failed ones at once."""
        for verdict in verdicts:
            self.verdicts.append(verdict)
            if verdict.applies and not verdict.passed:
                self.console.print(
                    f"FAIL {verdict.check} {verdict.subject}: {verdict.what}: {verdict.found}",
                    style="red", highlight=False, markup=False, soft_wrap=True,
                )  # fmt: skip

    def finish(self, seconds: float) -> int:
        """Print the table or the JSON; returns the exit code: 0 if everything holds, 1 if not."""
        counted = [verdict for verdict in self.verdicts if verdict.applies]
        failed = sum(not verdict.passed for verdict in counted)
        if self.as_json:
            document = {
                "passed": not failed, "seconds": round(seconds, 1), "verdicts": [asdict(v) for v in self.verdicts]
            }  # fmt: skip
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        else:
            self.console.print(table(self.verdicts))
            self.console.print(f"{len(counted) - failed} of {len(counted)} hold, in {seconds:.0f} s", highlight=False)
        return 1 if failed else 0


def table(verdicts: Iterable[Verdict]) -> Table:
    """The verdicts as a table, with a heading for each check of a subject."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    for ratio in (None, 2, 3):
        shown.add_column(overflow="fold", ratio=ratio)
    before = None
    for verdict in verdicts:
        if (heading := (verdict.check, verdict.subject)) != before:
            shown.add_section()
            shown.add_row("", Text(f"{verdict.check}", style="bold"), Text(verdict.subject, style="bold"))
        mark = Text("PASS", style="green") if verdict.passed else Text("FAIL", style="bold red")
        mark = mark if verdict.applies else Text("----")
        shown.add_row(mark, Text(verdict.what), Text(verdict.found))
        before = heading
    return shown
