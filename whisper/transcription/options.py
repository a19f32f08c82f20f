"""How a recording is transcribed. Imports no torch.

Names and defaults are those of ``whisper.transcribe``; sections are of Radford et al. 2022, arXiv:2212.04356.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from zoo.shared.errors import UserError
from zoo.whisper.languages import language_code
from zoo.whisper.tokens import TASKS

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True, kw_only=True)
class TranscriptionOptions:
    """Everything that can be chosen about a transcription."""

    language: str | None = None
    """Code or name of the spoken language; None: the likeliest one of the first window."""
    languages: tuple[str, ...] | None = None
    """Languages among which the likeliest one is sought; None: all that the model has."""
    task: str = "transcribe"
    """``transcribe``, or ``translate`` into English."""
    temperature: tuple[float, ...] = TEMPERATURES
    """Tried in turn until a window's text is good (section 4.5). One number will do."""
    best_of: int | None = None
    """Samples at temperatures above 0, of which the likeliest is taken."""
    beam_size: int | None = None
    """Beams at temperature 0; None: greedy."""
    patience: float | None = None
    """Beam search goes on until ``beam_size * patience`` texts have ended (arXiv:2204.05424)."""
    length_penalty: float | None = None
    """Exponent of ``(5 + length) / 6`` (arXiv:1609.08144); None: divide by the length."""
    sample_len: int | None = None
    """Longest text of a window in tokens; None: half of the context."""
    prefix: str | tuple[int, ...] | None = None
    """What the text of each window starts with."""
    suppress_tokens: str | tuple[int, ...] | None = "-1"
    """Ids never to be written, also as text with commas; -1 stands for all that is no speech."""
    suppress_blank: bool = True
    """Whether no text may start with a blank or be empty."""
    without_timestamps: bool = False
    """Write no times: each window is one segment."""
    max_initial_timestamp: float | None = 1.0
    """Latest start of a window's first segment, in seconds."""
    compression_ratio_threshold: float | None = 2.4
    """Text that zlib makes smaller than this repeats itself: try the next temperature."""
    logprob_threshold: float | None = -1.0
    """Text less likely than this, a token on average, is bad: try the next temperature."""
    no_speech_threshold: float | None = 0.6
    """Windows with more probability of no speech than this, and unlikely text, hold none."""
    condition_on_previous_text: bool = True
    """Whether each window is given the text before it."""
    initial_prompt: str | None = None
    """What the first window is given as the text before it: names, spelling, style."""
    carry_initial_prompt: bool = False
    """Give ``initial_prompt`` to every window."""
    hotwords: str | None = None
    """Words to expect, given to every window before the text before it."""
    word_timestamps: bool = False
    """Find the time of each word, and refine those of segments by them."""
    prepend_punctuations: str = PREPENDED
    """Signs that belong to the next word."""
    append_punctuations: str = APPENDED
    """Signs that belong to the word before."""
    clip_timestamps: tuple[float, ...] = (0.0,)
    """Start, end, start, end ... in seconds of what to transcribe; the last end may be left out. Text will do."""
    hallucination_silence_threshold: float | None = None
    """Skip silence longer than this many seconds where words between look invented; needs word times."""
    seed: int = 0
    """Seed of sampling at temperatures above 0."""
    compile: str | None = None
    """Backend of ``torch.compile`` for single steps; ``inductor`` uses CUDA graphs on a GPU."""

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("temperature", _numbers("temperature", self.temperature))
        put("clip_timestamps", _numbers("clip_timestamps", self.clip_timestamps))
        for name in ("prefix", "suppress_tokens"):
            value = getattr(self, name)
            put(name, value if value is None or isinstance(value, str) else tuple(int(token) for token in value))
        if self.language is not None:
            put("language", language_code(self.language))
        if self.languages is not None:
            names = self.languages.split(",") if isinstance(self.languages, str) else self.languages
            put("languages", tuple(dict.fromkeys(language_code(name) for name in names)))
        self._check()

    def _check(self) -> None:
        if self.task not in TASKS:
            raise UserError(f"task {self.task!r} is unknown; use {' or '.join(TASKS)}")
        if not self.temperature or min(self.temperature) < 0:
            raise UserError(f"temperature {self.temperature}: give one or several numbers from 0 up")
        for name in ("best_of", "beam_size", "sample_len"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if self.patience is not None and self.beam_size is None:
            raise UserError("patience is about beam search; give beam_size as well")
        if self.carry_initial_prompt and not self.initial_prompt:
            raise UserError("carry_initial_prompt needs an initial_prompt")
        if self.hallucination_silence_threshold is not None and not self.word_timestamps:
            raise UserError("hallucination_silence_threshold needs word_timestamps")
        if self.languages is not None and not self.languages:
            raise UserError("languages is empty; name at least one, or leave it out")
        if self.language is not None and self.languages is not None and self.language not in self.languages:
            raise UserError(f"language {self.language} is none of the languages {', '.join(self.languages)}")
        clips = self.clip_timestamps
        if any(later < earlier for earlier, later in pairwise(clips)) or (clips and clips[0] < 0):
            raise UserError(f"clip_timestamps must rise from 0: start,end,start,end ..., not {clips}")

    @classmethod
    def of(cls, base: TranscriptionOptions | None, changes: Mapping[str, Any]) -> TranscriptionOptions:
        """Options with some of them changed by name.

        Raises:
            UserError: There is no such option, or a value does not fit.
        """
        known = [field.name for field in fields(cls)]
        for name in changes:
            if name not in known:
                raise UserError(f"there is no option {name!r}; there are {', '.join(known)}")
        return replace(base or cls(), **changes)


def _numbers(name: str, value: float | str | Iterable[float]) -> tuple[float, ...]:
    """One number, several, or text with commas, as numbers."""
    if isinstance(value, int | float):
        return (float(value),)
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    try:
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be numbers, not {value!r}") from error
