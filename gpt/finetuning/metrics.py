"""What fine-tuned models are judged by: accuracy, F1, Matthews and Pearson correlation, as GLUE asks of each task.

Shapes: N items, K outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

# Metric -> its name in words.
NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}


def measure(logits: Tensor, target: Tensor, *, scores: tuple[int, int] | None) -> dict[str, float]:
    """All metrics that fit a task.

    Args:
        logits: ``(N, K)``; absent answers are very negative.
        target: Distributions ``(N, K)``.
        scores: Least and greatest score, where the outputs are scores.

    Returns:
        ``pearson`` and ``spearman`` of scores; otherwise ``accuracy``, ``matthews`` and ``f1``: of the second of two
        classes, or the mean over more. A correlation with something constant is 0.
    """
    from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef
    from torchmetrics.functional.classification import (
        binary_f1_score,
        multiclass_f1_score,
        multiclass_matthews_corrcoef,
    )

    logits, target = logits.detach().float().cpu(), target.detach().float().cpu()
    if scores:
        found, wanted = expected_score(logits.softmax(-1), scores), expected_score(target, scores)
        return {
            "pearson": _correlation(pearson_corrcoef, found, wanted),
            "spearman": _correlation(spearman_corrcoef, found, wanted),
        }
    chosen, right, classes = logits.argmax(-1), target.argmax(-1), target.shape[1]
    f1 = binary_f1_score(chosen, right) if classes == 2 else multiclass_f1_score(chosen, right, num_classes=classes)
    return {
        "accuracy": float((chosen == right).float().mean()),
        "f1": float(f1),
        "matthews": float(multiclass_matthews_corrcoef(chosen, right, num_classes=classes)),
    }


def expected_score(probabilities: Tensor, scores: tuple[int, int]) -> Tensor:
    """The mean score ``(N,)`` under distributions ``(N, K)``."""
    return probabilities @ torch.arange(scores[0], scores[1] + 1, dtype=probabilities.dtype)


def _correlation(function: Callable[..., Tensor], one: Tensor, two: Tensor) -> float:
    if len(one) < 2 or float(one.std()) < 1e-8 or float(two.std()) < 1e-8:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the spread is small, as it is at first
        return float(function(one, two))
