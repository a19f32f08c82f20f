"""What decoding a window gives."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class DecodingResult:
    """The text of a window and how sure the model is of it.

    Attributes:
        language: Code of the spoken language.
        language_probs: Probability of each language, where it was heard and not given.
        tokens: Ids of text and timestamps, without the end.
        text: Their text, without spaces around it.
        avg_logprob: Log-probability of the tokens and the end, in nats, over their number.
        no_speech_prob: Probability of no speech where a transcript starts.
        temperature: What it was sampled with.
        compression_ratio: See :func:`compression_ratio`.
    """

    language: str
    language_probs: Mapping[str, float] | None = None
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    avg_logprob: float = math.nan
    no_speech_prob: float = math.nan
    temperature: float = math.nan
    compression_ratio: float = math.nan


def compression_ratio(text: str) -> float:
    """Bytes of a text over those that zlib makes of it: high for a text that repeats itself."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))
