"""The settings files of other projects' CLIP models, read to a config of ours and written from one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.clip.configs import ClipConfig
from zoo.shared.convert.source import Source
from zoo.shared.errors import UserError

# Settings of open_clip that change nothing about a trained model, or that are read elsewhere.
_OPEN_CLIP_IGNORED = {
    "vision": {
        "image_size", "layers", "width", "head_width", "patch_size", "patch_dropout", "output_tokens",
        "timm_model_name", "timm_model_pretrained", "timm_pool", "timm_drop", "timm_drop_path",
    },
    "text": {
        "context_length", "vocab_size", "width", "heads", "layers", "hf_tokenizer_name", "tokenizer_mode",
        "tokenizer_kwargs", "pad_id", "eos_id", "output_tokens", "hf_model_pretrained", "hf_proj_type",
        "hf_pooler_type",
    },
    "model": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "custom_text", "init_logit_scale", "output_dict"},
}  # fmt: skip
# The only values that zoo's model has of settings that change the model; None and False mean "off" everywhere.
_OPEN_CLIP_FIXED = {
    "mlp_ratio": 4.0,
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": "learnable",
    "proj_type": "linear",
    "timm_proj": "linear",
    "attn_pooler_queries": 256,
    "attn_pooler_heads": 8,
}


def _refuse(path: Path, reasons: list[str]) -> None:
    if reasons:
        raise UserError(f"{path} is a variant of CLIP that zoo does not have: {', '.join(reasons)}")


def _integer(settings: Mapping[str, Any], key: str, default: int | None, path: Path) -> int:
    value = settings.get(key, default)
    if isinstance(value, list | tuple) and len(set(value)) == 1:
        value = value[0]  # a square image size, spelled out
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{path}: {key}={value!r} in the settings must be a whole number")
    return value


def _made(path: Path, **fields: Any) -> ClipConfig:
    try:
        return ClipConfig(**fields)
    except (ValueError, TypeError) as error:
        raise UserError(f"the settings of {path} do not fit together: {error}") from error


# Hugging Face


def hf_config(source: Source) -> ClipConfig:
    """The config of ``config.json``; what it leaves out has the defaults of ``transformers``."""
    path, towers = source.path, {}
    for tower in ("text", "vision"):
        # files of early versions hold the values of `*_config_dict`, which then win
        towers[tower] = {
            key: value
            for part in (f"{tower}_config", f"{tower}_config_dict")
            for key, value in (source.config.get(part) or {}).items()
            if value is not None
        }
    text, vision = towers["text"], towers["vision"]
    text_width, vision_width = (_integer(t, "hidden_size", d, path) for t, d in ((text, 512), (vision, 768)))
    vocab_size = _integer(text, "vocab_size", 49408, path)
    acts = {settings.get("hidden_act", "quick_gelu") for settings in (text, vision)}
    reasons = [f"hidden_act {', '.join(sorted(acts))}"] if len(acts) > 1 or not acts <= {"quick_gelu", "gelu"} else []
    for name, settings, width, default in (("text", text, text_width, 2048), ("vision", vision, vision_width, 3072)):
        if settings.get("layer_norm_eps", 1e-5) != 1e-5:
            reasons.append(f"{name} layer_norm_eps {settings['layer_norm_eps']}")
        if settings.get("intermediate_size", default) != 4 * width:
            reasons.append(f"{name} intermediate_size {settings.get('intermediate_size', default)}, not {4 * width}")
    if vision.get("num_channels", 3) != 3:
        reasons.append(f"{vision['num_channels']} channels")
    # 2 is how early files spell "the largest id"
    if text.get("eos_token_id", vocab_size - 1) not in (2, vocab_size - 1):
        reasons.append(f"eos_token_id {text['eos_token_id']}, not the last of the vocabulary")
    _refuse(path, reasons)
    return _made(
        path,
        embed_dim=_integer(source.config, "projection_dim", 512, path),
        image_size=_integer(vision, "image_size", 224, path),
        patch_size=_integer(vision, "patch_size", 32, path),
        vision_width=vision_width,
        vision_depth=_integer(vision, "num_hidden_layers", 12, path),
        vision_heads=_integer(vision, "num_attention_heads", 12, path),
        text_width=text_width,
        text_depth=_integer(text, "num_hidden_layers", 12, path),
        text_heads=_integer(text, "num_attention_heads", 8, path),
        context=_integer(text, "max_position_embeddings", 77, path),
        vocab_size=vocab_size,
        activation=acts.pop(),
    )


def hf_settings(config: ClipConfig, *, dtype: str) -> dict[str, Any]:
    """``config.json`` of ``transformers`` for a config of ours."""
    shared = {
        "hidden_act": config.activation,
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "projection_dim": config.embed_dim,
        "initializer_factor": 1.0,
    }
    text = {
        "model_type": "clip_text_model",
        "hidden_size": config.text_width,
        "intermediate_size": 4 * config.text_width,
        "num_hidden_layers": config.text_depth,
        "num_attention_heads": config.text_heads,
        "max_position_embeddings": config.context,
        "vocab_size": config.vocab_size,
        "bos_token_id": config.vocab_size - 2,
        "eos_token_id": config.vocab_size - 1,
        "pad_token_id": 1,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": config.vision_width,
        "intermediate_size": 4 * config.vision_width,
        "num_hidden_layers": config.vision_depth,
        "num_attention_heads": config.vision_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": 3,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": 2.6592,
        "initializer_factor": 1.0,
        "dtype": dtype.removeprefix("torch."),
        "text_config": {**shared, **text},
        "vision_config": {**shared, **vision},
    }


# open_clip


def open_clip_config(settings: Mapping[str, Any], source: Source) -> ClipConfig:
    """The config of ``model_cfg``; what it leaves out has the defaults of open_clip."""
    path = source.path
    vision, text = settings.get("vision_cfg"), settings.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise UserError(f"{path}: open_clip_config.json has no vision_cfg and text_cfg")
    _refuse(path, _foreign_settings(vision, text, settings))
    kind, depth, heads = "vit", vision.get("layers", 12), 0
    width = _integer(vision, "width", 768, path)
    head_width = _integer(vision, "head_width", 64, path)
    fields: dict[str, Any] = {}
    if vision.get("timm_model_name"):
        kind = f"timm/{vision['timm_model_name']}"
        _check_pool(str(vision["timm_model_name"]), str(vision.get("timm_pool", "avg")), path)
    elif isinstance(depth, list | tuple):
        kind, depth, heads = "resnet", tuple(depth), width * 32 // head_width
        fields = {"vision_width": width, "vision_depth": depth, "vision_heads": heads}
    else:
        patch = _integer(vision, "patch_size", 16, path)
        depth, heads = _integer(vision, "layers", 12, path), width // head_width
        fields = {"vision_width": width, "vision_depth": depth, "vision_heads": heads, "patch_size": patch}
    return _made(
        path,
        vision=kind,
        embed_dim=_integer(settings, "embed_dim", None, path),
        image_size=_integer(vision, "image_size", 224, path),
        text_width=_integer(text, "width", 512, path),
        text_depth=_integer(text, "layers", 12, path),
        text_heads=_integer(text, "heads", 8, path),
        context=_integer(text, "context_length", 77, path),
        vocab_size=_integer(text, "vocab_size", 49408, path),
        activation="quick_gelu" if settings.get("quick_gelu") else "gelu",
        **fields,
    )


def _foreign_settings(vision: Mapping[str, Any], text: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """Settings that make another model than zoo's."""
    reasons = []
    for part, settings in (("vision", vision), ("text", text), ("model", model)):
        for key, value in settings.items():
            if key in _OPEN_CLIP_IGNORED[part] or value is None or value is False:
                continue
            fixed = _OPEN_CLIP_FIXED.get(key)
            if value != fixed and not (isinstance(fixed, tuple) and value in fixed):
                reasons.append(f"{part} {key}={value!r}")
    return reasons


