"""Text to ids and back: what every tokenizer of the text families offers.

Tokenizers are immutable. Their ids follow from their content alone, and :attr:`TextTokenizer.fingerprint` says which
content that is, so that token files and weights can be checked against each other.

Shapes: V ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoo.shared.errors import UserError

END_OF_TEXT = "<|endoftext|>"
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


class TextTokenizer(ABC):
    """Base of the tokenizers.

    Attributes:
        name: ``gpt1``, ``gpt2``, ``talkie``, ``talkie-chat``, or ``bpe`` for one's own.
        specials: Special tokens and their ids. No text becomes one unless ``specials=True`` asks for it.
        end_of_text: The id that separates documents; None where the paper has none.
        vocab_size: V; every id is below it.
    """

    name: str
    specials: dict[str, int]
    end_of_text: int | None

    @cached_property
    @abstractmethod
    def _pieces(self) -> list[bytes | None]:
        """The bytes of each id, ``V`` long; None where an id means nothing."""

    @abstractmethod
    def _content(self) -> Any:
        """All that decides the ids, as JSON."""

    @abstractmethod
    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of one text; a lone surrogate counts as U+FFFD.

        Args:
            text: Any length.
            specials: Read special tokens that are spelled out in the text as such. Never for text of others.
        """

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each of several texts, in parallel where the tokenizer can."""

    @abstractmethod
    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of bytes that need not be text; equal to :meth:`encode` where they are valid UTF-8."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the files that :meth:`load` and ``transformers`` read."""

    @staticmethod
    def load(folder: str | Path) -> TextTokenizer:
        """Read whatever tokenizer a folder holds; see :func:`zoo.shared.text.tokenizer_files.load_tokenizer`."""
        from zoo.shared.text.tokenizer_files import load_tokenizer

        return load_tokenizer(folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, vocab_size={self.vocab_size}, fingerprint={self.fingerprint})"

    @property
    def vocab_size(self) -> int:
        """V: every id is below it."""
        return len(self._pieces)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of ids, special tokens spelled out.

        Args:
            ids: A sequence, array or tensor of one dimension.

        Raises:
            UserError: An id is not of this vocabulary.
        """
        listed: list[int] = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        pieces, found = self._pieces, []
        for index in listed:
            piece = pieces[index] if 0 <= index < len(pieces) else None
            if piece is None:
                raise UserError(
                    f"token id {index} is not in the vocabulary of {self.name} ({len(pieces)} ids); "
                    "decode with the tokenizer that encoded"
                )
            found.append(piece)
        return b"".join(found)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD.

        Raises:
            UserError: An id is not of this vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def token_lengths(self) -> np.ndarray:
        """Bytes of text that each id stands for, 0 for special ones: ``(V,)``, int64."""
        lengths = np.array([len(piece or b"") for piece in self._pieces], dtype=np.int64)
        lengths[list(self.specials.values())] = 0
        return lengths

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over what decides the ids; equal for tokenizers that encode everything alike."""
        content = json.dumps(self._content(), ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(content.encode("ascii")).hexdigest()[:16]


def well_formed(text: str) -> str:
    """The text with lone surrogates, which have no UTF-8, replaced by U+FFFD."""
    return _LONE_SURROGATES.sub("\ufffd", text)


def rust_ids(rust: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts by a ``tokenizers.Tokenizer``, in parallel, without what it would add around them."""
    try:
        rows = rust.encode_batch_fast(texts, add_special_tokens=False)
    except TypeError:  # a lone surrogate: Rust's strings cannot hold it
        rows = rust.encode_batch_fast([well_formed(text) for text in texts], add_special_tokens=False)
    return [row.ids for row in rows]


def check_merges(vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> None:
    """Refuse a vocabulary with double ids, and merges of tokens that it does not hold.

    Raises:
        UserError: They do not belong together.
    """
    for token, index in vocab.items():
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 1 << 31:
            raise UserError(f"the vocabulary gives token {token!r} the id {index!r}; an id is a whole number from 0")
    if len(set(vocab.values())) < len(vocab):
        raise UserError("the vocabulary gives one id to two tokens; take it from its source again")
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in vocab:
                raise UserError(
                    f"the merge {left!r} + {right!r} needs the token {token!r}, which the vocabulary lacks; "
                    "vocabulary and merges must come from the same tokenizer"
                )
