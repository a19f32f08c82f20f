"""The rule engine: both directions, strictness, and whether later families' tables fit it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.shared.convert.rules import TRANSPOSE, Rule, RuleTable, chain, identity, squeeze
from zoo.shared.errors import UserError


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def to_zoo(table: RuleTable, foreign: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return table.to_zoo(foreign, expected, what="file", shapes=shapes(foreign))


def assert_round_trip(table: RuleTable, state: dict[str, Tensor]) -> dict[str, Tensor]:
    foreign = table.to_foreign(state, what="export")
    again = to_zoo(table, foreign, shapes(state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)
    assert table.zoo_shapes(shapes(foreign)) == shapes(state)
    return foreign


def test_stacked_projections() -> None:
    table = RuleTable(rules=[Rule([f"h.{{i}}.{x}.{{p:weight|bias}}" for x in "qkv"], "blocks.{i}.qkv.{p}")])
    state = {"blocks.0.qkv.weight": torch.randn(12, 4), "blocks.10.qkv.bias": torch.randn(12)}
    foreign = assert_round_trip(table, state)
    assert torch.equal(foreign["h.0.k.weight"], state["blocks.0.qkv.weight"][4:8])
    assert foreign["h.0.k.weight"].untyped_storage().nbytes() == 4 * 4 * 4  # a part has memory of its own


def test_conv1d_and_extra_axis() -> None:
    """GPT-2: Hugging Face stores (in, out), OpenAI (1, in, out); the head is tied and masks are buffers."""
    hf = RuleTable(
        rules=[
            Rule("h.{i}.attn.c_attn.weight", "blocks.{i}.qkv.weight", transform=TRANSPOSE),
            Rule("wte.weight", "tokens.weight"),
        ],
        drop=("h.{i}.attn.bias", "h.{i}.attn.masked_bias", "lm_head.weight"),
        strip=("transformer.",),
        synthesise={"lm_head.weight": lambda foreign: foreign["wte.weight"].clone()},
    )
    state = {"blocks.0.qkv.weight": torch.randn(12, 4), "tokens.weight": torch.randn(9, 4)}
    foreign = assert_round_trip(hf, state)
    assert foreign["h.0.attn.c_attn.weight"].shape == (4, 12)
    assert torch.equal(foreign["lm_head.weight"], state["tokens.weight"])
    prefixed = {f"transformer.{key}": value for key, value in foreign.items()}
    prefixed["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    again = to_zoo(hf, prefixed, shapes(state))
    assert all(torch.equal(again[key], state[key]) for key in state)
    openai = RuleTable(rules=[Rule("model/h{i}/c/w", "blocks.{i}.qkv.weight", transform=chain(squeeze(0), TRANSPOSE))])
    assert assert_round_trip(openai, {"blocks.3.qkv.weight": torch.randn(12, 4)})["model/h3/c/w"].shape == (1, 4, 12)


def test_older_spellings() -> None:
    """BERT: gamma and beta, and a prefix that may be missing."""
    table = RuleTable(
        rules=[Rule("layer.{i}.LayerNorm.{p:weight|bias}", "blocks.{i}.norm.{p}")],
        strip=("bert.",),
        spellings={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    )
    state = {"blocks.0.norm.weight": torch.randn(4), "blocks.0.norm.bias": torch.randn(4)}
    assert_round_trip(table, state)
    old = {"bert.layer.0.LayerNorm.gamma": torch.ones(4), "bert.layer.0.LayerNorm.beta": torch.zeros(4)}
    again = to_zoo(table, old, shapes(state))
    assert again["blocks.0.norm.weight"].sum() == 4


def test_key_without_bias() -> None:
    """Whisper: three separate projections, of which the key has no bias."""
    names = {"query": "q", "key": "k", "value": "v"}
    table = RuleTable(rules=[Rule(f"{a}_proj.{{p:weight|bias}}", f"{b}.{{p}}") for a, b in names.items()])
    state = {"q.weight": torch.randn(2, 2), "q.bias": torch.randn(2), "k.weight": torch.randn(2, 2)}
    assert "key_proj.bias" not in assert_round_trip(table, state)


def test_missing_buffers_are_filled() -> None:
    table = RuleTable(rules=[Rule("bn.n", "norm.n", fill=lambda shape: torch.zeros(shape, dtype=torch.int64))])
    assert to_zoo(table, {}, {"norm.n": ()})["norm.n"].dtype == torch.int64
    assert to_zoo(table, {"bn.n": torch.tensor(3)}, {"norm.n": ()})["norm.n"] == 3


def test_all_problems_are_told_at_once() -> None:
    table = RuleTable(rules=[Rule(["{i}.q", "{i}.k"], "{i}.qk"), Rule("{i}.w", "{i}.weight", transform=TRANSPOSE)])
    expected = {"0.qk": (4, 2), "0.weight": (2, 3), "1.qk": (4, 2), "1.weight": (2, 3)}
    foreign = {
        "0.q": torch.zeros(2, 2), "0.k": torch.zeros(3, 2), "0.w": torch.zeros(3, 2),
        "1.q": torch.zeros(2, 2), "1.w": torch.zeros(7), "2.w": torch.zeros(3, 2), "extra": torch.zeros(1),
    }  # fmt: skip
    with pytest.raises(UserError) as caught:
        to_zoo(table, foreign, expected)
    message = str(caught.value)
    assert "1 missing key (1.k)" in message
    assert "2 unexpected keys (2.w, extra)" in message
    assert "2 mis-shaped keys (0.k is (3, 2), must be (2, 2), 1.w is (7,), must be (3, 2))" in message
    assert "\n" not in message


def test_long_lists_are_cut() -> None:
    with pytest.raises(UserError, match=r"100 missing keys \(k0, k1, k2, k3, …\)$"):
        to_zoo(identity([f"k{i}" for i in range(100)]), {}, {f"k{i}": (1,) for i in range(100)})


def test_export_is_strict_too() -> None:
    table = RuleTable(rules=[Rule("a", "x")])
    with pytest.raises(UserError, match=r"2 unexpected keys \(y, z\)"):
        table.to_foreign({"x": torch.ones(1), "y": torch.ones(1), "z": torch.ones(1)}, what="export")


def test_nothing_is_read_before_all_shapes_fit() -> None:
    class Counting(dict):
        reads = 0

        def __getitem__(self, key: str) -> Tensor:
            Counting.reads += 1
            return super().__getitem__(key)

    foreign = Counting(a=torch.zeros(2), b=torch.zeros(3))
    with pytest.raises(UserError):
        identity(["a", "b"]).to_zoo(foreign, {"a": (2,), "b": (4,)}, what="file", shapes={"a": (2,), "b": (3,)})
    assert Counting.reads == 0


def test_patterns_take_keys_literally() -> None:
    table = RuleTable(rules=[Rule("a.{i}.w", "b.{i}.w")])
    assert table.rule_of("b.1x.w") is None
    assert table.rule_of("b-1-w") is None
    assert table.rule_of("b.1.w.more") is None
