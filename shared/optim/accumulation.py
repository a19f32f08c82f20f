"""Losses that are means over an optimiser step, whatever number of batches and processes it is spread over."""

from __future__ import annotations

from torch import Tensor

from zoo.shared.distributed import data_world_size, total


def share_of_mean(part: Tensor, count: Tensor, *, window: int) -> Tensor:
    """This batch's share of a mean over the whole step, scaled so that the trainer's averaging makes it exact.

    Lightning divides the loss of each batch by ``window`` and averages gradients over processes, which gives every
    batch the same weight. The mean over a step is sum / count instead; batches with more tokens weigh more.

    Args:
        part: Sum of the loss over what this batch holds, a scalar.
        count: What the whole step holds on this process: ``batch["step_counts"][NAME]``.
        window: ``trainer.accumulate_grad_batches``.

    Returns:
        A scalar. Its mean over the batches of a step and over processes is the mean of the loss.
    """
    return part * (window * data_world_size()) / total(count).clamp(min=1)
