"""The residual block and the stack of blocks.

Shapes: B batch, T tokens, R rows asked for, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.shared.transformer.cache import KVCache, LayerCache
from zoo.shared.transformer.cross_attention import CrossAttention
from zoo.shared.transformer.masks import FULL, Mask


class Block(nn.Module):
    """Attention and feed-forward sublayers with residual connections.

    The norm slots decide the style and default to ``Identity``: fill the ``pre`` slots for pre-LN (GPT-2, CLIP,
    Whisper), the ``post`` slots for post-LN (GPT-1, BERT).

    Args:
        attention: Called as ``attention(x, context, mask=..., positions=..., cache=...)``.
        mlp: Feed-forward part.
        pre_attention: Norm before attention.
        post_attention: Norm after the attention residual.
        pre_mlp: Norm before the feed-forward part.
        post_mlp: Norm after the feed-forward residual.
        cross: Attention to another tower's states, between the two others.
        pre_cross: Norm before it.
        branch: Applied to each sublayer's output: dropout, stochastic depth, or both.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        *,
        pre_attention: nn.Module | None = None,
        post_attention: nn.Module | None = None,
        pre_mlp: nn.Module | None = None,
        post_mlp: nn.Module | None = None,
        cross: CrossAttention | None = None,
        pre_cross: nn.Module | None = None,
        branch: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.pre_attention = pre_attention or nn.Identity()
        self.attention = attention
        self.post_attention = post_attention or nn.Identity()
        self.pre_cross = pre_cross or nn.Identity()
        self.cross = cross
        self.pre_mlp = pre_mlp or nn.Identity()
        self.mlp = mlp
        self.post_mlp = post_mlp or nn.Identity()
        self.branch = branch or nn.Identity()

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask = FULL,
        rows: Tensor | None = None,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Run the block.

        Args:
            x: ``(B, T, D)``.
            mask: Who attends to whom.
            positions: int64 ``(T,)`` or ``(B, T)``, for attention that asks where tokens stand.
            cache: Keys and values of earlier tokens; those of ``x`` are written into it.
            context: States ``(N, K, D)`` of another tower, for blocks that attend to one; a cache that holds their
                keys and values makes them needless.
            rows: int64 ``(B,)``: compute only this token of each sample (``mask`` then holds for that
                one query). The other tokens still serve as keys and values. A pooled tower needs
                nothing else of its last block.

        Returns:
            ``(B, T, D)``, or ``(B, 1, D)`` when ``rows`` is given.
        """
        normed = self.pre_attention(x)
        if rows is None:
            attended = self.attention(normed, mask=mask, positions=positions, cache=cache)
        else:
            attended = self.attention(take_rows(normed, rows), normed, mask=mask)
            x = take_rows(x, rows)
        x = self.post_attention(x + self.branch(attended))
        if self.cross is not None:
            memory = None if cache is None else cache.memory
            if memory is None:
                assert context is not None, "this block attends to another tower's states; give it some"
                memory = self.cross.memory(context)
            x = x + self.branch(self.cross(self.pre_cross(x), memory))
        return self.post_mlp(x + self.branch(self.mlp(self.pre_mlp(x))))


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Take token ``rows[b]`` of each sample of ``x`` ``(B, T, D)``; returns ``(B, 1, D)``."""
    return x[torch.arange(x.shape[0], device=x.device), rows][:, None]


class Transformer(nn.Module):
    """A stack of blocks.

    Args:
        blocks: The blocks, first to last.
        checkpointing: Recompute each block's activations in the backward pass (Chen et al. 2016).
    """

    def __init__(self, blocks: Iterable[nn.Module], *, checkpointing: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpointing = checkpointing

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Sequence[Mask] = FULL,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Run all blocks on ``x`` ``(B, T, D)``.

        Args:
            x: ``(B, T, D)``.
            mask: Who attends to whom, in all blocks or in each.
            positions: int64 ``(T,)`` or ``(B, T)``, where the tokens stand in the text.
            cache: Keys and values of earlier tokens, a layer for each block.
            context: As for :class:`Block`.
        """
        masks = [mask] * len(self.blocks) if isinstance(mask, Mask) else mask
        layers: Sequence[LayerCache | None] = [None] * len(self.blocks) if cache is None else cache.layers
        for block, block_mask, layer in zip(self.blocks, masks, layers, strict=True):
            x = self.run(block, x, mask=block_mask, positions=positions, cache=layer, context=context)
        return x

    def pooled(self, x: Tensor, rows: Tensor, *, mask: Mask = FULL, row_mask: Mask = FULL) -> Tensor:
        """Run all blocks and return one token of each sample, computing only it in the last block.

        Args:
            x: ``(B, T, D)``.
            rows: int64 ``(B,)``, the token of each sample.
            mask: Mask of all blocks but the last.
            row_mask: The same mask, written for the one query of each sample.

        Returns:
            ``(B, D)``; equal to ``self(x, mask=mask)[range(B), rows]``.
        """
        *first, last = self.blocks
        for block in first:
            x = self.run(block, x, mask=mask)
        return self.run(last, x, mask=row_mask, rows=rows)[:, 0]

    def run(
        self,
        block: nn.Module,
        x: Tensor,
        *,
        mask: Mask,
        rows: Tensor | None = None,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Run one block, recomputing it in the backward pass where that is asked for."""
        run = partial(block, mask=mask, rows=rows, positions=positions, cache=cache)
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(run, x, context=context, use_reentrant=False)
        return run(x, context=context)
