"""The length of a model's gradient, however its parameters are split over processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm


def grad_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together.

    Every process must call it when gradients are sharded, with the same parameters in the same order.

    Args:
        parameters: Plain tensors, DTensors of one or several meshes, or a mixture; those without a gradient are
            skipped. Plain ones count once: they are taken to be the same on all processes.

    Returns:
        A plain scalar, the same on all processes; zero without gradients.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not any(isinstance(gradient, DTensor) for gradient in gradients):
        return _norm(gradients)
    plain = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    alike: dict[object, list[DTensor]] = {}
    for gradient in gradients:
        if isinstance(gradient, DTensor):
            alike.setdefault((gradient.device_mesh, gradient.placements), []).append(gradient)
    norms = [_sharded_norm(group) for group in alike.values()]
    if plain:
        norms.append(_norm(plain))
    return torch.stack([norm.to(norms[0].device) for norm in norms]).norm()


def _norm(gradients: list[Tensor]) -> Tensor:
    """The norm of plain tensors, in float32 at least: float16 ends at 65504, bfloat16 has 8 bits."""
    if any(gradient.dtype in (torch.float16, torch.bfloat16) for gradient in gradients):
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
        return torch.linalg.vector_norm(torch.stack(norms))
    return get_total_norm(gradients)


def _sharded_norm(gradients: list[DTensor]) -> Tensor:
    """The norm of DTensors with the same mesh and placements: their shards' squares, summed over the shards."""
    mesh, placements = gradients[0].device_mesh, gradients[0].placements
    squares = _norm([gradient.to_local() for gradient in gradients]).square()
    for axis, placement in enumerate(placements):
        if not placement.is_replicate():
            dist.all_reduce(squares, group=mesh.get_group(axis))
    return squares.sqrt()


@torch.no_grad()
def clip_by_norm(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients together so that their norm is at most ``limit``; returns the norm before.

    As ``torch.nn.utils.clip_grad_norm_``, for gradients of every kind (see :func:`grad_norm`).
    """
    parameters = list(parameters)
    norm = grad_norm(parameters)
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in _local_gradients(parameters):
        gradient.mul_(scale.to(gradient.device))
    return norm


@torch.no_grad()
def clip_by_value(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Cut every entry of the gradients to at most ``limit`` either way."""
    for gradient in _local_gradients(parameters):
        gradient.clamp_(-limit, limit)


def _local_gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
