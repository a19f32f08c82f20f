"""Byte-pair encoding of bytes, as in GPT-2 and everything after it; the Rust ``tokenizers`` library runs it.

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), section 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from zoo.shared.errors import UserError
from zoo.shared.files import save_atomically, write_json, write_text
from zoo.shared.text.base import END_OF_TEXT, TextTokenizer, check_merges, rust_ids, well_formed
from zoo.shared.text.bytes import byte_alphabet, spell, unspell
from zoo.shared.text.ranks import format_ranks, merges_of_ranks

__all__ = ["END_OF_TEXT", "PATTERNS", "ByteLevelTokenizer", "Split", "TextTokenizer", "write_vocabulary"]

Split = Literal["gpt2", "talkie"]

_STRETCHES = re.compile("[\udc80-\udcff]+|[^\udc80-\udcff]+")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE, _AFTER = r"[^\r\n\p{L}\p{N}]?", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
# A word never crosses the borders that these patterns find: the first alternative that fits counts.
PATTERNS: dict[Split, str] = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # Words by their case, with one sign before and a contraction after; digits by three; signs with line ends.
    "talkie": "|".join(
        [
            f"{_BEFORE}{_UPPER}*{_LOWER}+{_AFTER}",
            f"{_BEFORE}{_UPPER}+{_LOWER}*{_AFTER}",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    ),
}


class ByteLevelTokenizer(TextTokenizer):
    """Any bytes to ids and back without loss.

    Args:
        vocab: Token, spelled in the byte alphabet, to id; without special tokens.
        merges: Pairs of tokens, from first to last.
        split: Which pattern cuts text into words.
        specials: Special tokens to ids.
        name: What the tokenizer is called.

    Raises:
        UserError: A byte is missing, or vocabulary and merges do not belong together.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        split: Split = "gpt2",
        specials: Mapping[str, int] | None = None,
        name: str = "bpe",
    ) -> None:
        if split not in get_args(Split):
            raise UserError(f"split={split!r} is unknown; use {' or '.join(get_args(Split))}")
        self.name, self.split = name, split
        self.specials = dict(specials or {})
        self.end_of_text = self.specials.get(END_OF_TEXT)
        self._vocab, self._merges = dict(vocab), list(merges)
        missing = [character for character in byte_alphabet() if character not in self._vocab]
        if missing:
            raise UserError(
                f"the vocabulary lacks {len(missing)} of the 256 single bytes ({missing[0]!r} first), "
                "so it is not one of bytes; take it from its source again"
            )
        check_merges({**self._vocab, **self.specials}, self._merges)

    @classmethod
    def from_ranks(
        cls, ranks: Mapping[bytes, int], *, split: Split, specials: Mapping[str, int], name: str = "bpe"
    ) -> ByteLevelTokenizer:
        """Build from ``tiktoken``'s ranks, where a pair may merge if it spells a token, lowest rank first.

        Args:
            ranks: Bytes of each token to its rank, which is its id.
            split: Which pattern cuts text into words.
            specials: Special tokens to ids.
            name: What the tokenizer is called.
        """
        vocab = {spell(token): rank for token, rank in ranks.items()}
        merges = [(spell(left), spell(right)) for left, right in merges_of_ranks(ranks)]
        return cls(vocab, merges, split=split, specials=specials, name=name)

    def with_specials(self, specials: Mapping[str, int], *, name: str) -> ByteLevelTokenizer:
        """The same tokenizer with more special tokens, as a chat model needs them."""
        merged = {**self.specials, **specials}
        return ByteLevelTokenizer(self._vocab, self._merges, split=self.split, specials=merged, name=name)

    def _content(self) -> Any:
        return ["bytes", PATTERNS[self.split], self._vocab, self._merges, self.specials]

    @cached_property
    def _pieces(self) -> list[bytes | None]:
        pieces: list[bytes | None] = [None] * (max([*self._vocab.values(), *self.specials.values()]) + 1)
        for token, index in self._vocab.items():
            try:
                pieces[index] = unspell(token)
            except KeyError as error:
                raise UserError(f"token {token!r} is not spelled in the byte alphabet; it must be a special") from error
        for token, index in self.specials.items():
            pieces[index] = token.encode("utf-8")
        return pieces

    @cached_property
    def _whole(self) -> bool:
        """Whether some token is reached by no merge, but only by a word that is spelled like it."""
        reached = {left + right for left, right in self._merges}
        return any(len(token) > 1 and token not in reached for token in self._vocab)

    def _rust(self, specials: Mapping[str, int]) -> Any:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
        from tokenizers.models import BPE

        vocab = {**self._vocab, **specials}
        rust = Tokenizer(BPE(vocab=vocab, merges=self._merges, ignore_merges=self._whole))
        if self.split == "gpt2":
            rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            words = pre_tokenizers.Split(Regex(PATTERNS[self.split]), behavior="isolated")
            spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            rust.pre_tokenizer = pre_tokenizers.Sequence([words, spelling])
        rust.decoder = decoders.ByteLevel()
        rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
        return rust

    @cached_property
    def _plain(self) -> Any:
        return self._rust({})

    @cached_property
    def _full(self) -> Any:
        return self._rust(dict(sorted(self.specials.items(), key=lambda item: item[1])))

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of one text; see :meth:`TextTokenizer.encode`."""
        return rust_ids(self._full if specials else self._plain, [text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, in parallel."""
        return rust_ids(self._plain, texts)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, which :meth:`decode_bytes` gives back; bytes that are no UTF-8 are words of their own."""
        try:
            return self.encode(data.decode("utf-8"))
        except UnicodeDecodeError:
            pass
        ids: list[int] = []
        model = self._plain.model
        # Each byte that is no UTF-8 becomes one lone surrogate, U+DC80 to U+DCFF.
        for part in _STRETCHES.findall(data.decode("utf-8", "surrogateescape")):
            if well_formed(part) == part:
                ids += self.encode(part)
            else:
                ids += [token.id for token in model.tokenize(spell(part.encode("utf-8", "surrogateescape")))]
        return ids

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and its settings; vocabulary and merges, or Talkie's ranks, beside it."""
        folder = Path(folder)
        save_atomically(folder / "tokenizer.json", lambda path: self._full.save(str(path)))
        settings: dict[str, Any] = {
            "tokenizer_class": "GPT2Tokenizer" if self.split == "gpt2" else "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "zoo_tokenizer": self.name,
        }
        if self.split == "gpt2":
            settings["add_prefix_space"] = False
        if self.end_of_text is not None:
            settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
        more = [token for token in self.specials if token != END_OF_TEXT]
        if more:
            settings["additional_special_tokens"] = more
        write_json(folder / "tokenizer_config.json", settings)
        if self.split == "talkie":
            ranks = {unspell(token): index for token, index in self._vocab.items()}
            write_text(folder / "vocab.txt", format_ranks(ranks))
        else:
            write_vocabulary(folder, {**self._vocab, **self.specials}, self._merges)


def write_vocabulary(folder: Path, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
    """Write ``vocab.json`` and ``merges.txt``."""
    write_json(folder / "vocab.json", dict(sorted(vocab.items(), key=lambda item: item[1])))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]))
