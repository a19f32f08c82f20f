"""Cross-entropy over a vocabulary that never holds all logits.

With 50,257 tokens the float32 logits of a batch of 8 texts of 1,024 tokens take 1.6 GB, and their gradient as much
again. Here rows are taken in chunks, and each chunk's logits are turned into gradients of the states and of the matrix
while they are at hand, so that nothing of them is kept for the backward pass and nothing is computed twice.

Shapes: N rows, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

IGNORE = -100
"""Target of rows that do not count."""

_CHUNK = 1 << 22  # logits held at a time: 16 MB in float32, which stays in a CPU's last cache; GPUs get more
_CHUNK_GPU = 1 << 28


def cross_entropy_sum(hidden: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    """Sum of the negative log-likelihoods, with gradients.

    Args:
        hidden: States ``(N, D)``.
        matrix: Output matrix ``(V, D)``.
        targets: int64 ``(N,)``; rows with :data:`IGNORE` do not count.

    Returns:
        A float32 scalar, in nats.
    """
    if not torch.is_grad_enabled():
        hidden, matrix = hidden.detach(), matrix.detach()  # parameters ask for gradients here, too
    return _Sum.apply(hidden, matrix, targets)


@torch.no_grad()
def cross_entropy_rows(hidden: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each row, without gradients.

    Args:
        hidden: States ``(N, D)``.
        matrix: Output matrix ``(V, D)``.
        targets: int64 ``(N,)``.

    Returns:
        float32 ``(N,)``, in nats; 0 where the target is :data:`IGNORE`.
    """
    found = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    for rows in _chunks(hidden, matrix):
        found[rows] = F.cross_entropy(
            F.linear(hidden[rows], matrix).float(), targets[rows], ignore_index=IGNORE, reduction="none"
        )
    return found


def _chunks(hidden: Tensor, matrix: Tensor) -> list[slice]:
    held = _CHUNK_GPU if hidden.is_cuda else _CHUNK
    size = max(1, held // len(matrix))
    return [slice(start, start + size) for start in range(0, len(hidden), size)]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False):
            return _forward(ctx, hidden, matrix, targets, dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        for_hidden, for_matrix = ctx.saved_tensors
        return (
            for_hidden * grad.to(for_hidden.dtype) if ctx.needs_input_grad[0] else None,
            for_matrix * grad.to(for_matrix.dtype) if ctx.needs_input_grad[1] else None,
            None,
        )


def _forward(ctx: Any, hidden: Tensor, matrix: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    learns_hidden, learns_matrix = ctx.needs_input_grad[:2]
    states, weights = hidden.detach().to(dtype), matrix.detach().to(dtype)
    full = torch.float64 if dtype == torch.float64 else torch.float32
    total = torch.zeros((), dtype=full, device=hidden.device)
    for_hidden = torch.empty_like(hidden) if learns_hidden else hidden.new_empty(0)
    for_matrix = torch.zeros_like(matrix, dtype=full) if learns_matrix else matrix.new_empty(0)
    for rows in _chunks(hidden, matrix):
        logits = F.linear(states[rows], weights).to(full)
        chosen, counts = targets[rows].clamp(min=0)[:, None], (targets[rows] != IGNORE)[:, None]
        normaliser = logits.logsumexp(-1, keepdim=True)
        total += ((normaliser - logits.gather(1, chosen)) * counts).sum()
        if not (learns_hidden or learns_matrix):
            continue
        # The gradient of the logits, in place of the logits: softmax minus one at the target.
        slope = logits.sub_(normaliser).exp_()
        slope.scatter_add_(1, chosen, slope.new_full((1, 1), -1.0).expand_as(chosen))
        slope = slope.mul_(counts).to(dtype)
        with _disable_current_modes():  # part of the backward pass: whoever counts forward FLOPs must not see it
            if learns_hidden:
                for_hidden[rows] = (slope @ weights).to(hidden.dtype)
            if learns_matrix:
                _add_product(for_matrix, slope, states[rows])
    ctx.save_for_backward(for_hidden, for_matrix.to(matrix.dtype))
    return total


def _add_product(total: Tensor, slope: Tensor, states: Tensor) -> None:
    """Add ``slope.T @ states`` to ``total`` in its own precision."""
    if slope.dtype == total.dtype:
        total.addmm_(slope.T, states)
    elif slope.dtype == torch.bfloat16:
        total.add_(slope.T @ states)
    else:  # a sum over thousands of rows does not fit into float16
        total.addmm_(slope.T.to(total.dtype), states.to(total.dtype))
