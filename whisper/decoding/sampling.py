"""Greedy decoding, and samples among which the likeliest is kept.

Shapes: N windows, R samples of each, B = N * R texts, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoo.shared.generation.logits import draw
from zoo.whisper.decoding.candidates import Candidate
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.rules import Rules
from zoo.whisper.decoding.session import Session


class _Texts:
    """The samples of a window in the making."""

    def __init__(self, count: int, room: int) -> None:
        self.room = room
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.ended = [False] * count
        self.steps = 0

    def take(self, tokens: Sequence[int], end: int) -> bool:
        """Add a token to each; returns whether the window is done."""
        self.steps += 1
        for row, token in enumerate(tokens):
            if token == end:
                self.ended[row] = True
            elif not self.ended[row]:
                self.tokens[row].append(token)
        return all(self.ended) or self.steps == self.room


def sample(
    session: Session,
    logits: Tensor,
    rules: Rules,
    options: DecodingOptions,
    *,
    starts: Sequence[Sequence[int]],
    rooms: Sequence[int],
) -> list[list[Candidate]]:
    """Write the texts of each window.

    Args:
        session: Holds what they start with.
        logits: ``(N, V)`` after it.
        rules: What may come.
        options: How.
        starts: What each window's texts start with, which their random numbers follow from.
        rooms: Tokens that the texts of each window may have.
    """
    texts = session.texts
    uniforms = _uniforms(starts, rooms, options) if options.temperature > 0 else None
    logits = logits.repeat_interleave(texts, 0)  # a copy: the rules write into it
    state = rules.start(len(logits))
    found = [_Texts(texts, room) for room in rooms]
    live, going = list(range(len(found))), list(range(len(found)))
    sums = torch.zeros(len(logits), device=logits.device)
    results = [sums] * len(found)
    alive = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    for count in range(max(rooms)):
        rules.apply(logits, state, first=count == 0)
        if uniforms is None:
            values, tokens = logits.max(-1)
        else:
            tokens = draw(logits / options.temperature, uniforms[:, count].to(logits.device))
            values = logits.gather(-1, tokens[:, None])[:, 0]
        # Another tensor for each step: windows that are done keep the one they ended with.
        sums = sums + (values - logits.logsumexp(-1)) * alive
        alive = alive & (tokens != rules.eot)
        listed = tokens.tolist()
        for place, window in enumerate(live):
            if window in going and found[window].take(listed[place * texts : (place + 1) * texts], rules.eot):
                going.remove(window)
                results[window] = sums[place * texts : (place + 1) * texts]
        if not going:
            break
        if not session.fixed and 2 * len(going) <= len(live):  # moving the cache costs, so not for each that ends
            rows = session.leave([live.index(window) for window in going])
            live, tokens, sums, alive = list(going), tokens[rows], sums[rows], alive[rows]
            uniforms = None if uniforms is None else uniforms[rows.cpu()]
            if state is not None:
                state.select(rows)
        if state is not None:
            state.advance(tokens)
        logits = session.step(tokens)
    return [
        [Candidate(tokens=ids, log_probability=total) for ids, total in zip(one.tokens, sums.tolist(), strict=True)]
        for one, sums in zip(found, results, strict=True)
    ]


def _uniforms(starts: Sequence[Sequence[int]], rooms: Sequence[int], options: DecodingOptions) -> Tensor:
    """The random numbers of all steps, float64 ``(B, steps)``."""
    seen: Counter[tuple[int, ...]] = Counter()
    rows = []
    for start in starts:
        key = tuple(start)
        entropy = [options.seed, round(options.temperature * 1e6), seen[key], *key]
        rows.append(np.random.default_rng(entropy).random((max(rooms), options.group)).T)
        seen[key] += 1
    return torch.from_numpy(np.concatenate(rows))
