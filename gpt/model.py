"""GPT-1 (Radford et al. 2018), GPT-2 (Radford et al. 2019), GPT-3 (Brown et al. 2020, arXiv:2005.14165) and Talkie.

Differs from the papers in: the band of GPT-3's sparse blocks is a plain window whose width was not published; positions
count from the first real token of a text that is padded on the left.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.gpt.configs import GptConfig
from zoo.gpt.talkie import Gain, RotaryQKNorm, SkipTransformer, rms_norm, talkie_block
from zoo.shared.cross_entropy import cross_entropy_rows, cross_entropy_sum
from zoo.shared.int8 import to_int8
from zoo.shared.transformer import (
    MLP,
    Attention,
    Block,
    FusedProjection,
    KVCache,
    Mask,
    StaticKVCache,
    Transformer,
    activation,
)


def build_block(config: GptConfig) -> Block:
    """One block in the config's layout."""
    width = config.width
    if config.layout == "talkie":
        return talkie_block(
            width=width, heads=config.heads, hidden=config.hidden, depth=config.depth, branch=nn.Dropout(config.dropout)
        )
    norms = ("pre_attention", "pre_mlp") if config.layout == "gpt2" else ("post_attention", "post_mlp")
    slots: dict[str, Any] = {slot: nn.LayerNorm(width) for slot in norms}
    return Block(
        Attention(FusedProjection(width), nn.Linear(width, width), heads=config.heads, dropout=config.dropout),
        MLP(width, config.hidden, act=activation("gelu_tanh")),
        branch=nn.Dropout(config.dropout),
        **slots,
    )


def build_last_norm(config: GptConfig) -> nn.Module:
    """What follows the last block: GPT-1's blocks end with a norm of their own."""
    norms: dict[str, Callable[[int], nn.Module]] = {"gpt1": nn.Identity, "gpt2": nn.LayerNorm, "talkie": rms_norm}
    return norms[config.layout](config.width)