def _check_pool(name: str, pool: str, path: Path) -> None:
    """Refuse a timm tower that pools in another way than timm's own default, which zoo's tower uses."""
    import timm

    if not timm.is_model(name):
        raise UserError(f"{path} needs the timm model {name!r}, which the installed timm {timm.__version__} lacks")
    if not pool:
        return
    default: Any = timm.create_model(name, num_classes=0)
    asked: Any = timm.create_model(name, num_classes=0)
    asked.reset_classifier(0, global_pool=pool)
    # A ViT keeps the name of its pooling, a convolutional net a module that shows it.
    if repr(default) != repr(asked) or _pool_name(default) != _pool_name(asked):
        _refuse(path, [f"timm_pool={pool!r}, which is not the default of {name}"])


def _pool_name(trunk: Any) -> str:
    pool = getattr(trunk, "global_pool", "")
    return pool if isinstance(pool, str) else ""


def open_clip_settings(config: ClipConfig) -> dict[str, Any]:
    """``model_cfg`` of open_clip for a config of ours."""
    vision: dict[str, Any] = {"image_size": config.image_size}
    if config.vision.startswith("timm/"):
        vision |= {
            "timm_model_name": config.vision.removeprefix("timm/"),
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
        }
    else:
        channels = config.vision_width if config.vision == "vit" else 32 * config.vision_width
        depth = config.vision_depth
        vision |= {
            "layers": list(depth) if isinstance(depth, tuple) else depth,
            "width": config.vision_width,
            "head_width": channels // config.vision_heads,
            "patch_size": config.patch_size if config.vision == "vit" else None,
        }
    text = {
        "context_length": config.context,
        "vocab_size": config.vocab_size,
        "width": config.text_width,
        "heads": config.text_heads,
        "layers": config.text_depth,
    }
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": config.activation == "quick_gelu",
        "vision_cfg": vision,
        "text_cfg": text,
    }
