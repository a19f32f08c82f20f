"""Windows that are decoded together: one cache, one step at a time.

Shapes: N windows, R texts of each, B = N * R texts, T tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.whisper.decoding.compiled import Step, compiled_step, plain_step
from zoo.whisper.model import Whisper


class Session:
    """What has been heard and written so far.

    Args:
        model: In ``eval()`` mode.
        audio: ``(N, A, D)`` from the encoder.
        texts: Texts of each window, R.
        slots: Tokens of the longest text, padding included.
        compile: Backend of ``torch.compile`` for steps; shapes then never change, so windows stay to the end.
    """

    def __init__(self, model: Whisper, audio: Tensor, *, texts: int, slots: int, compile: str | None = None) -> None:
        self.decoder = model.decoder
        self.device = audio.device
        self.windows, self.texts = len(audio), texts
        self.fixed = compile is not None
        self._step: Step = plain_step
        # Until texts of a window differ they are computed once, unless shapes must stay.
        self.cache = self.decoder.new_cache(
            audio, texts=texts if self.fixed else 1, slots=slots, static=self.fixed, alone=texts == 1
        )
        if compile is not None:
            self._step, self.cache = compiled_step(self.decoder, self.cache, backend=compile, slots=slots)

    def at_start(self, sot: int) -> Tensor:
        """Logits ``(N, V)`` after the start alone; nothing is written."""
        rows = self.windows * self.texts if self.fixed else self.windows
        logits = self.decoder(torch.full((rows, 1), sot, device=self.device), cache=self.cache)
        self.cache.reset()
        return logits[:, 0].unflatten(0, (self.windows, -1))[:, 0]

    def begin(self, starts: Sequence[Sequence[int]], back: int) -> tuple[Tensor, Tensor]:
        """Write what texts start with.

        Args:
            starts: Ids of each window.
            back: How far before the last id the start of the transcript is.

        Returns:
            Logits ``(N, V)`` after the start of the transcript, and after everything.
        """
        longest = max(map(len, starts))
        rows = [[0] * (longest - len(start)) + list(start) for start in starts]
        tokens = torch.tensor(rows, device=self.device)
        padding = None
        if any(len(start) < longest for start in starts):
            missing = torch.tensor([[longest - len(start)] for start in starts], device=self.device)
            padding = torch.arange(longest, device=self.device) >= missing
        if self.fixed:
            tokens = tokens.repeat_interleave(self.texts, 0)
            padding = None if padding is None else padding.repeat_interleave(self.texts, 0)
        states = self.decoder.hidden(tokens, cache=self.cache, padding_mask=padding)
        if self.fixed:
            states = states[:: self.texts]
        elif self.texts > 1:
            self.cache.reorder(torch.arange(self.windows, device=self.device).repeat_interleave(self.texts))
        last = self.decoder.logits(states[:, -1]).float()
        return last if not back else self.decoder.logits(states[:, -1 - back]).float(), last

    def step(self, tokens: Tensor) -> Tensor:
        """Write ``tokens`` ``(B,)``; returns the logits ``(B, V)`` after them, which are the caller's to change."""
        return self._step(self.decoder, tokens[:, None], self.cache)

    def move(self, parents: Sequence[int]) -> None:
        """Put text ``parents[b]`` in the place of text ``b``, all of the same window."""
        changed = [(row, parent) for row, parent in enumerate(parents) if row != parent]
        if changed:
            rows, sources = torch.tensor(changed, device=self.device).unbind(1)
            self.cache.copy(rows, sources)

    def leave(self, windows: Sequence[int]) -> Tensor:
        """Go on with these windows only; returns the rows of their texts."""
        kept = torch.tensor(windows, device=self.device)
        rows = (kept[:, None] * self.texts + torch.arange(self.texts, device=self.device)).flatten()
        self.cache.reorder(rows)
        self.cache.keep_memory(kept)
        self.windows = len(windows)
        return rows
