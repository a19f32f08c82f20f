"""Scaling laws: known constants come back from noisy data, intervals cover as often as they say, refusals are clear."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress, t

from zoo.gpt.scaling import fits as laws
from zoo.gpt.scaling import forms
from zoo.shared.errors import UserError

SIZES = np.geomspace(1e4, 1e8, 5)
TOKENS = np.geomspace(1e6, 1e10, 4)
GRID = {"N": np.repeat(SIZES, 4), "D": np.tile(TOKENS, 5)}


def inside(fit: laws.Fit, **true: float) -> None:
    for name, value in true.items():
        found = fit.constants[name]
        assert found.low <= value <= found.high, (name, value, found)
        assert found.low <= found.value <= found.high


def test_a_straight_line_has_students_interval() -> None:
    rng = np.random.default_rng(3)
    x = np.geomspace(1e4, 1e7, 5)
    y = (8.8e13 / x) ** 0.076 * np.exp(0.01 * rng.standard_normal(5))
    fit = laws.fit(forms.OF_SIZE, {"N": x}, y)
    line = linregress(np.log(x), np.log(y))
    assert fit.constants["aN"].value == pytest.approx(-line.slope, rel=1e-5)
    half = t.ppf(0.975, 3) * line.stderr
    assert fit.constants["aN"].low == pytest.approx(-line.slope - half, abs=0.25 * half)
    assert fit.constants["aN"].high == pytest.approx(-line.slope + half, abs=0.25 * half)
    assert fit.r2 == pytest.approx(line.rvalue**2, abs=1e-6)


def test_intervals_and_predictions_cover_as_often_as_they_say() -> None:
    """95 % of 40 data sets is 38; fewer than 34 would happen once in two hundred times."""
    rng, constant, run = np.random.default_rng(0), 0, 0
    x = np.geomspace(1e4, 1e6, 4)
    for _ in range(40):
        fit = laws.fit(forms.OF_SIZE, {"N": x}, (1e12 / x) ** 0.08 * np.exp(0.01 * rng.standard_normal(4)), draws=120)
        constant += fit.constants["aN"].low <= 0.08 <= fit.constants["aN"].high
        low, high = fit.interval(N=1e7, one_run=True)
        run += bool(low[0] <= (1e12 / 1e7) ** 0.08 * np.exp(0.01 * rng.standard_normal()) <= high[0])
    assert constant >= 34
    assert run >= 34


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_kaplans_law_of_size_and_data_with_the_published_constants(noise: float) -> None:
    scatter = np.exp(noise * np.random.default_rng(1).standard_normal(20))
    y = ((6.4e13 / GRID["N"]) ** (0.076 / 0.103) + 1.8e13 / GRID["D"]) ** 0.103 * scatter
    fit = laws.fit(forms.OF_SIZE_AND_DATA, GRID, y)
    if noise:
        inside(fit, aN=0.076, aD=0.103, Nc=6.4e13, Dc=1.8e13)
    else:
        assert fit.constants["aN"].value == pytest.approx(0.076, rel=1e-4)
        assert fit.constants["Dc"].value == pytest.approx(1.8e13, rel=1e-2)
    assert fit.r2 > 0.99


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_chinchilla_with_the_published_constants(noise: float) -> None:
    scatter = np.exp(noise * np.random.default_rng(2).standard_normal(20))
    y = (1.69 + 406.4 / GRID["N"] ** 0.34 + 410.7 / GRID["D"] ** 0.28) * scatter
    fit = laws.fit(forms.CHINCHILLA, GRID, y, draws=100)
    if noise:
        inside(fit, E=1.69, A=406.4, B=410.7, a=0.34, b=0.28)
    else:
        assert fit.constants["E"].value == pytest.approx(1.69, rel=1e-3)
        assert fit.constants["B"].value == pytest.approx(410.7, rel=1e-2)


def test_one_wild_run_hardly_moves_the_chinchilla_fit() -> None:
    """Huber's penalty: least squares would follow the outlier."""
    y = 1.69 + 406.4 / GRID["N"] ** 0.34 + 410.7 / GRID["D"] ** 0.28
    y[7] *= 1.3
    assert laws.fit(forms.CHINCHILLA, GRID, y, draws=20).constants["b"].value == pytest.approx(0.28, abs=0.01)


