"""GPT against `transformers` with random weights, and Talkie against a reference written here from its description."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import zoo
from toys.gpts import TINY, reference
from zoo.gpt.configs import GptConfig
from zoo.gpt.model import GPT
from zoo.shared.errors import UserError


def tokens(vocab: int, length: int, batch: int = 2) -> Tensor:
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def close(one: Any, two: Any, ids: Tensor, tolerance: float = 1e-5) -> float:
    a, b = one(ids).logits.float(), two(ids)
    worst = float((a - b).abs().max() / a.abs().max())
    assert worst < tolerance
    return worst


@pytest.mark.parametrize("kind", ["gpt1", "gpt2"])
def test_tiny_models_are_equal_both_ways(kind: str, tmp_path: Path) -> None:
    theirs = reference(kind, **TINY)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = zoo.load(tmp_path / "theirs")
    assert ours.config.layout == kind
    assert ours.config.heads == 2
    ids = tokens(97, 24)
    close(theirs, ours, ids)

    zoo.save_weights(ours, tmp_path / "back", format="hf")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "back").eval()
    assert type(again) is type(theirs)
    assert torch.equal(again(ids).logits, theirs(ids).logits)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize("name", ["gpt2", "gpt1"])
def test_the_real_shape_is_equal_both_ways(name: str, tmp_path: Path) -> None:
    theirs = reference(name)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = zoo.create_model(name, weights=tmp_path / "theirs")
    ids = tokens(40000, 64, batch=1)
    close(theirs, ours, ids)
    zoo.save_weights(ours, tmp_path / "back", format="hf")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "back").eval()
    with torch.no_grad():
        assert torch.equal(again(ids).logits, theirs(ids).logits)


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("sharded", [False, True])
def test_prefixes_shards_and_old_buffers(prefix: str, sharded: bool, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    theirs = reference("gpt2", **TINY)
    state = {f"{prefix}{k.removeprefix('transformer.')}": v for k, v in theirs.transformer.state_dict().items()}
    state[f"{prefix}h.0.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
    state[f"{prefix}h.0.attn.masked_bias"] = torch.tensor(-1e4)
    if prefix:
        state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    theirs.config.save_pretrained(tmp_path)
    names = sorted(state)
    if sharded:
        parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for file, keys in parts.items():
            save_file({key: state[key].contiguous() for key in keys}, tmp_path / file, metadata={"format": "pt"})
        index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file(
            {key: state[key].contiguous() for key in names}, tmp_path / "model.safetensors", metadata={"format": "pt"}
        )
    close(theirs, zoo.load(tmp_path), tokens(97, 24))


def test_openais_arrays_of_gpt1(tmp_path: Path) -> None:
    """The set is written here as the release describes it: flat numbers in ten files, matrices (1, in, out)."""
    theirs = reference("gpt1", **TINY)
    state = theirs.transformer.state_dict()
    arrays = [state["positions_embed.weight"], state["tokens_embed.weight"]]
    for block in range(3):
        for part in ("attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2"):
            weight = state[f"h.{block}.{part}.weight"]
            arrays += [weight[None] if weight.dim() == 2 else weight, state[f"h.{block}.{part}.bias"]]
    (tmp_path / "params_shapes.json").write_text(json.dumps([list(a.shape) for a in arrays]))
    flat = np.concatenate([a.numpy().ravel() for a in arrays])
    for number, part in enumerate(np.array_split(flat, 10)):
        np.save(tmp_path / f"params_{number}.npy", part)
    ours = zoo.load(tmp_path)
    assert ours.config == GptConfig(
        layout="gpt1", vocab_size=97, context=24, width=128, depth=3, heads=2, tokenizer="bpe"
    )
    close(theirs, ours, tokens(97, 24))
    back = zoo.save_weights(ours, tmp_path / "back", format="openai")
    assert np.array_equal(np.concatenate([np.load(back / f"params_{n}.npy") for n in range(10)]), flat)

    np.save(tmp_path / "params_3.npy", np.zeros(7, dtype=np.float32))
    with pytest.raises(UserError, match="its shapes say"):
        zoo.load(tmp_path)


def test_variants_that_zoo_does_not_have_are_refused(tmp_path: Path) -> None:
    theirs = GPT2LMHeadModel(GPT2Config(**TINY, scale_attn_by_inverse_layer_idx=True, activation_function="relu"))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="scale_attn_by_inverse_layer_idx True, activation relu"):
        zoo.load(tmp_path)
    banded = GPT(GptConfig(width=64, heads=1, depth=2, vocab_size=50, context=16, window=4))
    with pytest.raises(UserError, match="no banded attention"):
        zoo.save_weights(banded, tmp_path / "out", format="hf")


# Talkie


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()


def talkie(state: dict[str, Tensor], ids: Tensor, *, heads: int, depth: int) -> Tensor:
    """The released network as papers describe it, one text, one matrix at a time, no cache."""
    length = len(ids)
    x = rms(state["embed.weight"][ids])
    embedding, width = x, x.shape[-1]
    channels = width // heads
    frequency = 1e6 ** (-torch.arange(0, channels, 2).double() / channels)
    angle = torch.arange(length).double()[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)

    def rope(part: Tensor) -> Tensor:
        one, two = part[..., : channels // 2], part[..., channels // 2 :]
        return torch.cat([one * cos + two * sin, -one * sin + two * cos], -1)

    for i in range(depth):
        w = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items() if k.startswith(f"blocks.{i}.")}
        normed = rms(x)
        q, k, v = (
            (normed @ w[f"attn.attn_{part}.weight"].T).view(length, heads, channels).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        q, k = rms(rope(q)) * w["attn.head_gain.head_g"][:, None, None], rms(rope(k))
        scores = q @ k.transpose(1, 2) / math.sqrt(channels)
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
        seen = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, width)
        x = x + w["attn_gain.a_g"] * (seen @ w["attn.attn_resid.weight"].T)
        normed = rms(x)
        gated = F.silu(normed @ w["mlp.mlp_gate.weight"].T) * (normed @ w["mlp.mlp_linear.weight"].T)
        x = x + w["mlp_gain.a_g"] * (gated @ w["mlp.mlp_resid.weight"].T)
        x = x + w["embed_skip.a_g"] * embedding
    return rms(x) @ (state["lm_head"] * state["lm_head_gain.w_g"]).T


def test_talkies_checkpoint(tmp_path: Path) -> None:
    heads, depth, width, hidden, vocab = 4, 3, 96, 256, 65
    draw = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=draw)

    state = {"embed.weight": normal(vocab, width), "lm_head": normal(vocab, width), "lm_head_gain.w_g": normal(1) + 1}
    for i in range(depth):
        block = {f"attn.attn_{part}.weight": normal(width, width) for part in ("query", "key", "value", "resid")}
        block |= {f"mlp.mlp_{part}.weight": normal(hidden, width) for part in ("gate", "linear")}
        block |= {"mlp.mlp_resid.weight": normal(width, hidden), "attn.head_gain.head_g": normal(heads) + 1}
        block |= {f"{gain}.a_g": normal(1) for gain in ("attn_gain", "mlp_gain", "embed_skip")}
        state |= {f"blocks.{i}.{key}": value for key, value in block.items()}
    ids = tokens(vocab, 20)
    expected = torch.stack([talkie(state, row, heads=heads, depth=depth) for row in ids])

    torch.save({"model_state_dict": {f"_orig_mod.{k}": v for k, v in state.items()}}, tmp_path / "final.ckpt")
    ours = zoo.load(tmp_path / "final.ckpt")
    assert (ours.config.heads, ours.config.depth, ours.config.hidden) == (heads, depth, hidden)
    with torch.no_grad():
        found = ours(ids)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    zoo.save_weights(ours, tmp_path / "back.ckpt", format="talkie")
    again = torch.load(tmp_path / "back.ckpt", weights_only=True)["model_state_dict"]
    assert set(again) == set(state)
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_transformers_is_the_version_that_these_tests_know() -> None:
    assert int(transformers.__version__.split(".")[0]) >= 5
