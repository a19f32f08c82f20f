"""``zoo eval gpt``: what GPT-2 and GPT-3 were measured on, without any training."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.gpt.evaluation.detokenizers import DETOKENIZERS
from zoo.gpt.evaluation.exam import Exam, Result
from zoo.gpt.evaluation.prompts import NoRoom
from zoo.registry import resolve
from zoo.shared.command_line import Parser, add_model_options, console, give, say
from zoo.shared.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What can be asked for.

    Attributes:
        target: ``module:function`` from an ``Exam`` to a ``Result`` of :mod:`zoo.gpt.evaluation.exam`.
        data: The file that it needs, in words; None if it can do without.
        file: What ``--data`` may give where none is needed.
        uses: Options beside ``--data`` and ``--limit`` that mean something to it.
    """

    target: str
    data: str | None = None
    file: str | None = None
    uses: tuple[str, ...] = ()


BENCHMARKS: Mapping[str, Benchmark] = {
    "bits-per-byte": Benchmark(target="zoo.gpt.evaluation.perplexity:bits_per_byte", file="any text", uses=("stride",)),
    "arithmetic": Benchmark(target="zoo.gpt.evaluation.arithmetic:arithmetic", uses=("shots",)),
    "words": Benchmark(
        target="zoo.gpt.evaluation.words:words", file="a word on each line, frequent ones first", uses=("shots",)
    ),
    "lambada": Benchmark(target="zoo.gpt.evaluation.lambada:lambada", data='OpenAI\'s JSON lines {"text": ...}'),
    "cbt": Benchmark(target="zoo.gpt.evaluation.cbt:cbt", data="cbtest_*.txt as published", uses=("detokenizer",)),
    "winograd": Benchmark(target="zoo.gpt.evaluation.winograd:winograd", data="WSCollection.xml or its JSON"),
    "choices": Benchmark(
        target="zoo.gpt.evaluation.choices:multiple_choice",
        data='JSON lines {"context": ..., "choices": [...], "answer": ...}',
        uses=("shots", "train"),
    ),
    "summarisation": Benchmark(
        target="zoo.gpt.evaluation.summarisation:summarisation", data='JSON lines {"article": ..., "highlights": ...}'
    ),
    "translation": Benchmark(
        target="zoo.gpt.evaluation.translation:translation",
        data="source, tab, target on each line",
        uses=("shots", "train"),
    ),
    "coqa": Benchmark(target="zoo.gpt.evaluation.reading:coqa", data="coqa-dev-v1.0.json"),
    "natural-questions": Benchmark(
        target="zoo.gpt.evaluation.reading:natural_questions", data="the simplified JSON lines", uses=("shots", "train")
    ),
    "perplexity": Benchmark(
        target="zoo.gpt.evaluation.perplexity:perplexity", data="text as published", uses=("detokenizer", "stride")
    ),
    "years": Benchmark(
        target="zoo.gpt.vintage.measures:bits_by_year",
        data="JSON lines or parquet with text and year",
        uses=("stride",),
    ),
    "surprise": Benchmark(target="zoo.gpt.vintage.measures:surprise", file="events as `year<TAB>text` lines"),
    "knowledge": Benchmark(
        target="zoo.gpt.vintage.knowledge:knowledge",
        file='JSON lines {"question": ..., "choices": [...], "answer": ..., "year": ...}',
        uses=("shots",),
    ),
    "heuristics": Benchmark(
        target="zoo.gpt.evaluation.zero_shot:heuristics",
        file="a folder with CoLA, SST-2, RACE (in folders of these names) or WSCollection.xml, as published",
        uses=("run",),
    ),
}
_QUICK = 25  # arithmetic problems of a task, where nobody asked for a benchmark


