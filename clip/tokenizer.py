"""CLIP's lower-cased byte-pair encoding: the ids of OpenAI's and open_clip's tokenizers.

The merges are run by the Rust ``tokenizers`` library, once for each distinct word. Cleaning and the split
into words are done here, because Rust's ideas of white space and of case differ from Python's on odd Unicode.

Shapes: N texts, T tokens (the context).
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from zoo.shared.errors import UserError
from zoo.shared.files import read_json, save_atomically, write_json
from zoo.shared.text.bytes import byte_alphabet

Policy = Literal["truncate", "error"]

START, END = 49406, 49407
VOCAB_SIZE = 49408
START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"
# The spelling that open_clip recognises inside of a text; OpenAI's own spelling has no such effect there.
_INLINE = {"<start_of_text>": START, "<end_of_text>": END}
_SUFFIX = "</w>"
_MERGES = VOCAB_SIZE - 2 * 256 - 2
_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
# What neither ftfy nor html.unescape touches, so that both can be skipped.
_PLAIN = re.compile(r"[\t\n\r -%'-~]*", re.ASCII)
_PLAIN_WORDS = re.compile(rf"{'|'.join(_INLINE)}|{_CONTRACTIONS}|[a-z]+|[0-9]|[^\sa-z0-9]+", re.ASCII)
_WORDS_KEPT = 1 << 18  # distinct words remembered, about 60 MB at most


@lru_cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token to id, and the merges from first to last, as ``vocab.json`` and ``merges.txt`` want them.

    They come from the file that open_clip carries, found without importing open_clip.

    Raises:
        UserError: open_clip is not installed.
    """
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("CLIP's vocabulary comes with open_clip; `pip install open_clip_torch`")
    path = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}; reinstall open_clip_torch") from error
    merges = [(left, right) for left, right in (line.split() for line in lines[1 : _MERGES + 1])]
    # The single bytes are listed in the order of their characters' code points, not of the bytes.
    singles = sorted(byte_alphabet())
    tokens = [*singles, *(s + _SUFFIX for s in singles), *(a + b for a, b in merges), START_TOKEN, END_TOKEN]
    return {token: index for index, token in enumerate(tokens)}, merges


@lru_cache
def _bpe() -> Any:
    from tokenizers.models import BPE

    vocab, merges = vocabulary()
    return BPE(vocab=vocab, merges=merges, end_of_word_suffix=_SUFFIX)


@lru_cache
def _names() -> list[str]:
    return list(vocabulary()[0])


@lru_cache
def _splitter() -> Callable[[str], list[str]]:
    import regex  # the standard library's re has no \p{L}

    pattern = rf"{'|'.join(_INLINE)}|{_CONTRACTIONS}|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"
    return regex.compile(pattern, regex.IGNORECASE).findall


_words: dict[str, tuple[int, ...]] = {}


def _word(word: str) -> tuple[int, ...]:
    """Ids of one word, computed once."""
    if word in _INLINE:
        ids: tuple[int, ...] = (_INLINE[word],)
    else:
        alphabet = byte_alphabet()
        spelled = "".join([alphabet[byte] for byte in word.encode("utf-8", "replace")])
        ids = tuple(token.id for token in _bpe().tokenize(spelled))
    if len(word) <= 64:
        if len(_words) >= _WORDS_KEPT:
            _words.clear()
        _words[word] = ids
    return ids


def _unescape(text: str) -> str:
    try:
        return html.unescape(html.unescape(text))
    except ValueError:  # a character reference of more digits than Python converts to a number
        return text


def clean(text: str) -> str:
    """Mend mojibake, unescape HTML twice, collapse white space, lower-case."""
    if not _PLAIN.fullmatch(text):
        import ftfy

        text = _unescape(ftfy.fix_text(text)).strip()
    return " ".join(text.split()).lower()


def encode(text: str) -> list[int]:
    """Ids of one text of any length, without start and end."""
    text = clean(text)
    words = _PLAIN_WORDS.findall(text) if text.isascii() and _PLAIN.fullmatch(text) else _splitter()(text)
    ids: list[int] = []
    for word in words:
        ids += _words.get(word) or _word(word)
    return ids


