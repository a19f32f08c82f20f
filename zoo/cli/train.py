"""``zoo train``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping

from zoo.registry import family_of, registry
from zoo.shared.errors import UserError


def split_words(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Take the few words that decide which parser is built; the others are typed settings."""
    parser = argparse.ArgumentParser(prog="zoo train", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--resume")
    parser.add_argument("--no-audit", action="store_true")
    named = bool(words) and not words[0].startswith("-")
    known, rest = parser.parse_known_args(words[1:] if named else words)
    known.name = words[0] if named else None
    return known, rest


def main(words: list[str]) -> int:
    """Train a model from a recipe with typed overrides."""
    families = ", ".join(registry().families)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: zoo train MODEL|FAMILY [--recipe NAME|FILE] [--out DIR] [--resume DIR] [--no-audit]\n"
            "                 [--trainer.* --task.* --model.* --data.* --seed N --ema DECAY]\n"
            f"families: {families}; models: see `zoo list`\n"
            "`zoo train MODEL --help` shows every setting, `--print_config` their values.\n"
        )
        return 0 if words else 2
    known, rest = split_words(words)
    if known.resume is None and known.name is None:
        raise UserError(f"`zoo train` needs a model or a family first, such as `zoo train {families.split(', ')[0]}`")
    if known.name is not None:
        family_of(known.name)  # a wrong name is said before seconds of imports
    from zoo.settings import build_parser, choose, parse_words
    from zoo.training import resume_run, start_run

    quieten()

    if known.resume is not None:
        if rest:
            raise UserError(f"--resume continues the run with its own settings; leave out {' '.join(rest)}")
        resume_run(known.resume, {})
        return 0
    name, spec, recipe = choose(known.name, known.recipe)
    parser = build_parser(spec, name, recipe)
    rest = [spelled_out(word, spec.shortcuts) for word in rest]
    if known.no_audit:
        rest += ["--audit", "false"]
    if {"-h", "--help"} & set(rest) or any(word.startswith("--print_config") for word in rest):
        parser.exit_on_error = True
        parser.parse_args(rest)
        return 0
    start_run(name, parse_words(parser, rest))
    return 0


def spelled_out(word: str, shortcuts: Mapping[str, str]) -> str:
    """A word of the command line with the family's shortcut in it, if it is one, as the setting that it stands for."""
    option, equals, value = word.partition("=")
    return shortcuts.get(option, option) + equals + value


def quieten() -> None:
    """Keep Lightning's banners out of the terminal; Lightning sets its levels when it is imported."""
    for logger in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("POSSIBLE_USER_WARNINGS", "off")
    own = logging.getLogger("zoo")  # packs being fetched, bad samples: lines for people
    if not own.handlers:
        own.addHandler(logging.StreamHandler())
        own.setLevel(logging.INFO)
        own.propagate = False
