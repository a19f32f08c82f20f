"""``zoo data prepare clip``: every pair is opened once, before a long run trips over it."""

from __future__ import annotations

import sys
from pathlib import Path

from zoo.shared.command_line import Parser, give
from zoo.shared.files import check_writable, write_json


def prepare(words: list[str]) -> int:
    """Open every sample of one's data once and report what is wrong."""
    parser = Parser(
        prog="zoo data prepare clip", description="Open every sample of your data once and report what is wrong."
    )
    parser.add_argument("source", metavar="SOURCE", help="a table, a folder, or tar files: 'data/{000..009}.tar'")
    parser.add_argument("--image-column", help="a table's column of image paths")
    parser.add_argument("--caption-column", help="a table's column of captions")
    parser.add_argument("--out", default="data-report.json", metavar="FILE", help="the report (%(default)s)")
    parser.add_argument("--json", action="store_true", help="write the report to standard output too")
    args = parser.parse_args(words)
    check_writable(Path(args.out).absolute().parent)

    from rich.console import Console
    from rich.progress import Progress

    from zoo.clip.data import ClipDataModule

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)
        report = ClipDataModule.check_source(
            args.source,
            image_column=args.image_column,
            caption_column=args.caption_column,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            note=bar.console.print,
        )
    write_json(args.out, report)
    if args.json:
        give(report)
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
