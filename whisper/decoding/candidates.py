"""Finished texts of a window, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.whisper.decoding.options import DecodingOptions


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A text that has ended.

    Attributes:
        tokens: Its ids, without the end.
        log_probability: Of them and the end, in nats, after the rules; of a text that the limit ended, of the tokens.
    """

    tokens: list[int]
    log_probability: float

    def score(self, options: DecodingOptions) -> float:
        """What the choice goes by. An empty text counts as one of one token."""
        length = len(self.tokens)
        if options.length_penalty is None:
            return self.log_probability / max(length, 1)
        return self.log_probability / ((5 + length) / 6) ** options.length_penalty


def likeliest(candidates: Sequence[Candidate], options: DecodingOptions) -> Candidate:
    """The best of them; of equals the first."""
    return max(candidates, key=lambda candidate: candidate.score(options))
