"""How a window is decoded. Imports no torch.

The names are those of openai-whisper, whose results these options give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.shared.generation.options import COMPILERS

TASKS = ("transcribe", "translate", "lang_id")


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """Settings of :func:`zoo.whisper.decoding.decode.decode`."""

    task: str = "transcribe"
    """``transcribe``, ``translate`` into English, or ``lang_id``: only say which language is spoken."""
    language: str | None = None
    """Code of the spoken language; None: hear it."""
    languages: tuple[str, ...] | None = None
    """Codes of the languages that may be heard; None: all of them."""
    temperature: float = 0.0
    """What logits are divided by before sampling; 0 takes the likeliest token."""
    sample_len: int | None = None
    """Tokens at most; by default half of the context."""
    best_of: int | None = None
    """Samples, of which the likeliest is kept; with a temperature."""
    beam_size: int | None = None
    """Beams of a search; without a temperature."""
    patience: float | None = None
    """A search ends when this times ``beam_size`` texts have ended (Kasai et al. 2022, arXiv:2204.05424); 1."""
    length_penalty: float | None = None
    """Exponent, from 0 to 1, of ``(5 + length) / 6``, which a text's log-probability is divided by where one of several
    is chosen (Wu et al. 2016, arXiv:1609.08144, eq. 14); None: the length itself."""
    prompt: str | Sequence[int] | None = None
    """Text, or its ids, that came before the window."""
    prefix: str | Sequence[int] | None = None
    """Text, or its ids, that the window's own text starts with; it is no part of the result."""
    hotwords: str | None = None
    """Words to expect: they stand before the prompt, and take their room from it."""
    suppress_tokens: str | Sequence[int] | None = "-1"
    """Ids that never come, or a text of them with commas; -1: all that nobody speaks. None or empty: no id at all is
    suppressed, not even those that start a transcript."""
    suppress_blank: bool = True
    """Whether a text must not start with a space of its own, or be empty."""
    without_timestamps: bool = False
    """Whether to leave times out."""
    max_initial_timestamp: float | None = 1.0
    """The first timestamp is at most this many seconds; None or 0: any."""
    seed: int = 0
    """Seed of sampling. A sample follows from the seed, the temperature, what it starts with, and how many windows of
    the batch before it start with the same."""
    compile: str | None = None
    """Backend of ``torch.compile`` for the single steps; ``inductor`` uses CUDA graphs on a GPU."""

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r} is unknown; use {', '.join(TASKS)}")
        if isinstance(self.languages, str):
            raise ValueError("languages must be several codes, not one text; write (code,)")
        if self.languages is not None and not self.languages:
            raise ValueError("languages must not be empty; None allows all of them")
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be 0 (take the likeliest token) or more, not {self.temperature}")
        for name in ("sample_len", "best_of", "beam_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.beam_size is not None and self.best_of is not None:
            raise ValueError("beam_size and best_of exclude each other; search without a temperature, sample with one")
        if self.temperature == 0 and self.best_of is not None:
            raise ValueError("best_of chooses among samples; give a temperature above 0 with it, or beam_size instead")
        if self.temperature > 0 and self.beam_size is not None:
            raise ValueError("beam search does not sample; use temperature 0 with beam_size, or best_of instead")
        if self.patience is not None and self.beam_size is None:
            raise ValueError("patience is that of a beam search; give beam_size with it")
        if self.patience is not None and round((self.beam_size or 0) * self.patience) < 1:
            raise ValueError(f"patience {self.patience} keeps no text of {self.beam_size} beams; raise it")
        if self.length_penalty is not None and not 0 <= self.length_penalty <= 1:
            raise ValueError(f"length_penalty must be from 0 to 1, not {self.length_penalty}")
        if self.hotwords and self.prefix:
            raise ValueError("hotwords and prefix exclude each other; put the words into the prefix, or leave it out")
        if self.max_initial_timestamp is not None and not self.max_initial_timestamp >= 0:
            raise ValueError(f"max_initial_timestamp must be 0 seconds or more, not {self.max_initial_timestamp}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, not {self.seed}")
        if self.compile is not None and self.compile not in COMPILERS:
            raise ValueError(f"compile {self.compile!r} is unknown; use {' or '.join(COMPILERS)}")
        self.suppressed()

    @property
    def group(self) -> int:
        """Texts about each window at a time: beams or samples."""
        return self.beam_size or self.best_of or 1

    def suppressed(self) -> list[int]:
        """The ids of :attr:`suppress_tokens` as they are given.

        Raises:
            ValueError: The text holds something else.
        """
        given = self.suppress_tokens or ()
        try:
            return [int(index) for index in (given.split(",") if isinstance(given, str) else given)]
        except ValueError as error:
            raise ValueError(f"suppress_tokens {given!r} is no list of ids with commas between them") from error
