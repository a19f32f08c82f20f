"""Multi-head attention from built parts, its fast kernel and the kernel's naive twin.

Shapes: B batch, T tokens, D width, H heads, C channels of a head, Q queries, K keys.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.shared.transformer.cache import LayerCache
from zoo.shared.transformer.masks import FULL, Mask


class Kernel(Protocol):
    """Attention proper: q ``(B,H,Q,C)``, k and v ``(B,H,K,C)`` -> ``(B,H,Q,C)``."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, dropout: float = 0.0) -> Tensor:
        """Attend from q to k and v where the mask allows it."""
        ...


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask = FULL, *, dropout: float = 0.0) -> Tensor:
    """Attention through ``scaled_dot_product_attention``.

    A query none of whose keys is allowed gets zeros, as in :func:`naive_attention`.
    """
    if mask.is_plain_causal and q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    reach = mask.reach(q.shape[2], k.shape[2])
    if reach < k.shape[2]:
        k, v = k[:, :, -reach:], v[:, :, -reach:]
    allowed = mask.dense(q.shape[2], reach, device=q.device) if mask.built is None else mask.built
    if allowed is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
    return out.masked_fill(~allowed.any(-1, keepdim=True), 0.0) if mask.may_blind else out


def naive_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask = FULL, *, dropout: float = 0.0) -> Tensor:
    """The textbook form (Vaswani et al. 2017, eq. 1), kept to compare the fast kernel with."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    allowed = mask.dense(q.shape[2], k.shape[2], device=q.device)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    weights = torch.softmax(scores.float(), dim=-1).to(q.dtype).nan_to_num(0.0)
    return F.dropout(weights, dropout) @ v


class FusedProjection(nn.Linear):
    """Query, key and value from one matrix ``(3D, D)``: CLIP, the GPTs, BERT.

    Where the three differ, :class:`SplitProjection` takes this slot of :class:`Attention`.
    """

    def __init__(self, width: int, *, bias: bool = True) -> None:
        super().__init__(width, 3 * width, bias=bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Project ``x`` ``(B,Q,D)`` to queries and ``context`` ``(B,K,D)`` (default ``x``) to keys and values."""
        if context is None:
            q, k, v = super().forward(x).chunk(3, dim=-1)
            return q, k, v
        width = self.in_features
        bias_q, bias_kv = (None, None) if self.bias is None else self.bias.split([width, 2 * width])
        weight_q, weight_kv = self.weight.split([width, 2 * width])
        k, v = F.linear(context, weight_kv, bias_kv).chunk(2, dim=-1)
        return F.linear(x, weight_q, bias_q), k, v


class SplitProjection(nn.Module):
    """Query, key and value from three matrices: Whisper, whose keys have no bias, and devices that share the heads."""

    def __init__(self, width: int, *, bias: bool = True, key_bias: bool = True) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=key_bias)
        self.value = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Project ``x`` ``(B,Q,D)`` to queries and ``context`` ``(B,K,D)`` (default ``x``) to keys and values."""
        context = x if context is None else context
        return self.query(x), self.key(context), self.value(context)


class Attention(nn.Module):
    """Multi-head attention.

    Args:
        project: Called with ``(x, context)``; returns q, k, v of shape ``(B, T, D)``.
        out: Output projection ``D -> D``.
        heads: Number of heads; must divide the width of q.
        dropout: Dropout on the attention probabilities while training.
        condition: Called with q, k ``(B, H, T, C)`` and the positions; returns both changed: rotary positions, norms.
        kernel: The attention proper.
    """

    def __init__(
        self,
        project: nn.Module,
        out: nn.Module,
        *,
        heads: int,
        dropout: float = 0.0,
        condition: nn.Module | None = None,
        kernel: Kernel = sdpa_attention,
    ) -> None:
        super().__init__()
        self.project = project
        self.out = out
        self.heads = heads
        self.dropout = dropout
        self.condition = condition
        self.kernel = kernel

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Mask = FULL,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend from ``x`` to ``context``.

        Args:
            x: ``(B, Q, D)``.
            context: ``(B, K, D)``; by default ``x`` itself.
            mask: Who attends to whom.
            positions: int64 ``(Q,)`` or ``(B, Q)``, where the tokens stand in the text; only ``condition`` reads them.
            cache: Keys and values of earlier tokens; those of ``x`` are written into it.

        Returns:
            ``(B, Q, D)``.
        """
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.project(x, context))
        if self.condition is not None:
            q, k = self.condition(q, k, positions)
        if cache is not None:
            k, v = cache.append(k, v)
        attended = self.kernel(q, k, v, mask, dropout=self.dropout if self.training else 0.0)
        return self.out(attended.transpose(1, 2).flatten(2))
