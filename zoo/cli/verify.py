"""``zoo verify``."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from zoo.registry import canonical, is_model, normalise, registry
from zoo.shared.errors import UserError

CHECKS = ("resume", "accumulation", "world-size", "decode", "convert", "faults")
_KILLS, _FAST_KILLS = 5, 1
_TOKENS, _FAST_TOKENS = 200, 40

DESCRIPTION = """\
Prove that training can be trusted. Every check trains small models in processes of its own and compares.

  resume        a run killed with SIGKILL and resumed has the bits of one that was not
  accumulation  a batch in pieces has the gradients of the whole batch
  world-size    2 and 3 processes (ddp, fsdp, tp) train as one does
  decode        greedy decoding with caches, compiled and padded gives the plain tokens
  convert       weights go out to every format and come back with the same bits
  faults        NaN, corrupt data, damaged checkpoints, full disk, SIGTERM: each has its stated outcome
  all           everything
"""


def main(words: list[str]) -> int:
    """Run checks; returns 0 if everything holds, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="zoo verify", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("check", choices=[*CHECKS, "all"], metavar="CHECK", help="one of the above")
    parser.add_argument(
        "targets", nargs="*", default=["all"], metavar="MODEL|FAMILY|all|WEIGHTS",
        help="what to check, by default every family; `convert` takes weights, too",
    )  # fmt: skip
    parser.add_argument("--fast", action="store_true", help="less of all; some 5 minutes on 2 cores")
    parser.add_argument("--kills", type=int, help=f"killed runs of each model (default {_KILLS}, with --fast 1)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the moments of the kills")
    parser.add_argument("--keep", type=Path, help="keep all runs and their output in this folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(words)
    if options.kills is not None and options.kills < 1:
        raise UserError(f"--kills must be at least 1, not {options.kills}")
    if options.keep and options.keep.is_dir() and any(options.keep.iterdir()):
        raise UserError(f"{options.keep} is not empty; choose another --keep")
    families = find_families(options.targets, weights_too=options.check == "convert")

    from zoo.cli.train import quieten
    from zoo.verify.checks import Effort, find_subjects, run_checks
    from zoo.verify.verdicts import Printer

    quieten()
    effort = Effort(
        kills=options.kills or (_FAST_KILLS if options.fast else _KILLS),
        tokens=_FAST_TOKENS if options.fast else _TOKENS,
        processes=(2,) if options.fast else (2, 3),
        seed=options.seed,
    )
    began, printer = time.monotonic(), Printer(as_json=options.json)
    names = CHECKS if options.check == "all" else (options.check,)
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory(prefix="zoo-verify-") as folder:
        for verdicts in run_checks(names, find_subjects(families), Path(folder), effort, printer.begin):
            printer.show(verdicts)
    if not printer.verdicts:
        raise UserError(f"there is nothing to check: {', '.join(families)} cannot {options.check}")
    return printer.finish(time.monotonic() - began)


def find_families(targets: Sequence[str], *, weights_too: bool) -> list[str]:
    """Names of models and families, and paths of weights, with ``all`` written out.

    Raises:
        UserError: One is none of these.
    """
    found: list[str] = []
    for target in targets:
        if target == "all":
            found += registry().families
        elif weights_too and not is_model(target) and normalise(target) not in registry().families:
            found.append(target)
        else:
            canonical(target)  # a wrong name is said before seconds of imports
            found.append(normalise(target))
    return found
