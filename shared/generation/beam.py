"""Beam search.

What papers leave open is done as in `transformers`: of the 2K likeliest continuations of K beams, the first K may end
a text there and the first K that do not end go on; a search is over when K results are kept and its best running beam,
taken at its present length, is no better than the worst of them.

GPT-3 (Section 2.4) takes 4 beams and a length penalty of 0.6 from T5 (Raffel et al. 2020), whose library divides by
``((5 + length) / 6) ** 0.6`` (Wu et al. 2016, eq. 14): ``length_convention="gnmt"``.

Shapes: R running beams of all texts, T tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from zoo.shared.generation.batch import Batch, Generated
from zoo.shared.generation.logits import penalise_repetition
from zoo.shared.generation.options import GenerationOptions


@dataclass(frozen=True, kw_only=True)
class Beam:
    """The beginning of a text.

    Attributes:
        tokens: The new tokens.
        log_probabilities: Of each, under the model itself.
        score: What is searched for: their sum, unless a repetition penalty changes it.
        parent: Row of the logits, before the last token, of the beam that this one continues.
        finish: How the text ended with the last token; None if it goes on.
    """

    tokens: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    score: float = 0.0
    parent: int = 0
    finish: str | None = None


@dataclass(kw_only=True)
class Search:
    """The search for the continuation of one prompt.

    Attributes:
        prompt: The prompt.
        room: Tokens that may follow it.
        beams: The running beams, best first.
        results: Normalised scores of the best texts that have ended, and the texts.
    """

    prompt: list[int]
    room: int
    beams: list[Beam] = field(default_factory=lambda: [Beam()])
    results: list[tuple[float, Beam]] = field(default_factory=list)

    def take(self, candidates: list[Beam], options: GenerationOptions) -> None:
        """Sort the 2K best continuations into results and running beams."""
        ended = [beam for beam in candidates[: options.beams] if beam.finish is not None]
        self.results += [(normalised(beam.score, len(beam.tokens), options), beam) for beam in ended]
        self.results = sorted(self.results, key=lambda result: -result[0])[: options.beams]
        self.beams = [beam for beam in candidates if beam.finish is None][: options.beams]
        if self.beams and len(self.results) == options.beams:
            best = normalised(self.beams[0].score, len(self.beams[0].tokens), options)
            if best <= self.results[-1][0]:
                self.beams = []


def normalised(score: float, length: int, options: GenerationOptions) -> float:
    """The score of a text of ``length`` new tokens, its end included."""
    base = length if options.length_convention == "power" else (5 + length) / 6
    return score / base**options.length_penalty


def beam_search(batch: Batch) -> list[Generated]:
    """Search the likeliest continuations of one batch of prompts."""
    searches = [Search(prompt=list(p), room=room) for p, room in zip(batch.prompts, batch.rooms, strict=True)]
    tokens, padding = batch.padded()
    cache = batch.model.new_cache(len(searches), batch.slots, static=batch.options.cache == "static")
    logits = batch.logits(tokens, cache, padding)
    live = searches
    while True:
        for search, candidates in zip(live, _continuations(batch, live, logits), strict=True):
            search.take(candidates, batch.options)
        live = [search for search in live if search.beams]
        if not live:
            break
        running = [beam for search in live for beam in search.beams]
        cache.reorder(torch.tensor([beam.parent for beam in running], device=tokens.device))
        logits = batch.logits(torch.tensor([[beam.tokens[-1]] for beam in running], device=tokens.device), cache)
    best = [search.results[0][1] for search in searches]
    return [
        Generated(
            tokens=list(beam.tokens), finish=str(beam.finish), log_probabilities=list(beam.log_probabilities)
        )
        for beam in best
    ]  # fmt: skip


def _continuations(batch: Batch, live: list[Search], logits: Tensor) -> list[list[Beam]]:
    """The 2K best continuations of each search, best first, from the logits ``(R, V)`` of its beams."""
    count = min(2 * batch.options.beams, logits.shape[-1])
    own = logits.float().log_softmax(-1)
    scores = _penalised(batch, live, own)
    best = scores.topk(count)
    table = zip(best.values.tolist(), best.indices.tolist(), own.gather(-1, best.indices).tolist(), strict=True)
    rows = list(table)
    found, ends = [], [0]
    for search in live:
        ends.append(ends[-1] + len(search.beams))
    for search, (first, end) in zip(live, pairwise(ends), strict=True):
        candidates = [
            (beam.score + score, row, beam, token, log_probability)
            for row, beam in zip(range(first, end), search.beams, strict=True)
            for score, token, log_probability in zip(*rows[row], strict=True)
        ]
        candidates.sort(key=lambda candidate: -candidate[0])
        found.append(
            [
                Beam(
                    tokens=(*beam.tokens, token),
                    log_probabilities=(*beam.log_probabilities, log_probability),
                    score=score,
                    parent=row,
                    finish=_finish(batch, search, (*beam.tokens, token)),
                )
                for score, row, beam, token, log_probability in candidates[: 2 * batch.options.beams]
            ]
        )
    return found


def _penalised(batch: Batch, live: list[Search], scores: Tensor) -> Tensor:
    """Scores ``(R, V)`` with the repetition penalty, which here meets log-probabilities as in `transformers`."""
    if batch.options.repetition_penalty == 1.0:
        return scores
    seen = torch.zeros_like(scores, dtype=torch.bool)
    for row, words in enumerate([*search.prompt, *beam.tokens] for search in live for beam in search.beams):
        seen[row, words] = True
    return penalise_repetition(scores, seen, batch.options.repetition_penalty)


def _finish(batch: Batch, search: Search, tokens: tuple[int, ...]) -> str | None:
    """How a text ends with its last token, if it does."""
    if tokens[-1] == batch.end:
        return "end"
    if batch.options.stop:
        assert batch.decode_bytes is not None
        text = batch.decode_bytes(tokens)
        if any(stop.encode("utf-8", "replace") in text for stop in batch.options.stop):
            return "stop"
    return "length" if len(tokens) == search.room else None
