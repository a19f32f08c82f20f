"""Talkie's parts (Levine, Duvenaud and Radford 2026): what differs from GPT-2 in each slot of the core's block.

Shapes: B batch, T tokens, H heads, C channels of a head, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.shared.transformer import FULL, Attention, Block, FusedProjection, KVCache, LayerCache, Mask, Transformer

ROTARY_BASE = 1e6


class Gain(nn.Module):
    """One learned factor for all channels."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.gain = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale any shape."""
        return x * self.gain


class RotaryQKNorm(nn.Module):
    """Rotary positions (Su et al. 2021, split halves), then RMS norm of queries and keys, then a gain a query head.

    The order matters only for the gain: a rotation keeps the norm. The release rotates clockwise.
    """

    def __init__(self, heads: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gain = nn.Parameter(torch.empty(heads))

    def forward(self, q: Tensor, k: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rotate and normalise q and k ``(B, H, T, C)`` that stand at ``positions`` ``(T,)`` or ``(B, T)``."""
        assert positions is not None
        cos, sin = self.rotation(positions)
        q, k = (F.rms_norm(_rotate(x, cos, sin), (self.channels,)) for x in (q, k))
        return q * self.gain[:, None, None].to(q.dtype), k

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``(T, C/2)`` or ``(B, 1, T, C/2)``, in float32."""
        steps = torch.arange(0, self.channels, 2, device=positions.device, dtype=torch.float32)
        angles = positions[..., None].float() * ROTARY_BASE ** (-steps / self.channels)
        if positions.dim() == 2:
            angles = angles[:, None]
        return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, two = x.float().chunk(2, dim=-1)
    return torch.cat([one * cos + two * sin, two * cos - one * sin], dim=-1).to(x.dtype)


class SwiGLU(nn.Module):
    """Gated feed-forward part (Shazeer 2020, arXiv:2002.05202) without biases."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class SkipTransformer(Transformer):
    """A stack after each of whose blocks a share of the embedding is added again."""

    def __init__(self, blocks: Iterable[nn.Module], *, checkpointing: bool = False) -> None:
        super().__init__(blocks, checkpointing=checkpointing)
        self.skips = nn.ModuleList(Gain(0.0) for _ in self.blocks)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Sequence[Mask] = FULL,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """As in :class:`~zoo.shared.transformer.Transformer`; ``x`` ``(B, T, D)`` is the embedding."""
        embedding = x
        masks = [mask] * len(self.blocks) if isinstance(mask, Mask) else mask
        layers: Sequence[LayerCache | None] = [None] * len(self.blocks) if cache is None else cache.layers
        for block, skip, block_mask, layer in zip(self.blocks, self.skips, masks, layers, strict=True):
            x = self.run(block, x, mask=block_mask, positions=positions, cache=layer, context=context)
            x = x + skip(embedding)
        return x


def talkie_block(*, width: int, heads: int, hidden: int, depth: int, branch: nn.Module) -> Block:
    """A block whose two sublayers end in a learned gain that starts at ``(2 depth)^-0.5``."""
    start = (2 * depth) ** -0.5
    return Block(
        Attention(
            FusedProjection(width, bias=False),
            nn.Sequential(nn.Linear(width, width, bias=False), Gain(start)),
            heads=heads,
            condition=RotaryQKNorm(heads, width // heads),
        ),
        nn.Sequential(SwiGLU(width, hidden), Gain(start)),
        pre_attention=rms_norm(width),
        pre_mlp=rms_norm(width),
        branch=branch,
    )


def rms_norm(width: int) -> nn.Module:
    """RMS norm (Zhang and Sennrich 2019) without parameters."""
    return nn.RMSNorm(width, elementwise_affine=False)
