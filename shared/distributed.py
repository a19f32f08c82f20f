"""Several processes that train together: who this one is, agreeing, and collectives with gradients."""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

T = TypeVar("T")

# Set by torchrun, Lightning's launcher, SLURM and LSF; Lightning alone counts nodes apart.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "NODE_RANK")


# The processes that read different data, where they are not all: see `set_data_group`.
_data_group: ProcessGroup | None = None


def set_data_group(group: ProcessGroup | None) -> None:
    """Say which processes read different parts of a batch; None means all.

    Those that compute parts of one model on the same data (tensor parallelism) are not among each other's.
    """
    global _data_group
    _data_group = group


def data_world_size() -> int:
    """Number of parts that a global batch is divided into."""
    return world_size() if _data_group is None else dist.get_world_size(_data_group)


def data_rank() -> int:
    """Which of the :func:`data_world_size` parts of a batch this process reads."""
    return rank() if _data_group is None else dist.get_rank(_data_group)


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


def gather_objects(value: T) -> list[T]:
    """What every process holds, in rank order. Every process must call this.

    Args:
        value: Anything that can be pickled.
    """
    if world_size() == 1:
        return [value]
    values: list[T] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(data_world_size())]
        dist.all_gather(parts, x.contiguous(), group=_data_group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        # Every rank's loss depends on this rank's rows: sum what all of them send back.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=_data_group)
        return grad.chunk(data_world_size())[data_rank()]


def gather(x: Tensor) -> Tensor:
    """Concatenate ``x`` ``(B, ...)`` of all ranks with different data, in rank order, with exact gradients.

    The backward pass sums the gradients of all ranks for this rank's rows. With DDP's averaging of
    parameter gradients, a loss that is the mean over ranks then has the gradient of one process that
    sees the global batch.
    """
    return x if data_world_size() == 1 else _Gather.apply(x)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x, group=_data_group)
        return x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        # Every rank's loss depends on the sum, and the sum on this rank's part.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=_data_group)
        return grad


def total(x: Tensor) -> Tensor:
    """Sum of the ``x`` of all ranks with different data, element by element, with exact gradients."""
    return x if data_world_size() == 1 else _Total.apply(x)
