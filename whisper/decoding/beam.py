"""Beam search with patience (Kasai et al. 2022, arXiv:2204.05424), as the released code does it.

Of the K + 1 likeliest continuations of each of K beams, best first, the first K that do not end go on; those before
the last of them that do end are kept, until there are K times the patience.

Shapes: N windows, K beams of each, B = N * K texts, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.whisper.decoding.candidates import Candidate
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.rules import Rules
from zoo.whisper.decoding.session import Session

Continuation = tuple[float, int, int]
"""Log-probability of the text, the beam that is continued, the token."""


@dataclass(kw_only=True)
class Search:
    """The search in one window.

    Attributes:
        room: Tokens that a text may have.
        wanted: Texts that must have ended.
        beams: Ids of the running texts.
        sums: Their log-probabilities.
        finished: Texts that have ended.
    """

    room: int
    wanted: int
    beams: list[list[int]] = field(default_factory=lambda: [[]])
    sums: list[float] = field(default_factory=lambda: [0.0])
    finished: list[Candidate] = field(default_factory=list)

    def take(self, continuations: list[Continuation], width: int, end: int) -> list[int]:
        """Sort continuations into running and finished texts.

        A text stays in the place of the one that it continues, unless another one, likelier, does: less has to be
        moved.

        Returns:
            Of each running text the beam that it continues.
        """
        continuations.sort(key=lambda one: -one[0])  # of equals the first beam's likeliest
        places: list[Continuation | None] = [None] * width
        others: list[Continuation] = []
        left = width
        for one in continuations:
            total, beam, token = one
            if token == end:
                if len(self.finished) < self.wanted:
                    self.finished.append(Candidate(tokens=self.beams[beam], log_probability=total))
                continue
            if places[beam] is None:
                places[beam] = one
            else:
                others.append(one)
            left -= 1
            if not left:
                break
        more = iter(others)
        running = [next(more) if one is None else one for one in places]
        self.beams = [[*self.beams[beam], token] for _, beam, token in running]
        self.sums = [total for total, _, _ in running]
        return [beam for _, beam, _ in running]

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return len(self.finished) >= self.wanted or len(self.beams[0]) == self.room

    def candidates(self, width: int) -> list[Candidate]:
        """What has ended; where that is less than ``width``, the best running texts too."""
        order = sorted(range(len(self.beams)), key=lambda beam: -self.sums[beam])
        missing = order[: max(0, width - len(self.finished))]
        unfinished = [Candidate(tokens=self.beams[beam], log_probability=self.sums[beam]) for beam in missing]
        return self.finished + unfinished


def beam_search(
    session: Session, logits: Tensor, rules: Rules, options: DecodingOptions, *, rooms: Sequence[int]
) -> list[list[Candidate]]:
    """Search the likeliest texts of each window; arguments as for :func:`zoo.whisper.decoding.sampling.sample`."""
    width = session.texts
    wanted = round(width * (options.patience or 1.0))
    searches = [Search(room=room, wanted=wanted) for room in rooms]
    live = list(searches)
    state = rules.start(len(logits))
    sums = torch.zeros(len(logits), device=logits.device)
    logits = logits.clone()  # the rules write into it
    for count in range(max(rooms)):
        rules.apply(logits, state, first=count == 0)
        best = logits.topk(min(width + 1, logits.shape[-1]))
        totals = (sums[:, None] + (best.values - logits.logsumexp(-1, keepdim=True))).tolist()
        tokens = best.indices.tolist()
        beams = len(totals) // len(live)  # before the first token the texts of a window are one
        parents: list[int] = []
        for place, search in enumerate(live):
            first = place * beams
            if search.done:
                parents += range(first, first + beams)
                continue
            continuations = [
                (total, beam, token)
                for beam in range(beams)
                for total, token in zip(totals[first + beam], tokens[first + beam], strict=True)
            ]
            parents += [first + beam for beam in search.take(continuations, width, rules.eot)]
        going = [place for place, search in enumerate(live) if not search.done]
        if not going:
            break
        rows = torch.tensor(parents, device=logits.device)
        if state is not None:
            state.select(rows)
        if beams == width:
            session.move(parents)
        if not session.fixed and 2 * len(going) <= len(live):  # moving the cache costs, so not for each that ends
            rows = session.leave(going)
            live = [live[place] for place in going]
            if state is not None:
                state.select(rows)
        written = torch.tensor([text[-1] for search in live for text in search.beams], device=logits.device)
        sums = torch.tensor([total for search in live for total in search.sums], device=logits.device)
        if state is not None:
            state.advance(written)
        logits = session.step(written)
    return [search.candidates(width) for search in searches]
