"""Which language is spoken: the model's own answer after the token that starts a transcript.

Shapes: N windows, A states of sound, D width, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.shared.errors import UserError
from zoo.whisper.model import Whisper

if TYPE_CHECKING:
    from zoo.whisper.tokenizer import WhisperTokenizer


def detect_language(
    model: Whisper, tokenizer: WhisperTokenizer, audio: Tensor, *, languages: Sequence[str] | None = None
) -> list[dict[str, float]]:
    """Probability of each language in each window.

    Args:
        model: In ``eval()`` mode.
        tokenizer: Its tokenizer.
        audio: ``(N, A, D)`` from the encoder.
        languages: Codes of those that may be spoken; None: all.

    Returns:
        For each window code and probability, likeliest first.

    Raises:
        UserError: The model knows one language only, or not one that is named.
    """
    allowed = language_ids(tokenizer, languages)
    with torch.inference_mode():
        start = torch.full((len(audio), 1), tokenizer.specials.sot, device=audio.device)
        return language_probabilities(model.decoder(start, audio)[:, 0], tokenizer, allowed)


def language_ids(tokenizer: WhisperTokenizer, languages: Sequence[str] | None) -> list[int]:
    """Ids of the languages that may be spoken.

    Raises:
        UserError: As for :func:`detect_language`.
    """
    if not tokenizer.multilingual:
        raise UserError(
            "this model was trained on one language and cannot tell languages apart; use a multilingual one"
        )
    if languages is None:
        return list(tokenizer.all_language_ids)
    return [tokenizer.language_id(code) for code in languages]


def language_probabilities(logits: Tensor, tokenizer: WhisperTokenizer, allowed: list[int]) -> list[dict[str, float]]:
    """As :func:`detect_language`, from the logits ``(N, V)`` after the start."""
    codes = [tokenizer.language_of(index) for index in allowed]
    found = logits[:, allowed].float().softmax(-1).tolist()
    return [dict(sorted(zip(codes, row, strict=True), key=lambda pair: -pair[1])) for row in found]
