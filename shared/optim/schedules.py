"""Learning-rate schedules: a function of the step that returns a factor of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from zoo.shared.errors import UserError

Schedule = Callable[[int], float]


def _warm(step: int, warmup: int) -> float | None:
    return (step + 1) / warmup if step < warmup else None


def warmup_cosine(warmup: int, total: int, *, final: float = 0.0) -> Schedule:
    """Rise linearly over ``warmup`` steps, then fall along half a cosine to ``final`` at ``total``."""

    def factor(step: int) -> float:
        rising = _warm(step, warmup)
        if rising is not None:
            return rising
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def warmup_linear(warmup: int, total: int, *, final: float = 0.0) -> Schedule:
    """Rise linearly over ``warmup`` steps, then fall linearly to ``final`` at ``total``."""

    def factor(step: int) -> float:
        rising = _warm(step, warmup)
        if rising is not None:
            return rising
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return 1 - (1 - final) * progress

    return factor


def warmup_constant(warmup: int, total: int) -> Schedule:
    """Rise linearly over ``warmup`` steps, then stay."""
    return lambda step: r if (r := _warm(step, warmup)) is not None else 1.0


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "cosine": warmup_cosine,
    "linear": warmup_linear,
    "constant": warmup_constant,
}


def build_schedule(name: str, *, warmup: int, total: int, final: float | None = None) -> Schedule:
    """The schedule called ``name`` over ``total`` steps; a longer warm-up than the run is cut to a tenth of it.

    Args:
        name: Its name.
        warmup: Steps of linear rise.
        total: Steps until it has fallen to its end, where it stays.
        final: Where it ends, as a share of the peak; by default 0 for those that fall.

    Raises:
        UserError: Unknown name.
    """
    if name not in SCHEDULES:
        raise UserError(f"unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}")
    ends = {} if final is None else {"final": final}
    return SCHEDULES[name](warmup if warmup < total else max(1, total // 10), total, **ends)
