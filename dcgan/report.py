"""What a trained DCGAN makes: figures and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.dcgan.evaluation.measure import LEAST, measure
from zoo.dcgan.evaluation.pictures import draw
from zoo.dcgan.evaluation.table import figures_of
from zoo.dcgan.pictures import save_grid
from zoo.dcgan.sampling import ready
from zoo.shared.runs.report import Report

_SHOWN, _SEED = 64, 0


def report(task: Any, datamodule: Any, folder: Path) -> Report:
    """Draw generated images, and measure them beside held-out real ones.

    Args:
        task: The trained :class:`~zoo.dcgan.task.DcganTask`.
        datamodule: The :class:`~zoo.dcgan.data.DcganDataModule` of the run.
        folder: Where the pictures go.
    """
    pictures = [save_grid(ready(task.model).sample(_SHOWN, seed=_SEED), folder / "samples.png")]
    commands = [
        "zoo sample dcgan --weights {weights} --out more.png",
        "zoo sample dcgan walk --weights {weights}",
        "zoo eval dcgan --weights {weights}",
    ]
    name = datamodule.images.name
    if len(datamodule.train_items) < LEAST:
        return Report(title=f"{name}: too few images to measure", pictures=pictures, next_commands=commands)
    results = measure(task.model, datamodule, features="quick")
    return Report(
        title=f"{results.generated.images:,} generated images against {results.train_images:,} of {name}",
        figures=figures_of(results),
        pictures=[*pictures, *draw(results, folder)],
        next_commands=commands,
    )
