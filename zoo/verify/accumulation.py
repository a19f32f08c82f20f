"""A batch that is computed in pieces has the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from zoo.verify.cases import Settings
from zoo.verify.children import AT_ONCE, run
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
    cases = setup.cases
    forms = product({"": {}, **cases.losses}.items(), LIMITS.items())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [pool.submit(one_form, setup, *named, *limited) for named, limited in forms]
        if cases.batch_norm is not None:
            exact = setup.within("batch-norm", cases.calm, cases.batch_norm, in_precision("64-true"))
            found.append(pool.submit(batch_norm, exact))
        for one in found:
            yield from one.result()


def one_form(setup: Setup, label: str, settings: Settings, precision: str, limit: float) -> list[Verdict]:
    """One form of the loss in one precision."""
    cases, batch = setup.cases, setup.batch
    subject = f"{setup.model}, {label}" if label else setup.model
    here = setup.within(f"{label or 'loss'}-{precision}", cases.calm, settings, in_precision(precision))
    one = gradients(here, "whole", batch=batch, steps=2)
    found = {}
    for pieces in PIECES:
        many = gradients(here, f"{pieces}-pieces", batch=batch, steps=2, pieces=pieces)
        found[f"{pieces} pieces"] = worst(one, many)
    if cases.pieces == BY_TRAINER:
        found["last, partial window"] = last_window(here, batch // 2)
    return [
        within("accumulation", subject, f"{what}, gradients, {precision[:2]} bit", value=value, limit=limit)
        for what, value in found.items()
    ]


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


def batch_norm(setup: Setup) -> list[Verdict]:
    """BatchNorm sees a piece at a time: the gradient is another one, and it is the documented one."""
    limit, subject = LIMITS["64-true"], f"{setup.model}, with BatchNorm"
    whole = gradients(setup, "whole", batch=setup.batch, steps=1)
    pieces = gradients(setup, "2-pieces", batch=setup.batch, steps=1, pieces=2)
    parts = gradients(setup, "2-norms", batch=setup.batch, steps=1, norms=2)
    apart = worst(whole, pieces)
    return [
        within(
            "accumulation", subject, "2 pieces equal a batch normalised in 2 parts",
            value=worst(parts, pieces), limit=limit,
        ),
        Verdict(
            check="accumulation",
            subject=subject,
            what="and differ from a batch normalised as one, as they must",
            found=f"{apart:.1e}",
            passed=apart > 1e-6,
        ),
    ]  # fmt: skip


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
