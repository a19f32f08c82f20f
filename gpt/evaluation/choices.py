"""Multiple choice: which continuation does the model find likeliest?

Language Models are Few-Shot Learners (Brown et al. 2020, arXiv:2005.14165), Section 2.4: by the mean log-likelihood of
a token, or by P(completion | context) / P(completion | answer context) with an answer context such as ``Answer:``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.evaluation.exam import Exam, Figure, Result, described, mean_and_error, protocol, read_json_lines
from zoo.gpt.evaluation.prompts import Item, build_prompts, mean_shots
from zoo.gpt.scoring import score_continuations
from zoo.shared.errors import UserError

RULES = {
    "mean": "mean log-likelihood of a token",
    "sum": "log-likelihood of all tokens",
    "answer context": "log P(completion | context) - log P(completion | answer context)",
}
ANSWER_CONTEXTS = ("Answer:", "A:")
BINARY = (" False", " True")  # label words with a meaning, for tasks with a yes or no
_FORMAT = '{"context": ..., "choices": [...], "answer": number or text} (or true, false without choices) on each line'


def encode_pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a context and of what follows it, as they are when both are encoded together.

    White space at the context's end belongs to the continuation, since byte-level tokens begin with theirs.
    """
    bare = context.rstrip()
    continuation = context[len(bare) :] + continuation
    before, whole = tokenizer.encode(bare), tokenizer.encode(bare + continuation)
    if whole[: len(before)] == before:
        return before, whole[len(before) :]
    return before, tokenizer.encode(continuation)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was chosen.

    Attributes:
        best: Number of the best choice of each item, int64 ``(N,)``.
        scores: Of each item the score of each choice.
        truncated: Contexts that were cut at the left.
    """

    best: np.ndarray
    scores: list[np.ndarray]
    truncated: int


def choose(
    exam: Exam,
    contexts: Sequence[str | Sequence[str]],
    choices: Sequence[Sequence[str]],
    *,
    rule: str = "mean",
    answer_context: str = ANSWER_CONTEXTS[0],
) -> Chosen:
    """Choose a continuation for each of N contexts.

    Args:
        exam: Model and tokenizer.
        contexts: One for all choices of an item, or one for each.
        choices: Of each item its choices, with the space before them.
        rule: One of :data:`RULES`.
        answer_context: What the third rule measures a completion's own probability after.

    Raises:
        UserError: Unknown rule, or an item without choices.
    """
    if rule not in RULES:
        raise UserError(f"rule {rule!r} is unknown; use {', '.join(RULES)}")
    rows: list[tuple[list[int], list[int]]] = []
    for context, texts in zip(contexts, choices, strict=True):
        if not texts:
            raise UserError("an item has no choices")
        befores = [context] * len(texts) if isinstance(context, str) else context
        rows += [encode_pair(exam.tokenizer, before, text) for before, text in zip(befores, texts, strict=True)]
    scores, truncated = _score(exam, rows, mean=rule == "mean")
    if rule == "answer context":
        distinct = list(dict.fromkeys(text for texts in choices for text in texts))
        plain, _ = _score(exam, [encode_pair(exam.tokenizer, answer_context, text) for text in distinct], mean=False)
        usual = dict(zip(distinct, plain, strict=True))
        scores = scores - np.array([usual[text] for texts in choices for text in texts])
    parts = np.split(scores, np.cumsum([len(texts) for texts in choices])[:-1])
    return Chosen(best=np.array([int(part.argmax()) for part in parts]), scores=parts, truncated=truncated)


def _score(exam: Exam, rows: Sequence[tuple[list[int], list[int]]], *, mean: bool) -> tuple[np.ndarray, int]:
    found = score_continuations(
        exam.model,
        [before for before, _ in rows],
        [after for _, after in rows],
        start=exam.tokenizer.end_of_text,
        batch_size=exam.batch_size,
    )
    return -(found.means() if mean else found.totals()), found.truncated


def read_items(path: Path) -> list[Item]:
    """Read multiple-choice items; an answer is a number from 0, one of the choices, or true or false without choices.

    Raises:
        UserError: Another format, or an answer that is no choice.
    """
    items = []
    for number, row in enumerate(read_json_lines(path, fields=("context", "answer"), what=_FORMAT), 1):
        choices, answer = row.get("choices"), row["answer"]
        if choices is None and isinstance(answer, bool):
            choices, answer = list(BINARY), int(answer)
        if not isinstance(choices, list):
            raise UserError(f"{path}, item {number}: 'choices' missing; {_FORMAT} is expected")
        if isinstance(answer, str) and answer in choices:
            answer = choices.index(answer)
        if not isinstance(answer, int) or not 0 <= answer < len(choices):
            raise UserError(f"{path}, item {number}: the answer {row['answer']!r} is none of the choices")
        spaced = tuple(text if text[:1].isspace() else f" {text}" for text in map(str, choices))
        items.append(Item(prompt=str(row["context"]).rstrip(), answers=(spaced[answer],), choices=spaced))
    return items


def multiple_choice(exam: Exam) -> Result:
    """Any multiple-choice file, by the three rules; a yes-or-no task has the choices ``False`` and ``True``."""
    items = read_items(exam.file)
    pool = items if exam.train is None else read_items(exam.train)
    numbers = exam.chosen(items)
    used = [items[i] for i in numbers]
    longest = max(len(exam.tokenizer.encode(text)) for item in used for text in item.choices)
    shots = exam.shots or 0
    prompts = build_prompts(
        exam.tokenizer, used, pool, shots=shots, room=exam.context - longest, seed=exam.seed, numbers=numbers
    )
    figures, truncated = [], 0
    chance = mean_and_error(1 / len(item.choices) for item in used)[0]
    short = all(item.prompt.endswith(ANSWER_CONTEXTS[1]) for item in used)
    answer_context = ANSWER_CONTEXTS[1] if short else ANSWER_CONTEXTS[0]
    for rule in RULES:
        exam.say(f"multiple choice by {rule}")
        chosen = choose(
            exam,
            [prompt.text for prompt in prompts],
            [item.choices for item in used],
            rule=rule,
            answer_context=answer_context,
        )
        right = [item.choices[best] == item.answers[0] for item, best in zip(used, chosen.best, strict=True)]
        value, error = mean_and_error(right)
        truncated = chosen.truncated
        figures.append(
            Figure(
                name=f"by {rule}",
                metric="accuracy",
                value=value,
                error=error,
                chance=chance,
                chance_is="any choice",
                items=len(used),
                shots=mean_shots(prompts),
            )
        )
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="choices",
            template="{context}{choice}",
            separator="\n\n",
            shots=shots,
            scoring=RULES,
            answer_context=answer_context,
        ),
        data=described(exam.file, len(items), len(used)),
        notes={"truncated": truncated},
    )
