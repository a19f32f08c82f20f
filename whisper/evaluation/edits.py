"""Where two texts differ, by the fewest edits (Levenshtein 1966), also for recordings of hours. Imports no torch.

Shapes: R items of the reference, H of the hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HIT, _SUBSTITUTION, _DELETION, _INSERTION = range(4)
KINDS = ("hit", "substitution", "deletion", "insertion")


class Edit(NamedTuple):
    """One step from the reference to the hypothesis.

    Attributes:
        kind: One of :data:`KINDS`.
        reference: Number of the item in the reference; None for an insertion.
        hypothesis: Number of the item in the hypothesis; None for a deletion.
    """

    kind: str
    reference: int | None
    hypothesis: int | None


def distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The fewest substitutions, deletions and insertions.

    A column of the table of distances is kept as the bits of two numbers, where it rises and where it falls, so that
    a step is some operations on long numbers (Myers 1999; Hyyro 2003).
    """
    first, last = _alike(reference, hypothesis)
    left, right = reference[first : len(reference) - last], hypothesis[first : len(hypothesis) - last]
    if not left:
        return len(right)
    places: dict[str, int] = {}
    for place, item in enumerate(left):
        places[item] = places.get(item, 0) | 1 << place
    full, bottom, found = (1 << len(left)) - 1, 1 << (len(left) - 1), len(left)
    rises, falls = full, 0
    for item in right:
        same = places.get(item, 0)
        level = (((same & rises) + rises) ^ rises) | same
        right_rises, right_falls = falls | (full & ~(level | rises)), rises & level
        found += bool(right_rises & bottom) - bool(right_falls & bottom)
        right_rises, right_falls = (right_rises << 1 | 1) & full, (right_falls << 1) & full
        crossed = same | falls
        rises, falls = right_falls | (full & ~(crossed | right_rises)), right_rises & crossed
    return found


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """The fewest edits, in order, hits among them; memory is a byte for each pair of items that differ at the ends."""
    first, last = _alike(reference, hypothesis)
    rows, columns = len(reference) - first - last, len(hypothesis) - first - last
    left, right = _numbers(reference[first : first + rows], hypothesis[first : first + columns])
    steps = np.full((rows + 1, columns + 1), _INSERTION, np.uint8)
    steps[1:, 0] = _DELETION
    row = np.arange(columns + 1)
    for number, item in enumerate(left, 1):
        other = right != item
        following, straight = _next_row(row, other, number)
        cells = steps[number, 1:]
        cells[following[1:] == row[1:] + 1] = _DELETION
        # Pairs go before gaps where both are as few.
        paired = following[1:] == straight
        cells[paired] = other[paired]
        row = following
    middle: list[Edit] = []
    while rows or columns:
        kind = int(steps[rows, columns])
        rows -= kind != _INSERTION
        columns -= kind != _DELETION
        middle.append(
            Edit(
                KINDS[kind],
                None if kind == _INSERTION else first + rows,
                None if kind == _DELETION else first + columns,
            )
        )
    before = [Edit("hit", place, place) for place in range(first)]
    ends = zip(
        range(len(reference) - last, len(reference)), range(len(hypothesis) - last, len(hypothesis)), strict=True
    )
    return [*before, *reversed(middle), *(Edit("hit", *pair) for pair in ends)]


def _next_row(
    row: NDArray[np.int64], other: NDArray[np.bool_], number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distances ``(H + 1,)`` after one more item of the reference, and those ``(H,)`` that a pair would make last."""
    straight = row[:-1] + other
    places = np.arange(len(row))
    best = np.concatenate([[number], np.minimum(straight, row[1:] + 1)])
    # Insertions, each one more than the place before it, all at once.
    return np.minimum.accumulate(best - places) + places, straight


def _alike(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[int, int]:
    """How many items are alike at the beginning, and of the rest at the end."""
    least = min(len(reference), len(hypothesis))
    first = next((i for i in range(least) if reference[i] != hypothesis[i]), least)
    last = next((i for i in range(least - first) if reference[-1 - i] != hypothesis[-1 - i]), least - first)
    return first, last


def _numbers(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    known: dict[str, int] = {}
    numbered = [[known.setdefault(item, len(known)) for item in text] for text in (reference, hypothesis)]
    return np.array(numbered[0], np.int64), np.array(numbered[1], np.int64)
