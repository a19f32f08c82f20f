"""Byte-pair encoding that forgets merges at random, so that a model sees words in many pieces.

BPE-Dropout: Simple and Effective Subword Regularization (Provilkov et al. 2020, arXiv:1910.13267), section 3; Whisper
large-v2 was trained with a rate of 0.1. The same generator gives the same pieces, on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Pair = tuple[bytes, bytes]


def drop_merges(word: bytes, ranks: Mapping[Pair, int], rate: float, generator: np.random.Generator) -> list[bytes]:
    """Merge a word; at every step each possible merge is left out with a chance, and the best of the others happens.

    Args:
        word: The bytes of one word.
        ranks: Pairs that merge, the smallest first.
        rate: The chance, above 0 and at most 1 (single bytes).
        generator: Draws which merges are left out.

    Returns:
        The pieces, in order.
    """
    pieces = [word[i : i + 1] for i in range(len(word))]
    if rate >= 1:
        return pieces
    while len(pieces) > 1:
        pairs = ((ranks.get((pieces[i], pieces[i + 1]), -1), i) for i in range(len(pieces) - 1))
        possible = sorted(pair for pair in pairs if pair[0] >= 0)
        # How many of them are left out before the first that is not: geometric, so one draw tells it.
        passed = int(math.log(1.0 - generator.random()) / math.log(rate)) if possible else 0
        if passed >= len(possible):
            break
        at = possible[passed][1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces
