"""A run that was killed and resumed is the run that never was: the same bits everywhere."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from zoo.shared.runs.checkpoints import found_checkpoints
from zoo.verify.children import AT_ONCE, ChildFailed, Crew, Job, run
from zoo.verify.compare import Part, logged, same_runs, verdicts
from zoo.verify.injections import KilledAtTheEnd, KilledDuring
from zoo.verify.setup import Setup
from zoo.verify.verdicts import Verdict

STEPS = 12
CHECKPOINT_EVERY = 4  # so that a checkpoint falls in mid-epoch, on an epoch's end and on a validation


def verify_resume(setup: Setup, crew: Crew, *, kills: int, seed: int) -> Iterator[Verdict]:
    """Train, and train again with SIGKILL at random moments of random steps, and after the last step.

    Args:
        setup: The model.
        crew: At least two processes, in which the same is done once more with ``ddp``.
        kills: How many runs are killed during a step.
        seed: Chooses the moments.
    """
    short = {"trainer": {"max_steps": STEPS}, "checkpoint_every": CHECKPOINT_EVERY}
    here = setup.within("one", short, setup.cases.varied)
    whole = here.job("whole")
    run(whole)
    steps = [int(path.stem) for path in found_checkpoints(whole.out / "checkpoints")]
    if steps != [STEPS, STEPS - CHECKPOINT_EVERY]:
        raise ChildFailed(f"{setup.model} saved checkpoints at {steps}, not every {CHECKPOINT_EVERY} of {STEPS} steps")
    draw = random.Random(f"{seed} {setup.model}")
    # The first one has a checkpoint to go on from; among the others may be some that have none yet.
    places = [draw.randrange(0 if number else CHECKPOINT_EVERY, STEPS - 1) for number in range(kills)]
    faults: list[Callable[[], Any]] = [partial(KilledDuring, step=step, share=draw.random()) for step in places]

    def killed(number: int, kill: Callable[[], Any]) -> tuple[str, list[Part]]:
        job = replace(whole, out=here.folder / f"killed-{number}", callbacks=(kill,))
        run(job, code=-signal.SIGKILL)
        moment = f"{places[number] + 1 if number < kills else 'end'} (on from {newest_step(job)})"
        run(replace(job, resume=True, settings={}, callbacks=()))
        return moment, same_runs(whole.out, job.out)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = [pool.submit(killed, number, kill) for number, kill in enumerate([*faults, KilledAtTheEnd])]
        together = two_processes(setup.within("two", short, setup.cases.varied), crew, step=places[0])
        found = [one.result() for one in begun]
    moments = ", ".join(moment for moment, _ in found)
    yield from verdicts("resume", f"{setup.model}, killed in step {moments}", [parts for _, parts in found])
    yield together


def two_processes(setup: Setup, crew: Crew, *, step: int) -> Verdict:
    """The second of two processes is killed, which ends the first."""
    two = {"trainer": {"strategy": "ddp"}}
    whole = setup.job("whole", two)
    crew.run(whole, processes=2)
    job = setup.job("killed", two, callbacks=(partial(KilledDuring, step=step, share=0.5, rank=1),))
    with suppress(ChildFailed):
        crew.run(job, processes=2)
    crew.restart()
    if (job.out / "metrics.json").exists():
        raise ChildFailed(f"{job.out.name} ended before it was killed")
    subject = f"{setup.model}, one of 2 processes killed in step {step + 1} (on from {newest_step(job)})"
    crew.run(replace(job, resume=True, settings={}, callbacks=()), processes=2)
    parts = same_runs(whole.out, job.out)
    differing = [path for part in parts for path in part.differing]
    found = f"{len(differing)} differ, such as {differing[0]}" if differing else f"{len(parts)} parts equal"
    return Verdict(check="resume", subject=subject, what="all of the above", found=found, passed=not differing)


def newest_step(job: Job) -> int:
    """The step of the newest checkpoint; 0 without any."""
    return next((int(path.stem) for path in found_checkpoints(job.out / "checkpoints")), 0)


def last_step(rows: Path) -> int:
    """The last step in a log; -1 without any."""
    try:
        return max((step for step, name in logged(rows) if name.startswith("train/")), default=-1)
    except (OSError, ValueError, KeyError, TypeError):  # being written
        return -1
