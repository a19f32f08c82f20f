"""Decode again, hotter, until the text is good (Radford et al. 2022, arXiv:2212.04356, section 4.5). No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.whisper.decoding.decode import DecodingResult
    from zoo.whisper.transcription.options import TranscriptionOptions


def is_unlikely(result: DecodingResult, options: TranscriptionOptions) -> bool:
    """Whether a text's tokens are too improbable."""
    return options.logprob_threshold is not None and result.avg_logprob < options.logprob_threshold


def is_repetitive(result: DecodingResult, options: TranscriptionOptions) -> bool:
    """Whether a text compresses too well."""
    limit = options.compression_ratio_threshold
    return limit is not None and result.compression_ratio > limit


def hears_nobody(result: DecodingResult, options: TranscriptionOptions) -> bool:
    """Whether the model says that nobody speaks."""
    return options.no_speech_threshold is not None and result.no_speech_prob > options.no_speech_threshold


def is_silence(result: DecodingResult, options: TranscriptionOptions) -> bool:
    """Whether a window is to be skipped: nobody speaks, and the text is not likely enough to say otherwise."""
    likely = options.logprob_threshold is not None and result.avg_logprob > options.logprob_threshold
    return hears_nobody(result, options) and not likely


def is_good(result: DecodingResult, options: TranscriptionOptions) -> bool:
    """Whether a window needs no higher temperature; bad text of silence needs none."""
    if hears_nobody(result, options) and is_unlikely(result, options):
        return True
    return not (is_unlikely(result, options) or is_repetitive(result, options))


def decode_with_fallback(decode_at: Callable[[float], DecodingResult], options: TranscriptionOptions) -> DecodingResult:
    """The first good text, or the last one.

    Args:
        decode_at: Decodes the window at a temperature.
        options: Temperatures and what is good.
    """
    *others, last = options.temperature
    for temperature in others:
        result = decode_at(temperature)
        if is_good(result, options):
            return result
    return decode_at(last)