class ClipTokenizer:
    """Texts to ids: start 49406, end 49407, padded with zeros.

    Args:
        context: Tokens of a row, start and end included.
        policy: What happens to a text that is too long: ``truncate`` keeps its beginning and warns once,
            ``error`` raises.
    """

    start = START
    end = END
    vocab_size = VOCAB_SIZE

    def __init__(self, *, context: int = 77, policy: Policy = "truncate") -> None:
        if isinstance(context, bool) or not isinstance(context, int) or context < 3:
            raise UserError(f"context={context!r}: it must be a whole number, at least 3 (start, token, end)")
        if policy not in get_args(Policy):
            raise UserError(f"policy={policy!r} is unknown; use {' or '.join(get_args(Policy))}")
        self.context = context
        self.policy = policy
        self._warned = False

    def __repr__(self) -> str:
        return f"ClipTokenizer(context={self.context}, policy={self.policy!r})"

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Tokenize.

        Args:
            texts: One text or N of them.

        Returns:
            Ids ``(N, T)``, int64.

        Raises:
            UserError: Something is not a string, or too long under ``policy="error"``.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = np.zeros((len(texts), self.context), dtype=np.int64)
        rows[:, 0] = START
        room = self.context - 2
        for row, text in zip(rows, texts, strict=True):
            if not isinstance(text, str):
                raise UserError(f"a text must be a string, not {type(text).__name__}: {text!r:.60}")
            ids = encode(text)
            if len(ids) > room:
                self._too_long(text, len(ids) - room)
                ids = ids[:room]
            row[1 : len(ids) + 1] = ids
            row[len(ids) + 1] = END
        return torch.from_numpy(rows)

    def _too_long(self, text: str, cut: int) -> None:
        quoted = repr(text if len(text) <= 40 else text[:39] + "…")
        if self.policy == "error":
            raise UserError(f"text exceeds the context of {self.context} by {cut} tokens: {quoted}; shorten it")
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{cut} tokens were cut off a text that exceeds the context of {self.context}: {quoted} "
                "(said once; later ones are cut silently)",
                stacklevel=3,
            )

    def decode(self, ids: Tensor | Iterable[int]) -> str:
        """Turn one row of ids back into text, up to its end token.

        Args:
            ids: ``(T,)``; with or without start and end.
        """
        alphabet = {character: byte for byte, character in enumerate(byte_alphabet())}
        names, parts = _names(), []
        for index in torch.as_tensor(list(ids) if not isinstance(ids, Tensor) else ids).flatten().tolist():
            if index == END:
                break
            if index == START:
                continue
            if not 0 <= index < VOCAB_SIZE:
                raise UserError(f"token id {index} is outside of the vocabulary of {VOCAB_SIZE}")
            name = names[index]
            body = name.removesuffix(_SUFFIX)
            parts.append(bytes(alphabet[character] for character in body))
            if name != body:
                parts.append(b" ")
        return b"".join(parts).decode("utf-8", errors="replace").strip()

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` (the ``tokenizers`` library reads it) and ``tokenizer_config.json``."""
        folder = Path(folder)
        rust = to_rust()
        save_atomically(folder / "tokenizer.json", lambda path: rust.save(str(path)))
        settings = {
            "tokenizer_class": "CLIPTokenizer",
            "context": self.context,
            "policy": self.policy,
            "model_max_length": self.context,
            "do_lower_case": True,
            "bos_token": START_TOKEN,
            "eos_token": END_TOKEN,
            "pad_token": END_TOKEN,
            "unk_token": END_TOKEN,
        }
        write_json(folder / "tokenizer_config.json", settings)

    @classmethod
    def load(cls, folder: str | Path) -> ClipTokenizer:
        """Read what :meth:`save` wrote, or a folder of ``transformers``, or one without settings.

        Raises:
            UserError: The settings are damaged, or of a tokenizer with another vocabulary.
        """
        path = Path(folder) / "tokenizer_config.json"
        settings = read_json(path) if path.exists() else {}
        if not isinstance(settings, dict):
            raise UserError(f"{path} does not hold settings; write it again with `save`")
        kind = settings.get("tokenizer_class", "CLIPTokenizer")
        if kind not in ("CLIPTokenizer", "CLIPTokenizerFast"):
            raise UserError(f"{path} is of a {kind}; CLIP here has OpenAI's vocabulary only")
        context: Any = settings.get("context", settings.get("model_max_length", 77))
        # transformers writes 1e30 where it knows no limit
        known = isinstance(context, int) and context <= 1 << 20
        return cls(context=context if known else 77, policy=settings.get("policy", "truncate"))


def to_rust() -> Any:
    """The ``tokenizers.Tokenizer`` that ``transformers`` would build.

    It mends no mojibake and unescapes no HTML, so its ids equal ours on clean text only.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    vocab, merges = vocabulary()
    rust = Tokenizer(BPE(vocab=vocab, merges=merges, end_of_word_suffix=_SUFFIX, unk_token=END_TOKEN))
    rust.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(rf"{_CONTRACTIONS}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+")
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    rust.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(_SUFFIX, " ")])
    rust.post_processor = processors.TemplateProcessing(
        single=[START_TOKEN, "$A", END_TOKEN],
        pair=[START_TOKEN, "$A", END_TOKEN, "$B", END_TOKEN],
        special_tokens=[(START_TOKEN, START), (END_TOKEN, END)],
    )
    rust.add_special_tokens([AddedToken(START_TOKEN, special=True), AddedToken(END_TOKEN, special=True)])
    return rust
