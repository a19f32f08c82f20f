"""What the commands of several families share: their parser, what they say, and where a model runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from zoo.shared.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UserError(f"{message}; `{self.prog} --help` shows how it is used")


def say(line: str) -> None:
    """Tell people something that is no result."""
    sys.stderr.write(f"zoo: {line}\n")


def give(value: Any) -> None:
    """Write a result as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def console() -> Any:
    """Where tables go; wide where no terminal would fold them."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def add_model_options(parser: argparse.ArgumentParser, *, title: str) -> None:
    """The options of every command that uses a model.

    Args:
        parser: Gets them.
        title: The family's name as its paper writes it.
    """
    newest = f"default: the newest run of {title}"
    parser.add_argument("--weights", metavar="W", help=f"folder, file or hf:owner/name; {newest}")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps ...; default: the GPU if there is one")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def pick_device(name: str | None) -> str:
    """The device that a user names, or the best there is.

    Raises:
        UserError: There is no such device.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name!r} cannot be used here; try --device cpu") from error
    return name


def pick_weights(family: str, weights: str | None) -> str:
    """The weights that a user names, or those of the family's newest finished run, which is then told.

    Raises:
        UserError: None are named, and there is no such run.
    """
    if weights is not None:
        return weights
    from zoo.shared.runs.folder import newest_weights

    weights = str(newest_weights(family))
    say(f"using {weights}")
    return weights


def read_text_file(path: str) -> str:
    """A text from a file, or from standard input where it is called ``-``.

    Raises:
        UserError: It cannot be read, or is no UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).expanduser().read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        where = "standard input" if path == "-" else path
        raise UserError(f"{where} is no UTF-8 text (byte {error.start}); convert it first") from error
