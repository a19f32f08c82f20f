"""``zoo scale gpt``: train a grid of sizes and budgets, fit scaling laws, foretell a larger run and test it."""

from __future__ import annotations

import dataclasses
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import Parser, console, give, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.gpt.scaling.grid import GridSettings

_OWNED = ("ramp_start", "ramp_batches")  # settings of the data that a grid cannot leave to the user


def scale(words: list[str]) -> int:
    """Train what is missing, then fit, foretell, test and draw."""
    parser = Parser(
        prog="zoo scale gpt",
        description="Scaling laws on one corpus: trains a grid of model sizes and token budgets, other shapes of one "
        "size and other batch sizes, fits the laws, foretells the next larger size and trains it.",
        epilog="--data.* as for `zoo train gpt`, such as --data.source FOLDER.",
        allow_abbrev=False,
    )
    parser.add_argument("--sizes", type=int, metavar="K", help="model sizes, 3 or more (default 4)")
    parser.add_argument("--budgets", type=int, metavar="K", help="token budgets, 3 or more (default 3)")
    parser.add_argument("--tokens", type=int, metavar="T", help="the largest budget (default 393216)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all runs (default 0)")
    parser.add_argument("--out", metavar="DIR", help="folder of the grid (default runs/scaling/DATE-TIME)")
    parser.add_argument("--resume", action="store_true", help="go on with the grid in --out")
    parser.add_argument("--smoke", action="store_true", help="a tiny grid on generated text, in under a minute")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    args, rest = parser.parse_known_args(words)
    chosen = {name: getattr(args, name) for name in ("sizes", "budgets", "tokens", "seed")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if args.resume and (chosen or rest or args.smoke):
        raise UserError("--resume goes on with the grid's own settings; give it --out DIR alone")
    if args.resume and not args.out:
        raise UserError("--resume needs --out DIR, the folder of the grid to go on with")
    out = Path(args.out or Path("runs") / "scaling" / datetime.now().strftime("%Y-%m-%d-%H%M%S")).expanduser()

    from zoo.gpt.scaling.grid import read_settings
    from zoo.registry import resolve
    from zoo.shared.files import check_writable

    if not args.resume and (out / "grid.json").exists():
        raise UserError(f"{out} holds a grid already; go on with --resume, or choose another --out")
    settings = read_settings(out) if args.resume else choose(chosen, rest, smoke=args.smoke)
    check_writable(out)
    train = resolve("zoo.training:train")
    resolve("zoo.cli.train:quieten")()
    try:
        summary = work(settings, out, train)
    except KeyboardInterrupt:
        say(f"the grid goes on with `zoo scale gpt --resume --out {out}`")
        raise
    if args.json:
        give(summary)
    else:
        show(summary, out)
    return 0


def choose(chosen: dict[str, int], rest: list[str], *, smoke: bool) -> GridSettings:
    """Settings of a new grid.

    Raises:
        UserError: An unknown option, or values that do not fit together.
    """
    from zoo.gpt.scaling.grid import SMOKE, GridSettings

    strange = [word for word in rest if word.startswith("-") and not word.startswith("--data.")]
    if strange or (rest and not rest[0].startswith("--data.")):
        raise UserError(f"unknown option {(strange or rest)[0]}; `zoo scale gpt --help` shows how it is used")
    base = SMOKE if smoke else GridSettings()
    changes: dict[str, Any] = {**chosen, **data_settings(dict(base.data), base.batch_size, rest)}
    return dataclasses.replace(base, **changes)


def data_settings(data: dict[str, Any], batch_size: int, rest: list[str]) -> dict[str, Any]:
    """The data module's settings from ``--data.*``, with the batch size apart."""
    if not rest:
        return {"data": data}
    from zoo.registry import get_family, resolve

    family = get_family("gpt")
    parser = resolve("zoo.settings:build_parser")(family, "gpt-nano", {"data": {**data, "batch_size": batch_size}})
    parser.prog = "zoo scale gpt"
    found = resolve("zoo.settings:parse_words")(parser, rest)["data"]
    for name in _OWNED:
        if f"--data.{name}" in {word.partition("=")[0] for word in rest}:
            raise UserError(f"--data.{name} does not fit a grid, whose runs have batches of one size; leave it out")
        found.pop(name)
    return {"batch_size": found.pop("batch_size"), "data": found}


def work(settings: GridSettings, out: Path, train: Any) -> dict[str, Any]:
    """Train what is missing and write records, fits, prediction, score and pictures; returns what they say."""
    from zoo.gpt.scaling import grid as scaling
    from zoo.gpt.scaling import laws as scaling_laws
    from zoo.gpt.scaling.corpus import prepare_corpus
    from zoo.gpt.scaling.plots import draw_all
    from zoo.shared.files import write_json

    corpus = prepare_corpus(settings, out)
    passes = corpus["passes_of_the_largest_budget"]
    if passes > 1:
        say(f"the corpus has {corpus['tokens']:,} tokens; the largest budget goes over it {passes:.2f} times")
    if not (out / "grid.json").is_file():
        scaling.write_records(out, settings, corpus, [])  # --resume finds it, whenever the first run is stopped
    todo = scaling.plans(settings)
    records: list[scaling.Record] = []
    for number, plan in enumerate(todo, 1):
        say(f"[{number}/{len(todo) + 1}] {plan.name}: N {plan.size:,}, {plan.steps:,} steps, rate {plan.lr:.2g}")
        records.append(scaling.run(plan, settings, corpus, out, train))
        scaling.write_records(out, settings, corpus, records)
    fits, refused = scaling_laws.fit_laws(records, settings.context)
    plan = scaling.target(settings)
    tokens = plan.steps * plan.batch_size * settings.context
    prediction = scaling_laws.foretell(plan, tokens, fits, out / "prediction.json")
    first, said = next(iter(prediction["predictions"].items()))
    say(f"[{len(todo) + 1}/{len(todo) + 1}] {plan.name}: N {plan.size:,}, foretold by {first}: {said['loss']:.3f} nats")
    records.append(scaling.run(plan, settings, corpus, out, train))
    scaling.write_records(out, settings, corpus, records)
    summary = {
        "corpus": corpus,
        "fits": {name: fit.record() for name, fit in fits.items()},
        "refused": refused,
        "best_size_exponent": scaling_laws.allocation(fits),
        "shape": scaling_laws.shape_effect(records),
        "noise_scale_tokens": scaling_laws.noise_scales(records),
        "prediction": scaling_laws.score(prediction, records[-1], out / "score.json"),
        "training_seconds": round(sum(record["seconds"] for record in records), 1),
        "hardware": records[-1]["hardware"],
    }
    write_json(out / "fits.json", summary)
    pictures = draw_all(records, fits, prediction, settings.context, out / "pictures")
    return {**summary, "pictures": [str(path) for path in pictures]}


def number(constant: str, value: float) -> str:
    """A constant as text; one that the runs leave open is out of all bounds."""
    large, small = (1e6, 1e-6) if constant[0] in "ab" else (1e60, 1e-12)  # exponents, and the others
    if value > large:
        return "no bound"
    return "0" if value < small else f"{value:.3g}"


def show(summary: dict[str, Any], out: Path) -> None:
    """Print tables of what was found."""
    from rich.table import Table

    shown = console()
    table = Table(title="fits, with 95 % intervals", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("law", "constants", "R²", "points"):
        table.add_column(name, justify="right" if name in ("R²", "points") else "left")
    for name, fit in summary["fits"].items():
        lines = []
        for constant, each in fit["constants"].items():
            value, low, high = (number(constant, each[end]) for end in ("value", "low", "high"))
            lines.append(f"{constant} {value} [dim]({low} to {high})[/]")
        table.add_row(f"{name}\n[dim]{fit['formula']}[/]".replace("[(", "\\[("), "\n".join(lines),
                      f"{fit['r2']:.3f}", str(fit["points"]))  # fmt: skip
    shown.print(table)
    for name, reason in summary["refused"].items():
        shown.print(f"{name}: not fitted: {reason}", markup=False)
    for name, exponent in summary["best_size_exponent"].items():
        shown.print(f"best size by {name}: N ~ C^{exponent:.2f}", markup=False)
    if shape := summary["shape"]:
        losses = ", ".join(f"{name}: {loss:.3f}" for name, loss in shape["losses"].items())
        shown.print(f"shapes of one size differ by {shape['spread']:.3f} nats, sizes {shape['sizes'][0]:,} to "
                    f"{shape['sizes'][1]:,} by {shape['spread_by_size']:.3f} ({losses})", markup=False)  # fmt: skip
    for name, said in summary["prediction"].items():
        where = "inside" if said["inside"] else "OUTSIDE"
        shown.print(
            f"foretold by {name}: {said['loss']:.3f} nats ({said['low']:.3f} to {said['high']:.3f}); "
            f"found {said['found']:.3f}: {where} the interval, error {said['error']:+.3f}",
            markup=False,
        )
    sys.stdout.write(f"records, fits and pictures are in {out}\n")
