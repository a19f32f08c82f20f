"""What the decoder is to write for an utterance (arXiv:2212.04356, Section 2.3, Figure 1).

``[previous text] start, language, task, [no timestamps], (time text time)*, end``. Nobody is to learn the text that
came before, so it does not count in the loss; everything behind the start does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zoo.shared.data.images import BadSample
from zoo.whisper.configs import FRAME_SECONDS
from zoo.whisper.speech.records import Segment, Utterance
from zoo.whisper.tokenizer import WhisperTokenizer

IGNORED = -100
"""Target that does not count in the loss."""


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """How targets are written.

    Attributes:
        context: Longest text in tokens.
        window: Seconds that the model hears.
        timestamps: Chance that times are written.
        previous: Chance that the text before is told, where there is some.
        dropout: Chance that a merge of the tokenizer is left out (BPE dropout; large-v2: 0.1).
    """

    context: int
    window: float
    timestamps: float = 0.5
    previous: float = 0.5
    dropout: float = 0.0


def write_targets(
    utterance: Utterance,
    tokenizer: WhisperTokenizer,
    options: TargetOptions,
    rng: np.random.Generator,
    *,
    timed: bool,
    seconds: float,
    stretch: float = 1.0,
) -> tuple[list[int], list[int]]:
    """Tokens that the decoder reads and those that it is to write.

    Args:
        utterance: What is said.
        tokenizer: The model's.
        options: How.
        rng: Decides whether the text before is told, and drops merges.
        timed: Whether times are written.
        seconds: Length of the sound as the model hears it.
        stretch: How much longer it has become than the utterance's own times say.

    Returns:
        Tokens and targets of the same length; a target stands where the token before it is read.

    Raises:
        BadSample: The text does not fit, or the model does not have its language.
    """
    told = rng.random() < options.previous
    generator = rng if options.dropout else None

    def encode(text: str) -> list[int]:
        return (
            tokenizer.encode(f" {text.strip()}", dropout=options.dropout, generator=generator) if text.strip() else []
        )

    specials = tokenizer.specials
    if utterance.no_speech:
        written = [specials.sot, specials.no_speech, specials.eot]
    else:
        known = specials.languages if tokenizer.multilingual else specials.languages[:1]
        if utterance.language not in known or (utterance.task == "translate" and not tokenizer.multilingual):
            raise BadSample(f"the model cannot {utterance.task} the language {utterance.language}")
        start = [*tokenizer.sot_sequence(utterance.language, utterance.task)]
        if timed:
            segments = utterance.segments or (Segment(0.0, seconds / stretch, utterance.text),)
            body = [part for segment in segments for part in _timed(segment, encode, tokenizer, options, stretch)]
        else:
            body = [specials.no_timestamps, *encode(_text(utterance))]
        written = [*start, *body, specials.eot]
    before = encode(utterance.prompt)[-(options.context // 2 - 1) :] if told else []
    head = [specials.sot_prev, *before] if before else []
    if len(head) + len(written) - 1 > options.context:
        head = []
    if len(written) - 1 > options.context:
        raise BadSample(f"its text has {len(written)} tokens, more than the context of {options.context}")
    tokens = [*head, *written]
    return tokens[:-1], [IGNORED] * len(head) + written[1:]


def _timed(
    segment: Segment,
    encode: Callable[[str], list[int]],
    tokenizer: WhisperTokenizer,
    options: TargetOptions,
    stretch: float,
) -> list[int]:
    """A segment with its times; one that the window cuts has only its beginning."""
    start, end = segment.start * stretch, None if segment.end is None else segment.end * stretch
    if start >= options.window:
        return []
    first = tokenizer.timestamp(start)
    if end is None or end > options.window + FRAME_SECONDS:
        return [first]
    last = max(tokenizer.timestamp(min(end, options.window)), first)
    return [first, *encode(segment.text), last]


def _text(utterance: Utterance) -> str:
    return utterance.text or " ".join(segment.text.strip() for segment in utterance.segments)
