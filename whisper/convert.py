"""Whisper weights from and to OpenAI's files, ``transformers`` and CTranslate2 (faster-whisper)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.shared.convert.ctranslate2 import write_ctranslate2
from zoo.shared.convert.formats import Converter, Recognised, save_pickle, save_tensors
from zoo.shared.convert.rules import RuleTable, Shapes
from zoo.shared.convert.source import Source
from zoo.shared.errors import UserError
from zoo.shared.files import write_json
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.hf_files import ct2_settings, generation_settings, hf_config, hf_settings, spelled
from zoo.whisper.names import CT2_SETTINGS, CT2_TABLE, HF_TABLE, OPENAI_TABLE
from zoo.whisper.sizes import from_shapes
from zoo.whisper.tokenizer import WhisperTokenizer


class WhisperConverter(Converter):
    """What the formats share."""

    def infer(self, shapes: Shapes) -> Recognised | None:
        """Sizes of a training checkpoint, which has zoo's own names."""
        return from_shapes(shapes)


class OpenAIConverter(WhisperConverter):
    """OpenAI's files: ``dims`` beside ``model_state_dict``."""

    name = "openai"
    library = "openai-whisper"
    single_file = True

    def recognise(self, source: Source) -> Recognised | None:
        """Take ``dims``; a bare state dict with OpenAI's names will do."""
        shapes = OPENAI_TABLE.zoo_shapes(source.shapes)
        if source.config or "encoder.conv1.weight" not in shapes:
            return None
        dims = source.metadata.get("dims")
        if not isinstance(dims, dict):
            return from_shapes(shapes)
        heads = {dims.get("n_audio_head"), dims.get("n_text_head")}
        if len(heads) != 1 or not isinstance(dims.get("n_audio_head"), int):
            raise UserError(f"{source.path}: its towers have {heads} heads; zoo has only Whispers with as many in both")
        return from_shapes(shapes, heads=heads.pop())

    def table(self, config: WhisperConfig) -> RuleTable:
        """OpenAI's names."""
        return OPENAI_TABLE

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write what ``whisper.load_model`` takes."""
        config = _config_of(model)
        if config.tokenizer == "bpe":
            raise UserError("openai-whisper brings its own tokenizers, not this model's; use `--to hf` or `--to zoo`")
        dims = {
            "n_mels": config.mels,
            "n_vocab": config.vocab_size,
            "n_audio_ctx": config.audio_context,
            "n_audio_state": config.width,
            "n_audio_head": config.heads,
            "n_audio_layer": config.audio_depth,
            "n_text_ctx": config.text_context,
            "n_text_state": config.width,
            "n_text_head": config.heads,
            "n_text_layer": config.text_depth,
        }
        return save_pickle(folder / "model.pt", {"dims": dims, "model_state_dict": self.foreign_state(model)})


class HuggingFaceConverter(WhisperConverter):
    """``transformers.WhisperForConditionalGeneration``."""

    name = "hf"
    library = "transformers"

    def recognise(self, source: Source) -> Recognised | None:
        """Read ``config.json``; without it, take the names."""
        shapes = HF_TABLE.zoo_shapes(source.shapes)
        if source.config:
            return hf_config(source, shapes) if source.config.get("model_type") == "whisper" else None
        return from_shapes(shapes) if "encoder.conv1.weight" in shapes and _has(source, "embed_positions") else None

    def table(self, config: WhisperConfig) -> RuleTable:
        """Names of ``transformers``."""
        return HF_TABLE

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write all that ``pipeline("automatic-speech-recognition", folder)`` reads."""
        config = _config_of(model)
        dtype = str(model.state_dict()["decoder.tokens.weight"].dtype).removeprefix("torch.")
        tokenizer: WhisperTokenizer | None = None if preprocessor is None else preprocessor.tokenizer
        write_json(folder / "config.json", hf_settings(config, tokenizer, dtype))
        if preprocessor is not None and tokenizer is not None:
            write_json(folder / "generation_config.json", generation_settings(config, tokenizer))
            preprocessor.save(folder)
        state = {f"model.{key}": tensor for key, tensor in self.foreign_state(model).items()}
        return save_tensors(folder / "model.safetensors", state)


class CTranslate2Converter(WhisperConverter):
    """What faster-whisper and CTranslate2 load."""

    name = "ctranslate2"
    library = "faster-whisper"

    def recognise(self, source: Source) -> Recognised | None:
        """Take CTranslate2's Whisper models; ``config.json`` has the heads that follow the words."""
        if source.kind != "ctranslate2":
            return None
        if source.metadata.get("spec") != "WhisperSpec":
            raise UserError(f"{source.path} holds a CTranslate2 model of another kind, {source.metadata.get('spec')}")
        heads: dict[str, Any] = {"heads": int(source.tensors["encoder/num_heads"])}
        if (found := source.config.get("alignment_heads")) is not None:
            heads["alignment_heads"] = found
        return from_shapes(CT2_TABLE.zoo_shapes(source.shapes), **heads)

    def table(self, config: WhisperConfig) -> RuleTable:
        """Names of CTranslate2."""
        return CT2_TABLE

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write a folder for ``faster_whisper.WhisperModel``."""
        config = _config_of(model)
        heads = torch.tensor(config.heads, dtype=torch.int16)
        settings: dict[str, Tensor] = {**CT2_SETTINGS, "encoder/num_heads": heads, "decoder/num_heads": heads}
        if preprocessor is None:
            raise UserError("CTranslate2 keeps the vocabulary with the weights, and this model's is not at hand")
        write_json(folder / "config.json", ct2_settings(config, preprocessor.tokenizer))
        write_json(folder / "vocabulary.json", spelled(preprocessor.tokenizer))
        preprocessor.save(folder)
        return write_ctranslate2(
            folder / "model.bin",
            self.foreign_state(model) | settings,
            spec="WhisperSpec",
            revision=3,
            aliases={"decoder/projection/weight": "decoder/embeddings/weight"},
        )


def _has(source: Source, word: str) -> bool:
    return any(word in key for key in source.shapes)


def _config_of(model: nn.Module) -> WhisperConfig:
    config = model.config
    assert isinstance(config, WhisperConfig)
    return config


OPENAI = OpenAIConverter()
HF = HuggingFaceConverter()
CTRANSLATE2 = CTranslate2Converter()
