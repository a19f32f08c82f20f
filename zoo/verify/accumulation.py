"""A batch that is computed in pieces has the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from zoo.registry import FamilySpec
from zoo.settings import merge, read_recipe
from zoo.verify.cases import VerifyCases
from zoo.verify.children import Job, run
from zoo.verify.tape import Recording, Tape, distance, read
from zoo.verify.verdicts import Verdict, within

LIMITS = {"64-true": 1e-10, "32-true": 1e-6}
PIECES = (2, 4)
_BY_TRAINER = "trainer.accumulate_grad_batches"


def verify_accumulation(spec: FamilySpec, cases: VerifyCases, model: str, folder: Path) -> Iterator[Verdict]:
    """Compare the gradients of whole batches with those of the same batches in pieces, at the same weights.

    Args:
        spec: The family.
        cases: How it is trained small; every form of the loss is compared.
        model: The model.
        folder: Where the runs go.
    """
    batch = batch_size(spec, cases)
    for label, settings in {"": {}, **cases.losses}.items():
        subject = f"{model}, {label}" if label else model
        settings = merge(cases.calm, settings)
        for precision, limit in LIMITS.items():
            bench = Bench(spec, cases, model, folder / f"{label or 'loss'}-{precision}", settings, precision)
            one = bench.gradients("whole", batch=batch, steps=2)
            for pieces in PIECES:
                many = bench.gradients(f"{pieces}-pieces", batch=batch, steps=2, pieces=pieces)
                yield within(
                    "accumulation", subject, f"{pieces} pieces, gradients, {precision[:2]} bit",
                    value=worst(one, many), limit=limit,
                )  # fmt: skip
            if cases.pieces == _BY_TRAINER:
                yield from last_window(bench, subject, batch // 2, limit)
    if cases.batch_norm is not None:
        settings = merge(cases.calm, cases.batch_norm)
        yield from batch_norm(Bench(spec, cases, model, folder / "batch-norm", settings, "64-true"), model, batch)


class Bench:
    """Runs that differ in how their batches are cut.

    Args:
        spec: The family.
        cases: How it is trained small.
        model: The model.
        folder: Where the runs go.
        settings: Settings of all runs.
        precision: Of the trainer.
    """

    def __init__(
        self,
        spec: FamilySpec,
        cases: VerifyCases,
        model: str,
        folder: Path,
        settings: Mapping[str, Any],
        precision: str,
    ) -> None:
        self.spec = spec
        self.cases = cases
        self.model = model
        self.folder = folder
        self.settings = settings
        self.precision = precision

    def gradients(
        self, name: str, *, batch: int, steps: int, pieces: int = 1, epoch: int | None = None, norms: int = 1
    ) -> Recording:
        """Gradients of some steps, all at the weights that the run starts with.

        Args:
            name: Of the run.
            batch: Samples in a step.
            steps: Steps to take.
            pieces: Pieces of a step's batch.
            epoch: Batches of an epoch, if it ends early.
            norms: Parts of a batch that BatchNorm treats each by itself.
        """
        ends = {} if epoch is None else {"limit_train_batches": epoch}
        trainer = {"max_steps": steps, "precision": self.precision, "limit_val_batches": 0, "log_every_n_steps": 1}
        job = Job(
            spec=self.spec,
            model=self.model,
            out=self.folder / name,
            recipe=self.cases.recipe,
            settings=merge(
                self.settings,
                {"trainer": {**trainer, **ends}, "audit": False},
                in_pieces(self.cases, batch=batch, pieces=pieces),
            ),
            callbacks=(partial(Tape, self.folder / f"{name}.pt", frozen=True), partial(PartwiseNorms, norms)),
        )
        run(job)
        return read(self.folder / f"{name}.pt")


def in_pieces(cases: VerifyCases, *, batch: int, pieces: int) -> dict[str, Any]:
    """Settings that cut a step's batch into pieces."""
    if cases.pieces == _BY_TRAINER:
        return {"data": {"batch_size": batch // pieces}, "trainer": {"accumulate_grad_batches": pieces}}
    section, _, key = cases.pieces.partition(".")
    return {"data": {"batch_size": batch}, section: {key: pieces}}


def last_window(bench: Bench, subject: str, size: int, limit: float) -> Iterator[Verdict]:
    """The last step of an epoch of 8 batches in threes sees two; it must equal a batch of those two."""
    windows = bench.gradients("windows", batch=3 * size, steps=3, pieces=3, epoch=8)
    pairs = bench.gradients("pairs", batch=2 * size, steps=4)
    yield within(
        "accumulation", subject, f"last, partial window, gradients, {bench.precision[:2]} bit",
        value=distance(pairs.gradients[3], windows.gradients[2]), limit=limit,
    )  # fmt: skip


def batch_norm(bench: Bench, model: str, batch: int) -> Iterator[Verdict]:
    """BatchNorm sees a piece at a time: the gradient is another one, and it is the documented one."""
    limit = LIMITS["64-true"]
    whole = bench.gradients("whole", batch=batch, steps=1)
    pieces = bench.gradients("2-pieces", batch=batch, steps=1, pieces=2)
    parts = bench.gradients("2-norms", batch=batch, steps=1, norms=2)
    subject = f"{model}, with BatchNorm"
    yield within(
        "accumulation", subject, "2 pieces equal a batch normalised in 2 parts", value=worst(parts, pieces), limit=limit
    )
    apart = worst(whole, pieces)
    yield Verdict(
        check="accumulation",
        subject=subject,
        what="and differ from a batch normalised as one, as they must",
        found=f"{apart:.1e}",
        passed=apart > 1e-6,
    )


def worst(one: Recording, two: Recording) -> float:
    """Largest distance of the gradients of two runs over their steps."""
    if len(one.gradients) != len(two.gradients):
        return float("nan")
    return max(distance(a, b) for a, b in zip(one.gradients, two.gradients, strict=True))


def batch_size(spec: FamilySpec, cases: VerifyCases) -> int:
    """The recipe's batch size, or the nearest below that can be cut in pieces of every number used here."""
    wanted = int(read_recipe(spec, cases.recipe).get("data", {}).get("batch_size", 24))
    return max(12, wanted - wanted % 12)


class PartwiseNorms(Callback):
    """Lets BatchNorm normalise each of ``parts`` equal parts of a batch by itself, as it does for micro-batches.

    Args:
        parts: How many; 1 changes nothing.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Exchange the layers' forward pass."""
        if self.parts == 1:
            return
        for module in pl_module.modules():
            if isinstance(module, BatchNorm):
                module.forward = partial(by_parts, module.forward, self.parts)  # type: ignore[method-assign]


def by_parts(forward: Any, parts: int, x: Tensor) -> Tensor:
    """Apply ``forward`` to each part of a batch."""
    return torch.cat([forward(part) for part in x.chunk(parts)])
