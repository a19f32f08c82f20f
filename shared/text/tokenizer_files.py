"""Opening the tokenizer that a folder holds, whoever wrote it; what it is follows from the files' content."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoo.shared.errors import UserError
from zoo.shared.files import read_json
from zoo.shared.text.base import END_OF_TEXT, TextTokenizer
from zoo.shared.text.bytes import byte_alphabet
from zoo.shared.text.end_of_word import FINE_TUNING_SPECIALS, SUFFIX, UNKNOWN, EndOfWordTokenizer
from zoo.shared.text.ranks import parse_ranks
from zoo.shared.text.tokenizer import PATTERNS, ByteLevelTokenizer, Split
from zoo.shared.text.words import Words

# GPT-2's vocabulary is known by its fingerprint, whichever files it comes in.
_NAMES = {"fb0e391db0a72909": "gpt2"}
_SPECIAL = re.compile(r"<[^<>\s]+>")


def load_tokenizer(folder: str | Path) -> TextTokenizer:
    """Read a tokenizer.

    Args:
        folder: It holds, looked for in this order, ``tokenizer.json`` (zoo's, or of ``transformers``), ``vocab.json``
            and ``merges.txt`` (``transformers``), ``encoder.json`` and ``vocab.bpe`` (OpenAI's GPT-2),
            ``encoder_bpe_40000.json`` and ``vocab_40000.bpe`` (OpenAI's GPT-1), or ``vocab.txt`` (Talkie's ranks).

    Raises:
        UserError: None of them is there, one is damaged, they do not belong together, or they are of another kind.
    """
    folder = Path(folder)
    for names, read in _READERS.items():
        found = [name for name in names if (folder / name).exists()]
        if found and len(found) < len(names):
            missing = next(name for name in names if name not in found)
            raise UserError(f"{folder} has {found[0]} without {missing}; copy both from the same tokenizer")
        if found:
            try:
                return read(folder, _settings(folder))
            except UserError as error:
                raise error if str(folder) in str(error) else UserError(f"{folder}: {error}") from error
    raise UserError(f"{folder} holds no tokenizer; it needs {_wanted()}")


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a folder has any of the files that :func:`load_tokenizer` reads."""
    return any((Path(folder) / name).exists() for names in _READERS for name in names)


def from_merges(
    vocab: Mapping[str, int],
    merges: list[tuple[str, str]],
    *,
    settings: Mapping[str, Any] | None = None,
    added: Mapping[str, int] | None = None,
    split: Split = "gpt2",
    lonely: bool = False,
) -> TextTokenizer:
    """Build a tokenizer, of bytes or of words, from its vocabulary and merges.

    Args:
        vocab: Token to id, with or without the special tokens.
        merges: Pairs of tokens, from first to last.
        settings: Contents of ``tokenizer_config.json``.
        added: Tokens that are known to be special.
        split: How a tokenizer of bytes cuts text into words.
        lonely: Whether tokens that no merge makes are allowed; otherwise only special ones may be so.

    Raises:
        UserError: Vocabulary and merges do not belong together.
    """
    settings, added = settings or {}, dict(added or {})
    of_words = any(token.endswith(SUFFIX) for token in vocab)
    of_bytes = all(character in vocab for character in byte_alphabet())
    if of_words and of_bytes:
        raise UserError("this tokenizer is of bytes with ends of words, as CLIP's; no text family here has it")
    made = {left + right for left, right in merges}
    body = {token: index for token, index in vocab.items() if token not in added}
    rest = [t for t in body if t not in made and len(t.removesuffix(SUFFIX) if of_words else t) > 1]
    known = FINE_TUNING_SPECIALS if of_words else ()
    specials = added | {t: body.pop(t) for t in rest if t in known or _SPECIAL.fullmatch(t)}
    strange = [token for token in rest if token in body]
    if strange and not lonely:
        raise UserError(
            f"no merge makes the token {strange[0]!r} ({len(strange)} such); "
            "vocabulary and merges must come from the same tokenizer"
        )
    if of_words:
        unknown = {UNKNOWN: specials[UNKNOWN]} if UNKNOWN in specials else {}
        return EndOfWordTokenizer({**unknown, **body}, merges, words=_words(settings), specials=specials)
    name = settings.get("zoo_tokenizer", "bpe")
    tokenizer = ByteLevelTokenizer(body, merges, split=split, specials=specials, name=str(name))
    tokenizer.name = _NAMES.get(tokenizer.fingerprint, tokenizer.name)
    return tokenizer


def _words(settings: Mapping[str, Any]) -> Words | None:
    from zoo.shared.text.words import has_spacy

    words: Words | None = settings.get("zoo_words")
    if words is None and not has_spacy():
        warnings.warn(
            "spaCy is not installed, so words are split as transformers does it, not as GPT-1 was trained; "
            "`pip install 'paper-zoo[spacy]'` gives the paper's split",
            stacklevel=2,
        )
    return words


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.exists() else {}
    if not isinstance(settings, dict):
        raise UserError(f"{path} does not hold settings; copy it again")
    return settings


def _pairs(merges: Any, what: Path) -> list[tuple[str, str]]:
    """Merges from lines or from pairs."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise UserError(f"merge {number} of {what} is not a pair of tokens; copy the file again")
    return [(pair[0], pair[1]) for pair in pairs]


def _vocabulary(value: Any, what: Path) -> dict[str, int]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"{what} holds no vocabulary, which maps tokens to ids; copy it again")
    return value


def parse_merges(text: str, what: Path) -> list[tuple[str, str]]:
    """Read ``merges.txt`` or a ``.bpe`` file: a line that names the version, then a merge a line."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return _pairs([line for line in lines[lines[0].startswith("#version") :] if line], what)


def _read_two(vocab_name: str, merges_name: str) -> Callable[[Path, dict[str, Any]], TextTokenizer]:
    def read(folder: Path, settings: dict[str, Any]) -> TextTokenizer:
        vocab_path, merges_path = folder / vocab_name, folder / merges_name
        vocab = _vocabulary(read_json(vocab_path), vocab_path)
        try:
            text = merges_path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {merges_path}: {error}") from error
        return from_merges(vocab, parse_merges(text, merges_path), settings=settings)

    return read


def _read_tokenizer_json(folder: Path, settings: dict[str, Any]) -> TextTokenizer:
    path = folder / "tokenizer.json"
    value = read_json(path)
    try:
        model, added = value["model"], {token["content"]: token["id"] for token in value.get("added_tokens") or []}
        if model.get("type", "BPE") != "BPE":
            raise UserError(f"{path} is of the kind {model['type']}; GPT's tokenizers are BPE")
        vocab, merges = _vocabulary(model["vocab"], path), _pairs(model["merges"], path)
        lonely = bool(model.get("ignore_merges"))
        normalizer, cut = value.get("normalizer"), value.get("pre_tokenizer")
        kind = cut["type"] if cut else None
        if kind == "BertPreTokenizer":
            return from_merges(vocab, merges, settings=settings, added=added)
        split = None if normalizer else _split_of(cut)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: it lacks {error}; copy it again") from error
    if split is None:
        raise UserError(f"{path} cuts or normalises text in a way that is not GPT-1's, GPT-2's or Talkie's")
    return from_merges(vocab, merges, settings=settings, added=added, split=split, lonely=lonely)


def _split_of(cut: Any) -> Split | None:
    """Which of our splits a pre-tokenizer is."""
    if not cut:
        return None
    if cut["type"] == "ByteLevel":
        return "gpt2" if cut.get("use_regex", True) and not cut.get("add_prefix_space") else None
    parts = cut.get("pretokenizers", [])
    if [part["type"] for part in parts] != ["Split", "ByteLevel"] or parts[1].get("add_prefix_space"):
        return None
    pattern = parts[0]["pattern"].get("Regex")
    return next((split for split, known in PATTERNS.items() if known == pattern), None)


def _read_ranks(folder: Path, settings: dict[str, Any]) -> TextTokenizer:
    path = folder / "vocab.txt"
    try:
        ranks = parse_ranks(path.read_bytes(), what=str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    end = {END_OF_TEXT: max(ranks.values()) + 1}
    return ByteLevelTokenizer.from_ranks(ranks, split="talkie", specials=end, name="talkie")


_READERS: dict[tuple[str, ...], Callable[[Path, dict[str, Any]], TextTokenizer]] = {
    ("tokenizer.json",): _read_tokenizer_json,
    ("vocab.json", "merges.txt"): _read_two("vocab.json", "merges.txt"),
    ("encoder.json", "vocab.bpe"): _read_two("encoder.json", "vocab.bpe"),
    ("encoder_bpe_40000.json", "vocab_40000.bpe"): _read_two("encoder_bpe_40000.json", "vocab_40000.bpe"),
    ("vocab.txt",): _read_ranks,
}


def _wanted() -> str:
    return ", or ".join(" and ".join(names) for names in _READERS)
