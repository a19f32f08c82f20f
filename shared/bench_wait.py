"""How long training waits for data, through the command that people type."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def data_wait(*words: str, steps: int) -> float:
    """Percent of the time that the second half of a short run waited for batches, once its workers had started.

    Args:
        *words: What follows ``zoo train``.
        steps: Length of the run.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
        run = Path(folder) / "run"
        length = ["--trainer.max_steps", str(steps), "--trainer.log_every_n_steps", str(steps // 2)]
        quiet = ["--trainer.limit_val_batches", "0", "--no-audit", "--report", "false", "--out", str(run)]
        subprocess.run(
            [sys.executable, "-m", "zoo", "train", *words, *length, *quiet],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return 100 * float(json.loads((run / "metrics.json").read_text())["logged"]["time/data_wait"])
