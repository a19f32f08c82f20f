"""What OpenAI, ``transformers`` and CTranslate2 call the tensors of a Whisper model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.shared.convert.rules import Rule, RuleTable

_P = "{p:weight|bias}"
_TOWERS = ("encoder", "decoder")


def _openai_rules() -> list[Rule]:
    rules = [
        Rule("encoder.positional_embedding", "encoder.positions"),
        Rule("decoder.positional_embedding", "decoder.positions.weight"),
        Rule("decoder.token_embedding.weight", "decoder.tokens.weight"),
        Rule(f"encoder.ln_post.{_P}", f"encoder.norm_out.{_P}"),
        Rule(f"decoder.ln.{_P}", f"decoder.norm_out.{_P}"),
        *(Rule(f"encoder.conv{n}.{_P}", f"encoder.conv{n}.{_P}") for n in (1, 2)),
    ]
    parts = {
        "attn.{q:query|key|value}": "attention.project.{q}",
        "attn.out": "attention.out",
        "attn_ln": "pre_attention",
        "cross_attn.{q:query|key|value|out}": "cross.{q}",
        "cross_attn_ln": "pre_cross",
        "mlp.0": "mlp.up",
        "mlp.2": "mlp.down",
        "mlp_ln": "pre_mlp",
    }
    for tower in _TOWERS:
        for theirs, ours in parts.items():
            rules.append(Rule(f"{tower}.blocks.{{i}}.{theirs}.{_P}", f"{tower}.transformer.blocks.{{i}}.{ours}.{_P}"))
    return rules


OPENAI_TABLE = RuleTable(rules=_openai_rules(), drop=("alignment_heads",))


def _hf_rules() -> list[Rule]:
    rules = [
        Rule("encoder.embed_positions.weight", "encoder.positions"),
        Rule("decoder.embed_positions.weight", "decoder.positions.weight"),
        Rule("decoder.embed_tokens.weight", "decoder.tokens.weight"),
        *(Rule(f"encoder.conv{n}.{_P}", f"encoder.conv{n}.{_P}") for n in (1, 2)),
        *(Rule(f"{tower}.layer_norm.{_P}", f"{tower}.norm_out.{_P}") for tower in _TOWERS),
    ]
    short = {"q": "query", "k": "key", "v": "value"}
    parts = {
        **{f"self_attn.{x}_proj": f"attention.project.{name}" for x, name in short.items()},
        "self_attn.out_proj": "attention.out",
        "self_attn_layer_norm": "pre_attention",
        **{f"encoder_attn.{x}_proj": f"cross.{name}" for x, name in short.items()},
        "encoder_attn.out_proj": "cross.out",
        "encoder_attn_layer_norm": "pre_cross",
        "fc1": "mlp.up",
        "fc2": "mlp.down",
        "final_layer_norm": "pre_mlp",
    }
    for tower in _TOWERS:
        for theirs, ours in parts.items():
            rules.append(Rule(f"{tower}.layers.{{i}}.{theirs}.{_P}", f"{tower}.transformer.blocks.{{i}}.{ours}.{_P}"))
    return rules


HF_TABLE = RuleTable(rules=_hf_rules(), drop=("proj_out.weight",), strip=("model.",))


def _ct2_pair(theirs: str, ours: str, names: tuple[str, str] = ("weight", "bias")) -> list[Rule]:
    return [Rule(f"{theirs}/{name}", f"{ours}.{p}") for name, p in zip(names, ("weight", "bias"), strict=True)]


def _ct2_norm(theirs: str, ours: str) -> list[Rule]:
    return _ct2_pair(f"{theirs}/layer_norm", ours, ("gamma", "beta"))


def _ct2_rules() -> list[Rule]:
    rules = [
        Rule("encoder/position_encodings/encodings", "encoder.positions"),
        Rule("decoder/position_encodings/encodings", "decoder.positions.weight"),
        Rule("decoder/embeddings/weight", "decoder.tokens.weight"),
        *(rule for n in (1, 2) for rule in _ct2_pair(f"encoder/conv{n}", f"encoder.conv{n}")),
    ]
    for tower in _TOWERS:
        layer, block = f"{tower}/layer_{{i}}", f"{tower}.transformer.blocks.{{i}}"
        project = [f"{block}.attention.project.{part}" for part in ("query", "key", "value")]
        rules += [
            *_ct2_norm(tower, f"{tower}.norm_out"),
            Rule(f"{layer}/self_attention/linear_0/weight", [f"{part}.weight" for part in project]),
            Rule(f"{layer}/self_attention/linear_0/bias", [f"{project[0]}.bias", None, f"{project[2]}.bias"]),
            *_ct2_pair(f"{layer}/self_attention/linear_1", f"{block}.attention.out"),
            *_ct2_norm(f"{layer}/self_attention", f"{block}.pre_attention"),
            *_ct2_pair(f"{layer}/ffn/linear_0", f"{block}.mlp.up"),
            *_ct2_pair(f"{layer}/ffn/linear_1", f"{block}.mlp.down"),
            *_ct2_norm(f"{layer}/ffn", f"{block}.pre_mlp"),
        ]
    layer, cross = "decoder/layer_{i}/attention", "decoder.transformer.blocks.{i}.cross"
    return [
        *rules,
        *_ct2_pair(f"{layer}/linear_0", f"{cross}.query"),
        Rule(f"{layer}/linear_1/weight", [f"{cross}.key.weight", f"{cross}.value.weight"]),
        Rule(f"{layer}/linear_1/bias", [None, f"{cross}.value.bias"]),
        *_ct2_pair(f"{layer}/linear_2", f"{cross}.out"),
        *_ct2_norm(layer, "decoder.transformer.blocks.{i}.pre_cross"),
    ]


# Settings that CTranslate2 stores as tensors: heads, and what Whisper has in common with no other model.
CT2_SETTINGS: Mapping[str, Tensor] = {
    "decoder/activation": torch.tensor(3, dtype=torch.int8),  # GELU
    "decoder/alibi": torch.tensor(0, dtype=torch.int8),
    "decoder/alignment_heads": torch.tensor(1, dtype=torch.int16),
    "decoder/alignment_layer": torch.tensor(-1, dtype=torch.int16),
    "decoder/pre_norm": torch.tensor(1, dtype=torch.int8),
    "decoder/scale_embeddings": torch.tensor(0, dtype=torch.int8),
    "decoder/start_from_zero_embedding": torch.tensor(0, dtype=torch.int8),
}
CT2_TABLE = RuleTable(
    rules=_ct2_rules(),
    drop=(
        *CT2_SETTINGS,
        "{tower:encoder|decoder}/num_heads",
        "decoder/alibi_use_positive_positions",
        "decoder/scale_alibi",
        "decoder/projection/weight",
    ),
)