def test_size_and_steps() -> None:
    sizes, steps = np.repeat(np.geomspace(1e4, 1e7, 4), 6), np.tile(np.geomspace(300, 1e5, 6), 4)
    y = (6.5e13 / sizes) ** 0.077 + (2.1e3 / steps) ** 0.76
    y = y * np.exp(0.002 * np.random.default_rng(4).standard_normal(24))
    inside(laws.fit(forms.OF_SIZE_AND_STEPS, {"N": sizes, "S": steps}, y), aN=0.077, aS=0.76, Nc=6.5e13, Sc=2.1e3)


def test_the_critical_batch_size_from_learning_curves() -> None:
    """Curves L = 2 + (40 / Smin)^0.5 with S = Smin (1 + Bcrit / B) and Bcrit = 5e5 / L^4."""
    losses = np.linspace(4.4, 2.6, 40)
    critical, fewest = 5e5 / losses**4, 40 / (losses - 2) ** 2
    curves = {float(batch): (fewest * (1 + critical / batch), losses) for batch in (256, 1024, 4096, 16384, 65536)}
    found = laws.critical_batches(curves, [4.0, 3.6, 3.2, 2.8])
    assert [target for target, _ in found] == [4.0, 3.6, 3.2, 2.8]
    for target, each in found:
        assert each.constants["Bcrit"].value == pytest.approx(5e5 / target**4, rel=0.02)
        assert each.constants["Smin"].value == pytest.approx(40 / (target - 2) ** 2, rel=0.02)
    law = laws.fit(
        forms.CRITICAL_BATCH, {"L": [target for target, _ in found]}, [f.constants["Bcrit"].value for _, f in found]
    )
    assert law.constants["aB"].value == pytest.approx(0.25, rel=0.02)
    assert law.constants["B*"].value == pytest.approx(5e5, rel=0.05)
    # Steps times batch is examples: the two trade off as the paper's hyperbola.
    fewest_examples = found[0][1].constants["Smin"].value * found[0][1].constants["Bcrit"].value
    steps = laws.steps_to_reach(*curves[1024.0], 4.0)
    assert steps is not None
    product = (steps / found[0][1].constants["Smin"].value - 1) * (1024 * steps / fewest_examples - 1)
    assert product == pytest.approx(1, rel=0.05)
    assert laws.least_steps(steps, 1024.0, 5e5 / 4.0**4) == pytest.approx(40 / 4, rel=0.01)


def test_reading_a_curve() -> None:
    steps, losses = [10, 100, 1000], [4.0, 3.0, 2.0]
    assert laws.steps_to_reach(steps, losses, 3.0) == pytest.approx(100)
    assert laws.steps_to_reach(steps, losses, 2.5) == pytest.approx(10**2.5)
    assert laws.steps_to_reach(steps, losses, 1.9) is None
    assert laws.steps_to_reach(steps, losses, 4.1) is None
    assert laws.steps_to_reach(steps, [4.0, 2.0, 3.0], 2.5) == pytest.approx(10**1.75)


def test_the_envelope_holds_the_runs_that_no_cheaper_one_beats() -> None:
    assert laws.envelope([1, 2, 3, 4, 4], [5.0, 4.0, 4.5, 3.0, 2.9]) == [0, 1, 4]


@pytest.mark.parametrize(
    ("columns", "values", "words"),
    [
        ({"N": [1e4, 1e5]}, [4.0, 3.0], "needs at least 3 points, and there are 2"),
        ({"N": [1e4, 1e5, 1e6]}, [4.0, np.nan, 2.0], "diverged"),
        ({"N": [1e4, 1e4, 1e4]}, [4.0, 3.0, 2.0], "several values of N"),
    ],
)
def test_refusals(columns: dict[str, list[float]], values: list[float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        laws.fit(forms.OF_SIZE, columns, values)
