"""GPT weights from and to ``transformers`` and Talkie's checkpoints; OpenAI's own lie in ``convert_openai``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.gpt.configs import GptConfig
from zoo.gpt.sizes import from_shapes
from zoo.shared.convert.formats import Converter, Recognised, save_tensors, sync
from zoo.shared.convert.rules import TRANSPOSE, Rule, RuleTable, Shapes
from zoo.shared.convert.source import Source
from zoo.shared.errors import UserError
from zoo.shared.files import write_json

_P = "{p:weight|bias}"
OURS = "transformer.blocks.{i}"
# What `transformers` and OpenAI call a block's parts: ours, and whether its matrix is stored as (in, out).
PARTS = {
    "attn.c_attn": "attention.project",
    "attn.c_proj": "attention.out",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}
NORMS = {"gpt1": ("post_attention", "post_mlp"), "gpt2": ("pre_attention", "pre_mlp")}


def _hf_table(layout: str, names: Mapping[str, str]) -> RuleTable:
    rules = [Rule(theirs, ours) for theirs, ours in names.items()]
    for theirs, ours in PARTS.items():
        rules.append(Rule(f"h.{{i}}.{theirs}.weight", f"{OURS}.{ours}.weight", transform=TRANSPOSE))
        rules.append(Rule(f"h.{{i}}.{theirs}.bias", f"{OURS}.{ours}.bias"))
    for number, ours in enumerate(NORMS[layout], 1):
        rules.append(Rule(f"h.{{i}}.ln_{number}.{_P}", f"{OURS}.{ours}.{_P}"))
    return RuleTable(
        rules=[*rules, Rule("score.weight", "head.weight")],
        drop=("h.{i}.attn.{rest:bias|masked_bias}", "lm_head.weight", "positions_ids", "position_ids"),
        strip=("transformer.",),
    )


HF_TABLES = {
    "gpt1": _hf_table("gpt1", {"tokens_embed.weight": "tokens.weight", "positions_embed.weight": "positions.weight"}),
    "gpt2": _hf_table(
        "gpt2",
        {"wte.weight": "tokens.weight", "wpe.weight": "positions.weight", f"ln_f.{_P}": f"norm_out.{_P}"},
    ),
}


class GptConverter(Converter):
    """What the formats share."""

    def infer(self, shapes: Shapes) -> Recognised | None:
        """Sizes of a training checkpoint, which has zoo's own names."""
        return from_shapes(shapes, **_classes(shapes))


