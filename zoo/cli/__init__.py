"""The command line. The first word is looked up before anything heavy is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from zoo.shared.errors import Terminated, UserError

# Word -> (function that takes the remaining words, one line of help).
CORE: dict[str, tuple[str, str]] = {
    "list": ("zoo.cli.inspect:list_command", "names of the models"),
    "info": ("zoo.cli.inspect:info_command", "paper, parameters and sizes of a model"),
    "train": ("zoo.cli.train:main", "train a model from a recipe"),
    "eval": ("zoo.cli.evaluate:main", "measure trained weights"),
    "convert": ("zoo.cli.convert:main", "weights from and to other projects' formats"),
    "data": ("zoo.cli.data:main", "sample packs: list, get; prepare your own data"),
    "verify": ("zoo.cli.verify:main", "proofs: exact resume, accumulation, processes, decoding, formats, faults"),
    "bench": ("zoo.cli.bench:main", "measured speed beside the peers"),
}

Command = Callable[[list[str]], int]


def usage() -> str:
    """What ``zoo --help`` prints."""
    from zoo import __version__
    from zoo.registry import registry

    lines = [f"zoo {__version__}: the models from DCGAN to Whisper", "", "usage: zoo COMMAND ...", ""]
    rows = [(word, text) for word, (_, text) in CORE.items()]
    for family in registry().families.values():
        rows += [(f"{w} {family.name}" if v.shared else w, v.help) for w, v in family.verbs.items()]
    lines += [f"  {word:<12} {text}" for word, text in rows]
    lines += ["", "`zoo COMMAND --help` says more. First steps: `zoo list`, `zoo train clip`."]
    return "\n".join(lines) + "\n"


def find_command(words: Sequence[str]) -> tuple[Command, list[str]]:
    """The function behind the first word (or two), and the words left for it.

    Raises:
        UserError: There is no such command.
    """
    from zoo.registry import normalise, registry, resolve

    word, rest = words[0], list(words[1:])
    if word in CORE:
        return resolve(CORE[word][0]), rest
    families = registry().families
    owners = {name: spec.verbs[word] for name, spec in families.items() if word in spec.verbs}
    if not owners:
        import difflib

        known = [*CORE, *(verb for spec in families.values() for verb in spec.verbs)]
        close = difflib.get_close_matches(word, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "`zoo --help` lists the commands"
        raise UserError(f"unknown command {word!r}; {hint}")
    alone = [verb for verb in owners.values() if not verb.shared]
    if alone:
        return resolve(alone[0].target), rest
    if rest and normalise(rest[0]) in owners:
        return resolve(owners[normalise(rest[0])].target), rest[1:]
    raise UserError(f"`zoo {word}` needs a family after it: {' or '.join(f'zoo {word} {name}' for name in owners)}")


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C, 143 for SIGTERM."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            sys.stdout.write(usage())
            return 0
        if words[0] == "--version":
            from zoo import __version__

            sys.stdout.write(f"zoo {__version__}\n")
            return 0
        command, rest = find_command(words)
        return command(rest) or 0
    except UserError as error:
        sys.stderr.write(f"zoo: {error}\n")
        return 2
    except Terminated:
        sys.stderr.write("zoo: terminated\n")
        return 143
    except KeyboardInterrupt:
        sys.stderr.write("zoo: interrupted\n")
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
