"""The plain loop that people write for themselves, in nanoGPT's manner: the peer of the training rows."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.gpt.model import GPT


class PlainBlock(nn.Module):
    """Attention and feed-forward part, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.attn_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on ``(B, T, D)``."""
        batch, length, width = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(width, dim=2)
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(y.transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """Embeddings, blocks, norm and tied output; logits of all tokens."""

    def __init__(self, vocab_size: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(PlainBlock(width, heads) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(B, T, V)``."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)

    @classmethod
    def from_zoo(cls, model: GPT) -> PlainGPT:
        """The same weights."""
        config, ours = model.config, model.state_dict()
        plain = cls(config.vocab_size, config.context, config.width, config.depth, config.heads)
        names = {"wte": "tokens", "wpe": "positions", "ln_f": "norm_out"}
        parts = {
            "ln_1": "pre_attention", "ln_2": "pre_mlp", "c_attn": "attention.project",
            "attn_proj": "attention.out", "c_fc": "mlp.up", "c_proj": "mlp.down",
        }  # fmt: skip
        state: dict[str, Any] = {}
        for name in plain.state_dict():
            head, *rest = name.split(".")
            if head == "h":
                state[name] = ours[f"transformer.blocks.{rest[0]}.{parts[rest[1]]}.{rest[2]}"]
            else:
                state[name] = ours[f"{names[head]}.{rest[0]}"]
        plain.load_state_dict(state)
        return plain