class HuggingFaceConverter(GptConverter):
    """``transformers.OpenAIGPTLMHeadModel`` and ``GPT2LMHeadModel``; with a head, ``...ForSequenceClassification``."""

    name = "hf"
    library = "transformers"

    def recognise(self, source: Source) -> Recognised | None:
        """Read ``config.json``; without it, take the names."""
        kinds = {"openai-gpt": "gpt1", "gpt2": "gpt2"}
        kind = source.config.get("model_type")
        if kind in kinds:
            return Recognised(config=hf_config(source, kinds[kind]))
        if source.config:
            return None
        for table in HF_TABLES.values():
            shapes = table.zoo_shapes(source.shapes)
            found = from_shapes(shapes, **_classes(shapes))
            if found is not None and "positions.weight" in shapes:
                return found
        return None

    def table(self, config: GptConfig) -> RuleTable:
        """Names of ``transformers``."""
        if config.layout not in HF_TABLES:
            raise UserError("transformers has no model of Talkie's layout; use `--to talkie`")
        if config.window is not None:
            raise UserError("transformers' GPT-2 has no banded attention; only GPT-3 models with window=null fit")
        return HF_TABLES[config.layout]

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write what ``AutoTokenizer`` and ``AutoModelForCausalLM`` load, or ``...ForSequenceClassification``."""
        config = config_of(model)
        state = self.foreign_state(model)
        end = None if preprocessor is None else preprocessor.tokenizer.end_of_text
        dtype = str(model.state_dict()["tokens.weight"].dtype).removeprefix("torch.")
        write_json(folder / "config.json", hf_settings(config, end, dtype))
        if end is not None:
            write_json(folder / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
        if preprocessor is not None:
            preprocessor.save(folder)
        named = {key if key == "score.weight" else f"transformer.{key}": tensor for key, tensor in state.items()}
        return save_tensors(folder / "model.safetensors", named)


_BLOCK = "blocks.{i}"
TALKIE_TABLE = RuleTable(
    rules=[
        Rule("embed.weight", "tokens.weight"),
        Rule(
            [f"{_BLOCK}.attn.attn_{part}.weight" for part in ("query", "key", "value")],
            f"{OURS}.attention.project.weight",
        ),
        Rule(f"{_BLOCK}.attn.attn_resid.weight", f"{OURS}.attention.out.0.weight"),
        Rule(f"{_BLOCK}.attn_gain.a_g", f"{OURS}.attention.out.1.gain"),
        Rule(f"{_BLOCK}.attn.head_gain.head_g", f"{OURS}.attention.condition.gain"),
        Rule(f"{_BLOCK}.mlp.mlp_gate.weight", f"{OURS}.mlp.0.gate.weight"),
        Rule(f"{_BLOCK}.mlp.mlp_linear.weight", f"{OURS}.mlp.0.up.weight"),
        Rule(f"{_BLOCK}.mlp.mlp_resid.weight", f"{OURS}.mlp.0.down.weight"),
        Rule(f"{_BLOCK}.mlp_gain.a_g", f"{OURS}.mlp.1.gain"),
        Rule(f"{_BLOCK}.embed_skip.a_g", "transformer.skips.{i}.gain"),
        Rule("lm_head", "output.weight"),
        Rule("lm_head_gain.w_g", "output_gain.gain"),
    ],
    spellings={"lm_head.weight": "lm_head"},
)


class TalkieConverter(GptConverter):
    """Talkie's checkpoints."""

    name = "talkie"
    library = "talkie"
    single_file = True

    def recognise(self, source: Source) -> Recognised | None:
        """Take the names."""
        if source.config or not any(key.endswith("blocks.0.embed_skip.a_g") for key in source.shapes):
            return None
        return from_shapes(TALKIE_TABLE.zoo_shapes(source.shapes), settled=True)

    def table(self, config: GptConfig) -> RuleTable:
        """Names of the release."""
        if config.layout != "talkie":
            raise UserError("this is a format of Talkie's layout; use `--to hf` or `--to zoo`")
        if config.classes:
            raise UserError("Talkie's format has no place for the head of a fine-tuned model; use `--to zoo`")
        return TALKIE_TABLE

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write a checkpoint."""
        state: dict[str, Tensor] = self.foreign_state(model)
        path = folder / "final.ckpt"
        torch.save({"model_state_dict": state}, path)
        sync(path)
        return path


def config_of(model: nn.Module) -> GptConfig:
    """The config of a GPT."""
    config = model.config
    assert isinstance(config, GptConfig)
    return config


def _classes(shapes: Shapes) -> dict[str, Any]:
    """What a head says of the config."""
    return {"classes": shapes["head.weight"][0]} if "head.weight" in shapes else {}


def hf_config(source: Source, layout: str) -> GptConfig:
    """The config of ``config.json``; what it leaves out has the defaults of ``transformers``."""
    settings, path = source.config, source.path
    defaults = {"gpt1": (40478, 512, "gelu"), "gpt2": (50257, 1024, "gelu_new")}[layout]
    sizes: dict[str, Any] = {
        name: settings.get(theirs, default)
        for name, theirs, default in (
            ("vocab_size", "vocab_size", defaults[0]),
            ("context", "n_positions", settings.get("n_ctx", defaults[1])),
            ("width", "n_embd", 768),
            ("depth", "n_layer", 12),
            ("heads", "n_head", 12),
        )
    }
    fixed = {
        "layer_norm_epsilon": 1e-5,
        "n_inner": 4 * sizes["width"] if isinstance(sizes["width"], int) else None,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }
    acts = ("gelu", "gelu_new") if layout == "gpt1" else ("gelu_new", "gelu_pytorch_tanh")
    reasons = [
        f"{name} {settings[name]}"
        for name, value in fixed.items()
        if settings.get(name) is not None and settings[name] != value
    ]
    act = settings.get("afn" if layout == "gpt1" else "activation_function", defaults[2])
    reasons += [f"activation {act}"] if act not in acts else []
    reasons += [f"{name} {value!r}" for name, value in sizes.items() if not isinstance(value, int) or value < 1]
    if reasons:
        raise UserError(f"{path} is a variant of GPT that zoo does not have: {', '.join(reasons)}")
    shapes = HF_TABLES[layout].zoo_shapes(source.shapes)
    found = from_shapes(shapes, window=None, layout=layout, **sizes, **_classes(shapes))
    if found is None:
        raise UserError(f"{path} says that it is a {settings['model_type']} model, but holds other tensors")
    return found.config


def hf_settings(config: GptConfig, end: int | None, dtype: str) -> dict[str, Any]:
    """``config.json`` of ``transformers``."""
    kinds = {
        "gpt1": ("openai-gpt", "OpenAIGPTLMHeadModel", {"afn": "gelu"}),
        "gpt2": ("gpt2", "GPT2LMHeadModel", {"activation_function": "gelu_new"}),
    }
    kind, name, act = kinds[config.layout]
    # It reads the last token that is no padding: any other than the one for reading out will do as padding.
    head = {"num_labels": config.classes, "pad_token_id": config.vocab_size - 3} if config.classes else {}
    ends = {} if end is None else {"bos_token_id": end, "eos_token_id": end}
    return {
        "model_type": kind,
        "architectures": [name.replace("LMHeadModel", "ForSequenceClassification") if head else name],
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_layer": config.depth,
        "n_head": config.heads,
        **act,
        **{f"{part}_pdrop": config.dropout for part in ("resid", "embd", "attn")},
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "dtype": dtype,
        **head,
        **ends,
    }


HF = HuggingFaceConverter()
TALKIE = TalkieConverter()
