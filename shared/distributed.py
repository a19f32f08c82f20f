"""Several processes that train together: who this one is, agreeing, and collectives with gradients."""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

# Set by torchrun, Lightning's launcher, SLURM and LSF; Lightning alone counts nodes apart.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "NODE_RANK")


def world_size() -> int:
    """Number of processes that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process among :func:`world_size`."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def first_process() -> bool:
    """Whether this process writes files and talks, which is known before the processes have met."""
    if world_size() > 1:
        return rank() == 0
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def agree(value: T) -> T:
    """What the first process holds. Every process must call this; one alone keeps its value.

    Args:
        value: Anything that can be pickled; only the first process's counts.
    """
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
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


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        # Every rank's loss depends on the sum, and the sum on this rank's part.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


def total(x: Tensor) -> Tensor:
    """Sum of every rank's ``x``, element by element, with exact gradients."""
    return x if world_size() == 1 else _Total.apply(x)
