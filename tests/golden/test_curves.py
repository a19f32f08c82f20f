"""The loss of every family's tiny model over 20 steps of its smoke recipe, against the curve that was accepted.

A change that moves a curve is either a mistake or on purpose. If on purpose, `ZOO_ACCEPT_GOLDEN=1 pytest tests/golden`
writes the new curves, and the difference is part of the change.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

import zoo
from zoo.registry import registry
from zoo.shared.files import write_json

STEPS = 20
# Processors add up in different orders, and the optimiser carries that on from step to step.
TOLERANCE = 2e-3
CURVES = Path(__file__).parent / "curves"
ACCEPT = os.environ.get("ZOO_ACCEPT_GOLDEN") == "1"


def curve(family: str, out: Path) -> list[float]:
    """Training loss of each step."""
    zoo.train(
        f"{family}-debug",
        recipe="smoke",
        out=out,
        audit=False,
        trainer={
            "max_steps": STEPS,
            "log_every_n_steps": 1,
            "accelerator": "cpu",
            "precision": "32-true",
            "limit_val_batches": 0,
            "enable_progress_bar": False,
        },
    )
    with (out / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("family", registry().families)
def test_curve(family: str, tmp_path: Path) -> None:
    losses, path = curve(family, tmp_path / "run"), CURVES / f"{family}.json"
    assert len(losses) == STEPS
    if ACCEPT:
        write_json(path, {"model": f"{family}-debug", "recipe": "smoke", "loss": [round(loss, 6) for loss in losses]})
    assert path.is_file(), f"no accepted curve of {family}: run with ZOO_ACCEPT_GOLDEN=1 and look at {path}"
    accepted = json.loads(path.read_text(encoding="utf-8"))["loss"]
    first = next((i for i, pair in enumerate(zip(losses, accepted, strict=True)) if not close(*pair)), None)
    assert first is None, f"step {first}: loss {losses[first]:.6f}, accepted {accepted[first]:.6f}"


def close(found: float, accepted: float) -> bool:
    return abs(found - accepted) <= TOLERANCE * abs(accepted)


def test_the_comparison_sees_a_wrong_step() -> None:
    assert close(3.0, 3.001)
    assert not close(3.0, 3.01)
    assert not close(float("nan"), 3.0)


def test_no_curve_is_left_of_a_family_that_is_gone() -> None:
    assert {path.stem for path in CURVES.glob("*.json")} == set(registry().families)
