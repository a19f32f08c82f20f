"""The key-value caches against the model without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.gpt.configs import GptConfig
from zoo.gpt.model import GPT
from zoo.shared.transformer.cache import KVCache, StaticKVCache

LAYOUTS: list[dict[str, Any]] = [
    {"layout": "gpt1"},
    {"layout": "gpt2"},
    {"layout": "gpt2", "window": 4},
    {"layout": "talkie"},
    {"layout": "talkie", "window": 3},
]
CONTEXT = 24
kinds = pytest.mark.parametrize("static", [False, True], ids=["growing", "static"])
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=str)


def build(layout: dict[str, Any]) -> GPT:
    torch.manual_seed(3)
    model = GPT(GptConfig(vocab_size=53, context=CONTEXT, width=32, depth=3, heads=2, **layout)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def texts(batch: int, length: int) -> Tensor:
    return torch.randint(53, (batch, length), generator=torch.Generator().manual_seed(1))


def equal(one: Tensor, two: Tensor) -> None:
    assert one.shape == two.shape
    assert float((one - two).abs().max() / two.abs().max()) < 1e-5


@layouts
@kinds
@pytest.mark.parametrize("pieces", [(24,), (7, 1, 1, 1, 14), (1,) * 24, (1, 22, 1)], ids=str)
@torch.no_grad()
def test_text_in_pieces_equals_the_whole(layout: dict[str, Any], static: bool, pieces: tuple[int, ...]) -> None:
    model, ids = build(layout), texts(3, CONTEXT)
    cache = model.new_cache(3, static=static)
    parts, at = [], 0
    for count in pieces:
        parts.append(model(ids[:, at : at + count], cache))
        at += count
        assert cache.length == at
    equal(torch.cat(parts, 1), model(ids))


@layouts
@kinds
@pytest.mark.parametrize("first", [6, 9], ids=["then singly", "then at once"])
@torch.no_grad()
def test_left_padding_changes_nothing(layout: dict[str, Any], static: bool, first: int) -> None:
    model, ids = build(layout), texts(3, 9)
    missing = torch.tensor([0, 2, 5])
    real = torch.arange(9) >= missing[:, None]
    cache = model.new_cache(3, 9, static=static)
    parts = [model(ids[:, :first], cache, padding_mask=real[:, :first])]
    parts += [model(ids[:, at : at + 1], cache) for at in range(first, 9)]
    found, whole = torch.cat(parts, 1), model(ids, padding_mask=real)
    for row, count in enumerate(missing.tolist()):
        alone = model(ids[row : row + 1, count:])
        equal(found[row : row + 1, count:], alone)
        equal(whole[row : row + 1, count:], alone)


@kinds
@pytest.mark.parametrize("rows", [[2, 0, 1], [1, 1, 1], [2], [0, 0, 1, 1, 2, 2], [1, 2]], ids=str)
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_texts_change_places(static: bool, rows: list[int], padded: bool) -> None:
    model, ids = build({"layout": "talkie"}), texts(3, 7)
    real = torch.arange(7) >= torch.tensor([[0], [3], [1]]) if padded else None
    cache = model.new_cache(3, 12, static=static)
    model(ids, cache, padding_mask=real)
    order = torch.tensor(rows)
    cache.reorder(order)
    new = texts(len(rows), 2)
    found = torch.cat([model(new[:, :1], cache), model(new[:, 1:], cache)], 1)
    for place, row in enumerate(rows):
        start = 0 if real is None else int((~real[row]).sum())
        alone = torch.cat([ids[row, start:], new[place]])[None]
        equal(found[place : place + 1], model(alone)[:, -2:])


@kinds
@torch.no_grad()
def test_a_cache_is_used_again(static: bool) -> None:
    model, ids = build({"layout": "gpt2"}), texts(2, 8)
    cache = model.new_cache(2, 8, static=static)
    places = [tensor.data_ptr() for tensor in cache.tensors()]
    model(ids.flip(1), cache, padding_mask=torch.arange(8).expand(2, 8) >= 3)
    cache.reset()
    assert cache.length == 0
    found = torch.cat([model(ids[:, :5], cache), *(model(ids[:, at : at + 1], cache) for at in range(5, 8))], 1)
    equal(found, model(ids))
    assert [tensor.data_ptr() for tensor in cache.tensors()] == places


@torch.no_grad()
def test_what_does_not_fit_is_refused() -> None:
    model = build({"layout": "gpt2"})
    for static in (False, True):
        cache = model.new_cache(1, 6, static=static)
        model(texts(1, 4), cache)
        with pytest.raises(ValueError, match="a text of 7 tokens does not fit into a cache of 6"):
            model(texts(1, 3), cache)
    assert model.new_cache(1, 1000).slots == CONTEXT
    with pytest.raises(ValueError, match="25 tokens exceeds the context of 24"):
        model(texts(1, 25))


@torch.no_grad()
def test_a_static_step_attends_in_shapes_that_never_change() -> None:
    seen = []

    def spy(q: Tensor, k: Tensor, v: Tensor, mask: Any, *, dropout: float = 0.0) -> Tensor:
        seen.append((tuple(q.shape), tuple(k.shape)))
        return q

    model = build({"layout": "gpt2"})
    for block in model.transformer.blocks:
        block.attention.kernel = spy
    for static in (False, True):
        cache = model.new_cache(2, 10, static=static)
        assert isinstance(cache, KVCache)
        assert isinstance(cache, StaticKVCache) == static
        model(texts(2, 4), cache)
        seen.clear()
        for _ in range(3):
            model(texts(2, 1), cache)
        keys = [k[2] for _, k in seen]
        assert keys == ([10] * 9 if static else [5] * 3 + [6] * 3 + [7] * 3)


@torch.no_grad()
def test_the_last_tokens_logits_alone() -> None:
    for layout in LAYOUTS:
        model, ids = build(layout), texts(2, 9)
        equal(model.next_logits(ids), model(ids)[:, -1])
