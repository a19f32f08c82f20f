"""Collectives with gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process among :func:`world_size`."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:  # type: ignore[override]
        # Every rank's loss depends on this rank's rows: sum what all of them send back.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(world_size())[rank()]


def gather(x: Tensor) -> Tensor:
    """Concatenate ``x`` ``(B, ...)`` of all ranks along the batch, in rank order, with exact gradients.

    The backward pass sums the gradients of all ranks for this rank's rows. With DDP's averaging of
    parameter gradients, a loss that is the mean over ranks then has the gradient of one process that
    sees the global batch.
    """
    return x if world_size() == 1 else _Gather.apply(x)
