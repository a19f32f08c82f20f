"""CLIP's weights from and to OpenAI's, open_clip's and Hugging Face's formats.

One table of names serves OpenAI and open_clip, which kept OpenAI's names, another one Hugging Face.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.clip.configs import ClipConfig
from zoo.clip.formats import hf_config, hf_settings, open_clip_config, open_clip_settings
from zoo.clip.sizes import from_shapes
from zoo.shared.convert.formats import Converter, Recognised, save_pickle, save_tensors
from zoo.shared.convert.rules import TRANSPOSE, Rule, RuleTable, Shapes
from zoo.shared.convert.source import Source
from zoo.shared.errors import UserError
from zoo.shared.files import write_json, write_text

_P = "{p:weight|bias}"
_BN = "{p:weight|bias|running_mean|running_var}"


def _count_from_zero(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def _batch_norm(foreign: str, zoo: str) -> list[Rule]:
    counter = "num_batches_tracked"
    return [
        Rule(f"{foreign}.{_BN}", f"{zoo}.{_BN}"),
        Rule(f"{foreign}.{counter}", f"{zoo}.{counter}", fill=_count_from_zero),
    ]


def _openai_blocks(foreign: str, zoo: str) -> list[Rule]:
    block, ours = f"{foreign}.resblocks.{{i}}", f"{zoo}.blocks.{{i}}"
    names = {
        "attn.in_proj_{p:weight|bias}": "attention.project.{p}",
        "attn.out_proj.{p:weight|bias}": "attention.out.{p}",
        "ln_1.{p:weight|bias}": "pre_attention.{p}",
        "ln_2.{p:weight|bias}": "pre_mlp.{p}",
        "mlp.c_fc.{p:weight|bias}": "mlp.up.{p}",
        "mlp.c_proj.{p:weight|bias}": "mlp.down.{p}",
    }
    return [Rule(f"{block}.{theirs}", f"{ours}.{own}") for theirs, own in names.items()]


def _openai_resnet() -> list[Rule]:
    rules = [Rule("visual.conv{i}.weight", "vision.stem.conv{i}.weight")]
    rules += _batch_norm("visual.bn{i}", "vision.stem.bn{i}")
    for stage in range(4):
        theirs, ours = f"visual.layer{stage + 1}.{{b}}", f"vision.stages.{stage}.{{b}}"
        rules += [
            Rule(f"{theirs}.conv{{i}}.weight", f"{ours}.conv{{i}}.weight"),
            Rule(f"{theirs}.downsample.0.weight", f"{ours}.shortcut.conv.weight"),
            *_batch_norm(f"{theirs}.bn{{i}}", f"{ours}.bn{{i}}"),
            *_batch_norm(f"{theirs}.downsample.1", f"{ours}.shortcut.bn"),
        ]
    rules.append(Rule("visual.attnpool.positional_embedding", "vision.pool.positions"))
    for theirs, ours in {"q_proj": "query", "k_proj": "key", "v_proj": "value", "c_proj": "out"}.items():
        rules.append(Rule(f"visual.attnpool.{theirs}.{_P}", f"vision.pool.{ours}.{_P}"))
    return rules


OPENAI_TABLE = RuleTable(
    rules=[
        Rule("visual.conv1.weight", "vision.patch.weight"),
        Rule("visual.class_embedding", "vision.class_token"),
        Rule("visual.positional_embedding", "vision.positions"),
        Rule(f"visual.ln_pre.{_P}", f"vision.norm_in.{_P}"),
        Rule(f"visual.ln_post.{_P}", f"vision.norm_out.{_P}"),
        Rule("visual.proj", "vision.projection"),
        *_openai_blocks("visual.transformer", "vision.transformer"),
        *_openai_resnet(),
        Rule("visual.trunk.{rest:*}", "vision.trunk.{rest:*}"),
        Rule("visual.head.proj.weight", "vision.projection.weight"),
        Rule("token_embedding.weight", "text.tokens.weight"),
        Rule("positional_embedding", "text.positions"),
        *_openai_blocks("transformer", "text.transformer"),
        Rule(f"ln_final.{_P}", f"text.norm_out.{_P}"),
        Rule("text_projection", "text.projection"),
        Rule("logit_scale", "logit_scale"),
    ],
    # Sizes that OpenAI stored as buffers, and the mask that TorchScript stores though it is computed.
    drop=("input_resolution", "context_length", "vocab_size", "attn_mask"),
    strip=("text.",),  # open_clip's models with `custom_text`
)


def _hf_blocks(tower: str, zoo: str) -> list[Rule]:
    layer, ours = f"{tower}.encoder.layers.{{i}}", f"{zoo}.transformer.blocks.{{i}}"
    names = {"layer_norm1": "pre_attention", "layer_norm2": "pre_mlp", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"}
    return [
        Rule([f"{layer}.self_attn.{x}_proj.{_P}" for x in "qkv"], f"{ours}.attention.project.{_P}"),
        Rule(f"{layer}.self_attn.out_proj.{_P}", f"{ours}.attention.out.{_P}"),
        *(Rule(f"{layer}.{theirs}.{_P}", f"{ours}.{own}.{_P}") for theirs, own in names.items()),
    ]


HF_TABLE = RuleTable(
    rules=[
        Rule("vision_model.embeddings.patch_embedding.weight", "vision.patch.weight"),
        Rule("vision_model.embeddings.class_embedding", "vision.class_token"),
        Rule("vision_model.embeddings.position_embedding.weight", "vision.positions"),
        Rule(f"vision_model.pre_layrnorm.{_P}", f"vision.norm_in.{_P}"),  # the format spells it so
        Rule(f"vision_model.post_layernorm.{_P}", f"vision.norm_out.{_P}"),
        Rule("visual_projection.weight", "vision.projection", transform=TRANSPOSE),
        *_hf_blocks("vision_model", "vision"),
        Rule("text_model.embeddings.token_embedding.weight", "text.tokens.weight"),
        Rule("text_model.embeddings.position_embedding.weight", "text.positions"),
        Rule(f"text_model.final_layer_norm.{_P}", f"text.norm_out.{_P}"),
        Rule("text_projection.weight", "text.projection", transform=TRANSPOSE),
        *_hf_blocks("text_model", "text"),
        Rule("logit_scale", "logit_scale"),
    ],
    drop=("{tower:text_model|vision_model}.embeddings.position_ids",),  # files of transformers before 4.31
)


class ClipConverter(Converter):
    """What the three formats share."""

    def infer(self, shapes: Shapes) -> Recognised | None:
        """Sizes of a training checkpoint, which has zoo's own names."""
        return from_shapes(shapes, "quick_gelu", settled=False)


