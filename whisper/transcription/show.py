"""How far a transcription is, for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from zoo.whisper.transcription.transcribe import Progress


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar on standard error with the speed, in seconds of sound a second, and the time left; gone at the end.

    Args:
        label: What is transcribed.
    """
    from rich import progress as bars
    from rich.console import Console
    from rich.markup import escape

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TextColumn("{task.fields[clock]}"),
        bars.TextColumn("{task.fields[speed]}"),
        bars.TimeRemainingColumn(),
    )
    # Text that is written meanwhile is put above the bar; in a file, it has nothing to do with the bar.
    both = sys.stdout.isatty()
    with bars.Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=both) as bar:
        name = f" {escape(label)}" if label else ""
        tasks: dict[str, bars.TaskID] = {}

        def note(stage: str, done: float, total: float | None) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bar.remove_task(task)
                tasks.clear()
                tasks[stage] = bar.add_task(f"{stage}{name}", total=total, clock="", speed="")
            task = tasks[stage]
            speed = bar.tasks[-1].speed
            bar.update(
                task,
                completed=done,
                total=total,
                clock=f"{spelled(done)} of {spelled(total)}" if total else spelled(done),
                speed=f"{speed:.0f}x" if speed else "",
            )

        yield note


def spelled(seconds: float) -> str:
    """A length for people: ``0:01:02``."""
    return str(timedelta(seconds=round(seconds)))
