"""``zoo vintage``: what a language model with a cutoff knows of later times, beside a modern twin."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.gpt.vintage import CUTOFF
from zoo.shared.command_line import Parser, add_model_options, console, give, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.gpt.evaluation.exam import Exam

_KINDS = {
    "years": "bits per byte of a dated corpus, year by year (--data FILE)",
    "surprise": "bits per byte of dated events, by decade",
    "knowledge": "questions with and without those that are too late for the model",
    "code": "Python functions after examples in the context; runs what is written (--execute)",
}
# Option -> the kinds that it means something to.
_ONLY = {
    "execute": ("code",), "samples": ("code",), "temperature": ("code",), "seconds": ("code",),
    "shots": ("knowledge", "code"), "text_column": ("years",), "year_column": ("years",), "stride": ("years",),
    "cutoff": ("years", "surprise", "knowledge"),
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="zoo vintage",
        description="Measure a language model whose training text ends in a year, and a twin that read later text: "
        + "; ".join(f"{name}: {text}" for name, text in _KINDS.items())
        + ".",
    )
    add = parser.add_argument
    add("kind", choices=_KINDS, metavar="|".join(_KINDS), help="what is measured")
    add("--twin", metavar="W", help="weights of a model to compare with, item by item")
    add("--data", metavar="FILE", help="your own items instead of the built-in ones: years takes JSON lines or parquet "
        "with a year beside each text, surprise lines `year<TAB>text`, knowledge JSON lines with question, choices, "
        "answer and year, code HumanEval's JSON lines")  # fmt: skip
    add("--cutoff", type=int, metavar="YEAR", help=f"last year of the training text (default {CUTOFF})")
    add("--text-column", metavar="C", help="column of the texts (default text)")
    add("--year-column", metavar="C", help="column of the years (default year)")
    add("--stride", type=int, metavar="S", help="tokens predicted by a rolling window")
    add("--shots", type=int, metavar="K", help="examples before each item, as many as fit (default 3)")
    add("--samples", type=int, metavar="N", help="programs written for each function (default 10; the paper: 100)")
    add("--temperature", type=float, metavar="T", help="of their sampling (default 0.8)")
    add("--seconds", type=float, metavar="S", help="that a program may take (default 3)")
    add("--execute", action="store_true", default=None, help="run programs that the model wrote, in processes with "
        "limits of time, memory and files; they keep your rights to files and network, so use a container where that "
        "matters")  # fmt: skip
    add("--limit", type=int, metavar="N", help="use at most N items")
    add("--seed", type=int, default=0, metavar="S", help="of draws (default %(default)s)")
    add("--batch-size", type=int, default=16, metavar="B", help="texts at once (default %(default)s)")
    add("--out", metavar="DIR", help="folder for figures.json and a picture")
    add_model_options(parser, title="GPT")
    return parser


def vintage(words: list[str]) -> int:
    """Measure one model or two."""
    args = _parser().parse_args(words)
    _check(args)
    from zoo.gpt.commands import load_model
    from zoo.gpt.evaluation.exam import Exam
    from zoo.shared.files import check_writable, write_json

    out = check_writable(args.out) if args.out else None
    exams = {}
    for role, weights in (("model", args.weights), ("twin", args.twin)):
        if role == "model" or weights:
            model, preprocessor, found = load_model(weights, args.device)
            exams[role] = (
                found,
                Exam(
                    model=model, tokenizer=preprocessor, data=Path(args.data).expanduser() if args.data else None,
                    shots=args.shots, limit=args.limit, seed=args.seed, stride=args.stride,
                    batch_size=args.batch_size, say=say,
                ),
            )  # fmt: skip
    measure: Callable[..., dict[str, Any]] = {"knowledge": _knowledge, "code": _code}.get(args.kind, _dated)
    results = measure(args, {role: exam for role, (_, exam) in exams.items()}, out)
    results = {"kind": args.kind, "weights": {role: found for role, (found, _) in exams.items()}, **results}
    lines = results.pop("lines")
    rows = results.pop("rows")
    if out:
        write_json(out / "figures.json", results)
    if args.json:
        give(results)
    else:
        _show(f"{args.kind}: " + ", twin ".join(found for found, _ in exams.values()), rows, lines)
    return 0


def _check(args: argparse.Namespace) -> None:
    for option, kinds in _ONLY.items():
        if getattr(args, option) is not None and args.kind not in kinds:
            raise UserError(f"--{option.replace('_', '-')} means nothing to {args.kind}; leave it out")
    for option, least in (("limit", 1), ("batch_size", 1), ("shots", 0), ("stride", 1), ("samples", 1)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise UserError(f"--{option.replace('_', '-')} {value}: it must be at least {least}")
    if args.seconds is not None and args.seconds <= 0:
        raise UserError(f"--seconds {args.seconds:g}: it must be above 0")
    if args.kind == "code" and not args.execute:
        raise UserError("code runs programs that a model wrote on this machine; allow it with --execute")
    if args.kind == "years" and not args.data:
        raise UserError("years needs dated texts: give JSON lines or parquet with --data FILE")
    if args.data and args.kind != "years" and not Path(args.data).expanduser().is_file():
        raise UserError(f"--data {args.data}: no such file")


def _dated(args: argparse.Namespace, exams: Mapping[str, Exam], out: Path | None) -> dict[str, Any]:
    """Years and surprise: periods, the rise after the cutoff, and both of the difference from the twin."""
    from zoo.gpt.vintage import measures
    from zoo.gpt.vintage.pictures import year_curves

    cutoff = CUTOFF if args.cutoff is None else args.cutoff
    exam = exams["model"]
    if args.kind == "years":
        documents = measures.read_dated(
            args.data, text_column=args.text_column or "text", year_column=args.year_column or "year"
        )
    else:
        documents = measures.events() if exam.data is None else measures.read_events(exam.data)
    used = [documents[i] for i in exam.chosen(documents)]
    measures.check_cutoff([one.year or 0 for one in used], cutoff)
    scores = {}
    for role, one in exams.items():
        say(f"{args.kind}: {len(used):,} texts, {role}")
        scores[role] = measures.score_dated(one, used)
    first = scores["model"]
    values = {role: found.rates for role, found in scores.items()}
    if len(values) == 2:
        values["difference"] = values["model"] - values["twin"]
    # A year of a corpus is one text to us; events count alike, whatever their length.
    weights = first.bytes if args.kind == "years" else None
    width = 1 if args.kind == "years" else 10
    periods = {name: measures.by_period(first.years, one, width=width, weights=weights) for name, one in values.items()}
    rises = {
        name: measures.rise_after(first.years, one, cutoff, weights=weights, seed=args.seed)
        for name, one in values.items()
    }
    if out:
        year_curves(
            {name: periods[name] for name in scores}, out / f"{args.kind}.png", cutoff=cutoff, label="bits per byte",
            differences=periods.get("difference"),
            title=f"{len(used):,} {'dated texts' if args.kind == 'years' else 'events'}, ± 2 standard errors",
        )  # fmt: skip
    rows = [["years", "texts", *values]]
    for place, period in enumerate(periods["model"]):
        cells = [f"{found[place].value:.3f}" + _error(found[place].error) for found in periods.values()]
        rows.append([period.name, f"{period.items:,}", *cells])
    lines = [
        f"{name}: {rise.before:.3f} until {cutoff}, {rise.after:.3f} after it; rise {rise.value:+.3f} "
        f"(95 % from {rise.low:+.3f} to {rise.high:+.3f})"
        for name, rise in rises.items()
    ]
    return {
        "periods": {name: [asdict(one) for one in found] for name, found in periods.items()},
        "rises": {name: asdict(one) for name, one in rises.items()},
        "data": measures.source_of(exam, documents, len(used)) if args.kind == "surprise" else {"file": args.data},
        "rows": rows,
        "lines": [*lines, *([f"picture {out / f'{args.kind}.png'}"] if out else [])],
    }


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.3f}"


def _knowledge(args: argparse.Namespace, exams: Mapping[str, Exam], out: Path | None) -> dict[str, Any]:
    """Accuracy on all questions and on those that are no anachronisms, and the gap to the twin on both."""
    import numpy as np

    from zoo.gpt.vintage.knowledge import answer_questions, names, wilson
    from zoo.gpt.vintage.measures import mean_interval
    from zoo.gpt.vintage.pictures import accuracy_bars

    cutoff = CUTOFF if args.cutoff is None else args.cutoff
    found = {role: answer_questions(exam, cutoff=cutoff) for role, exam in exams.items()}
    first = found["model"]
    groups = dict(zip(names(cutoff), (np.ones_like(first.kept), first.kept), strict=True))
    figures: dict[str, Any] = {}
    rows = [["questions", "number", "chance", *found]]
    lines = []
    for (name, chosen), chance in zip(groups.items(), first.chance, strict=True):
        entry: dict[str, Any] = {"items": int(chosen.sum()), "chance": chance}
        for role, answers in found.items():
            right = int(answers.right[chosen].sum())
            low, high = wilson(right, int(chosen.sum()))
            entry[role] = {"accuracy": right / int(chosen.sum()), "low": low, "high": high, "shots": answers.shots}
        if len(found) == 2:
            gap = (found["twin"].right[chosen].astype(float) - first.right[chosen]).astype(float)
            entry["gap"] = dict(zip(("value", "low", "high"), mean_interval(gap, seed=args.seed), strict=True))
            lines.append(
                f"{name}: the twin is {100 * entry['gap']['value']:+.1f} points from the model "
                f"(95 % from {100 * entry['gap']['low']:+.1f} to {100 * entry['gap']['high']:+.1f})"
            )
        figures[name] = entry
        cells = [
            f"{100 * entry[role]['accuracy']:.1f} % ({100 * entry[role]['low']:.0f} to {100 * entry[role]['high']:.0f})"
            for role in found
        ]
        rows.append([name, str(entry["items"]), f"{100 * chance:.1f} %", *cells])
    if out:
        shares = {
            role: [(figures[name][role]["accuracy"], figures[name][role]["low"], figures[name][role]["high"])
                   for name in groups]
            for role in found
        }  # fmt: skip
        title = f"{len(first.questions)} questions, intervals of 95 %"
        accuracy_bars(shares, list(groups), out / "knowledge.png", title=title, chance=first.chance)
        lines.append(f"picture {out / 'knowledge.png'}")
    return {"cutoff": cutoff, "figures": figures, "rows": rows, "lines": lines}


def _code(args: argparse.Namespace, exams: Mapping[str, Exam], out: Path | None) -> dict[str, Any]:
    """pass@k of one model or two."""
    from zoo.gpt.vintage.code_in_context import SAMPLES, TEMPERATURE, code_in_context

    found = {
        role: code_in_context(
            replace(exam, say=say),
            execute=bool(args.execute),
            samples=SAMPLES if args.samples is None else args.samples,
            temperature=TEMPERATURE if args.temperature is None else args.temperature,
            seconds=3.0 if args.seconds is None else args.seconds,
        )
        for role, exam in exams.items()
    }
    first = found["model"].figures
    rows = [["", "functions", "first argument", *found]]
    for place, figure in enumerate(first):
        cells = [f"{100 * one.figures[place].value:.1f} %" for one in found.values()]
        rows.append([figure.name, str(figure.items), f"{100 * (figure.chance or 0):.1f} %", *cells])
    lines = [
        f"{role}: {one.figures[0].shots:.3g} examples in the context; "
        + ", ".join(f"{number} {outcome}" for outcome, number in one.notes["outcomes"].items())
        for role, one in found.items()
    ]
    return {"results": {role: one.as_json() for role, one in found.items()}, "rows": rows, "lines": lines}


def _show(title: str, rows: list[list[str]], lines: list[str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, heading in enumerate(rows[0]):
        table.add_column(heading, justify="left" if place == 0 else "right")
    for row in rows[1:]:
        table.add_row(*row)
    shown = console()
    shown.print(table)
    for line in lines:
        shown.print(escape(line), soft_wrap=True)
