"""Knowledge questions with and without those that a model with a cutoff cannot answer (Talkie, evaluations).

A question is anachronistic when its answer became known after the cutoff, or when its words did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.gpt.evaluation.choices import choose
from zoo.gpt.evaluation.exam import Exam, Figure, Result, mean_and_error, protocol, read_json_lines
from zoo.gpt.evaluation.prompts import Item, build_prompts, mean_shots
from zoo.gpt.vintage import CUTOFF
from zoo.gpt.vintage.measures import source_of
from zoo.shared.errors import UserError
from zoo.shared.text.anachronism import TERMS, TermFilter

SHOTS = 3
_RULE = "mean"
_FORMAT = '{"question": ..., "choices": [...], "answer": number or text, "year": ...} on each line'


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question.

    Attributes:
        text: What is asked.
        choices: Possible answers.
        answer: Number of the right one.
        year: From when on one could know it.
    """

    text: str
    choices: tuple[str, ...]
    answer: int
    year: int

    def as_item(self) -> Item:
        """The question as it stands in a prompt."""
        spaced = tuple(f" {choice}" for choice in self.choices)
        return Item(prompt=f"Q: {self.text}\nA:", answers=(spaced[self.answer],), choices=spaced)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answered.

    Attributes:
        questions: What was asked.
        right: Whether each answer is right, bool ``(N,)``.
        kept: Whether each question is no anachronism, bool ``(N,)``.
        chance: Share that guessing gets of all, and of those that are kept.
        shots: Demonstrations that a question got on average.
        truncated: Prompts that lost their beginning.
        cutoff: The last year that is no anachronism.
    """

    questions: Sequence[Question]
    right: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    chance: tuple[float, float]
    shots: float
    truncated: int
    cutoff: int


def built_in() -> list[Question]:
    """The questions that come with zoo."""
    from zoo.gpt.vintage.questions import QUESTIONS

    found = []
    for number, (year, text, right, *wrong) in enumerate(QUESTIONS):
        place = number % (len(wrong) + 1)  # a model that finds all alike takes the first
        choices = (*wrong[:place], right, *wrong[place:])
        found.append(Question(text=text, choices=choices, answer=place, year=year))
    return found


def read_questions(path: Path) -> list[Question]:
    """Questions of JSON lines.

    Raises:
        UserError: Another format, no year, or an answer that is none of the choices.
    """
    found = []
    rows = read_json_lines(path, fields=("question", "choices", "answer", "year"), what=_FORMAT)
    for number, row in enumerate(rows, 1):
        choices, answer, year = row["choices"], row["answer"], str(row["year"])
        if not isinstance(choices, list) or len(choices) < 2:
            raise UserError(f"{path}, item {number}: a list of two choices or more is expected")
        if isinstance(answer, str) and answer in choices:
            answer = choices.index(answer)
        if not isinstance(answer, int) or not 0 <= answer < len(choices):
            raise UserError(f"{path}, item {number}: the answer {row['answer']!r} is none of the choices")
        if not year.isdigit():
            raise UserError(f"{path}, item {number}: the year {row['year']!r} is no number; {_FORMAT} is expected")
        texts = tuple(str(choice).strip() for choice in choices)
        found.append(Question(text=str(row["question"]).strip(), choices=texts, answer=answer, year=int(year)))
    return found


def anachronistic(questions: Sequence[Question], cutoff: int, *, terms: Mapping[str, int] = TERMS) -> NDArray[np.bool_]:
    """Whether each question asks for, or speaks of, something later than the cutoff, bool ``(N,)``.

    Args:
        questions: The questions.
        cutoff: The last year that is none.
        terms: Term to the year from which on it was written.
    """
    late = TermFilter(terms, cutoff=cutoff)
    return np.array(
        [one.year > cutoff or bool(late.find(" ".join((one.text, one.choices[one.answer])))) for one in questions]
    )


def answer_questions(exam: Exam, *, cutoff: int = CUTOFF) -> Answers:
    """Let a model choose the answers that it finds likeliest.

    Demonstrations come from the questions that are no anachronisms, so that none gives a later fact away.

    Args:
        exam: Model, tokenizer, and a file of questions or None for the built-in ones.
        cutoff: The last year that is no anachronism.

    Raises:
        UserError: Every question is an anachronism.
    """
    questions = built_in() if exam.data is None else read_questions(exam.data)
    numbers = exam.chosen(questions)
    used = [questions[i] for i in numbers]
    kept = ~anachronistic(used, cutoff)
    if not kept.any():
        years = [one.year for one in used]
        raise UserError(
            f"cutoff {cutoff} lies before every question, whose years are {min(years)} to {max(years)}; choose a later "
            "--cutoff"
        )
    items = [one.as_item() for one in used]
    pool = [item for item, fits in zip(items, kept, strict=True) if fits]
    longest = max(len(exam.tokenizer.encode(text)) for item in items for text in item.choices)
    shots = min(SHOTS, len(pool) - 1) if exam.shots is None else exam.shots
    room = exam.context - longest
    prompts = build_prompts(exam.tokenizer, items, pool, shots=shots, room=room, seed=exam.seed, numbers=numbers)
    exam.say(f"knowledge: {len(used)} questions")
    chosen = choose(exam, [prompt.text for prompt in prompts], [item.choices for item in items], rule=_RULE)
    guess = np.array([1 / len(one.choices) for one in used])
    return Answers(
        questions=used,
        right=chosen.best == np.array([one.answer for one in used]),
        kept=kept,
        chance=(float(guess.mean()), float(guess[kept].mean())),
        shots=mean_shots(prompts),
        truncated=chosen.truncated,
        cutoff=cutoff,
    )


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of 95 % for a share (Wilson 1927), which is right for few items too."""
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / count / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def knowledge(exam: Exam, *, cutoff: int = CUTOFF) -> Result:
    """Accuracy on all questions, and on those that are no anachronisms (``--benchmark knowledge``)."""
    found = answer_questions(exam, cutoff=cutoff)
    figures, intervals = [], {}
    for name, chosen, chance in zip(names(cutoff), (np.ones_like(found.kept), found.kept), found.chance, strict=True):
        right = found.right[chosen]
        value, error = mean_and_error(right)
        intervals[name] = wilson(int(right.sum()), len(right))
        figures.append(
            Figure(
                name=name,
                metric="accuracy",
                value=value,
                error=error,
                chance=chance,
                chance_is="any choice",
                items=len(right),
                shots=found.shots,
            )
        )
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="knowledge",
            template="Q: {question}\nA:{choice}",
            separator="\n\n",
            shots=SHOTS if exam.shots is None else exam.shots,
            scoring=_RULE,
            cutoff=cutoff,
        ),
        data=source_of(exam, found.questions, len(found.questions)),
        notes={"truncated": found.truncated, "intervals": intervals, "anachronisms": int((~found.kept).sum())},
    )


def names(cutoff: int) -> tuple[str, str]:
    """What the two groups of questions are called."""
    return "all questions", f"without those later than {cutoff}"
