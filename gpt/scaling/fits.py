"""Scaling laws fitted to finished runs, with intervals for their constants. NumPy and SciPy only.

Every law says the logarithm of what is measured (:mod:`zoo.gpt.scaling.forms`).

Shapes: R runs, K columns, P parameters, M bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from zoo.gpt.scaling.forms import STEPS_AND_BATCH, Law
from zoo.shared.errors import UserError

Array = NDArray[np.float64]

_DRAWS = 200
_LEVEL = 1e-9  # exponent of data that do not fall


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A constant and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted law.

    Attributes:
        law: The law.
        parameters: The best ``(P,)``.
        draws: Parameters of refits to drawn data ``(M, P)``.
        middles: Logarithm of the columns' geometric means ``(K,)``.
        noise: Standard deviation of ``log y`` around the law, corrected for the number of parameters.
        freedom: Points less parameters.
        r2: Share of the variance of ``log y`` that the law explains.
        points: Number of points.
        range: Smallest and largest value of each column.
    """

    law: Law
    parameters: Array
    draws: Array
    middles: Array
    noise: float
    freedom: int
    r2: float
    points: int
    range: dict[str, tuple[float, float]]

    @property
    def constants(self) -> dict[str, Estimate]:
        """The published constants."""
        rows = (self.parameters, *self.draws)
        best, *found = np.clip([self.law.publish(row, self.middles) for row in rows], -690, 690)  # within float64
        low, high = np.exp(np.quantile(found, (0.025, 0.975), axis=0))
        best = np.exp(best)
        return {
            name: Estimate(value=float(best[i]), low=float(low[i]), high=float(high[i]))
            for i, name in enumerate(self.law.constants)
        }

    def value(self, **columns: Any) -> Array:
        """What the law says for values of its columns ``(R,)``."""
        return np.exp(self.law.log_value(self.parameters, self._logs(columns)))

    def interval(self, *, one_run: bool = False, **columns: Any) -> tuple[Array, Array]:
        """Bounds ``(R,)`` that hold 95 % of the refits.

        Args:
            one_run: Of a single further run, which scatters around the law, not of the law itself.
            **columns: Values of the law's columns.
        """
        logs = self._logs(columns)
        found = np.array([self.law.log_value(draw, logs) for draw in self.draws])
        if one_run:
            found = found + _scatter(np.random.default_rng(1), self.noise, self.freedom, found.shape)
        low, high = np.exp(np.quantile(found, (0.025, 0.975), axis=0))
        return low, high

    def _logs(self, columns: Mapping[str, Any]) -> Array:
        assert set(columns) == set(self.law.columns), f"{self.law.name} depends on {self.law.columns}"
        rows = np.broadcast_arrays(*(np.atleast_1d(np.asarray(columns[c], dtype=float)) for c in self.law.columns))
        return np.log(np.stack(rows)) - self.middles[:, None]

    def record(self) -> dict[str, Any]:
        """For a JSON file: constants with intervals, and how good the fit is."""
        return {
            "law": self.law.name,
            "formula": self.law.formula,
            "constants": {k: {"value": e.value, "low": e.low, "high": e.high} for k, e in self.constants.items()},
            "points": self.points,
            "r2": self.r2,
            "relative_error": self.noise,
            "range": {name: list(ends) for name, ends in self.range.items()},
        }


