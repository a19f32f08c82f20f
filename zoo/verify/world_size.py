"""Several processes train as one does: same gradients, same losses, same weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from zoo.registry import FamilySpec
from zoo.settings import merge
from zoo.shared.runs.checkpoints import found_checkpoints, remove
from zoo.verify.accumulation import LIMITS, batch_size, in_pieces
from zoo.verify.cases import VerifyCases
from zoo.verify.children import ChildFailed, Crew, Job
from zoo.verify.tape import Recording, Tape, distance, read
from zoo.verify.verdicts import Verdict

STEPS = 10


def verify_world_size(spec: FamilySpec, cases: VerifyCases, model: str, folder: Path, crew: Crew) -> Iterator[Verdict]:
    """Train in one process and in several on the same global batches.

    Args:
        spec: The family.
        cases: How it is trained small; every form of the loss is compared.
        model: The model.
        folder: Where the runs go.
        crew: The processes.
    """
    batch = batch_size(spec, cases)
    shapes = [(count, strategy) for strategy in ("ddp", "fsdp") for count in (2, 3)]
    for label, settings in {"": {}, **cases.losses}.items():
        for precision, limit in LIMITS.items():
            runs = Runs(spec, cases, model, folder / f"{label or 'loss'}-{precision}", crew, batch, precision)
            subject = f"{model}, {label}" if label else model
            settings = merge(cases.calm, settings)
            one = runs.train("one", settings, processes=1, strategy="auto")
            for count, strategy in shapes if precision == "64-true" else shapes[:1]:
                other = runs.train(f"{count}-{strategy}", settings, processes=count, strategy=strategy)
                yield compare(f"{subject}, {precision[:2]} bit", f"{count} processes, {strategy}", one, other, limit)
    runs = Runs(spec, cases, model, folder / "pieces", crew, batch, "64-true")
    pieces = merge(cases.calm, in_pieces(cases, batch=batch, pieces=2))
    one = runs.train("one", cases.calm, processes=1, strategy="auto")
    other = runs.train("2-ddp", pieces, processes=2, strategy="ddp")
    yield compare(f"{model}, 64 bit", "2 processes, ddp, 2 pieces each", one, other, LIMITS["64-true"])
    other = runs.resharded("2-to-3-fsdp", cases.calm)
    yield compare(f"{model}, 64 bit", "2 processes, fsdp, resumed by 3", one, other, LIMITS["64-true"], taped=False)
    if cases.tensor_parallel:
        runs = Runs(spec, cases, model, folder / "tp", crew, batch, "64-true")
        one = runs.train("one", cases.calm, processes=1, strategy="auto")
        other = runs.train("2-tp", cases.calm, processes=2, strategy="tp")
        # Its gradients have other names, because projections are split; the weights say the same.
        yield compare(f"{model}, 64 bit", "2 processes, tp", one, other, LIMITS["64-true"], taped=False)
    if cases.batch_norm is not None:
        settings = merge(cases.calm, cases.batch_norm, {"trainer": {"sync_batchnorm": True}})
        runs = Runs(spec, cases, model, folder / "batch-norm", crew, batch, "64-true")
        one = runs.train("one", settings, processes=1, strategy="auto")
        for count in (2, 3):
            other = runs.train(f"{count}-ddp", settings, processes=count, strategy="ddp")
            yield compare(f"{model}, with BatchNorm, 64 bit", f"{count} processes, ddp", one, other, LIMITS["64-true"])


class Runs:
    """Runs that differ in the number of processes.

    Args:
        spec: The family.
        cases: How it is trained small.
        model: The model.
        folder: Where the runs go.
        crew: The processes.
        batch: Samples in a global batch.
        precision: Of the trainer.
    """

    def __init__(
        self, spec: FamilySpec, cases: VerifyCases, model: str, folder: Path, crew: Crew, batch: int, precision: str
    ) -> None:
        self.spec = spec
        self.cases = cases
        self.model = model
        self.folder = folder
        self.crew = crew
        self.batch = batch
        self.precision = precision

    def train(self, name: str, settings: Mapping[str, Any], *, processes: int, strategy: str) -> tuple[Path, Recording]:
        """Train; returns the run folder and what was written down."""
        tape = self.folder / f"{name}.pt"
        job = replace(self.job(name, settings, processes, strategy), callbacks=(partial(Tape, tape),))
        self.crew.run(job, processes=processes)
        return job.out, read(tape)

    def resharded(self, name: str, settings: Mapping[str, Any]) -> tuple[Path, Recording]:
        """Train in 2 processes with ``fsdp``, go back to the checkpoint of step 5, and go on in 3."""
        job = self.job(name, settings, 2, "fsdp")
        self.crew.run(job, processes=2)
        newest = found_checkpoints(job.out / "checkpoints")[0]
        if newest.stem != f"{STEPS:08d}":
            raise ChildFailed(f"{job.out.name} has no checkpoint of its last step")
        remove(newest)
        (job.out / "metrics.json").unlink()
        shutil.rmtree(job.out / "weights")
        self.crew.run(replace(job, resume=True, settings={"trainer": {"devices": 3}}), processes=3)
        return job.out, Recording(gradients=[], losses=[])

    def job(self, name: str, settings: Mapping[str, Any], processes: int, strategy: str) -> Job:
        """A run of ten steps, which cross the end of an epoch where the data is small enough."""
        trainer = {
            "max_steps": STEPS, "precision": self.precision, "strategy": strategy, "devices": processes,
            "limit_val_batches": 0, "log_every_n_steps": 1,
        }  # fmt: skip
        ours = {"data": {"batch_size": self.batch}, "trainer": trainer, "audit": False, "checkpoint_every": STEPS // 2}
        return Job(
            spec=self.spec,
            model=self.model,
            out=self.folder / name,
            recipe=self.cases.recipe,
            settings=merge(ours, settings),
        )


def compare(
    subject: str,
    what: str,
    one: tuple[Path, Recording],
    other: tuple[Path, Recording],
    limit: float,
    *,
    taped: bool = True,
) -> Verdict:
    """Gradients of the first and the last step, the losses of all, and the weights in the end.

    In float32 rounding grows from step to step, so there the first gradient and the losses are compared.
    """
    (folder, expected), (folder_of_other, found) = one, other
    figures: dict[str, float] = {}
    if taped:
        figures["gradients of step 1"] = distance(expected.gradients[0], found.gradients[0])
        figures["losses"] = max(abs(a - b) / abs(a) for a, b in zip(expected.losses, found.losses, strict=True))
    if limit == LIMITS["64-true"]:
        if taped:
            figures[f"of step {STEPS}"] = distance(expected.gradients[-1], found.gradients[-1])
        weights, others = (load_file(path / "weights" / "model.safetensors") for path in (folder, folder_of_other))
        figures["weights"] = distance(weights, others)
    return Verdict(
        check="world-size",
        subject=subject,
        what=what,
        found=", ".join(f"{name} {value:.0e}" for name, value in figures.items()) + f" (limit {limit:.0e})",
        passed=all(value <= limit for value in figures.values()),
    )
