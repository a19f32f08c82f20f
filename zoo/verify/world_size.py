"""Several processes train as one does: same gradients, same losses, same weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from zoo.shared.runs.checkpoints import found_checkpoints, remove
from zoo.verify.accumulation import LIMITS, in_precision
from zoo.verify.children import ChildFailed, Crew, Job
from zoo.verify.setup import Setup
from zoo.verify.tape import Recording, Tape, distance, largest, read
from zoo.verify.verdicts import Verdict

STEPS = 10
_EXACT = "64-true"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished run.

    Attributes:
        folder: The run folder.
        tape: Gradients and losses of its steps; None if they were not written down under the same names.
    """

    folder: Path
    tape: Recording | None


def verify_world_size(setup: Setup, crew: Crew, *, further: tuple[int, ...] = (2, 3)) -> Iterator[Verdict]:
    """Train in one process and in several on the same global batches.

    Args:
        setup: The model; every form of its loss is compared.
        crew: The processes.
        further: Numbers of processes for what is not the plain loss, which is trained in 2 and 3.
    """
    cases, model = setup.cases, setup.model
    plain: dict[str, Trained] = {}
    strategies = ("ddp", "fsdp") if cases.sharded else ("ddp",)
    for label, settings in {"": {}, **cases.losses}.items():
        subject = f"{model}, {label}" if label else model
        shapes = [(count, strategy) for strategy in strategies for count in (further if label else (2, 3))]
        for precision in LIMITS:
            here = setup.within(f"{label or 'loss'}-{precision}", cases.calm, settings, in_precision(precision))
            one = train(here, crew, "one")
            plain.setdefault(precision, one)
            for count, strategy in shapes if precision == _EXACT else shapes[:1]:
                other = train(here, crew, f"{count}-{strategy}", processes=count, strategy=strategy)
                yield compare(subject, f"{count} processes, {strategy}", one, other, precision)
    here, one = setup.within("further", cases.calm, in_precision(_EXACT)), plain[_EXACT]
    other = train(here, crew, "pieces", setup.in_pieces(setup.batch, 2), processes=2, strategy="ddp")
    yield compare(model, "2 processes, ddp, each in 2 pieces", one, other, _EXACT)
    if cases.sharded:
        yield compare(model, "2 processes, fsdp, resumed by 3", one, resharded(here, crew), _EXACT)
    if cases.tensor_parallel:
        other = train(here, crew, "tp", processes=2, strategy="tp")
        # Projections are split, so that gradients have other names.
        yield compare(model, "2 processes, tp", one, replace(other, tape=None), _EXACT)
    if cases.batch_norm is not None:
        synced = {"trainer": {"sync_batchnorm": True}}
        here = setup.within("batch-norm", cases.calm, cases.batch_norm, synced, in_precision(_EXACT))
        one = train(here, crew, "one")
        for count in further:
            other = train(here, crew, f"{count}-ddp", processes=count, strategy="ddp")
            yield compare(f"{model}, with BatchNorm", f"{count} processes, ddp", one, other, _EXACT)


def train(
    setup: Setup, crew: Crew, name: str, *layers: Mapping[str, Any], processes: int = 1, strategy: str = "auto"
) -> Trained:
    """Train, and write gradients and losses down."""
    tape = setup.folder / f"{name}.pt"
    job = replace(ten_steps(setup, name, *layers, strategy=strategy), callbacks=(partial(Tape, tape),))
    crew.run(job, processes=processes)
    return Trained(folder=job.out, tape=read(tape))


def resharded(setup: Setup, crew: Crew) -> Trained:
    """Train in 2 processes with ``fsdp``, go back to the checkpoint in the middle, and go on in 3."""
    job = ten_steps(setup, "2-to-3-fsdp", strategy="fsdp")
    crew.run(job, processes=2)
    newest = found_checkpoints(job.out / "checkpoints")[0]
    if newest.stem != f"{STEPS:08d}":
        raise ChildFailed(f"{job.out.name} has no checkpoint of its last step")
    remove(newest)
    (job.out / "metrics.json").unlink()
    shutil.rmtree(job.out / "weights")
    crew.run(replace(job, resume=True, settings={}), processes=3)
    return Trained(folder=job.out, tape=None)


def ten_steps(setup: Setup, name: str, *layers: Mapping[str, Any], strategy: str) -> Job:
    """A run whose steps cross the end of an epoch where the data is small enough."""
    trainer = {"max_steps": STEPS, "strategy": strategy, "limit_val_batches": 0}
    ours = {"data": {"batch_size": setup.batch}, "trainer": trainer, "checkpoint_every": STEPS // 2}
    return setup.job(name, ours, *layers)


def compare(subject: str, what: str, one: Trained, other: Trained, precision: str) -> Verdict:
    """Gradients of the first and the last step, the losses of all, and the weights in the end.

    In float32 rounding grows from step to step, so there the first gradient and the losses are compared.
    """
    figures: dict[str, float] = {}
    if one.tape and other.tape:
        figures["gradients of step 1"] = distance(one.tape.gradients[0], other.tape.gradients[0])
        if precision == _EXACT:
            figures[f"of step {STEPS}"] = distance(one.tape.gradients[-1], other.tape.gradients[-1])
        both = zip(one.tape.losses, other.tape.losses, strict=True)
        figures["losses"] = largest(abs(a - b) / abs(a) for a, b in both)
    if precision == _EXACT:
        first, second = (load_file(run.folder / "weights" / "model.safetensors") for run in (one, other))
        figures["weights"] = distance(first, second)
    limit = LIMITS[precision]
    return Verdict(
        check="world-size",
        subject=f"{subject}, {precision[:2]} bit",
        what=what,
        found=", ".join(f"{name} {value:.0e}" for name, value in figures.items()) + f" (limit {limit:.0e})",
        passed=all(value <= limit for value in figures.values()),
    )
