"""The core: masks, kernels, blocks and pooled rows against plain definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from zoo.shared.transformer import (
    CAUSAL,
    FULL,
    MLP,
    Attention,
    Block,
    FusedProjection,
    Mask,
    QuickGELU,
    StochasticDepth,
    Transformer,
    activation,
    naive_attention,
    sdpa_attention,
)

PADDING = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1] * 7, [0, 0, 1, 1, 1, 1, 1]], dtype=torch.bool)
MASKS = {
    "full": FULL,
    "causal": CAUSAL,
    "banded": Mask(window=3),
    "padding": Mask(padding=PADDING),
    "causal and padding": Mask(causal=True, padding=PADDING),
    "banded and padding": Mask(window=2, padding=PADDING),
    "banded, wider than the text": Mask(window=9, padding=PADDING),
    "nothing allowed": Mask(padding=torch.zeros(3, 7, dtype=torch.bool)),
}


def qkv(queries: int = 7, keys: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(3, 2, queries, 8), torch.randn(3, 2, keys, 8), torch.randn(3, 2, keys, 8)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("queries", [7, 3, 1])
def test_fast_and_naive_attention_agree_with_gradients(mask: Mask, queries: int) -> None:
    inputs = [t.requires_grad_() for t in qkv(queries)]
    fast = sdpa_attention(*inputs, mask)
    slow = naive_attention(*inputs, mask)
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    weight = torch.randn_like(fast)
    grads = torch.autograd.grad(fast, inputs, weight)
    for a, b in zip(grads, torch.autograd.grad(slow, inputs, weight), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    built = sdpa_attention(*inputs, mask.build(queries, 7, device=torch.device("cpu")))
    torch.testing.assert_close(built, slow, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 3, 7])
@pytest.mark.parametrize("queries", [7, 3, 1])
@pytest.mark.parametrize("place", ["the last keys", "at a slot"])
def test_a_built_mask_of_real_queries_agrees_with_naive_attention(window: int | None, queries: int, place: str) -> None:
    """Padding at the left of the keys; every query is a real token, as new tokens of a generated text are."""
    slot = 7 - queries if place == "the last keys" else min(4, 7 - queries)
    start = None if place == "the last keys" else torch.tensor([slot])
    padding = torch.arange(7) >= torch.tensor([[0], [slot], [min(1, slot)]])
    q, k, v = qkv(queries)
    mask = Mask(causal=True, window=window, padding=padding, start=start)
    slow = naive_attention(q, k, v, mask)
    known = replace(mask, sees_itself=True)
    assert mask.may_blind
    assert not known.may_blind
    built = known.build(queries, 7, device=q.device)
    assert built.built is not None
    for each in (mask, known, built):
        torch.testing.assert_close(sdpa_attention(q, k, v, each), slow, atol=1e-6, rtol=1e-5)


def test_keys_behind_the_window_are_not_read() -> None:
    q, k, v = qkv(1)
    k[:, :, :4], v[:, :, :4] = torch.nan, torch.nan
    mask = Mask(window=3)
    assert mask.reach(1, 7) == 3
    assert mask.build(1, 7, device=q.device).built is None
    expected = naive_attention(q, k[:, :, 4:], v[:, :, 4:])
    torch.testing.assert_close(sdpa_attention(q, k, v, mask), expected, atol=1e-6, rtol=1e-5)


def test_a_mask_means_what_it_says() -> None:
    dense = Mask(window=2, padding=PADDING).dense(7, 7, device=torch.device("cpu"))
    assert dense is not None
    for b in range(3):
        for q in range(7):
            for k in range(7):
                assert bool(dense[b, 0, q, k]) == (k <= q and k > q - 2 and bool(PADDING[b, k]))
    last = CAUSAL.dense(2, 7, device=torch.device("cpu"))
    assert last is not None
    assert last[0, 0].tolist() == [[True] * 6 + [False], [True] * 7]
    with pytest.raises(ValueError, match="window"):
        Mask(window=0)


def test_one_query_of_a_causal_mask_sees_all_earlier_keys() -> None:
    q, k, v = qkv()
    whole = sdpa_attention(q, k, v, CAUSAL)
    torch.testing.assert_close(sdpa_attention(q[:, :, -2:], k, v, CAUSAL), whole[:, :, -2:])


def test_attention_equals_multihead_attention_of_torch() -> None:
    ours = Attention(FusedProjection(24), nn.Linear(24, 24), heads=3)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.project.weight.data, ours.project.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6, rtol=1e-5)
    context = torch.randn(2, 9, 24)
    expected = theirs(x, context, context, need_weights=False)[0]
    torch.testing.assert_close(ours(x, context), expected, atol=1e-6, rtol=1e-5)


def stack(style: str, checkpointing: bool = False, dropout: float = 0.0) -> Transformer:
    def norms() -> dict[str, nn.Module]:
        return {f"{style}_attention": nn.LayerNorm(16), f"{style}_mlp": nn.LayerNorm(16)}

    def block() -> Block:
        attention = Attention(FusedProjection(16), nn.Linear(16, 16), heads=2, dropout=dropout)
        branch = nn.Sequential(nn.Dropout(dropout), StochasticDepth(dropout))
        return Block(attention, MLP(16, 32, act=QuickGELU()), branch=branch, **norms())

    torch.manual_seed(1)
    return Transformer([block() for _ in range(3)], checkpointing=checkpointing)


@pytest.mark.parametrize("style", ["pre", "post"])
def test_pooled_rows_equal_the_rows_of_the_whole(style: str) -> None:
    model, x = stack(style), torch.randn(4, 6, 16)
    rows = torch.tensor([0, 5, 2, 3])
    torch.testing.assert_close(model.pooled(x, rows), model(x)[range(4), rows], atol=1e-6, rtol=1e-5)
    row_mask = Mask(padding=torch.arange(6) <= rows[:, None])
    causal = model.pooled(x, rows, mask=CAUSAL, row_mask=row_mask)
    torch.testing.assert_close(causal, model(x, mask=CAUSAL)[range(4), rows], atol=1e-6, rtol=1e-5)


def test_pre_and_post_norm_are_what_they_say() -> None:
    x = torch.randn(2, 4, 16)
    post = stack("post")
    assert torch.allclose(post(x).mean(-1), torch.zeros(2, 4), atol=1e-5)  # ends in a norm
    block = stack("pre").blocks[0]
    by_hand = x + block.attention(block.pre_attention(x))
    by_hand = by_hand + block.mlp(block.pre_mlp(by_hand))
    torch.testing.assert_close(block(x), by_hand)


def test_checkpointing_changes_no_gradient_even_with_dropout() -> None:
    x = torch.randn(4, 6, 16)
    found = []
    for checkpointing in (False, True):
        model = stack("pre", checkpointing, dropout=0.3).train()
        torch.manual_seed(7)
        model(x, mask=CAUSAL).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_stochastic_depth_keeps_the_mean_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    out = StochasticDepth(0.25).train()(torch.ones(20000, 3))
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert (out == out[:, :1]).all()
    assert abs(out.mean().item() - 1.0) < 0.02
    assert torch.equal(StochasticDepth(0.25).eval()(out), out)
    with pytest.raises(ValueError, match="rate"):
        StochasticDepth(1.0)


def test_activations() -> None:
    x = torch.linspace(-4, 4, 50)
    torch.testing.assert_close(activation("quick_gelu")(x), x * torch.sigmoid(1.702 * x))
    torch.testing.assert_close(activation("gelu_tanh")(x), nn.functional.gelu(x, approximate="tanh"))
    with pytest.raises(ValueError, match="quick_gelu"):
        activation("gleu")
