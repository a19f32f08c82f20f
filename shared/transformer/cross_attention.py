"""Attention to the states of another tower.

Shapes: N contexts, B texts, R = B / N texts of each context, T tokens, K states of a context, D width, H heads, C
channels of a head.
"""

from __future__ import annotations

from torch import Tensor, nn

from zoo.shared.transformer.attention import Kernel, sdpa_attention
from zoo.shared.transformer.masks import FULL

Memory = tuple[Tensor, Tensor]


class CrossAttention(nn.Module):
    """Multi-head attention from a text to a context (Vaswani et al. 2017, Section 3.2.3).

    Args:
        width: D.
        heads: Number of heads.
        key_bias: Whether keys have a bias; queries, values and the output do.
        dropout: Dropout on the attention probabilities while training.
        kernel: The attention proper.
    """

    def __init__(
        self, width: int, *, heads: int, key_bias: bool = True, dropout: float = 0.0, kernel: Kernel = sdpa_attention
    ) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=key_bias)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.heads = heads
        self.dropout = dropout
        self.kernel = kernel

    def memory(self, context: Tensor) -> Memory:
        """Keys and values ``(N, H, K, C)`` of ``context`` ``(N, K, D)``: the same for every token of a text."""
        return self._heads(self.key(context)), self._heads(self.value(context))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """Attend from ``x`` ``(B, T, D)`` to a memory.

        Where several texts are about one context (beams, samples), they stand one after the other in ``x``, and the
        context is there once: no token sees another one here, so the texts are as good as one long text. A memory may
        be of another type than ``x``: of fewer bits, which cost less to read.

        Returns:
            ``(B, T, D)``.
        """
        k, v = memory
        q = self._heads(self.query(x).reshape(k.shape[0], -1, k.shape[1] * k.shape[3])).to(k.dtype)
        attended = self.kernel(q, k, v, FULL, dropout=self.dropout if self.training else 0.0)
        return self.out(attended.transpose(1, 2).reshape(*x.shape[:2], -1).to(x.dtype))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
