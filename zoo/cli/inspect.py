"""``zoo list`` and ``zoo info``. Import no torch."""

from __future__ import annotations

import argparse
import json
import sys

from zoo.registry import list_models, model_info


def list_command(words: list[str]) -> int:
    """Print the registered models."""
    parser = argparse.ArgumentParser(prog="zoo list", description="Names of the models.")
    parser.add_argument("pattern", nargs="?", default="*", help="shell-style pattern, such as 'clip-vit*'")
    parser.add_argument("--family", help="only models of this family")
    parser.add_argument("--json", action="store_true", help="machine-readable output with sizes")
    args = parser.parse_args(words)
    names = list_models(args.pattern, args.family)
    if args.json:
        rows = [model_info(name) for name in names]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    for name in names:
        info = model_info(name)
        sys.stdout.write(f"{name:<20} {info['parameters']:>14,}  {info['family']} ({info['year']})\n")
    if not names:
        sys.stderr.write(f"zoo: no model matches {args.pattern!r}; `zoo list` shows all\n")
    return 0


def info_command(words: list[str]) -> int:
    """Print everything the registry knows of a model."""
    parser = argparse.ArgumentParser(prog="zoo info", description="Paper, parameters and sizes of a model.")
    parser.add_argument("model", help="a model or family, such as clip-vit-b-32")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    args = parser.parse_args(words)
    info = model_info(args.model)
    if args.json:
        sys.stdout.write(json.dumps(info, indent=2) + "\n")
        return 0
    config = info.pop("config")
    info["parameters"] = f"{info['parameters']:,}"
    for key, value in info.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        sys.stdout.write(f"{key:<12} {shown}\n")
    sys.stdout.write("config\n")
    for key, value in config.items():
        sys.stdout.write(f"  {key:<18} {value}\n")
    return 0
