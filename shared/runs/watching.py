"""Says in one line, once, that a run has left what is healthy."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lightning import Callback, LightningModule, Trainer

from zoo.shared.runs.throughput import logs_now
from zoo.shared.watch import Watch

log = logging.getLogger("zoo")

_LINES = 3  # for one watch


@dataclass
class Track:
    """Where one metric stands with one watch.

    Attributes:
        history: The last values, for a median.
        row: Values in a row that were across.
        out: Whether it has been said, and the metric has not been back since.
        crossings: Times that it has crossed.
    """

    history: list[float] = field(default_factory=list)
    row: int = 0
    out: bool = False
    crossings: int = 0


class Watching(Callback):
    """Reads the logged metrics after each step and warns when one crosses a watch's bound.

    A crossing is told once, and again only after a value on the right side; after three lines a watch only counts.
    What it remembers is in the checkpoint, so that a resumed run says what the uninterrupted one says.

    Args:
        watches: What to look at.
    """

    def __init__(self, watches: Iterable[Watch]) -> None:
        self.watches = tuple(watches)
        self.tracks: dict[str, Track] = {}  # by watch and metric

    @property
    def crossings(self) -> dict[str, int]:
        """How many times each watch was crossed, by the watch's name."""
        return {
            watch.name: sum(t.crossings for key, t in self.tracks.items() if key.startswith(f"{watch.name} @ "))
            for watch in self.watches
        }

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Look at what the step has logged."""
        if trainer.fit_loop._should_accumulate():
            return
        metrics = trainer.callback_metrics
        for watch in self.watches:
            if watch.at_log_steps and not logs_now(trainer):
                continue
            for name in metrics:
                if name == watch.metric or name.startswith(f"{watch.metric}/"):
                    self._look(watch, name, float(metrics[name]), trainer)

    def _look(self, watch: Watch, name: str, value: float, trainer: Trainer) -> None:
        if not math.isfinite(value):
            return
        track = self.tracks.setdefault(f"{watch.name} @ {name}", Track())
        bound = watch.bound(tuple(track.history))
        if watch.times_median is not None:
            track.history = [*track.history, value][-watch.window :]
        if bound is None or trainer.global_step <= watch.after or not watch.crosses(value, bound):
            track.row, track.out = 0, False
            return
        track.row += 1
        if track.row < watch.patience or track.out:
            return
        track.out = True
        track.crossings += 1
        if track.crossings <= _LINES and trainer.is_global_zero:
            side = "below" if watch.below is not None else "above"
            last = "; no more lines of this" if track.crossings == _LINES else ""
            line = "step %d: %s is %.4g, %s %.4g: %s%s"
            log.warning(line, trainer.global_step, name, value, side, bound, watch.advice, last)

    def state_dict(self) -> dict[str, Any]:
        """Where every metric stands."""
        return {key: dataclasses.asdict(track) for key, track in self.tracks.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.tracks = {key: Track(**track) for key, track in state_dict.items()}
