"""The runs behind scaling laws: a grid of sizes and token budgets on one corpus, shapes, batches, and one foretold run.

Kaplan et al. 2020, arXiv:2001.08361; Hoffmann et al. 2022, arXiv:2203.15556; McCandlish et al. 2018, arXiv:1812.06162.

Differs from the papers in: every run's learning rate falls to its end at the run's own budget, so that final losses
compare; tokens are trained on once where the corpus is large enough, so D is both the tokens seen and the data.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json, write_text

# Width, depth, heads: each about three times as many parameters as the one before.
LADDER = (
    (32, 1, 2),
    (40, 2, 2),
    (64, 2, 4),
    (80, 4, 5),
    (128, 5, 8),
    (160, 10, 10),
    (256, 12, 16),
    (384, 16, 24),
)
_LEAST = 3  # sizes and budgets: a straight line needs three points

Train = Callable[..., Any]
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """What a grid is made of; kept with its records, for a grid that goes on.

    Attributes:
        sizes: Sizes in the grid; the next one of the ladder is foretold.
        budgets: Budgets of tokens in the grid.
        tokens: The largest budget.
        ratio: From one budget to the next.
        batch_size: Windows of a batch.
        batches: Batch sizes of the runs that the critical batch size is measured on.
        context: Tokens of a window.
        vocab_size: Of the tokenizer that is trained where the source has none.
        points: Measurements of the held-out loss in a run.
        seed: Of all runs.
        data: Settings of the data module.
    """

    sizes: int = 4
    budgets: int = 3
    tokens: int = 393_216
    ratio: float = 2.5
    batch_size: int = 8
    batches: tuple[int, ...] = (4, 8, 16, 32, 64)
    context: int = 64
    vocab_size: int = 512
    points: int = 8
    seed: int = 0
    data: Mapping[str, Any] = field(default_factory=lambda: {"source": "shakespeare"})

    def __post_init__(self) -> None:
        for name in ("sizes", "budgets"):
            if getattr(self, name) < _LEAST:
                raise UserError(f"--{name} {getattr(self, name)}: a power law needs at least {_LEAST} {name}")
        if self.sizes >= len(LADDER):
            raise UserError(f"--sizes {self.sizes}: there are at most {len(LADDER) - 1}, and one more to foretell")
        least = self.points * self.batch_size * self.context * self.ratio ** (self.budgets - 1)
        if self.tokens < least:
            raise UserError(
                f"--tokens {self.tokens:,} is too few: the smallest of {self.budgets} budgets would have fewer than "
                f"{self.points} steps of {self.batch_size * self.context:,} tokens; use {math.ceil(least):,} or more"
            )


SMOKE = GridSettings(
    sizes=3,
    tokens=12_288,
    ratio=2.0,
    batches=(4, 8, 16),
    vocab_size=320,
    points=4,
    data={"source": "sentences"},
)
"""For tests: runs to the end within a minute; the figures mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run.

    Attributes:
        name: Of its folder.
        part: ``grid``, ``shape``, ``batch`` or ``target``.
        width, depth, heads: Shape of the model.
        batch_size: Windows of a batch.
        steps: Optimiser steps.
        lr: Peak learning rate.
        schedule: Of the learning rate.
        points: Measurements of the held-out loss.
    """

    name: str
    part: str
    width: int
    depth: int
    heads: int
    batch_size: int
    steps: int
    lr: float
    schedule: str
    points: int

    @property
    def size(self) -> int:
        """N: non-embedding parameters without biases and norms (Kaplan et al., Equation 2.1)."""
        return 12 * self.depth * self.width**2


def learning_rate(size: int) -> float:
    """Peak rate of Adam for N parameters: 0.08 N^(-1/4).

    Ours, between the best of five rates for 12,288 (8e-3) and for 307,200 parameters (4e-3); it depends on the size
    alone, so that shapes of one size compare.
    """
    return 0.08 * size**-0.25


def flops_per_token(*, width: int, depth: int, context: int, vocab_size: int) -> int:
    """Floating-point operations of training on one token, a multiply-add counting as two.

    Three times the forward pass: matrices of the blocks, both products of attention over the whole window (the kernel
    may skip the masked half), and the output matrix.
    """
    blocks = 2 * 12 * depth * width**2
    attention = 2 * 2 * depth * context * width
    return 3 * (blocks + attention + 2 * width * vocab_size)


def shapes_of(width: int, depth: int, heads: int) -> dict[str, tuple[int, int, int]]:
    """Other shapes with about as many parameters: deeper, wider, with fewer and with more heads."""
    found = {"deep": (width // 2, 4 * depth, max(1, heads // 2))}
    if depth > 1:
        found["wide"] = (round(width * 2**0.5 / heads) * heads, depth // 2, heads)
    return found | {"one-head": (width, depth, 1), "many-heads": (width, depth, width // 4)}


def plans(settings: GridSettings) -> list[Plan]:
    """All runs but the foretold one, in the order in which they are trained."""
    tokens = [settings.tokens / settings.ratio**k for k in reversed(range(settings.budgets))]
    found = [
        _plan(settings, f"grid-{i + 1}-{k + 1}", "grid", LADDER[i], tokens[k])
        for i in range(settings.sizes)
        for k in range(settings.budgets)
    ]
    middle = LADDER[settings.sizes // 2]
    found += [
        _plan(settings, f"shape-{name}", "shape", shape, tokens[settings.budgets // 2])
        for name, shape in shapes_of(*middle).items()
    ]
    for batch in settings.batches:
        # Half the rate, because it does not fall; with the root of the batch, as noise allows (Adam).
        rate = 0.5 * (batch / settings.batch_size) ** 0.5
        found.append(
            _plan(settings, f"batch-{batch}", "batch", LADDER[1], tokens[-1], batch=batch, rate=rate, points=2)
        )
    return found


def target(settings: GridSettings) -> Plan:
    """The run that is foretold: the next size, with the largest budget."""
    return _plan(settings, "target", "target", LADDER[settings.sizes], settings.tokens)


def _plan(
    settings: GridSettings, name: str, part: str, shape: tuple[int, int, int], tokens: float,
    *, batch: int | None = None, rate: float = 1.0, points: int = 1,
) -> Plan:  # fmt: skip
    width, depth, heads = shape
    batch, points = batch or settings.batch_size, points * settings.points
    steps = max(1, round(tokens / (batch * settings.context) / points)) * points
    return Plan(
        name=name, part=part, width=width, depth=depth, heads=heads, batch_size=batch, steps=steps, points=points,
        lr=rate * learning_rate(12 * depth * width**2), schedule="constant" if part == "batch" else "cosine",
    )  # fmt: skip


def run(plan: Plan, settings: GridSettings, corpus: Mapping[str, Any], out: Path, train: Train) -> Record:
    """Train one run into its own folder, or go on with it, or read it if it is finished; returns its record.

    Args:
        plan: The run.
        settings: The grid's settings.
        corpus: What :func:`zoo.gpt.scaling.corpus.prepare_corpus` returned.
        out: Folder of the grid.
        train: ``zoo.train``.
    """
    from zoo.shared.optim.noise_scale import GradientNoiseScale

    folder = out / "runs" / plan.name
    callbacks = [GradientNoiseScale(every=max(1, plan.steps // 64))] if plan.part == "batch" else []
    if not (folder / "metrics.json").is_file():
        if (folder / "config.yaml").is_file():
            train("gpt", resume=folder, callbacks=callbacks)
        else:
            every = plan.steps // plan.points
            train(
                "gpt",
                "scaling",
                out=folder,
                callbacks=callbacks,
                seed=settings.seed,
                model={
                    "vocab_size": corpus["vocab_size"], "context": settings.context, "width": plan.width,
                    "depth": plan.depth, "heads": plan.heads,
                },
                task={"lr": plan.lr, "warmup_steps": max(1, plan.steps // 10), "schedule": plan.schedule},
                data={"source": str(out / "tokens"), "batch_size": plan.batch_size,
                      "workers": settings.data.get("workers", 0)},
                trainer={"max_steps": plan.steps, "val_check_interval": every, "log_every_n_steps": min(8, every)},
            )  # fmt: skip
    return record_of(plan, settings, corpus, folder)


def record_of(plan: Plan, settings: GridSettings, corpus: Mapping[str, Any], folder: Path) -> Record:
    """What a finished run has to say.

    Raises:
        UserError: Its files are damaged.
    """
    metrics = read_json(folder / "metrics.json")
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    curve = [[int(r["step"]) + 1, float(r["val/loss"])] for r in rows if r.get("val/loss")]
    noise = [[int(r["step"]) + 1, float(r["train/noise_scale"])] for r in rows if r.get("train/noise_scale")]
    logged = metrics["logged"]
    if "val/loss" not in logged or not curve:
        raise UserError(f"{folder} holds no held-out loss; delete it and go on with --resume")
    tokens = plan.steps * plan.batch_size * settings.context
    each = flops_per_token(
        width=plan.width, depth=plan.depth, context=settings.context, vocab_size=corpus["vocab_size"]
    )
    return {
        **asdict(plan),
        "size": plan.size,
        "parameters": metrics["parameters"],
        "tokens": tokens,
        "passes": tokens / corpus["tokens"],
        "flops_6nd": 6 * plan.size * tokens,
        "flops": each * tokens,
        "loss": logged["val/loss"],
        "bits_per_byte": logged["val/bits_per_byte"],
        "seconds": metrics["training_seconds"],
        "hardware": metrics["hardware"],
        "curve": curve,
        "noise_scale_tokens": [[step, value * settings.context] for step, value in noise],
    }


def write_records(out: Path, settings: GridSettings, corpus: Mapping[str, Any], records: list[Record]) -> None:
    """Write ``grid.json`` and ``grid.csv``."""
    write_json(out / "grid.json", {"settings": asdict(settings), "corpus": dict(corpus), "runs": records})
    if records:
        columns = [name for name, value in records[0].items() if isinstance(value, (int, float, str))]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        write_text(out / "grid.csv", text.getvalue())


def read_settings(out: Path) -> GridSettings:
    """Settings of a grid that was begun.

    Raises:
        UserError: There is none.
    """
    if not (out / "grid.json").is_file():
        raise UserError(f"{out} holds no grid to go on with; leave out --resume")
    found = read_json(out / "grid.json")["settings"]
    return GridSettings(**(found | {"batches": tuple(found["batches"])}))
