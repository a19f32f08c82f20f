"""The settings that ``transformers`` and CTranslate2 keep beside the weights."""

from __future__ import annotations

from typing import Any

from zoo.shared.convert.formats import Recognised
from zoo.shared.convert.rules import Shapes
from zoo.shared.convert.source import Source
from zoo.shared.errors import UserError
from zoo.shared.files import read_json
from zoo.shared.text.bytes import spell
from zoo.whisper.configs import SAMPLE_RATE, WhisperConfig
from zoo.whisper.sizes import from_shapes
from zoo.whisper.tokenizer import WhisperTokenizer

_FIRST_TIMESTAMP = 50  # the latest one a window may begin with, in steps of 0.02 s


def hf_config(source: Source, shapes: Shapes) -> Recognised:
    """The config of ``config.json``, and of ``generation_config.json`` beside it.

    Raises:
        UserError: It is a variant that zoo does not have.
    """
    settings = source.config
    pairs = {"heads": "attention_heads", "hidden": "ffn_dim"}
    reasons = [
        f"{name} {settings.get(f'encoder_{name}')} and {settings.get(f'decoder_{name}')}"
        for name in pairs.values()
        if settings.get(f"encoder_{name}") != settings.get(f"decoder_{name}")
    ]
    width = settings.get("d_model")
    fixed = {"activation_function": "gelu", "scale_embedding": False, "encoder_ffn_dim": 4 * (width or 0)}
    reasons += [f"{key} {settings[key]}" for key, value in fixed.items() if settings.get(key, value) != value]
    if not isinstance(settings.get("encoder_attention_heads"), int):
        reasons.append("no encoder_attention_heads")
    if reasons:
        raise UserError(f"{source.path} is a variant of Whisper that zoo does not have: {', '.join(reasons)}")
    known: dict[str, Any] = {"heads": settings["encoder_attention_heads"]}
    told = None if source.folder is None else source.folder / "generation_config.json"
    if told is not None and told.exists():
        content = read_json(told)
        heads = content.get("alignment_heads") if isinstance(content, dict) else None
        known |= {} if heads is None else {"alignment_heads": tuple(tuple(pair) for pair in heads)}
    found = from_shapes(shapes, **known)
    if found is None:
        raise UserError(f"{source.path} says that it is a Whisper model, but holds other tensors")
    return found


def hf_settings(config: WhisperConfig, tokenizer: WhisperTokenizer | None, dtype: str) -> dict[str, Any]:
    """``config.json`` of ``transformers``."""
    specials: dict[str, Any] = {}
    if tokenizer is not None:
        end, start = tokenizer.specials.eot, tokenizer.specials.sot
        specials = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    towers = {
        f"{tower}_{name}": value
        for tower, depth in (("encoder", config.audio_depth), ("decoder", config.text_depth))
        for name, value in (("layers", depth), ("attention_heads", config.heads), ("ffn_dim", 4 * config.width))
    }
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "is_encoder_decoder": True,
        "d_model": config.width,
        **towers,
        "num_hidden_layers": config.audio_depth,
        "num_mel_bins": config.mels,
        "max_source_positions": config.audio_context,
        "max_target_positions": config.text_context,
        "vocab_size": config.vocab_size,
        "activation_function": "gelu",
        "scale_embedding": False,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "activation_dropout": 0.0,
        "dtype": dtype,
        **specials,
    }


def feature_settings(config: WhisperConfig) -> dict[str, Any]:
    """``preprocessor_config.json`` of ``transformers``."""
    seconds = config.window_seconds
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": config.mels,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": int(seconds) if seconds == int(seconds) else seconds,
        "n_samples": config.window_samples,
        "nb_max_frames": 2 * config.audio_context,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def generation_settings(config: WhisperConfig, tokenizer: WhisperTokenizer) -> dict[str, Any]:
    """``generation_config.json`` of ``transformers``."""
    specials = tokenizer.specials
    settings: dict[str, Any] = {
        "bos_token_id": specials.eot,
        "eos_token_id": specials.eot,
        "pad_token_id": specials.eot,
        "decoder_start_token_id": specials.sot,
        "prev_sot_token_id": specials.sot_prev,
        "no_timestamps_token_id": specials.no_timestamps,
        "begin_suppress_tokens": _first_suppressed(tokenizer),
        "suppress_tokens": suppressed(tokenizer),
        "max_initial_timestamp_index": min(_FIRST_TIMESTAMP, config.audio_context),
        "max_length": config.text_context,
        "return_timestamps": False,
        "is_multilingual": tokenizer.multilingual,
    }
    if config.alignment_heads is not None:
        settings["alignment_heads"] = [list(pair) for pair in config.alignment_heads]
    if tokenizer.multilingual:
        settings["lang_to_id"] = {f"<|{code}|>": specials.language_id(code) for code in specials.languages}
        settings["task_to_id"] = {"translate": specials.translate, "transcribe": specials.transcribe}
    return settings


def ct2_settings(config: WhisperConfig, tokenizer: WhisperTokenizer) -> dict[str, Any]:
    """``config.json`` of CTranslate2."""
    heads = config.alignment_heads
    if heads is None:
        upper = range(config.text_depth // 2, config.text_depth)
        heads = tuple((block, head) for block in upper for head in range(config.heads))
    return {
        "alignment_heads": [list(pair) for pair in heads],
        "lang_ids": list(tokenizer.specials.language_ids),
        "suppress_ids": suppressed(tokenizer),
        "suppress_ids_begin": _first_suppressed(tokenizer),
    }


def suppressed(tokenizer: WhisperTokenizer) -> list[int]:
    """Ids that are never written: signs that nobody speaks, and marks that only a prompt has."""
    specials = tokenizer.specials
    marks = (
        specials.sot, specials.translate, specials.transcribe, specials.sot_lm, specials.sot_prev, specials.no_speech
    )  # fmt: skip
    return sorted({*tokenizer.non_speech_ids, *marks})


def _first_suppressed(tokenizer: WhisperTokenizer) -> list[int]:
    """Ids that no text begins with: a lone space, and the end."""
    return [tokenizer.encode(" ")[0], tokenizer.specials.eot]


def spelled(tokenizer: WhisperTokenizer) -> list[str]:
    """Every token by its id, as vocabularies of ``transformers`` spell bytes."""
    specials = tokenizer.specials
    return [*(spell(tokenizer.decode_bytes([index])) for index in range(specials.text_ids)), *specials.names]