def fit(
    law: Law, columns: Mapping[str, Sequence[float]], values: Sequence[float], *, seed: int = 0, draws: int = _DRAWS
) -> Fit:
    """Fit a law and bootstrap its constants.

    The intervals come from refits to data drawn from the fitted law: noise of the residuals' size, whose own
    uncertainty is drawn along with it (for straight lines this gives Student's interval, also for three points;
    resampling a handful of points would give far too narrow ones).

    Args:
        law: The law.
        columns: Values ``(R,)`` by column.
        values: What was measured ``(R,)``.
        seed: Of the draws.
        draws: Refits for the intervals; of a straight line there are ten times as many.

    Raises:
        UserError: Too few points, or values that have no logarithm.
    """
    x = np.array([columns[name] for name in law.columns], dtype=float)
    y = np.asarray(values, dtype=float)
    if y.size < law.least_points:
        raise UserError(f"a fit of {law.name} needs at least {law.least_points} points, and there are {y.size}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        raise UserError(f"a fit of {law.name} needs positive, finite values; a run has diverged or is empty")
    for name, row in zip(law.columns, x, strict=True):
        if np.ptp(row) == 0:
            raise UserError(f"a fit of {law.name} needs several values of {name}, and all points have {row[0]:g}")
    middles = np.log(x).mean(axis=1)
    logs, target = np.log(x) - middles[:, None], np.log(y)
    best = min((_solve(law, logs, target, start) for start in _starts(law, target)), key=lambda found: found.cost)
    fitted = law.log_value(best.x, logs)
    freedom = y.size - len(law.constants)
    noise = float(np.sqrt(((target - fitted) ** 2).sum() / freedom))
    rng = np.random.default_rng(seed)
    draws *= 10 if law.straight else 1  # lines cost nothing
    drawn = fitted + _scatter(rng, noise, freedom, (draws, y.size))
    spread = ((target - target.mean()) ** 2).sum()
    return Fit(
        law=law,
        parameters=best.x,
        draws=np.array([_solve(law, logs, row, best.x, again=True).x for row in drawn]),
        middles=middles,
        noise=noise,
        freedom=freedom,
        r2=float(1 - ((target - fitted) ** 2).sum() / spread) if spread > 0 else 1.0,
        points=y.size,
        range={name: (float(row.min()), float(row.max())) for name, row in zip(law.columns, x, strict=True)},
    )


def _scatter(rng: np.random.Generator, noise: float, freedom: int, shape: tuple[int, ...]) -> Array:
    """Noise of a size that is itself drawn for each row: what ``freedom`` residuals leave open."""
    size = noise * np.sqrt(freedom / rng.chisquare(freedom, (shape[0], *[1] * (len(shape) - 1))))
    return size * rng.standard_normal(shape)


def _starts(law: Law, target: Array) -> list[Array]:
    found = np.array(law.starts)
    if law.level:
        found[:, list(law.level)] += target.mean()
    return list(found)


def _solve(law: Law, logs: Array, target: Array, start: Array, *, again: bool = False) -> Any:
    """Minimise the squares, or Huber's penalty, of the residuals of ``log y``; ``again`` starts close to the end."""
    if law.straight:
        slope = -((logs[0] - logs[0].mean()) @ target) / ((logs[0] - logs[0].mean()) ** 2).sum()
        found = np.array([target.mean() + slope * logs[0].mean(), np.log(max(slope, _LEVEL))])
        return SimpleNamespace(x=found, cost=((law.log_value(found, logs) - target) ** 2).sum())
    steps = 80 if again else 300

    def residuals(parameters: Array) -> Array:
        return law.log_value(np.clip(parameters, -60.0, 60.0), logs) - target

    with np.errstate(over="ignore", under="ignore"):
        if law.huber is None:
            return least_squares(residuals, start, method="lm", max_nfev=steps)
        rough = least_squares(residuals, start, method="lm", max_nfev=steps)
        return least_squares(residuals, rough.x, loss="huber", f_scale=law.huber, max_nfev=steps // 5)


def envelope(compute: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Indices of the runs that no run of less or equal compute beats, by rising compute."""
    order = sorted(range(len(compute)), key=lambda i: (compute[i], losses[i]))
    front: list[int] = []
    for i in order:
        if not front or losses[i] < losses[front[-1]]:
            front.append(i)
    return front


def steps_to_reach(steps: Sequence[float], losses: Sequence[float], target: float) -> float | None:
    """The step at which a learning curve falls to a loss; None where it never does, or had before its first point.

    The curve is made monotone first, and read off between its points on logarithmic steps.
    """
    lowest = np.minimum.accumulate(np.asarray(losses, dtype=float))
    if not lowest.size or target < lowest[-1] or target > lowest[0]:
        return None
    after = int(np.argmax(lowest <= target))
    if after == 0:
        return float(steps[0])
    share = (lowest[after - 1] - target) / (lowest[after - 1] - lowest[after])
    first, second = np.log(steps[after - 1]), np.log(steps[after])
    return float(np.exp(first + share * (second - first)))


def critical_batches(
    curves: Mapping[float, tuple[Sequence[float], Sequence[float]]], targets: Sequence[float]
) -> list[tuple[float, Fit]]:
    """Steps against examples at each of several losses.

    Args:
        curves: Batch size to steps and losses of a run.
        targets: The losses.

    Returns:
        Loss and fit of :data:`STEPS_AND_BATCH`, for the losses that enough runs reach.
    """
    found = []
    for target in targets:
        reached = {batch: steps_to_reach(*curve, target) for batch, curve in curves.items()}
        known = {batch: steps for batch, steps in reached.items() if steps is not None}
        if len(known) >= STEPS_AND_BATCH.least_points:
            found.append((target, fit(STEPS_AND_BATCH, {"B": list(known)}, list(known.values()))))
    return found


def least_steps(steps: Any, batch: Any, critical: Any) -> Any:
    """Steps that a batch far above the critical one would have needed (Kaplan et al., Equation 5.4)."""
    return steps / (1 + np.asarray(critical) / batch)
