"""One line that a model writes after demonstrations, as arithmetic, words, questions and translations ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.gpt.evaluation.exam import Exam, Figure, mean_and_error
from zoo.gpt.evaluation.free_form import complete
from zoo.gpt.evaluation.prompts import Item, build_prompts, mean_shots

LINE_END = "\n"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written after each item.

    Attributes:
        texts: The lines.
        confidence: Log-probability of each, ``(N,)``.
        shots: Demonstrations that a prompt had on average.
        truncated: Prompts that were longer than their room.
    """

    texts: list[str]
    confidence: np.ndarray
    shots: float
    truncated: int


def write_lines(
    exam: Exam,
    items: Sequence[Item],
    pool: Sequence[Item],
    *,
    shots: int,
    tokens: int,
    decoding: Mapping[str, Any],
    separator: str = "\n\n",
    description: str = "",
    numbers: Sequence[int] | None = None,
) -> Written:
    """Let the model write a line after each item.

    Args:
        exam: Model, tokenizer and seed.
        items: The questions.
        pool: What demonstrations are drawn from.
        shots: Demonstrations wanted before each.
        tokens: Tokens written at most.
        decoding: ``GREEDY`` or ``BEAM``.
        separator: As for :func:`zoo.gpt.evaluation.prompts.build_prompts`, with the two below.
        description: What the task is, in words.
        numbers: The items' numbers in their file.
    """
    room = exam.context - tokens
    prompts = build_prompts(
        exam.tokenizer,
        items,
        pool,
        shots=shots,
        room=room,
        separator=separator,
        description=description,
        seed=exam.seed,
        numbers=numbers,
    )
    rows = [prompt.tokens for prompt in prompts]
    texts, confidence = complete(exam, rows, max_new_tokens=tokens, stop=(LINE_END,), **decoding)
    truncated = sum(len(row) > room for row in rows)
    return Written(texts=texts, confidence=confidence, shots=mean_shots(prompts), truncated=truncated)


def share_right(name: str, items: Sequence[Item], written: Written, *, chance: float, chance_is: str) -> Figure:
    """Share of the lines that are their item's answer, white space round both left out."""
    value, error = mean_and_error(
        text.strip() == item.answers[0].strip() for text, item in zip(written.texts, items, strict=True)
    )
    return Figure(
        name=name,
        metric="exact match",
        value=value,
        error=error,
        chance=chance,
        chance_is=chance_is,
        items=len(items),
        shots=written.shots,
    )
