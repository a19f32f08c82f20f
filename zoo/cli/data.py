"""``zoo data``: list and fetch sample packs, check one's own data. Imports no torch before it must."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from zoo.shared.data import samples
from zoo.shared.errors import UserError


def main(words: list[str]) -> int:
    """Run ``zoo data list``, ``get`` or ``prepare``."""
    args = _parser().parse_args(words)
    return args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zoo data", description="Sample packs, and checks of your own data.")
    parts = parser.add_subparsers(required=True, metavar="list|get|prepare")
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
    preparing = parts.add_parser("prepare", help="open every sample of your data once and report what is wrong")
    preparing.add_argument("family", metavar="FAMILY", help="the family that is to be trained, such as clip")
    preparing.add_argument("source", metavar="SOURCE", help="a table, a folder, or tar files: 'data/{000..009}.tar'")
    preparing.add_argument("--image-column", help="a table's column of image paths")
    preparing.add_argument("--caption-column", help="a table's column of captions")
    preparing.add_argument("--out", default="data-report.json", metavar="FILE", help="the report (%(default)s)")
    preparing.add_argument("--json", action="store_true", help="write the report to standard output too")
    preparing.set_defaults(run=_prepare)
    return parser


def _say(line: str) -> None:
    sys.stderr.write(f"zoo: {line}\n")


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
        for pack in samples.PACKS.values()
    ]
    if args.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
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
    names = list(dict.fromkeys([*args.packs, *(samples.TEST_PACKS if args.tests else ())]))
    if not names:
        raise UserError("name the packs to get, or --tests; `zoo data list` shows them")
    for name, path in samples.fetch(names, from_dir=args.folder, progress=_say).items():
        sys.stdout.write(f"{name}\t{path}\n")
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from zoo.registry import get_family, resolve
    from zoo.shared.files import check_writable, write_json

    check = getattr(resolve(get_family(args.family).datamodule), "check_source", None)
    if check is None:
        raise UserError(f"{args.family} needs no preparation of its data")
    check_writable(Path(args.out).absolute().parent)

    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)
        report = check(
            args.source,
            image_column=args.image_column,
            caption_column=args.caption_column,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            note=bar.console.print,
        )
    write_json(args.out, report)
    if args.json:
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        return 0
    lines = [
        f"{report['usable']:,} of {report['samples']:,} pairs can be used: {report['captions']:,} captions, "
        f"{report['concepts']:,} concepts, {len(report['classes'])} classes, sides {report['sides'][0]} to "
        f"{report['sides'][1]} pixels, {len(report['duplicates'])} duplicate images"
    ]
    lines += [f"  {name}: {reason}" for name, reason in list(report["bad"].items())[:10]]
    if len(report["bad"]) > 10:
        lines.append(f"  and {len(report['bad']) - 10} more")
    lines.append(f"report: {Path(args.out)}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
