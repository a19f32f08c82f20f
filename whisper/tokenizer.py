"""Whisper's tokenizer: byte-pair encoding of bytes, then the ids that start, name and time a transcript.

Robust Speech Recognition via Large-Scale Weak Supervision (Radford et al. 2022, arXiv:2212.04356), sections 2.2, 2.3.
Language and task are no state of it; they are given where they matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.shared.errors import UserError
from zoo.shared.files import write_text
from zoo.shared.text.base import well_formed
from zoo.shared.text.bytes import spell, unspell
from zoo.shared.text.ranks import merges_of_ranks
from zoo.shared.text.tokenizer import ByteLevelTokenizer
from zoo.whisper.dropout import drop_merges
from zoo.whisper.languages import LANGUAGES, UNSPACED, language_code
from zoo.whisper.tokens import TASKS, SpecialTokens, non_speech_ids
from zoo.whisper.word_pieces import split_at_characters, split_at_spaces

if TYPE_CHECKING:
    from zoo.whisper.configs import WhisperConfig


class WhisperTokenizer:
    """Text to ids and back, and the ids around it.

    Args:
        ranks: Bytes of each piece of text to its id, 0 and up without a gap; all 256 single bytes are among them. Of
            two merges the one into the lower id goes first.
        languages: Codes in the order of their ids, or how many of Whisper's own.
        multilingual: Whether a transcript starts with its language and task. The ``.en`` models have ids of languages
            but never use them.
        timestamps: How many timestamps, 0.02 s apart; see :func:`zoo.whisper.tokens.timestamp_count`.
        merges: Pairs that merge, from first to last; they follow from the ranks, but reading them is faster.

    Attributes:
        specials: Where the special ids lie. The ids themselves are also attributes: ``eot``, ``sot``, ``translate``,
            ``transcribe``, ``sot_lm``, ``sot_prev``, ``no_speech``, ``no_timestamps``, ``timestamp_begin``.
        languages: Codes of the languages, in the order of their ids.
        multilingual: See above.
        merges: Pairs that merge, from first to last.
        vocab_size: All ids; every one is below it.

    Raises:
        UserError: Ranks have gaps or lack bytes, or a language is unknown.
    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        *,
        languages: int | Sequence[str],
        multilingual: bool,
        timestamps: int = 1501,
        merges: Sequence[tuple[bytes, bytes]] | None = None,
    ) -> None:
        if sorted(ranks.values()) != list(range(len(ranks))):
            raise UserError(f"the ranks of {len(ranks)} pieces of text are not 0 to {len(ranks) - 1}; copy them again")
        if multilingual and not languages:
            raise UserError("a multilingual tokenizer needs languages")
        codes = tuple(LANGUAGES)[:languages] if isinstance(languages, int) else tuple(languages)
        specials = SpecialTokens(text_ids=len(ranks), languages=codes, timestamps=timestamps)
        self.specials, self.languages, self.multilingual = specials, codes, multilingual
        self.eot, self.sot = specials.eot, specials.sot
        self.translate, self.transcribe = specials.translate, specials.transcribe
        self.sot_lm, self.sot_prev = specials.sot_lm, specials.sot_prev
        self.no_speech, self.no_timestamps = specials.no_speech, specials.no_timestamps
        self.timestamp_begin, self.vocab_size = specials.timestamp_begin, specials.vocab_size
        self.merges = list(merges_of_ranks(ranks) if merges is None else merges)
        vocab = {spell(piece): rank for piece, rank in ranks.items()}
        self._text = ByteLevelTokenizer(vocab, [(spell(a), spell(b)) for a, b in self.merges], name="whisper")
        by_rank = sorted(ranks, key=lambda piece: ranks[piece])
        self._pieces = [*by_rank, *(name.encode("ascii") for name in specials.names)]

    @classmethod
    def for_model(cls, config: WhisperConfig) -> WhisperTokenizer:
        """The tokenizer of a model that is known by its config only.

        Raises:
            UserError: Its vocabulary comes with the weights, or is not at hand.
        """
        if config.tokenizer == "bpe":
            raise UserError("the vocabulary of this model was trained with it and comes with its weights: load them")
        from zoo.whisper.vocabulary import standard_tokenizer  # deferred: it builds tokenizers

        return standard_tokenizer(config.vocab_size)

    @classmethod
    def load(cls, folder: str | Path | None, config: WhisperConfig | None = None) -> WhisperTokenizer:
        """Read the tokenizer that lies beside weights, whoever wrote it.

        Args:
            folder: See :func:`zoo.whisper.vocabulary.read_tokenizer`. None: there is no folder, just a file.
            config: The model's, whose ids must be as many; without files its standard tokenizer is taken.

        Raises:
            UserError: Nothing is there, it is damaged, or it is another model's.
        """
        from zoo.whisper.vocabulary import has_tokenizer, read_tokenizer  # deferred: it builds tokenizers

        if config is not None and (folder is None or not has_tokenizer(folder)):
            return cls.for_model(config)
        if folder is None:
            raise UserError("a tokenizer is read from a folder; name the one that holds the weights")
        tokenizer = read_tokenizer(folder)
        if config is not None and tokenizer.vocab_size != config.vocab_size:
            raise UserError(
                f"the tokenizer in {folder} has {tokenizer.vocab_size} ids, but the model {config.vocab_size}; "
                "use the tokenizer that the model was trained with"
            )
        return tokenizer

    def save(self, folder: str | Path) -> None:
        """Write the files that :meth:`load`, ``transformers`` and ``faster-whisper`` read."""
        from zoo.whisper.hf_tokenizer import hf_tokenizer_files  # deferred: it knows this class

        for name, text in hf_tokenizer_files(self).items():
            write_text(Path(folder) / name, text)

    def __repr__(self) -> str:
        kind = f"{len(self.languages)} languages" if self.multilingual else "one language"
        return f"WhisperTokenizer({kind}, vocab_size={self.vocab_size})"

    # Text

    @property
    def pieces(self) -> Sequence[bytes]:
        """What each id is spelled like, ``vocab_size`` long."""
        return self._pieces

    def encode(self, text: str, *, dropout: float = 0.0, generator: np.random.Generator | None = None) -> list[int]:
        """Ids of text; what looks like a special token in it is text too.

        Args:
            text: A transcript starts with a space, as every word does.
            dropout: Chance that a merge is left out, for training (BPE dropout).
            generator: Draws the merges that are left out.

        Raises:
            UserError: The chance is none, or there is no generator to draw with.
        """
        if not dropout:
            return self._text.encode(text)
        if not 0 < dropout <= 1 or generator is None:
            raise UserError(f"dropout={dropout}: it must lie between 0 and 1, and needs a generator")
        words = self._cut.pre_tokenize_str(well_formed(text))
        parts = (drop_merges(unspell(word), self._merge_ranks, dropout, generator) for word, _ in words)
        return [self._ids[piece] for pieces in parts for piece in pieces]

    @cached_property
    def _cut(self) -> Any:
        from tokenizers.pre_tokenizers import ByteLevel

        return ByteLevel(add_prefix_space=False)

    @cached_property
    def _merge_ranks(self) -> dict[tuple[bytes, bytes], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {piece: index for index, piece in enumerate(self._pieces[: self.eot])}

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of the text in ids; special ids and timestamps stand for none.

        Raises:
            UserError: An id is not of this vocabulary.
        """
        return b"".join([self._pieces[index] for index in self._checked(ids) if index < self.eot])

    def decode(self, ids: Iterable[int]) -> str:
        """The text in ids, without special ids and timestamps; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_with_timestamps(self, ids: Iterable[int]) -> str:
        """The text of ids with special ids and timestamps spelled out, as in ``<|1.08|>``."""
        return b"".join([self._pieces[index] for index in self._checked(ids)]).decode("utf-8", "replace")

    def _checked(self, ids: Iterable[int]) -> list[int]:
        listed: list[int] = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        if listed and (min(listed) < 0 or max(listed) >= self.vocab_size):
            wrong = next(index for index in listed if not 0 <= index < self.vocab_size)
            raise UserError(
                f"token id {wrong} is not in the vocabulary of {self.vocab_size} ids; "
                "decode with the tokenizer that encoded"
            )
        return listed

    def split_to_words(self, ids: Iterable[int], language: str | None) -> tuple[list[str], list[list[int]]]:
        """Cut ids into words, at spaces and punctuation, or at characters where a language writes no spaces.

        Args:
            ids: Text, special ids, timestamps.
            language: Code of the language of the text; None where the model has just one.

        Returns:
            The words, with their spaces before them, and the ids of each.
        """
        split = split_at_characters if language in UNSPACED else split_at_spaces
        return split(self._checked(ids), self.decode_with_timestamps, self.eot)

    # Ids with a meaning of their own

    @property
    def all_language_ids(self) -> tuple[int, ...]:
        """The id of each language."""
        return tuple(self.specials.language_ids)

    def language_id(self, language: str) -> int:
        """The id of a language, by its code or name.

        Raises:
            UserError: The model does not have it.
        """
        return self.specials.language_id(language_code(language))

    def language_of(self, index: int) -> str:
        """The code of a language's id; see :meth:`SpecialTokens.language_of`."""
        return self.specials.language_of(index)

    def timestamp(self, seconds: float) -> int:
        """The id of a time in the window; see :meth:`SpecialTokens.timestamp`."""
        return self.specials.timestamp(seconds)

    def seconds(self, index: int) -> float:
        """The time of a timestamp's id; see :meth:`SpecialTokens.seconds`."""
        return self.specials.seconds(index)

    @cached_property
    def non_speech_ids(self) -> tuple[int, ...]:
        """Ids of text that nobody speaks, whatever the language; see :func:`zoo.whisper.tokens.non_speech_ids`."""
        return non_speech_ids(self.encode, lambda index: len(self._pieces[index]))

    def sot_sequence(self, language: str | None, task: str = "transcribe") -> tuple[int, ...]:
        """The ids that a transcript starts with: start, language, task; the start alone with one language.

        Args:
            language: Code or name of the spoken language. A model that is not multilingual needs none.
            task: ``transcribe``, or ``translate`` into English.

        Raises:
            UserError: The model cannot do it.
        """
        if task not in TASKS:
            raise UserError(f"task={task!r} is unknown; use {' or '.join(TASKS)}")
        if self.multilingual:
            if language is None:
                raise UserError("a multilingual model must be told the language, or detect it first")
            return (self.sot, self.language_id(language), self.translate if task == "translate" else self.transcribe)
        own = self.languages[0] if self.languages else "en"
        if task == "translate" or (language is not None and language_code(language) != own):
            raise UserError(
                f"this model transcribes {LANGUAGES[own]} only; use a multilingual one, such as whisper-tiny"
            )
        return (self.sot,)

    def prompt(
        self,
        language: str | None,
        task: str = "transcribe",
        *,
        timestamps: bool = True,
        previous: str | Sequence[int] = (),
        prefix: str | Sequence[int] = (),
        context: int = 448,
    ) -> list[int]:
        """All that the decoder is given before the first id it chooses.

        Args:
            language: As for :meth:`sot_sequence`.
            task: As for :meth:`sot_sequence`.
            timestamps: Whether the transcript is to have times.
            previous: Text, or its ids, that came before this window; its last ``context // 2 - 1`` ids are taken.
            prefix: Text, or its ids, that the transcript starts with.
            context: Longest text of the model, in ids.
        """
        before, start = self._given(previous), self._given(prefix)
        head = [self.sot_prev, *before[-(context // 2 - 1) :]] if before else []
        return [*head, *self.sot_sequence(language, task), *([] if timestamps else [self.no_timestamps]), *start]

    def _given(self, text: str | Sequence[int]) -> list[int]:
        if not isinstance(text, str):
            return list(text)
        return self.encode(f" {text.strip()}") if text.strip() else []