class GPT(nn.Module):
    """A decoder-only transformer.

    Args:
        config: Its shape.
    """

    entry_points = ("hidden", "loss_sum", "token_losses")

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        talkie = config.layout == "talkie"
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = None if talkie else nn.Embedding(config.context, config.width)
        self.embedded = rms_norm(config.width) if talkie else nn.Dropout(config.dropout)
        stack = SkipTransformer if talkie else Transformer
        self.transformer = stack((build_block(config) for _ in range(config.depth)), checkpointing=config.checkpointing)
        self.norm_out = build_last_norm(config)
        self.output = nn.Linear(config.width, config.vocab_size, bias=False) if talkie else None
        self.output_gain = Gain(1.0) if talkie else None
        # Reads the state of a text's last token (GPT-1, Equation 3, which has no bias).
        self.head = nn.Linear(config.width, config.classes, bias=False) if config.classes else None
        self.init_weights()

    def init_weights(self) -> None:
        """Normal with 0.02, GPT-2's positions with 0.01; residual projections of the pre-norm layouts are smaller by
        the root of the number of residual layers (GPT-2, Section 2.3). Talkie's output starts at zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, Gain):
                nn.init.constant_(module.gain, module.start)
            if isinstance(module, RotaryQKNorm):
                nn.init.ones_(module.gain)
        if self.config.layout == "gpt2":
            assert self.positions is not None
            nn.init.normal_(self.positions.weight, std=0.01)
            blocks: Any = self.transformer.blocks
            for block in blocks:
                for projection in (block.attention.out, block.mlp.down):
                    nn.init.normal_(projection.weight, std=0.02 * (2 * self.config.depth) ** -0.5)
        if self.output is not None:
            nn.init.zeros_(self.output.weight)

    def forward(self, tokens: Tensor, cache: KVCache | None = None, *, padding_mask: Tensor | None = None) -> Tensor:
        """Logits of the next token after each.

        Args:
            tokens: int64 ``(B, T)``; with a cache, those that it does not hold yet.
            cache: Keys and values of earlier tokens; it is extended.
            padding_mask: Bool ``(B, T)``, True where a token is real; padding is at the left. With a cache, only for
                its first tokens.

        Returns:
            ``(B, T, V)``.

        Raises:
            ValueError: The text is longer than the context.
        """
        return F.linear(self.hidden(tokens, cache, padding_mask=padding_mask), self.output_matrix())

    def hidden(self, tokens: Tensor, cache: KVCache | None = None, *, padding_mask: Tensor | None = None) -> Tensor:
        """The last states ``(B, T, D)``, which the output matrix reads; arguments as for :meth:`forward`."""
        count = tokens.shape[1]
        if cache is not None:
            positions, mask = cache.begin(count, padding_mask)
        elif padding_mask is not None:
            positions, mask = (padding_mask.cumsum(1) - 1).clamp(min=0), Mask(causal=True, padding=padding_mask)
        else:
            positions, mask = torch.arange(count, device=tokens.device), Mask(causal=True)
        if count > self.config.context:
            raise ValueError(f"a text of {count} tokens exceeds the context of {self.config.context}")
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions(positions)
        masks = self.masks(mask, count, cache, all_real=padding_mask is None)
        x = self.transformer(self.embedded(x), mask=masks, positions=positions, cache=cache)
        if cache is not None:
            cache.advance(count)
        return self.norm_out(x)

    def masks(self, mask: Mask, count: int, cache: KVCache | None, *, all_real: bool) -> list[Mask]:
        """A mask for each block, written out once for all of them: GPT-3's odd blocks are banded.

        Args:
            mask: What the new tokens may see.
            count: New tokens.
            cache: Holds the earlier ones.
            all_real: None of the new tokens is padding.
        """
        held = 0 if cache is None else cache.length if mask.start is None else cache.slots - count
        keys = held + count
        device, mask = self.tokens.weight.device, replace(mask, sees_itself=all_real)
        dense = mask.build(count, keys, device=device)
        if self.config.window is None:
            return [dense] * self.config.depth
        banded = replace(mask, window=self.config.window).build(count, keys, device=device)
        return [banded if index % 2 else dense for index in range(self.config.depth)]

    def next_logits(
        self, tokens: Tensor, cache: KVCache | None = None, *, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Logits ``(B, V)`` of what follows the last token; arguments as for :meth:`forward`.

        Of a long prompt only one row of logits is computed.
        """
        states = self.hidden(tokens, cache, padding_mask=padding_mask)[:, -1]
        if self.output is None:
            return F.linear(states, self.tokens.weight)
        if self.output_gain is not None:  # scaling the matrix would copy it for each token
            states = self.output_gain(states)
        return self.output(states)

    def output_matrix(self) -> Tensor:
        """The matrix ``(V, D)`` that turns states into logits."""
        if self.output is None or self.output_gain is None:
            return self.tokens.weight
        return self.output_gain(self.output.weight)

    def for_int8_decoding(self) -> Self:
        """Change the model, in float32 on a CPU, into one that :meth:`next_logits` costs less of: see
        :mod:`zoo.shared.int8`. Nothing but decoding works afterwards.
        """
        if self.output is None:
            self.output = nn.utils.skip_init(nn.Linear, self.config.width, self.config.vocab_size, bias=False)
            self.output.weight = self.tokens.weight
        to_int8(self)
        return self

    def loss_sum(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Sum of the negative log-likelihoods of ``targets`` ``(B, T)`` after ``tokens`` ``(B, T)``, in nats.

        No logits are kept. Targets of -100 do not count.
        """
        return cross_entropy_sum(self.hidden(tokens).flatten(0, 1), self.output_matrix(), targets.flatten())

    def token_losses(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The same for each target, ``(B, T)``, without gradients."""
        states = self.hidden(tokens)
        return cross_entropy_rows(states.flatten(0, 1), self.output_matrix(), targets.flatten()).view_as(targets)

    def new_cache(self, batch: int, slots: int | None = None, *, static: bool = False) -> KVCache:
        """An empty cache for ``batch`` texts of up to ``slots`` tokens, by default the context.

        Args:
            batch: Texts B.
            slots: Longest text, prompt and padding included.
            static: Shapes that never change, for compiled steps.
        """
        config, weight = self.config, self.tokens.weight
        return (StaticKVCache if static else KVCache)(
            layers=config.depth,
            batch=batch,
            heads=config.heads,
            channels=config.width // config.heads,
            slots=min(slots or config.context, config.context),
            dtype=weight.dtype,
            device=weight.device,
        )
