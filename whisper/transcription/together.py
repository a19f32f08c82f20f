"""What windows that are decoded together say.

Shapes: N windows, A states of sound, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from zoo.whisper.decoding import DecodingResult, decode
from zoo.whisper.model import Whisper
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.transcription.fallback import is_good
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.segments import Segment, Window
from zoo.whisper.transcription.windows import decoding_options


def decode_until_good(
    model: Whisper,
    tokenizer: WhisperTokenizer,
    states: Tensor,
    options: TranscriptionOptions,
    *,
    language: str | None,
    prompt: Sequence[int],
) -> list[DecodingResult]:
    """The first good text of each window, or the last one; only bad ones are decoded again at the next temperature.

    Args:
        model: In ``eval()`` mode.
        tokenizer: Its tokenizer.
        states: ``(N, A, D)`` from the encoder.
        options: Temperatures and what is good.
        language: Code of the spoken language; None: each window's likeliest.
        prompt: Ids that every window is told came before.
    """
    results: dict[int, DecodingResult] = {}
    bad = list(range(len(states)))
    for temperature in options.temperature:
        chosen = decoding_options(options, language=language, temperature=temperature)
        chosen = replace(chosen, languages=options.languages)
        found = decode(model, tokenizer, states[bad], chosen, prompts=[prompt] * len(bad))
        results.update(zip(bad, found, strict=True))
        bad = [row for row in bad if not is_good(results[row], options)]
        if not bad:
            break
    return [results[row] for row in range(len(states))]


def segment_of(
    tokenizer: WhisperTokenizer, window: Window, part: tuple[float, float, list[int]], result: DecodingResult
) -> Segment:
    """A part of a window's text.

    Args:
        tokenizer: The model's.
        window: Where it lies in the recording.
        part: Start and end in the window, and ids.
        result: How the window was decoded.
    """
    start, end, tokens = part
    return Segment(
        seek=window.start,
        start=window.offset + start,
        end=window.offset + end,
        text=tokenizer.decode(tokens),
        tokens=tokens,
        temperature=result.temperature,
        avg_logprob=result.avg_logprob,
        compression_ratio=result.compression_ratio,
        no_speech_prob=result.no_speech_prob,
    )