def run_benchmark(name: str, exam: Exam) -> Result:
    """Run one benchmark.

    Args:
        name: One of :data:`BENCHMARKS`.
        exam: Model, tokenizer, data and options.

    Raises:
        UserError: Unknown benchmark, or data that it cannot use.
    """
    chosen = _known(name)
    if chosen.data is not None and exam.data is None:
        raise UserError(f"{name} needs its published file ({chosen.data}): give it with --data FILE")
    benchmark: Callable[[Exam], Result] = resolve(chosen.target)
    return benchmark(exam)


def quick(exam: Exam) -> dict[str, Result]:
    """What needs no file and no patience: bits per byte of held-out plays, and a few arithmetic problems.

    Nobody asked for demonstrations, so where none fits into a short context there are none.
    """
    found = {"bits-per-byte": run_benchmark("bits-per-byte", exam)}
    few = replace(exam, limit=exam.limit or _QUICK)
    try:
        found["arithmetic"] = run_benchmark("arithmetic", few)
    except NoRoom:
        if exam.shots is not None:
            raise
        found["arithmetic"] = run_benchmark("arithmetic", replace(few, shots=0))
    return found


def _known(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise UserError(f"unknown benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def evaluate(words: list[str]) -> int:
    """``zoo eval gpt``: measure a GPT without training it on the task."""
    parser = Parser(
        prog="zoo eval gpt",
        description="Measure a GPT as GPT-2 and GPT-3 were: no training, just prompts. Without --benchmark: bits per "
        "byte of held-out plays and a few arithmetic problems.",
    )
    parser.add_argument("--benchmark", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--data", metavar="FILE", help="the benchmark's published file; of heuristics a folder")
    parser.add_argument("--train", metavar="FILE", help="file that demonstrations are drawn from; default: --data")
    parser.add_argument("--shots", type=int, metavar="K", help="demonstrations before each item, as many as fit")
    parser.add_argument("--limit", type=int, metavar="N", help="use at most N items")
    parser.add_argument("--detokenizer", metavar="NAME", help=", ".join(DETOKENIZERS))
    parser.add_argument("--stride", type=int, metavar="S", help="tokens predicted by a rolling window")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of items and draws (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="B", help="texts at once (default %(default)s)")
    parser.add_argument("--run", metavar="RUN", help="heuristics: also over this run's checkpoints, drawn")
    parser.add_argument("--out", metavar="DIR", help="folder for figures.json, and the picture of --run")
    add_model_options(parser, title="GPT")
    args = parser.parse_args(words)
    _check(args)
    from zoo.gpt.commands import load_model
    from zoo.shared.files import check_writable, write_json

    out = check_writable(args.out) if args.out else None
    run = Path(args.run).expanduser() if args.run else None
    model, preprocessor, weights = load_model(str(run / "weights") if run else args.weights, args.device)
    exam = Exam(
        model=model,
        tokenizer=preprocessor,
        data=_data(args),
        train=_file(args.train, "--train"),
        shots=args.shots,
        limit=args.limit,
        seed=args.seed,
        detokenizer=args.detokenizer,
        stride=args.stride,
        batch_size=args.batch_size,
        say=say,
    )
    found = quick(exam) if args.benchmark is None else {args.benchmark: run_benchmark(args.benchmark, exam)}
    results: dict[str, Any] = {"weights": weights}
    results["benchmarks"] = {name: result.as_json() for name, result in found.items()}
    if run and out:
        say("the same over the checkpoints")
        results |= resolve("zoo.gpt.evaluation.zero_shot:over_steps")(exam, run, out)
    if out:
        write_json(out / "figures.json", results)
    if args.json:
        give(results)
    else:
        show(weights, found)
        if run:
            sys.stdout.write(f"picture  {results['picture']}\n")
    return 0


def _check(args: Any) -> None:
    """Refuse what cannot work before the weights are read."""
    if args.benchmark is not None:
        chosen = _known(args.benchmark)
        for option in ("shots", "train", "detokenizer", "stride", "run"):
            if getattr(args, option) is not None and option not in chosen.uses:
                raise UserError(f"--{option} means nothing to {args.benchmark}; leave it out")
        if chosen.data is None and chosen.file is None and args.data is not None:
            raise UserError(f"{args.benchmark} makes its own items; leave --data out")
        if chosen.data is not None and args.data is None:
            raise UserError(f"{args.benchmark} needs its published file ({chosen.data}): give it with --data FILE")
    elif args.run is not None:
        raise UserError("--run is for --benchmark heuristics; say so")
    elif any(value is not None for value in (args.data, args.train, args.detokenizer)):
        raise UserError("say which benchmark the file is for: --benchmark NAME")
    if args.run is not None:
        if args.weights is not None:
            raise UserError("--run brings its own weights; leave --weights out")
        if args.out is None:
            raise UserError("--run draws a picture; say where with --out DIR")
        resolve("zoo.gpt.evaluation.heuristics:checkpoints_of")(args.run)
    for option, least in (("limit", 1), ("batch_size", 1), ("shots", 0), ("stride", 1)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise UserError(f"--{option.replace('_', '-')} {value}: it must be at least {least}")
    if args.detokenizer is not None and args.detokenizer not in DETOKENIZERS:
        raise UserError(f"--detokenizer {args.detokenizer}: there are {', '.join(DETOKENIZERS)}")
    _data(args)
    _file(args.train, "--train")


def _data(args: Any) -> Path | None:
    """The benchmark's file; that of the heuristics is a folder, because they are four sets."""
    if args.benchmark != "heuristics" or args.data is None:
        return _file(args.data, "--data")
    path = Path(args.data).expanduser()
    if not path.is_dir():
        raise UserError(f"--data {args.data}: no such folder; heuristics need {BENCHMARKS['heuristics'].file}")
    return path


def _file(name: str | None, option: str) -> Path | None:
    if name is None:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{option} {name}: no such file")
    return path


def show(weights: str, results: Mapping[str, Result]) -> None:
    """Print results for people."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(weights), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, side in (
        ("benchmark", "left"), ("", "left"), ("metric", "left"), ("value", "right"), ("chance", "right"),
        ("items", "right"), ("shots", "right"), ("protocol", "left"),
    ):  # fmt: skip
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for name, result in results.items():
        for place, figure in enumerate(result.figures):
            table.add_row(
                name if place == 0 else "",
                figure.name,
                figure.metric,
                _number(figure.metric, figure.value, figure.error),
                "" if figure.chance is None else _number(figure.metric, figure.chance, None),
                f"{figure.items:,}",
                "" if figure.shots is None else f"{figure.shots:.3g}",
                result.protocol["id"] if place == 0 else "",
                end_section=place + 1 == len(result.figures),
            )
    shown = console()
    shown.print(table)
    for line in _remarks(results):
        shown.print(f"[dim]{escape(line)}[/]")


def _remarks(results: Mapping[str, Result]) -> Sequence[str]:
    lines = []
    for name, result in results.items():
        source = result.data.get("file") or result.data.get("words")
        chance = dict.fromkeys(figure.chance_is for figure in result.figures if figure.chance_is)
        parts = [f"from {source}"] if source else []
        parts += [f"chance: {', '.join(chance)}"] if chance else []
        truncated = result.notes.get("truncated", 0)
        parts += [f"{truncated} texts were cut to fit the context"] if truncated else []
        if "restored_lines" in result.notes:
            parts.append(f"the detokenizer gives back {100 * result.notes['restored_lines']:.1f} % of the lines")
        if parts:
            lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def _number(metric: str, value: float, error: float | None) -> str:
    plain = metric in ("perplexity", "bits per byte", "BLEU")
    if plain:
        shown = f"{value:.2f}" if value < 1000 else f"{value:,.0f}" if math.isfinite(value) else "inf"
        return shown if error is None else f"{shown} ± {error:.2g}"
    shown = f"{100 * value:.1f}"
    return f"{shown} %" if error is None else f"{shown} ± {100 * error:.1f} %"
