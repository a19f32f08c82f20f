"""What the head of a fine-tuned model shall say: labels, answers and scores as distributions over its outputs.

Shapes: N items, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo.gpt.finetuning.sources import Example
from zoo.shared.errors import UserError


def targets(
    examples: Sequence[Example], *, labels: Mapping[str, int] | None, scores: tuple[int, int] | None, answers: int
) -> np.ndarray:
    """What the head shall say to each example, as a distribution ``(N, K)`` over its outputs.

    A score between two whole ones is split between them (GPT-1's script for STS-B): 3.7 is 0.3 of a 3 and 0.7 of a 4.

    Args:
        examples: The examples; those without a label are left as they are, with a row of zeros.
        labels: Class to its output; None where answers are chosen, or where there are scores.
        scores: Least and greatest score.
        answers: Greatest number of answers, where they are chosen.

    Raises:
        UserError: A label is none of the classes, or no score in the range.
    """
    width = len(labels) if labels else scores[1] - scores[0] + 1 if scores else answers
    found = np.zeros((len(examples), width), dtype=np.float32)
    for row, example in enumerate(examples):
        if not example.label:
            continue
        if scores:
            found[row] = _split_score(example, scores)
        elif labels is None:
            found[row, int(example.label)] = 1
        elif example.label in labels:
            found[row, labels[example.label]] = 1
        else:
            known = ", ".join(labels)
            raise UserError(f"{example.name} has the label {example.label!r}; the known ones are {known}")
    return found


def _split_score(example: Example, scores: tuple[int, int]) -> np.ndarray:
    least, greatest = scores
    try:
        value = float(example.label)
    except ValueError:
        value = float("nan")
    if not least <= value <= greatest:
        raise UserError(
            f"{example.name} has the score {example.label!r}, which is no number from {least} to {greatest}"
        )
    row = np.zeros(greatest - least + 1, dtype=np.float32)
    floor = min(int(np.floor(value)) - least, greatest - least)
    share = value - least - floor
    row[floor] = 1 - share
    if share:
        row[floor + 1] = share
    return row
