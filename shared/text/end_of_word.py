"""GPT-1's tokenizer: lower-cased words, byte-pair encoding of their characters with ``</w>`` on the last one.

Improving Language Understanding by Generative Pre-Training (Radford et al. 2018), section 4.1. It is not lossless:
case, accents (without spaCy), white space and characters that it never saw are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from zoo.shared.errors import UserError
from zoo.shared.files import save_atomically, write_json
from zoo.shared.text.base import TextTokenizer, check_merges, rust_ids, well_formed
from zoo.shared.text.tokenizer import write_vocabulary
from zoo.shared.text.words import NEWLINE, Words, bert_split, has_spacy, paper_words

SUFFIX = "</w>"
UNKNOWN = "<unk>"
FINE_TUNING_SPECIALS = ("_start_", "_delimiter_", "_classify_")
_WORDS_KEPT = 1 << 18  # distinct words remembered, about 60 MB at most


class EndOfWordTokenizer(TextTokenizer):
    """Words to ids, an unknown character to the id of ``<unk>``.

    Args:
        vocab: Token to id; the ends of words carry ``</w>``.
        merges: Pairs of tokens, from first to last.
        words: ``spacy`` splits as the paper does, ``bert`` as ``transformers`` does; by default spaCy's if installed.
        specials: Special tokens to ids, beside ``<unk>``.

    Raises:
        UserError: ``<unk>`` is missing, or vocabulary and merges do not belong together.
    """

    end_of_text = None

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        words: Words | None = None,
        specials: Mapping[str, int] | None = None,
    ) -> None:
        if words is not None and words not in get_args(Words):
            raise UserError(f"words={words!r} is unknown; use {' or '.join(get_args(Words))}")
        self.name = "gpt1"
        self.words: Words = words or ("spacy" if has_spacy() else "bert")
        self._vocab, self._merges = dict(vocab), list(merges)
        if UNKNOWN not in self._vocab:
            raise UserError(f"the vocabulary has no {UNKNOWN}; GPT-1's has it as id 0")
        self.specials = {UNKNOWN: self._vocab[UNKNOWN], **(specials or {})}
        check_merges({**self._vocab, **self.specials}, self._merges)
        self._seen: dict[str, list[int]] = {}

    def with_specials(self) -> EndOfWordTokenizer:
        """The same tokenizer with the start, delimiter and classify tokens of fine-tuning after its last id."""
        added = {token: len(self._pieces) + i for i, token in enumerate(FINE_TUNING_SPECIALS)}
        if not added.keys().isdisjoint(self.specials):
            return self
        return EndOfWordTokenizer(self._vocab, self._merges, words=self.words, specials={**self.specials, **added})

    def _content(self) -> Any:
        return ["words", self.words, self._vocab, self._merges, self.specials]

    @cached_property
    def _pieces(self) -> list[bytes | None]:
        pieces: list[bytes | None] = [None] * (max([*self._vocab.values(), *self.specials.values()]) + 1)
        for token, index in {**self._vocab, **self.specials}.items():
            body = token.removesuffix(SUFFIX)
            pieces[index] = (body if body == token else body + " ").encode("utf-8")
        return pieces

    @cached_property
    def _full(self) -> Any:
        from tokenizers import AddedToken

        rust = self._make_rust({**self._vocab, **self.specials})
        named = sorted(self.specials, key=lambda token: self.specials[token])
        rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in named])
        return rust

    @cached_property
    def _plain(self) -> Any:
        return self._make_rust(self._vocab)

    def _make_rust(self, vocab: Mapping[str, int]) -> Any:
        from tokenizers import Tokenizer, decoders
        from tokenizers.models import BPE

        model = BPE(vocab=dict(vocab), merges=self._merges, end_of_word_suffix=SUFFIX, unk_token=UNKNOWN)
        rust = Tokenizer(model)
        rust.normalizer, rust.pre_tokenizer = bert_split()
        rust.decoder = decoders.BPEDecoder(suffix=SUFFIX)
        return rust

    def _word(self, word: str) -> list[int]:
        """Ids of one word, computed once."""
        known = self._seen.get(word)
        if known is None:
            spelled = word.strip(" ") if word == NEWLINE else word
            known = [token.id for token in self._plain.model.tokenize(spelled)]
            if len(self._seen) >= _WORDS_KEPT:
                self._seen.clear()
            self._seen[word] = known
        return known

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of one text; see :meth:`TextTokenizer.encode`."""
        if specials:
            return self._with_specials(text)
        if self.words == "bert":
            return rust_ids(self._plain, [text])[0]
        return [index for word in paper_words(well_formed(text)) for index in self._word(word)]

    def _with_specials(self, text: str) -> list[int]:
        import re

        pattern = "|".join(re.escape(token) for token in sorted(self.specials, key=len, reverse=True))
        ids: list[int] = []
        for part in re.split(f"({pattern})", text):
            ids += [self.specials[part]] if part in self.specials else self.encode(part)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; in parallel unless spaCy splits."""
        return rust_ids(self._plain, texts) if self.words == "bert" else [self.encode(text) for text in texts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of bytes read as UTF-8; what is none counts as U+FFFD."""
        return self.encode(data.decode("utf-8", "replace"))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, without the space that the last word's end stands for."""
        return super().decode(ids).removesuffix(" ")

    def save(self, folder: str | Path) -> None:
        """Write the files of ``transformers``, whose split is ``bert``, and a note of the split that is used here."""
        folder = Path(folder)
        save_atomically(folder / "tokenizer.json", lambda path: self._full.save(str(path)))
        settings: dict[str, Any] = {
            "tokenizer_class": "OpenAIGPTTokenizer",
            "unk_token": UNKNOWN,
            "clean_up_tokenization_spaces": False,
            "zoo_tokenizer": self.name,
            "zoo_words": self.words,
        }
        more = [token for token in self.specials if token != UNKNOWN]
        if more:
            settings["additional_special_tokens"] = more
        write_json(folder / "tokenizer_config.json", settings)
        write_vocabulary(folder, {**self._vocab, **self.specials}, self._merges)
