"""``zoo bench``: measured speed beside the peers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.registry import registry, resolve
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.shared.bench import Limit, Result, Row


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="zoo bench", description="Measured speed beside the peers.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure; all without one")
    parser.add_argument("--list", action="store_true", help="names of the rows")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured; - is standard output")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds, at least 5 (default 5)")
    parser.add_argument("--threads", type=int, help="threads of both sides")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small shapes: shows that a row runs, not how fast")
    return parser


def all_rows() -> list[Row | Limit]:
    """The core's rows and those of every family."""
    from zoo.bench_rows import rows

    found: list[Any] = list(rows())
    for spec in registry().families.values():
        if spec.bench:
            found += resolve(spec.bench)()
    return found


def main(words: list[str]) -> int:
    """Measure rows, and show them as a table, JSON or a picture."""
    args = build_parser().parse_args(words)
    if args.repeats < 5:
        raise UserError(f"--repeats must be at least 5, not {args.repeats}: fewer say nothing on a busy machine")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads must be at least 1, not {args.threads}")
    for option in ("json", "plot"):
        target = getattr(args, option)
        if target and target != "-" and not Path(target).absolute().parent.is_dir():
            raise UserError(f"--{option} {target}: there is no folder {Path(target).parent}")

    from zoo.shared.bench import Limit, choose_rows

    known = all_rows()
    if args.list:
        for row in known:
            bound = f"under {row.limit:g} {row.unit}" if isinstance(row, Limit) else f"beside {row.peer}"
            sys.stdout.write(f"{row.name:<22} {row.what}; {bound}\n")
        return 0
    chosen = choose_rows(known, args.rows)
    return run(chosen, args)


def run(chosen: list[Row | Limit], args: argparse.Namespace) -> int:
    """Measure the chosen rows."""
    import torch
    from rich.console import Console

    from zoo.shared.bench import Limit
    from zoo.shared.bench_measure import measure, measure_limit
    from zoo.shared.bench_report import as_json, plot, show
    from zoo.shared.machine import hardware, versions

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; leave it out to measure on the CPU")
    if args.threads:
        torch.set_num_threads(args.threads)
    messages = Console(stderr=True)
    results: list[Result] = []

    def say(line: str) -> None:
        messages.print(line, style="dim", highlight=False)

    for row in chosen:
        if isinstance(row, Limit):
            say(row.name)
            results.append(measure_limit(row, repeats=args.repeats, quick=args.quick))
        else:
            found = measure(row, repeats=args.repeats, device=args.device, quick=args.quick, progress=say)
            for result in found:  # rows take minutes, so what is known is said at once
                say(f"{result.row}, {result.comparison}: {result.ratio:.2f}x")
            results += found
    machine = {
        "hardware": hardware(args.device),
        "versions": versions("paper-zoo", "torch", "open_clip_torch", "webdataset", "transformers", "numpy", "pillow"),
    }
    if args.json == "-":
        sys.stdout.write(as_json(results, machine))
    else:
        show(Console(), results, machine)
        if args.json:
            Path(args.json).write_text(as_json(results, machine), encoding="utf-8")
    if args.plot:
        where = machine["hardware"].get("gpu", machine["hardware"]["cpu"])
        plot(results, args.plot, title=f"{where}, {machine['hardware']['threads']} threads")
        messages.print(f"picture  {args.plot}", highlight=False, soft_wrap=True)
    return 0
