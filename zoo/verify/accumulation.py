"""A batch that is computed in pieces has the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from zoo.verify.children import run
from zoo.verify.setup import BY_TRAINER, Setup
from zoo.verify.tape import Recording, Tape, distance, largest, read
from zoo.verify.verdicts import Verdict, within

LIMITS = {"64-true": 1e-10, "32-true": 1e-6}
PIECES = (2, 4)


def verify_accumulation(setup: Setup) -> Iterator[Verdict]:
    """Compare the gradients of whole batches with those of the same batches in pieces, at the same weights.

    Args:
        setup: The model; every form of its loss is compared.
    """
    cases, batch = setup.cases, setup.batch
    for label, settings in {"": {}, **cases.losses}.items():
        subject = f"{setup.model}, {label}" if label else setup.model
        for precision, limit in LIMITS.items():
            here = setup.within(f"{label or 'loss'}-{precision}", cases.calm, settings, in_precision(precision))
            one = gradients(here, "whole", batch=batch, steps=2)
            for pieces in PIECES:
                many = gradients(here, f"{pieces}-pieces", batch=batch, steps=2, pieces=pieces)
                yield within(
                    "accumulation", subject, f"{pieces} pieces, gradients, {precision[:2]} bit",
                    value=worst(one, many), limit=limit,
                )  # fmt: skip
            if cases.pieces == BY_TRAINER:
                yield within(
                    "accumulation", subject, f"last, partial window, gradients, {precision[:2]} bit",
                    value=last_window(here, batch // 2), limit=limit,
                )  # fmt: skip
    if cases.batch_norm is not None:
        yield from batch_norm(setup.within("batch-norm", cases.calm, cases.batch_norm, in_precision("64-true")))


def in_precision(precision: str) -> dict[str, Any]:
    """Settings of a precision."""
    return {"trainer": {"precision": precision}}


def gradients(
    setup: Setup, name: str, *, batch: int, steps: int, pieces: int = 1, epoch: int | None = None, norms: int = 1
) -> Recording:
    """Gradients of some steps, all at the weights that the run starts with.

    Args:
        setup: The model.
        name: Of the run.
        batch: Samples in a step.
        steps: Steps to take.
        pieces: Pieces of a step's batch.
        epoch: Batches of an epoch, if it ends early.
        norms: Parts of a batch that BatchNorm treats each by itself.
    """
    ends = {} if epoch is None else {"limit_train_batches": epoch}
    tape = setup.folder / f"{name}.pt"
    job = setup.job(
        name,
        {"trainer": {"max_steps": steps, "limit_val_batches": 0, **ends}},
        setup.in_pieces(batch, pieces),
        callbacks=(partial(Tape, tape, frozen=True), partial(PartwiseNorms, norms)),
    )
    run(job)
    return read(tape)


def last_window(setup: Setup, size: int) -> float:
    """The last step of an epoch of 8 batches in threes sees two; its distance from a batch of those two."""
    windows = gradients(setup, "windows", batch=3 * size, steps=3, pieces=3, epoch=8)
    pairs = gradients(setup, "pairs", batch=2 * size, steps=4)
    return distance(pairs.gradients[3], windows.gradients[2])


def batch_norm(setup: Setup) -> Iterator[Verdict]:
    """BatchNorm sees a piece at a time: the gradient is another one, and it is the documented one."""
    limit, subject = LIMITS["64-true"], f"{setup.model}, with BatchNorm"
    whole = gradients(setup, "whole", batch=setup.batch, steps=1)
    pieces = gradients(setup, "2-pieces", batch=setup.batch, steps=1, pieces=2)
    parts = gradients(setup, "2-norms", batch=setup.batch, steps=1, norms=2)
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
    """Largest distance of the gradients of two runs over their steps; not-a-number if there are others."""
    if len(one.gradients) != len(two.gradients):
        return float("nan")
    return largest(distance(a, b) for a, b in zip(one.gradients, two.gradients, strict=True))


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
