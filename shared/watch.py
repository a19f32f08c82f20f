"""What signals trouble while a model trains. Imports no torch, so that a family's record can hold watches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A bound that a logged metric of a healthy run does not cross. Exactly one kind of bound is given.

    Attributes:
        metric: Name of the logged metric. ``NAME/0``, ``NAME/1`` and so on (one per optimiser) are watched, too. What
            a run does not log, and values that are not finite, are passed over.
        above: Crossed by values greater than this.
        below: Crossed by values less than this.
        times_median: Crossed by values greater than so many times the median of the last ``window`` ones.
        window: Values that the median is of; until there are so many, nothing is crossed.
        patience: Values in a row that must be across.
        after: Steps during which nothing is crossed.
        at_log_steps: The metric is logged at the trainer's log interval only; values are counted there.
        advice: One line: what it may mean, and what to do.

    Raises:
        ValueError: None or several kinds of bound.
    """

    metric: str
    advice: str
    above: float | None = None
    below: float | None = None
    times_median: float | None = None
    window: int = 50
    patience: int = 1
    after: int = 0
    at_log_steps: bool = False

    def __post_init__(self) -> None:
        if [self.above, self.below, self.times_median].count(None) != 2:
            raise ValueError(f"a watch of {self.metric} needs one of above, below and times_median")

    @property
    def name(self) -> str:
        """Metric and bound, which tell watches apart."""
        if self.times_median is not None:
            return f"{self.metric} > {self.times_median:g} x median"
        return f"{self.metric} {'<' if self.above is None else '>'} {self.bound(()):g}"

    def bound(self, history: tuple[float, ...]) -> float | None:
        """The bound after the values ``history``, the last ``window`` ones; None when there are too few."""
        if self.times_median is None:
            return self.below if self.above is None else self.above
        if len(history) < self.window:
            return None
        return self.times_median * sorted(history)[len(history) // 2]

    def crosses(self, value: float, bound: float) -> bool:
        """Whether ``value`` is on the wrong side."""
        return value < bound if self.below is not None else value > bound


# For every family, chosen so that healthy runs do not cross them.
COMMON: tuple[Watch, ...] = (
    Watch(
        metric="train/loss",
        times_median=2.0,
        patience=3,
        advice="a loss spike: lower --task.lr, warm up longer, or set --trainer.gradient_clip_val 1",
    ),
    Watch(
        metric="train/grad_norm",
        times_median=10.0,
        patience=3,
        advice="the gradient has grown suddenly: set --trainer.gradient_clip_val 1 or lower --task.lr",
    ),
    Watch(
        metric="train/update_ratio",
        above=0.1,
        patience=2,
        at_log_steps=True,
        advice="steps are large against the weights (a thousandth is usual): lower --task.lr or warm up longer",
    ),
    Watch(
        metric="time/data_wait",
        above=0.5,
        patience=3,
        at_log_steps=True,
        advice="most of the time goes into waiting for data: raise --data.workers or use smaller images",
    ),
)
