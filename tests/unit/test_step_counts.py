"""Counts of an optimiser step, whatever batches it is spread over."""

from __future__ import annotations

import torch

from zoo.shared.data.windows import with_step_counts
from zoo.shared.optim.accumulation import share_of_mean


def batches(*sizes: int) -> list[dict[str, int]]:
    return [{"size": size} for size in sizes]


def counted(sizes: tuple[int, ...], *, window: int, place: int = 0, length: float = float("inf")) -> list[int]:
    found = with_step_counts(
        iter(batches(*sizes)), lambda batch: {"size": batch["size"]}, window=window, start=lambda: (place, length)
    )
    return [int(batch["step_counts"]["size"]) for batch in found]


def test_a_step_of_one_batch_counts_itself() -> None:
    assert counted((3, 5), window=1) == [3, 5]


def test_batches_of_a_step_share_its_count() -> None:
    assert counted((1, 2, 3, 4), window=2) == [3, 3, 7, 7]


def test_the_last_step_of_an_epoch_may_be_short_and_the_next_epoch_begins_anew() -> None:
    assert counted((1, 2, 3, 4, 5, 6), window=2, length=3) == [3, 3, 3, 9, 9, 6]


def test_a_resumed_epoch_goes_on_with_its_windows() -> None:
    assert counted((4, 5, 6), window=2, place=2, length=5) == [9, 9, 6]


def test_reading_ends_with_the_data() -> None:
    assert counted((1, 2, 3), window=2) == [3, 3, 3]


def test_shares_add_up_to_the_mean_of_the_step() -> None:
    losses = torch.arange(1.0, 8.0)
    parts, count = (losses[:2], losses[2:7]), torch.tensor(7)
    shares = [share_of_mean(part.sum(), count, window=2) for part in parts]
    assert torch.isclose(sum(shares) / 2, losses.mean())
