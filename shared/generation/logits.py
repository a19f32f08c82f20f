"""What is done to logits before a token is drawn, and the draw.

The order is repetition penalty, temperature, top-k, top-p, as in GPT-2's released code and in `transformers`.

Shapes: B texts, V tokens of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.shared.generation.options import GenerationOptions

_SHORTLIST = 512  # tokens among which most texts find theirs


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that occurred less likely (Keskar et al. 2019, arXiv:1909.05858, Section 4.1).

    Their sampling divides the logit by the penalty, which would favour a token whose logit is negative; those are
    multiplied, as `transformers` does.

    Args:
        logits: ``(B, V)``.
        seen: Bool ``(B, V)``, True for tokens that occurred.
        penalty: Above 1 discourages, below 1 encourages.
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the ``k`` largest logits of ``(B, V)`` to minus infinity; what equals the smallest of them stays."""
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, p: float, *, convention: str = "common") -> Tensor:
    """Keep the likeliest tokens up to a probability (Holtzman et al. 2020, arXiv:1904.09751, Section 3.1).

    Args:
        logits: ``(B, V)``; the others become minus infinity, what equals the smallest one kept stays.
        p: The probability, above 0; 1 keeps everything.
        convention: ``common``: the fewest tokens with at least this probability. ``gpt2``: the most tokens with at most
            this probability, but at least one: the token that crosses ``p`` is left out.
    """
    if p >= 1.0:
        return logits
    total = logits.logsumexp(-1, keepdim=True)
    # Sorting a whole vocabulary takes longer than all else; nearly always the few likeliest tokens decide.
    for count in (min(_SHORTLIST, logits.shape[-1]), logits.shape[-1]):
        ordered = logits.topk(count).values
        summed = (ordered - total).exp().cumsum(-1)
        if count == logits.shape[-1] or bool((summed[:, -1] > p).all()):
            break
    within = (summed <= p if convention == "gpt2" else summed < p).sum(-1, keepdim=True)
    last = (within - 1 if convention == "gpt2" else within).clamp(0, ordered.shape[-1] - 1)
    return logits.masked_fill(logits < ordered.gather(-1, last), -torch.inf)


def filtered(logits: Tensor, options: GenerationOptions) -> Tensor:
    """Logits ``(B, V)`` in float32 with temperature, top-k and top-p applied."""
    logits = logits.float() / options.temperature
    if options.top_k is not None:
        logits = keep_top_k(logits, options.top_k)
    return keep_top_p(logits, options.top_p, convention=options.top_p_convention)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token of each row by inverting its cumulative distribution.

    One number decides a row, so a row's sample depends neither on the other rows nor on the device.

    Args:
        logits: ``(B, V)``.
        uniform: float64 ``(B,)`` from [0, 1).

    Returns:
        int64 ``(B,)``.
    """
    summed = logits.softmax(-1, dtype=torch.float64).cumsum(-1)
    # The factor keeps rounding from reaching the sum itself, where no token would be left.
    at = (uniform * (1 - 2.0**-50))[:, None] * summed[:, -1:]
    return torch.searchsorted(summed, at, right=True)[:, 0]
