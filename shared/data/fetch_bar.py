"""A bar for files that another program downloads: it watches how much of them there is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def size_bar(label: str, folder: Path, *, size: int) -> Iterator[None]:
    """Show a bar while the body runs, where standard error is a terminal; nothing elsewhere.

    Args:
        label: What is fetched.
        folder: Where the bytes arrive.
        size: How many are expected.
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(label), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, done = bar.add_task(label, total=size), threading.Event()

        def watch() -> None:
            while not done.wait(0.1):
                bar.update(task, completed=min(size, bytes_below(folder)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder that another program is writing to."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # moved away in the meantime
            continue
    return total
