"""Greedy decoding of the toy language model in every way, and one way with a well-known mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from toys.data import LENGTH
from toys.models import LanguageModel, ToyConfig
from zoo.verify.cases import Decoder

PROMPTS = [[3, 1, 4], [1, 5], [9, 2, 6, 5]]
LAYERS, HEADS = 2, 2


def plain(model: LanguageModel, prompt: Sequence[int], count: int) -> list[int]:
    """Everything anew for each token."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


class Cache:
    """Keys and values of all layers, of a fixed length, and which of them are real."""

    def __init__(self, batch: int, width: int) -> None:
        self.kept = torch.zeros(LAYERS, 2, batch, HEADS, LENGTH + 1, width // HEADS)
        self.real = torch.zeros(batch, LENGTH + 1, dtype=torch.bool)


def step(model: LanguageModel, token: Tensor, at: Tensor, slot: Tensor, kept: Tensor, real: Tensor) -> Tensor:
    """Logits ``(B, V)`` after one token each, at positions ``at`` ``(B,)``, in slot ``slot`` of the cache."""
    x = (model.tokens(token) + model.positions(at))[:, None]
    for layer, block in enumerate(model.blocks.blocks):
        normed = block.pre_attention(x)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in block.attention.project(normed, None))
        kept[layer, 0].index_copy_(2, slot, k)
        kept[layer, 1].index_copy_(2, slot, v)
        seen = F.scaled_dot_product_attention(q, kept[layer, 0], kept[layer, 1], attn_mask=real[:, None, None, :])
        x = x + block.attention.out(seen.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.pre_mlp(x))
    return model.head(model.norm(x))[:, -1]


def static(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    count: int,
    *,
    run: Callable[..., Tensor],
    masked: bool = True,
) -> list[list[int]]:
    """All prompts in one batch, padded on the left, with a cache of fixed length."""
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    missing = torch.tensor([longest - len(prompt) for prompt in prompts])
    cache = Cache(len(prompts), model.config.width)
    found: list[Tensor] = []
    for slot in range(longest + count - 1):
        token = padded[:, slot] if slot < longest else found[-1]
        cache.real[:, slot] = (slot >= missing) | (not masked)
        logits = run(model, token, (slot - missing).clamp(min=0), torch.tensor([slot]), cache.kept, cache.real)
        if slot >= longest - 1:
            found.append(logits.argmax(-1))
    return torch.stack(found, 1).tolist()


def alone(
    model: LanguageModel, prompts: Sequence[Sequence[int]], count: int, run: Callable[..., Tensor]
) -> list[list[int]]:
    """Each prompt by itself with a cache."""
    return [static(model, [prompt], count, run=run)[0] for prompt in prompts]


def build(name: str) -> LanguageModel:
    torch.manual_seed(1)
    model = LanguageModel(ToyConfig()).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # untrained, a model says the same word for ever
            parameter.mul_(3.0)
    return model


def decoder(name: str) -> Decoder:
    model = build(name)
    quiet = torch.no_grad()
    compiled = torch.compile(step, backend="aot_eager", dynamic=False)
    return Decoder(
        prompts=PROMPTS,
        room=LENGTH - max(map(len, PROMPTS)),
        plain=quiet(partial(plain, model)),
        ways={
            "cached": quiet(partial(alone, model, run=step)),
            "static cache, left-padded batch": quiet(partial(static, model, run=step)),
            "static cache, compiled": quiet(partial(static, model, run=compiled)),
        },
    )


def careless(name: str) -> Decoder:
    """Padding is attended to."""
    right = decoder(name)
    return Decoder(
        prompts=right.prompts,
        room=right.room,
        plain=right.plain,
        ways={"left-padded without a mask": torch.no_grad()(partial(static, build(name), run=step, masked=False))},
    )
