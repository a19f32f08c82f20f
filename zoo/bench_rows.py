"""Rows of ``zoo bench`` that belong to no family: how long the command line takes to start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zoo.shared.bench import Limit, Row

_COMMAND = [sys.executable, "-m", "zoo"]


def rows() -> list[Row | Limit]:
    """The core's rows."""
    return [
        Limit(
            name="start-list",
            what="`zoo list`, from the shell to its end",
            limit=0.5,
            unit="s",
            figure=lambda quick: list_seconds(),
        ),
        Limit(
            name="start-train",
            what="`zoo train clip --recipe smoke --trainer.max_steps 1`, from the shell to the end of the first step",
            limit=15.0,
            unit="s",
            figure=lambda quick: first_step_seconds(),
        ),
    ]


def list_seconds() -> float:
    """Wall time of ``zoo list``."""
    began = time.perf_counter()
    subprocess.run([*_COMMAND, "list"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_step_seconds() -> float:
    """Wall time until the first step's figures are on disk."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        run = Path(folder) / "run"
        words = ["train", "clip", "--recipe", "smoke", "--trainer.max_steps", "1", "--trainer.log_every_n_steps", "1"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*_COMMAND, *words, "--out", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        took = None
        while took is None and process.poll() is None:
            if (run / "metrics.csv").exists():
                took = time.perf_counter() - began
            time.sleep(0.02)
        if process.wait() != 0:
            raise RuntimeError(f"`zoo {' '.join(words)}` failed with exit code {process.returncode}")
        return took or time.perf_counter() - began
