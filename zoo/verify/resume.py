"""A run that was killed and resumed is the run that never was: the same bits everywhere."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from zoo.registry import FamilySpec
from zoo.settings import merge
from zoo.shared.runs.checkpoints import found_checkpoints
from zoo.verify.cases import VerifyCases
from zoo.verify.children import ChildFailed, Job, run
from zoo.verify.compare import logged, same_runs, verdicts
from zoo.verify.injections import KilledDuring
from zoo.verify.verdicts import Verdict

STEPS = 12
CHECKPOINT_EVERY = 4  # so that a checkpoint falls in mid-epoch, on an epoch's end and on a validation


def verify_resume(
    spec: FamilySpec, cases: VerifyCases, model: str, folder: Path, *, kills: int, seed: int
) -> Iterator[Verdict]:
    """Train, and train again with SIGKILL at random moments of random steps.

    Args:
        spec: The family.
        cases: How it is trained small.
        model: The model.
        folder: Where the runs go.
        kills: How many runs are killed, each at a moment of its own.
        seed: Chooses the moments.
    """
    settings = merge(
        {
            "trainer": {"max_steps": STEPS, "log_every_n_steps": 1},
            "checkpoint_every": CHECKPOINT_EVERY,
        },
        cases.varied,
    )
    whole = Job(spec=spec, model=model, out=folder / "whole", recipe=cases.recipe, settings=settings)
    run(whole)
    steps = [int(path.stem) for path in found_checkpoints(whole.out / "checkpoints")]
    if steps[0] != STEPS:
        raise ChildFailed(f"{model} saved checkpoints at {steps} instead of every {CHECKPOINT_EVERY} of {STEPS} steps")
    draw = random.Random(f"{seed} {model}")
    moments, found = [], []
    for number in range(kills):
        # The first one has a checkpoint to go on from; among the others may be some that have none yet.
        step = draw.randrange(0 if number else CHECKPOINT_EVERY, STEPS - 1)
        kill = partial(KilledDuring, step=step, share=draw.random())
        job = replace(whole, out=folder / f"killed-{number}", callbacks=(kill,))
        run(job, code=-signal.SIGKILL)
        saved = found_checkpoints(job.out / "checkpoints")
        moments.append(f"{step + 1} (resumed from {int(saved[0].stem) if saved else 0})")
        run(replace(job, resume=True, settings={}, callbacks=()))
        found.append(same_runs(whole.out, job.out))
    yield from verdicts("resume", f"{model}, killed in step {', '.join(moments)}", found)


def last_step(rows: Path) -> int:
    """The last step in a log; -1 without any."""
    try:
        return max((step for step, name in logged(rows) if name.startswith("train/")), default=-1)
    except (OSError, ValueError, KeyError, TypeError):  # being written
        return -1
