"""The ids behind Whisper's text: what starts, ends, names and times a transcript. Imports no torch.

Robust Speech Recognition via Large-Scale Weak Supervision (Radford et al. 2022, arXiv:2212.04356), section 2.3 and
figure 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from zoo.shared.errors import UserError
from zoo.whisper.configs import FRAME_SECONDS
from zoo.whisper.languages import LANGUAGES

Task = Literal["transcribe", "translate"]
TASKS: tuple[Task, ...] = ("transcribe", "translate")

ENGLISH_TEXT_IDS = 50_256
"""Ids of text of the ``.en`` models: GPT-2's, without its end of text."""
MULTILINGUAL_TEXT_IDS = 50_257
"""Ids of text of the other models. The last one stands for no byte at all."""
_TIMESTAMP = re.compile(r"<\|\d+\.\d\d\|>")
_TAIL = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
_OLD_NAMES = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}

# Annotations that are not spoken: brackets, quotes, markup, music; see `non_speech_ids`.
_SIGNS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))", "[[", "]]", "{{", "}}"),
    *("♪♪", "♪♪♪"),
)
_NOTES = "♩♪♫♬♭♮♯"


def timestamp_count(audio_context: int) -> int:
    """Timestamps of a window: one at every state of the encoder and one at the end; 1,501 for 30 seconds."""
    return audio_context + 1


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The special ids of a vocabulary; all of them lie behind the ids of text, in the order of the fields below.

    Attributes:
        text_ids: How many ids stand for text.
        languages: Codes of the languages, in the order of their ids.
        timestamps: How many timestamps there are, 0.02 s apart, from 0.
    """

    text_ids: int
    languages: tuple[str, ...]
    timestamps: int = 1501

    def __post_init__(self) -> None:
        unknown = [code for code in self.languages if code not in LANGUAGES]
        if unknown:
            raise UserError(f"languages: {unknown[0]!r} is no code of Whisper's; use codes such as en, de, yue")
        if len(set(self.languages)) < len(self.languages):
            raise UserError(f"languages names one twice: {', '.join(self.languages)}")
        if self.text_ids < 1 or self.timestamps < 1:
            raise UserError(f"a vocabulary needs text and timestamps, not {self.text_ids} and {self.timestamps} ids")

    @property
    def eot(self) -> int:
        """``<|endoftext|>`` ends a transcript; every id from here on is no text."""
        return self.text_ids

    @property
    def sot(self) -> int:
        """``<|startoftranscript|>``."""
        return self.text_ids + 1

    @property
    def language_ids(self) -> range:
        """One id for each language."""
        return range(self.text_ids + 2, self.text_ids + 2 + len(self.languages))

    @property
    def translate(self) -> int:
        """``<|translate|>``: text in English, whatever is spoken."""
        return self.language_ids.stop

    @property
    def transcribe(self) -> int:
        """``<|transcribe|>``: text in the language that is spoken."""
        return self.language_ids.stop + 1

    @property
    def sot_lm(self) -> int:
        """``<|startoflm|>``, which no released model uses."""
        return self.language_ids.stop + 2

    @property
    def sot_prev(self) -> int:
        """``<|startofprev|>``, before the text that came before."""
        return self.language_ids.stop + 3

    @property
    def no_speech(self) -> int:
        """``<|nospeech|>``, in place of a language where nobody speaks."""
        return self.language_ids.stop + 4

    @property
    def no_timestamps(self) -> int:
        """``<|notimestamps|>``, before a transcript without times."""
        return self.language_ids.stop + 5

    @property
    def timestamp_begin(self) -> int:
        """``<|0.00|>``; every id from here on is a timestamp."""
        return self.language_ids.stop + 6

    @property
    def vocab_size(self) -> int:
        """All ids: every one is below it."""
        return self.timestamp_begin + self.timestamps

    @cached_property
    def names(self) -> tuple[str, ...]:
        """How each special id is spelled, from :attr:`eot` on."""
        times = [f"<|{index * FRAME_SECONDS:.2f}|>" for index in range(self.timestamps)]
        languages = [f"<|{code}|>" for code in self.languages]
        return ("<|endoftext|>", "<|startoftranscript|>", *languages, *_TAIL, *times)

    def language_id(self, code: str) -> int:
        """The id of a language.

        Raises:
            UserError: This vocabulary has no such language.
        """
        if code not in self.languages:
            known = ", ".join(self.languages[:8]) + (", ..." if len(self.languages) > 8 else "")
            raise UserError(f"this model has no language {code!r}; it has {known or 'none'}")
        return self.language_ids[self.languages.index(code)]

    def language_of(self, index: int) -> str:
        """The language of an id.

        Raises:
            UserError: The id is not one of a language.
        """
        if index not in self.language_ids:
            raise UserError(f"id {index} is no language; those are {self.language_ids.start} and up")
        return self.languages[self.language_ids.index(index)]

    def timestamp(self, seconds: float) -> int:
        """The id of the timestamp nearest to a time in the window.

        Args:
            seconds: From the start of the window.

        Raises:
            UserError: The window ends before it, or it is negative.
        """
        step = round(seconds / FRAME_SECONDS)
        if not 0 <= step < self.timestamps:
            end = (self.timestamps - 1) * FRAME_SECONDS
            raise UserError(f"{seconds} s lies outside of the window of {end:.2f} s; cut the sound into windows first")
        return self.timestamp_begin + step

    def seconds(self, index: int) -> float:
        """The time of a timestamp's id, in seconds from the start of the window.

        Raises:
            UserError: The id is no timestamp.
        """
        if not self.timestamp_begin <= index < self.vocab_size:
            raise UserError(f"id {index} is no timestamp; those are {self.timestamp_begin} and up")
        return round((index - self.timestamp_begin) * FRAME_SECONDS, 2)


def special_tokens_of(vocab_size: int) -> SpecialTokens:
    """The special ids of a released model, which follow from its number of ids.

    Args:
        vocab_size: 51,864 (the ``.en`` models), 51,865 (99 languages) or 51,866 (100, from large-v3 on).

    Raises:
        UserError: No released model has that many.
    """
    codes = tuple(LANGUAGES)
    known = {
        51_864: SpecialTokens(text_ids=ENGLISH_TEXT_IDS, languages=codes[:99]),
        51_865: SpecialTokens(text_ids=MULTILINGUAL_TEXT_IDS, languages=codes[:99]),
        51_866: SpecialTokens(text_ids=MULTILINGUAL_TEXT_IDS, languages=codes[:100]),
    }
    if vocab_size not in known:
        raise UserError(
            f"no released Whisper has {vocab_size} ids, but {', '.join(map(str, known))}; "
            "load the folder that holds the model's own tokenizer"
        )
    return known[vocab_size]


def special_tokens_in(tokens: Sequence[str]) -> SpecialTokens:
    """Read off a list of tokens, as other projects write them, where its special ids lie.

    Args:
        tokens: Every token by its id. Timestamps may be missing, as in early files: then there are those of 30 s.

    Raises:
        UserError: They are not Whisper's, or in another order.
    """
    named = [_OLD_NAMES.get(token, token) for token in tokens]
    try:
        text_ids, tail = named.index("<|endoftext|>"), named.index("<|translate|>")
    except ValueError as error:
        raise UserError("these are not Whisper's tokens: <|endoftext|> or <|translate|> is missing") from error
    times = sum(1 for token in named[tail:] if _TIMESTAMP.fullmatch(token))
    languages = tuple(token[2:-2] for token in named[text_ids + 2 : tail])
    specials = SpecialTokens(text_ids=text_ids, languages=languages, timestamps=times or 1501)
    found = named[text_ids:]
    for index, (token, wanted) in enumerate(zip(found, specials.names, strict=False), start=text_ids):
        if token != wanted:
            raise UserError(f"token {index} is {token!r}, where Whisper has {wanted!r}; the files are damaged")
    if len(found) not in (len(specials.names), len(specials.names) - specials.timestamps):
        raise UserError(
            f"{len(found)} special tokens are not the {len(specials.names)} of Whisper; the files are damaged"
        )
    return specials


def non_speech_ids(encode: Callable[[str], list[int]], length: Callable[[int], int]) -> tuple[int, ...]:
    """Ids of text that nobody speaks: speakers' names in brackets, music notes and the like (section 4.5).

    A sign counts, with or without a space before it, if it is one id. The notes count by their first id, because they
    share it with signs that are no speech either, as long as that id holds the two bytes they share: in a small
    vocabulary it may be a space, or a byte that half of all letters start with. Hyphen and apostrophe are speech
    within words, so only those behind a space count.

    Args:
        encode: Text to ids, without special ones.
        length: Bytes that an id stands for.

    Returns:
        Ids, ascending.
    """
    found = set()
    for sign in (*_SIGNS, *_NOTES):
        for spelled in (sign, f" {sign}"):
            ids = encode(spelled)
            shared = 2 + (len(spelled) - len(sign))
            if len(ids) == 1 or (sign in _NOTES and length(ids[0]) >= shared):
                found.add(ids[0])
    found |= {ids[0] for ids in (encode(" -"), encode(" '")) if len(ids) == 1}
    return tuple(sorted(found))
