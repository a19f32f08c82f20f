"""`make slow`: the default recipe of every family reaches the figures that its header states."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo
from zoo.registry import registry

# Family -> figure -> bound. The headers of the recipes state what was measured; these leave room for another machine's
# arithmetic.
BOUNDS: dict[str, dict[str, dict[str, float]]] = {
    "clip": {
        "zero_shot_top1": {"least": 0.50},
        "text_to_image_r5": {"least_times_chance": 8.0},
        "image_to_text_r5": {"least_times_chance": 7.0},
    },
    "dcgan": {
        "confident": {"least": 0.60},
        "classes_seen": {"least": 10},
        "near_pixels": {"most": 0.03},  # 0.01 of held-out images are as near, by definition
    },
    "gpt": {"bits_per_byte": {"most": 2.05, "most_times_chance": 0.9}},
    "whisper": {
        "wer/known_voices/transcribe/en": {"most": 0.05},
        "wer/unseen_voice/transcribe/en": {"most": 0.40},
        "language/known_voices": {"least": 0.95},
    },
}

DATA_WAIT = {"clip": 0.04, "whisper": 0.10, "dcgan": 0.10}
"""Share of the time. The aim is 2 %; 1.2, 2.7 and 4.6 % were measured on idle cores, more beside other work."""


def test_every_family_has_bounds() -> None:
    assert set(BOUNDS) == set(registry().families)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", sorted(BOUNDS))
def test_the_default_recipe_reaches_its_figures(family: str, tmp_path: Path) -> None:
    metrics = zoo.train(family, out=tmp_path / "run").metrics
    for key, bounds in BOUNDS[family].items():
        value, chance = metrics["figures"][key], metrics["chance"].get(key, 0.0)
        assert value >= bounds.get("least", value), f"{key}: {value:.3f}"
        assert value <= bounds.get("most", value), f"{key}: {value:.3f}"
        if "least_times_chance" in bounds:
            assert value >= bounds["least_times_chance"] * chance, f"{key}: {value / chance:.2f} times chance"
        if "most_times_chance" in bounds:
            assert value <= bounds["most_times_chance"] * chance, f"{key}: {value / chance:.2f} times chance"
    assert metrics["data_wait_fraction"] < DATA_WAIT.get(family, 0.02)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fine_tuning_whisper_lowers_its_word_errors(tmp_path: Path) -> None:
    figures = zoo.train("whisper", recipe="finetune", out=tmp_path / "run").metrics["figures"]
    before, after = (figures[f"{part}wer/held_out/transcribe/en"] for part in ("before/", ""))
    assert after < 0.9 * before, f"{before:.4f} before, {after:.4f} after"
