"""The time of each word, read off the decoder's attention to sound.

The text is given to the decoder once more, without times, and the scores of the heads that follow the words are
aligned with it; see :mod:`zoo.whisper.transcription.alignment`.

Shapes: N windows, H heads, T tokens, A states of sound, C channels of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from zoo.shared.transformer import Block, Mask, sdpa_attention
from zoo.whisper.configs import Heads, WhisperConfig
from zoo.whisper.model import Decoder, Whisper
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.transcription.alignment import alignment_cost, warp
from zoo.whisper.transcription.segments import FRAMES_PER_STATE, Word

_STATES_PER_SECOND = 50


def alignment_heads(config: WhisperConfig) -> Heads:
    """Block and head of those that follow the words: the config's, or all of the decoder's upper half."""
    if config.alignment_heads is not None:
        return config.alignment_heads
    upper = range(config.text_depth // 2, config.text_depth)
    return tuple((block, head) for block in upper for head in range(config.heads))


class _Recorder:
    """An attention kernel that keeps the scores of some heads."""

    def __init__(self, heads: Sequence[int]) -> None:
        self.heads = list(heads)
        self.scores: Tensor | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, dropout: float = 0.0) -> Tensor:
        # Both are scaled, as in the reference, so that sums are rounded alike.
        scale = q.shape[-1] ** -0.25
        self.scores = (q[:, self.heads] * scale) @ (k[:, self.heads] * scale).transpose(-2, -1)
        return sdpa_attention(q, k, v, mask, dropout=dropout)


@contextmanager
def recorded_scores(decoder: Decoder, heads: Heads) -> Iterator[dict[tuple[int, int], Tensor]]:
    """Keep the cross-attention scores of some heads during a forward pass; other threads must not use the model.

    Args:
        decoder: Its kernels are replaced meanwhile.
        heads: Pairs of block and head.

    Yields:
        Filled at the end: scores ``(N, T, A)`` of each pair.
    """
    wanted: dict[int, list[int]] = {}
    for block, head in heads:
        wanted.setdefault(block, []).append(head)
    found: dict[tuple[int, int], Tensor] = {}
    recorders: dict[int, _Recorder] = {}
    kernels = {}
    for number, chosen in wanted.items():
        layer = decoder.transformer.blocks[number]
        assert isinstance(layer, Block)
        assert layer.cross is not None
        recorders[number], kernels[number] = _Recorder(chosen), (layer.cross, layer.cross.kernel)
        layer.cross.kernel = recorders[number]
    try:
        yield found
    finally:
        for cross, kernel in kernels.values():
            cross.kernel = kernel
    for number, recorder in recorders.items():
        assert recorder.scores is not None, "no forward pass was made"
        for place, head in enumerate(recorder.heads):
            found[number, head] = recorder.scores[:, place]


@torch.inference_mode()
def find_words(
    model: Whisper,
    tokenizer: WhisperTokenizer,
    states: Tensor,
    texts: Sequence[Sequence[int]],
    frames: Sequence[int],
    *,
    language: str | None,
    task: str = "transcribe",
) -> list[list[Word]]:
    """The words of some windows with their times, in seconds from the start of the window.

    Args:
        model: In ``eval()`` mode.
        tokenizer: Its tokenizer.
        states: ``(N, A, D)`` from the encoder.
        texts: Of each window the ids of its text, without timestamps.
        frames: Of each window how many frames hold sound.
        language: As for :meth:`WhisperTokenizer.sot_sequence`.
        task: The same.
    """
    start = [*tokenizer.sot_sequence(language, task), tokenizer.no_timestamps]
    room = model.config.text_context - len(start) - 1  # a longer text has no times at its end
    kept = [list(text[:room]) for text in texts]
    rows = [[*start, *text, tokenizer.eot] for text in kept]
    length = max(len(row) for row in rows)
    # Padding at the right is seen by nobody.
    tokens = torch.tensor([row + [tokenizer.eot] * (length - len(row)) for row in rows], device=states.device)
    heads = alignment_heads(model.config)
    with recorded_scores(model.decoder, heads) as scores:
        hidden = model.decoder.hidden(tokens, states)
    found: list[list[Word]] = []
    for window, (text, row) in enumerate(zip(kept, rows, strict=True)):
        if not text:
            found.append([])
            continue
        after = len(start) - 1  # the place whose logits are those of the first token of the text
        logits = model.decoder.logits(hidden[window, after : after + len(text)])[:, : tokenizer.eot]
        chosen = torch.tensor(text, device=logits.device)[:, None]
        probabilities = logits.float().softmax(-1).gather(1, chosen)[:, 0].tolist()
        held = max(1, frames[window] // FRAMES_PER_STATE)
        heard = torch.stack([scores[pair][window, : len(row), :held] for pair in heads])
        path = warp(alignment_cost(heard)[after:-1])
        found.append(_words(tokenizer, text, probabilities, path, language if task == "transcribe" else "en"))
    return found


def _words(
    tokenizer: WhisperTokenizer,
    text: list[int],
    probabilities: Sequence[float],
    path: tuple[np.ndarray, np.ndarray],
    language: str | None,
) -> list[Word]:
    """Words from a path through tokens (those of the text, then the end) and states."""
    spelled, parts = tokenizer.split_to_words([*text, tokenizer.eot], language)
    tokens, states = path
    begins = states[np.diff(tokens, prepend=-1).astype(bool)] / _STATES_PER_SECOND  # when each token begins
    bounds = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return [
        Word(
            text=word,
            tokens=part,
            start=float(begins[first]),
            end=float(begins[last]),
            probability=float(np.mean(probabilities[first:last])),
        )
        for word, part, first, last in zip(spelled[:-1], parts[:-1], bounds, bounds[1:], strict=False)
    ]
