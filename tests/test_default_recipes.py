"""`make slow`: the default recipe of every family reaches the figures that its header states."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo
from zoo.registry import registry

# Family -> figure -> (least value, in units of chance or as it is). The headers of the recipes state what was measured;
# these floors leave room for another machine's arithmetic.
FLOORS = {
    "clip": {"zero_shot_top1": (0.50, False), "text_to_image_r5": (8.0, True), "image_to_text_r5": (7.0, True)},
}


def test_every_family_has_floors() -> None:
    assert set(FLOORS) == set(registry().families)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", sorted(FLOORS))
def test_the_default_recipe_reaches_its_figures(family: str, tmp_path: Path) -> None:
    metrics = zoo.train(family, out=tmp_path / "run").metrics
    for key, (floor, of_chance) in FLOORS[family].items():
        value = metrics["figures"][key] / (metrics["chance"][key] if of_chance else 1)
        assert value >= floor, f"{key}: {value:.3f}"
    assert metrics["data_wait_fraction"] < 0.02
