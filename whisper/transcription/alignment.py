"""Dynamic time warping of tokens to sound, and what its input is made of.

Word times are read off the decoder's attention to sound; the paper does not describe it, OpenAI's code added it later.

Shapes: H heads, T tokens, A states of sound.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_DIAGONAL, _DOWN, _RIGHT = 0, 1, 2  # both move on; the next token at the same state; the same token at the next state


def median_filter(x: Tensor, width: int) -> Tensor:
    """Medians of ``width`` neighbours along the last axis, which is reflected at its ends.

    Args:
        x: ``(..., A)``; returned as it is where A is too small to be reflected.
        width: Odd.
    """
    assert width % 2 == 1, "a median is that of an odd number of neighbours"
    reach = width // 2
    if x.shape[-1] <= reach:
        return x
    rows = F.pad(x.reshape(1, -1, x.shape[-1]), (reach, reach), mode="reflect")
    # The middle of a full sort: on CPUs several times as fast as torch.median.
    return rows.unfold(-1, width, 1).sort(-1).values[..., reach].view(x.shape)


def alignment_cost(scores: Tensor, *, width: int = 7) -> Tensor:
    """What it costs to say a token at a state.

    Args:
        scores: Scaled products of queries and keys ``(H, T, A)``, of the states that hold sound.
        width: Of the median filter over time.

    Returns:
        ``(T, A)`` float64 on the CPU: minus the mean over the heads of how far the attention stands out among tokens.
    """
    probabilities = scores.float().softmax(-1)
    deviation, mean = torch.std_mean(probabilities, dim=-2, keepdim=True, correction=0)
    standing_out = median_filter((probabilities - mean) / deviation, width)
    return -standing_out.mean(0).cpu().double()


def warp(cost: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path through a cost matrix from its first to its last corner, neither index ever going back.

    All entries of an antidiagonal depend on earlier ones only, so each is one step of array arithmetic. As in the
    reference, sums are kept in float32, and a step to the next token must be better than both others: where it ties
    with another one, the path comes from the state before.

    Args:
        cost: ``(T, A)``.

    Returns:
        Tokens and states of the path, int64 ``(P,)`` each.
    """
    matrix = np.asarray(cost, dtype=np.float64)
    rows, columns = matrix.shape
    steps = np.empty((rows + columns - 1, rows), dtype=np.int8)  # by antidiagonal, then by row
    skewed = np.full((rows + columns - 1, rows), np.inf)
    for row in range(rows):
        skewed[row : row + columns, row] = matrix[row]
    # The sums of the two antidiagonals before, of row i at i + 1, so that row -1 is there and infinite.
    older, newer = np.full((2, rows + 1), np.inf, dtype=np.float32)
    older[0] = 0.0  # the start, diagonally before the first corner
    for step, costs in zip(steps, skewed, strict=True):
        diagonal, down, right = older[:-1], newer[:-1], newer[1:]
        by_diagonal, by_down = (diagonal < down) & (diagonal < right), (down < diagonal) & (down < right)
        step[:] = np.where(by_diagonal, _DIAGONAL, np.where(by_down, _DOWN, _RIGHT))
        sums = np.where(by_diagonal, diagonal, np.where(by_down, down, right))
        older, newer = newer, np.full(rows + 1, np.inf, dtype=np.float32)
        newer[1:] = costs + sums
    return _walk_back(steps, rows, columns)


def _walk_back(steps: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The path that ends at the last corner."""
    row, column = rows - 1, columns - 1
    path = [(row, column)]
    while row or column:
        step = _RIGHT if row == 0 else _DOWN if column == 0 else steps[row + column, row]
        row -= step != _RIGHT
        column -= step != _DOWN
        path.append((row, column))
    tokens, states = np.array(path[::-1]).T
    return tokens, states