class OpenAIConverter(ClipConverter):
    """OpenAI's archives, and plain state dicts with their names and their three sizes stored as tensors."""

    name = "openai"
    library = "clip"
    single_file = True

    def recognise(self, source: Source) -> Recognised | None:
        """Take archives, and state dicts that carry OpenAI's sizes; all of OpenAI's models are QuickGELU."""
        if source.config or (source.kind != "torchscript" and "input_resolution" not in source.shapes):
            return None
        return from_shapes(OPENAI_TABLE.zoo_shapes(source.shapes), "quick_gelu", settled=True)

    def table(self, config: ClipConfig) -> RuleTable:
        """OpenAI's names."""
        return OPENAI_TABLE

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write a state dict; its readers take QuickGELU and heads of width 64 for granted."""
        config = _config_of(model)
        if config.activation != "quick_gelu" or config.vision.startswith("timm/"):
            raise UserError("OpenAI's format has neither GELU nor timm towers; use `--to open_clip`")
        vision_heads = config.vision_width // (64 if config.vision == "vit" else 2)
        if (config.vision_heads, config.text_heads) != (vision_heads, config.text_width // 64):
            raise UserError("OpenAI's format cannot say heads that are not 64 wide; use `--to open_clip`")
        state = self.foreign_state(model)
        for key, value in {
            "input_resolution": config.image_size,
            "context_length": config.context,
            "vocab_size": config.vocab_size,
        }.items():
            state[key] = torch.tensor(value)
        return save_pickle(folder / "model.pt", state)


class OpenClipConverter(ClipConverter):
    """open_clip's folders (``open_clip_config.json``), and bare state dicts of its training."""

    name = "open_clip"
    library = "open_clip"

    def recognise(self, source: Source) -> Recognised | None:
        """Read ``model_cfg``; without it, take the names and assume open_clip's default activation."""
        settings = source.config.get("model_cfg")
        if "logit_bias" in source.shapes and "logit_scale" in source.shapes:
            raise UserError(f"{source.path} is a SigLIP model (it has logit_bias), which zoo does not have")
        if isinstance(settings, dict):
            return Recognised(config=open_clip_config(settings, source))
        if source.config:
            return None
        return from_shapes(OPENAI_TABLE.zoo_shapes(source.shapes), "gelu", settled=False)

    def table(self, config: ClipConfig) -> RuleTable:
        """OpenAI's names, which open_clip kept."""
        return OPENAI_TABLE

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write what ``open_clip.create_model_from_pretrained("local-dir:FOLDER")`` loads."""
        config = _config_of(model)
        write_json(
            folder / "open_clip_config.json",
            {"model_cfg": open_clip_settings(config), "preprocess_cfg": _open_clip_preprocess(preprocessor)},
        )
        if preprocessor is not None:
            preprocessor.save(folder)
        return save_tensors(folder / "open_clip_model.safetensors", self.foreign_state(model))


class HuggingFaceConverter(ClipConverter):
    """``transformers.CLIPModel``."""

    name = "hf"
    library = "transformers"

    def recognise(self, source: Source) -> Recognised | None:
        """Read ``config.json``; without it, take the names and assume the library's default activation."""
        if source.config.get("model_type") == "clip":
            return Recognised(config=hf_config(source))
        if source.config:
            return None
        return from_shapes(HF_TABLE.zoo_shapes(source.shapes), "quick_gelu", settled=False)

    def table(self, config: ClipConfig) -> RuleTable:
        """Names of ``transformers``, which has ViT towers only."""
        return HF_TABLE

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write what ``CLIPModel.from_pretrained`` and ``CLIPProcessor.from_pretrained`` load."""
        config = _config_of(model)
        if config.vision != "vit":
            raise UserError(f"Hugging Face's CLIP has no {config.vision} image towers; use `--to open_clip`")
        state = self.foreign_state(model)
        write_json(folder / "config.json", hf_settings(config, dtype=str(state["logit_scale"].dtype)))
        if preprocessor is not None:
            preprocessor.save(folder)
            _write_vocabulary(folder)
        return save_tensors(folder / "model.safetensors", state)


def _config_of(model: nn.Module) -> ClipConfig:
    config = model.config
    assert isinstance(config, ClipConfig)
    return config


def _write_vocabulary(folder: Path) -> None:
    """The tokenizer's files in the form that slow tokenizers read."""
    from zoo.clip.tokenizer import END_TOKEN, START_TOKEN, vocabulary

    vocab, merges = vocabulary()
    write_json(folder / "vocab.json", vocab)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")
    names = {"bos_token": START_TOKEN, "eos_token": END_TOKEN, "pad_token": END_TOKEN, "unk_token": END_TOKEN}
    write_json(folder / "special_tokens_map.json", names)


def _open_clip_preprocess(preprocessor: Any | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    if preprocessor is not None:
        settings |= {"mean": list(preprocessor.mean), "std": list(preprocessor.std)}
        settings |= {"size": preprocessor.image_size}
    return settings


HF = HuggingFaceConverter()
OPENAI = OpenAIConverter()
OPEN_CLIP = OpenClipConverter()
