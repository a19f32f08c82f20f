"""The tokenizer in the files of ``transformers``; ``faster-whisper`` reads one of them too."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from zoo.shared.text.bytes import spell
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.vocabulary import SETTINGS_KEY

_END = "<|endoftext|>"


def hf_tokenizer_files(tokenizer: WhisperTokenizer) -> dict[str, str]:
    """The files that ``WhisperTokenizer`` and ``WhisperProcessor`` of ``transformers`` open without a network.

    Special ids are special there, timestamps are not: that is how ``transformers`` tells them apart. It finds the id
    of a language by its place among Whisper's own, so prompts that it makes itself are right only if the tokenizer's
    languages are the first ones of :data:`zoo.whisper.languages.LANGUAGES`.

    Args:
        tokenizer: Any tokenizer of Whisper.

    Returns:
        Texts by the name of their file.
    """
    names = tokenizer.specials.names
    specials = names[: -tokenizer.specials.timestamps]
    vocab = {spell(piece): index for index, piece in enumerate(tokenizer.pieces[: tokenizer.eot])} | {
        _END: tokenizer.eot
    }
    merges = [f"{spell(left)} {spell(right)}" for left, right in tokenizer.merges]
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), _END)
    settings: dict[str, Any] = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        **ends,
        "additional_special_tokens": list(specials),
        "added_tokens_decoder": {
            str(index): _added(name, special=name in specials) for index, name in enumerate(names, start=tokenizer.eot)
        },
        SETTINGS_KEY: {"multilingual": tokenizer.multilingual},
    }
    return {
        "tokenizer.json": _rust(tokenizer, vocab, specials),
        "vocab.json": _json(vocab),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "added_tokens.json": _json({name: index for index, name in enumerate(names[1:], start=tokenizer.sot)}),
        "special_tokens_map.json": _json({**ends, "additional_special_tokens": list(specials)}),
        "normalizer.json": _spellings(),
        "tokenizer_config.json": _json(settings),
    }


def _added(name: str, *, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": name, **flags, "special": special}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _rust(tokenizer: WhisperTokenizer, vocab: dict[str, int], specials: tuple[str, ...]) -> str:
    """``tokenizer.json``."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE

    merges = [(spell(left), spell(right)) for left, right in tokenizer.merges]
    rust = Tokenizer(BPE(vocab=vocab, merges=merges))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    start = [("<|startoftranscript|>", tokenizer.sot), ("<|notimestamps|>", tokenizer.no_timestamps)]
    around = " ".join(name for name, _ in start)
    rust.post_processor = processors.TemplateProcessing(
        single=f"{around} $A {_END}",
        pair=f"{around} $A $B:1 {_END}:1",
        special_tokens=[*start, (_END, tokenizer.eot)],
    )
    rust.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    times = tokenizer.specials.names[len(specials) :]
    rust.add_tokens([AddedToken(name, special=False, normalized=False) for name in times])
    return str(rust.to_str(pretty=True))


def _spellings() -> str:
    """``normalizer.json``: British spellings and their American ones, which ``normalize=True`` asks for."""
    return (files("whisper_normalizer") / "normalizers" / "english.json").read_text(encoding="utf-8")
