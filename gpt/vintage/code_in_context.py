"""Learning to code from examples in the context, measured as HumanEval is (Talkie, evaluations).

Evaluating Large Language Models Trained on Code (Chen et al. 2021, arXiv:2107.03374), Section 2: pass@k is the chance
that one of k samples passes the tests, estimated without bias from n of them. Written programs are run; see
:mod:`zoo.gpt.vintage.code_runner` for what that protects from.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.evaluation.exam import Exam, Figure, Result, mean_and_error, protocol, read_json_lines
from zoo.gpt.evaluation.free_form import complete
from zoo.gpt.evaluation.prompts import Item, build_prompts, mean_shots
from zoo.gpt.vintage.code_runner import run_program
from zoo.gpt.vintage.measures import source_of
from zoo.shared.errors import UserError

SHOTS = 3
SAMPLES = 10
TEMPERATURE = 0.8  # Chen et al.'s for many samples
TOP_P = 0.95
PASS_AT = (1, 10, 100)
STOP = ("\ndef ", "\nclass ", "\nif ", "\nprint", "\n#", "\n@", "\nassert ", "\nimport ", "\nfrom ")
_TOKENS = 96
_FORMAT = "HumanEval's JSON lines with task_id, prompt, canonical_solution, test and entry_point"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A function to write.

    Attributes:
        name: Its number or name in the suite.
        prompt: Heading and docstring.
        solution: A body that passes.
        test: Program text that defines ``check(candidate)``.
        entry_point: The function's name.
    """

    name: str
    prompt: str
    solution: str
    test: str
    entry_point: str

    def as_item(self) -> Item:
        """Prompt and solution as a demonstration has them."""
        body = self.solution.rstrip()
        return Item(prompt=self.prompt.rstrip(), answers=(body if body.startswith("\n") else "\n" + body,))

    def program(self, body: str) -> str:
        """The program that tests a body."""
        return f"{self.prompt.rstrip()}{body}\n\n{self.test}\n\ncheck({self.entry_point})\n"


def built_in() -> list[Problem]:
    """The problems that come with zoo."""
    from zoo.gpt.vintage.code_problems import PROBLEMS

    found = []
    for heading, docstring, body, assertions in PROBLEMS:
        lines = "\n".join(f"    {line}" for line in body.split("\n"))
        tests = "\n".join(f"    assert {line}" for line in assertions)
        name = heading.partition("(")[0]
        found.append(
            Problem(
                name=name,
                prompt=f'def {heading}:\n    """{docstring}"""\n',
                solution=f"{lines}\n",
                test=f"def check(candidate):\n{tests}\n",
                entry_point=name,
            )
        )
    return found


def read_problems(path: Path) -> list[Problem]:
    """Problems in HumanEval's published form.

    Raises:
        UserError: Another form.
    """
    fields = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
    return [
        Problem(
            name=str(row["task_id"]),
            prompt=str(row["prompt"]),
            solution=str(row["canonical_solution"]),
            test=str(row["test"]),
            entry_point=str(row["entry_point"]),
        )
        for row in read_json_lines(path, fields=fields, what=_FORMAT)
    ]


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Chance that one of ``k`` samples passes: 1 - C(n - c, k) / C(n, k) (Chen et al., eq. 1).

    Args:
        samples: n that were drawn.
        passed: c of them that pass.
        k: At most n.

    Raises:
        ValueError: There are fewer samples than k, or fewer than passed.
    """
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples of which {passed} pass has no meaning")
    if samples - passed < k:
        return 1.0
    return 1 - math.comb(samples - passed, k) / math.comb(samples, k)


def first_argument(problem: Problem) -> str:
    """A body that needs no model: the function gives its first argument back."""
    try:
        tree = ast.parse(problem.prompt.rstrip() + "\n    pass\n")
    except SyntaxError:
        return "\n    return None\n"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point and node.args.args:
            return f"\n    return {node.args.args[0].arg}\n"
    return "\n    return None\n"


def run_all(programs: Sequence[str], *, seconds: float) -> list[str]:
    """Outcomes of programs, as many at a time as there are processor cores."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda program: run_program(program, seconds=seconds), programs))


def code_in_context(
    exam: Exam,
    *,
    execute: bool,
    samples: int = SAMPLES,
    temperature: float = TEMPERATURE,
    seconds: float = 3.0,
) -> Result:
    """Write functions after examples of others, and run what was written against their tests.

    Args:
        exam: Model, tokenizer, the examples' number as ``shots``, and a file in HumanEval's form or None.
        execute: Whether programs that a model wrote may run on this machine.
        samples: Bodies written for each function.
        temperature: Of sampling.
        seconds: That a program may take.

    Raises:
        UserError: Execution was not allowed, or nothing can be sampled.
    """
    if not execute:
        raise UserError("this runs programs that a model wrote on this machine; allow it with --execute")
    if samples < 1 or (samples > 1 and temperature <= 0):
        raise UserError(f"--samples {samples} at --temperature {temperature:g}: more than one need a temperature")
    problems = built_in() if exam.data is None else read_problems(exam.data)
    numbers = exam.chosen(problems)
    used = [problems[i] for i in numbers]
    shots = SHOTS if exam.shots is None else exam.shots
    tokens = min(_TOKENS, exam.context // 2)
    items = [one.as_item() for one in problems]
    prompts = build_prompts(
        exam.tokenizer,
        [items[i] for i in numbers],
        items,
        shots=shots,
        room=exam.context - tokens,
        seed=exam.seed,
        numbers=numbers,
    )
    exam.say(f"code: {samples} samples of each of {len(used)} functions")
    repeated = [prompt.tokens for prompt in prompts for _ in range(samples)]
    how: dict[str, Any] = {"temperature": temperature, "top_p": TOP_P} if temperature > 0 else {}
    bodies, _ = complete(exam, repeated, max_new_tokens=tokens, stop=STOP, **how)
    exam.say(f"code: running {len(bodies)} programs")
    owners = [problem for problem in used for _ in range(samples)]
    outcomes = run_all([one.program(body) for one, body in zip(owners, bodies, strict=True)], seconds=seconds)
    plain = run_all([one.program(first_argument(one)) for one in used], seconds=seconds)
    passed = np.array([outcome == "passed" for outcome in outcomes]).reshape(len(used), samples)
    chance = mean_and_error(outcome == "passed" for outcome in plain)[0]
    figures = []
    for k in (k for k in PASS_AT if k <= samples):
        value, error = mean_and_error(pass_at_k(samples, int(count), k) for count in passed.sum(1))
        figures.append(
            Figure(
                name=f"pass@{k}",
                metric="share of functions",
                value=value,
                error=error,
                chance=chance,
                chance_is="giving the first argument back",
                items=len(used),
                shots=mean_shots(prompts),
            )
        )
    good = [body for body, outcome in zip(bodies, outcomes, strict=True) if outcome == "passed"]
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="code",
            template="{heading and docstring}{body}",
            separator="\n\n",
            shots=shots,
            decoding={"samples": samples, **how, "max_new_tokens": tokens, "stop": STOP},
            scoring="unbiased pass@k; a program passes when its checks do within the time",
        ),
        data=source_of(exam, problems, len(used)),
        notes={
            "outcomes": {name: outcomes.count(name) for name in sorted(set(outcomes))},
            "solved": [one.name for one, row in zip(used, passed, strict=True) if row.any()],
            "one_line_share_of_passed": (
                sum(len(body.strip().splitlines()) == 1 for body in good) / len(good) if good else None
            ),
        },
    )
