"""What a loss is a mean over, counted over all batches of one optimiser step.

With gradient accumulation a step sees several batches, and their means do not add up to the mean of the step when
they hold different numbers of tokens. So each batch carries the counts of its whole step, which means reading the
step's batches before the first of them is used; workers read ahead anyway.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

Batch = dict[str, Any]
Count = Callable[[Batch], dict[str, int]]


def with_step_counts(
    batches: Iterator[Batch], count: Count, *, window: int, start: Callable[[], tuple[int, int | float]]
) -> Iterator[Batch]:
    """Add to each batch ``step_counts``: name to an int64 scalar, the sum over the batches of its optimiser step.

    Args:
        batches: Batches of this process, in order.
        count: What a batch holds, by name.
        window: Batches in an optimiser step.
        start: Says, when the first batch is asked for, its number in its epoch and the batches in an epoch, after
            which a step is taken in any case.
    """
    place, length = start()
    while True:
        room = window - place % window
        group = list(itertools.islice(batches, int(min(room, length - place))))
        if not group:
            return
        counts = [count(batch) for batch in group]
        sums = {name: torch.tensor(sum(each[name] for each in counts)) for name in counts[0]}
        for batch in group:
            yield {**batch, "step_counts": sums}
        place = 0 if place + len(group) >= length else place + len(group)
