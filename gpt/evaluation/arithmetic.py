"""The ten arithmetic tasks of GPT-3, 2,000 problems each.

Language Models are Few-Shot Learners (Brown et al. 2020, arXiv:2005.14165), Section 3.9.1: operands are uniform over
[0, 10^n), differences may be negative; 2Dx multiplies two numbers of two digits, 1DC joins three digits by +, - or *,
with brackets round the last two.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Mapping

from zoo.gpt.evaluation.exam import Exam, Result, commonest_share, protocol
from zoo.gpt.evaluation.few_shot import share_right, write_lines
from zoo.gpt.evaluation.free_form import BEAM
from zoo.gpt.evaluation.prompts import Item

TASKS: dict[str, tuple[str, int]] = {
    **{f"{digits}D{sign}": (sign, digits) for digits in (2, 3, 4, 5) for sign in ("+", "-")},
    "2Dx": ("*", 2),
    "1DC": ("mixed", 1),
}
COUNT = 2000
SHOTS = 50
_TOKENS = 12  # a sign, ten digits of a byte-level vocabulary without merges, and the line end
_OPERATIONS: Mapping[str, tuple[str, Callable[[int, int], int]]] = {
    "+": ("plus", operator.add),
    "-": ("minus", operator.sub),
    "*": ("times", operator.mul),
}


def problems(task: str, count: int = COUNT, *, seed: int = 0, part: str = "test") -> list[Item]:
    """Problems of a task; they follow from its name, the seed and the part.

    Args:
        task: One of :data:`TASKS`.
        count: Number of problems; fewer are the first of more.
        seed: Seed.
        part: ``test`` or ``train``.
    """
    kind, digits = TASKS[task]
    generator = random.Random(f"arithmetic {part} {task} {seed}")
    return [_problem(kind, 10**digits, generator) for _ in range(count)]


def _problem(kind: str, limit: int, generator: random.Random) -> Item:
    if kind == "mixed":
        a, b, c = (generator.randrange(limit) for _ in range(3))
        outer, inner = (generator.choice(sorted(_OPERATIONS)) for _ in range(2))
        answer = _OPERATIONS[outer][1](a, _OPERATIONS[inner][1](b, c))
        return Item(prompt=f"Q: What is {a}{outer}({b}{inner}{c})? A:", answers=(f" {answer}",))
    a, b = generator.randrange(limit), generator.randrange(limit)
    word, apply = _OPERATIONS[kind]
    return Item(prompt=f"Q: What is {a} {word} {b}? A:", answers=(f" {apply(a, b)}",))


def demonstrations(task: str, tested: list[Item], *, seed: int = 0) -> list[Item]:
    """Problems to show, none of which is tested."""
    held = {item.prompt for item in tested}
    return [item for item in problems(task, seed=seed, part="train") if item.prompt not in held]


def arithmetic(exam: Exam) -> Result:
    """Exact match of the number that is written after each problem."""
    shots = SHOTS if exam.shots is None else exam.shots
    count = COUNT if exam.limit is None else min(COUNT, exam.limit)
    figures = []
    for task in TASKS:
        exam.say(f"arithmetic {task}")
        items = problems(task, count, seed=exam.seed)
        pool = demonstrations(task, items, seed=exam.seed)
        written = write_lines(exam, items, pool, shots=shots, tokens=_TOKENS, decoding=BEAM)
        chance = commonest_share(item.answers[0] for item in problems(task, seed=exam.seed))
        figures.append(share_right(task, items, written, chance=chance, chance_is="always the commonest answer"))
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="arithmetic",
            template="Q: What is 48 plus 76? A: 124",
            separator="\n\n",
            shots=shots,
            decoding={**BEAM, "max_new_tokens": _TOKENS, "stop": "\n"},
            scoring="exact match of the stripped answer",
        ),
        data={"generated": "uniform operands", "items": COUNT, "used": count},
    )
