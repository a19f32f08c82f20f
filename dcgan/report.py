"""What a trained DCGAN makes: figures and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.dcgan.pictures import save_grid
from zoo.shared.runs.report import Report


def report(task: Any, datamodule: Any, folder: Path) -> Report:
    """Draw generated images and measure them against held-out ones."""
    picture = save_grid(task.model.eval().sample(64), folder / "samples.png")
    return Report(title=f"images like those of {datamodule.images.name}", pictures=[picture])
