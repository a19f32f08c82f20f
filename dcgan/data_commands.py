"""``zoo data dedupe dcgan``: leave out images that are near-duplicates of an earlier one."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import Parser, give, pick_device, say
from zoo.shared.errors import UserError
from zoo.shared.files import check_writable, write_json

if TYPE_CHECKING:
    from zoo.dcgan.hash_groups import Progress
    from zoo.shared.data.image_sources import ImageSource

_DRAWN = 64  # side at which drawn sources are drawn
_SHOWN = 10  # examples in the report
_FILES = "kept.txt, dropped.jsonl, report.json, groups.png, doubtful.png"


def dedupe(words: list[str]) -> int:
    """Find near-duplicates by semantic hashing, and write what is kept."""
    parser = Parser(
        prog="zoo data dedupe dcgan",
        description="Leave out images that are near-duplicates of an earlier one: those to which a denoising "
        "autoencoder gives the same bits (DCGAN, Section 4.1.1).",
        epilog=f"The folder gets {_FILES}; look at the two sheets: groups.png has the largest groups, doubtful.png "
        "the pairs whose pixels differ most, among which mistakes are.",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder, mnist, digits, emoji, shapes or torchvision:NAME")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new or empty; appears when all is written")
    parser.add_argument("--copy", action="store_true", help="put the kept images into FOLDER/images, to train on: hard "
        "links to the files of a folder where these can be, copies elsewhere")  # fmt: skip
    parser.add_argument("--root", metavar="DIR", help="where a set of torchvision has its files")
    parser.add_argument("--bits", type=int, default=128, metavar="B", help="units of the code (%(default)s, the "
        "paper's); fewer call more images alike")  # fmt: skip
    parser.add_argument("--distance", type=int, default=0, metavar="D", help="bits in which alike images may "
        "differ (%(default)s, the paper's); 2 finds most re-compressed, resized, lighter and noisy copies, and errs "
        "more")  # fmt: skip
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the images (default: 2,500 batches' worth)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the autoencoder (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read images (%(default)s)")
    parser.add_argument("--max-bad-fraction", type=float, default=0.01, metavar="F", help="stop when a larger share of "
        "the images cannot be read (%(default)s)")  # fmt: skip
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps ...; default: the GPU if there is one")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    args = parser.parse_args(words)
    _check(args)
    from zoo.shared.data.image_sources import open_images

    out = _empty_folder(args.out)
    source = open_images(args.source, size=_DRAWN, root=args.root, progress=say)
    if len(source) < 2:
        raise UserError(f"{args.source} holds a single image; there is nothing to compare it with")
    _check_apart(out, source)
    with _staged(out) as folder:
        report = _run(args, source, folder)
    report = {"out": str(out), **report}
    if args.json:
        give(report)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(report, out)))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.bits < 8:
        raise UserError(f"--bits {args.bits}: fewer than 8 tell hardly any images apart; the paper has 128")
    if not 0 <= args.distance < args.bits:
        raise UserError(f"--distance {args.distance}: choose from 0 to less than --bits {args.bits}")
    if args.epochs is not None and args.epochs < 1:
        raise UserError(f"--epochs {args.epochs}: at least one is needed")
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: choose 0 or more")
    if not 0 <= args.max_bad_fraction <= 1:
        raise UserError(f"--max-bad-fraction {args.max_bad_fraction:g}: choose from 0 to 1")


def _run(args: argparse.Namespace, source: ImageSource, folder: Path) -> dict[str, Any]:
    """Compare the images of a source, and write the outcome into a folder."""
    import numpy as np

    from zoo.dcgan.duplicate_files import Outcome, draw_sheets, put_images, write_lists
    from zoo.dcgan.hash_groups import bits_apart, first_alike, idle_bits
    from zoo.dcgan.near_duplicates import hashes, pixels_apart, read_small, train

    device, began = pick_device(args.device), time.monotonic()
    mapped = folder / "small.npy"
    _check_space(folder, len(source))
    with _bars() as progress:
        small, numbers, bad = read_small(
            source, mapped, max_bad_fraction=args.max_bad_fraction, workers=args.workers, progress=progress
        )
        model, learnt = train(
            small, bits=args.bits, epochs=args.epochs, seed=args.seed, device=device, progress=progress
        )
        codes = hashes(model, small, device=device, progress=progress)
        leaders = first_alike(codes, distance=args.distance, progress=progress)
        outcome = Outcome(source, numbers, leaders, bits_apart(codes, leaders), pixels_apart(small, leaders))
        del small
        mapped.unlink()
        write_lists(outcome, folder)
        draw_sheets(outcome, folder)
        put = put_images(outcome, folder / "images", progress) if args.copy else {}
    kept, dropped, groups = outcome.kept, outcome.dropped, outcome.groups()
    spread = np.percentile(outcome.pixels[dropped], [50, 90, 100]).round(2).tolist() if len(dropped) else []
    report: dict[str, Any] = {
        "source": args.source,
        "looked_at": len(numbers),
        "kept": len(kept),
        "dropped": len(dropped),
        "dropped_share": len(dropped) / len(numbers),
        "groups": len(groups),
        "largest_groups": [1 + len(others) for _, others in groups[:_SHOWN]],
        "pixels_apart": dict(zip(("median", "90 %", "most"), spread, strict=False)),
        "examples": [outcome.pair(place) for place in dropped[:_SHOWN]],
        "unreadable": bad,
        "hash": {"bits": args.bits, "idle_bits": idle_bits(codes, args.bits), "distance": args.distance},
        "training": {**learnt, "seed": args.seed, "device": device},
        **put,
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(folder / "report.json", report)
    return report


def _lines(report: dict[str, Any], out: Path) -> Iterator[str]:
    """The report for people."""
    hashed, spread = report["hash"], report["pixels_apart"]
    yield (
        f"kept {report['kept']:,} of {report['looked_at']:,} images; {report['dropped']:,} "
        f"({100 * report['dropped_share']:.1f} %) are near-duplicates of an earlier one, in {report['groups']:,} groups"
    )
    if spread:
        yield (
            "  their pixels differ by " + ", ".join(f"{value:g} ({name})" for name, value in spread.items()) + " of 255"
        )
    for pair in report["examples"]:
        yield f"  {pair['pixels_apart']:>6.2f}  {pair['image']} is like {pair['duplicate_of']}"
    if report["unreadable"]:
        yield f"left out: {len(report['unreadable']):,} that cannot be read"
        yield from (f"  {name}: {reason}" for name, reason in list(report["unreadable"].items())[:5])
    if hashed["idle_bits"] > hashed["bits"] / 4:
        yield f"{hashed['idle_bits']} of {hashed['bits']} bits are the same in all images: the hash tells little apart"
    if report["dropped"] > report["looked_at"] / 4:
        yield "more than a quarter was dropped: look at the sheets; more --bits or less --distance drop fewer"
    sheets = f", with groups.png and doubtful.png to judge by; {report['seconds']:.0f} s" if report["dropped"] else ""
    yield f"wrote {out}{sheets}"
    if "copied" in report:
        yield f"train on what is kept: zoo train dcgan --data.source {out / 'images'}"


def _empty_folder(path: str) -> Path:
    """The folder to make.

    Raises:
        UserError: It is a file, holds something, or cannot be written.
    """
    out = Path(path).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {path} is {'not empty' if out.is_dir() else 'a file'}; choose a new folder")
    check_writable(out.parent)
    return out


def _check_apart(out: Path, source: ImageSource) -> None:
    from zoo.shared.data.folders import ImageFolder

    if isinstance(source, ImageFolder) and source.folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out {out} lies in the folder that is read; choose another")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder in a hidden one beside ``out``; it becomes ``out`` when the body succeeds, and goes when it does not."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", ignore_cleanup_errors=True) as hidden:
        folder = Path(hidden) / out.name
        folder.mkdir()
        yield folder
        if out.is_dir():
            out.rmdir()
        folder.replace(out)


def _check_space(folder: Path, images: int) -> None:
    """Refuse what would not fit: a mapped file that outgrows its disk ends the process without a word."""
    needed, free = images * 3 * 32 * 32, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{images:,} reduced images take {needed / 1e9:.1f} GB beside --out, where {free / 1e9:.1f} GB are free; "
            "choose an --out on another disk"
        )


@contextmanager
def _bars() -> Iterator[Progress]:
    """A bar for each part of the work, with rate and time left, and the function that moves them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Bars(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bars:
        began: dict[str, tuple[Any, float]] = {}
        said = 0.0

        def progress(what: str, done: int, total: int) -> None:
            nonlocal said
            now = time.monotonic()
            if what not in began:
                began[what] = bars.add_task(what, total=total, rate=""), now
            if now - said > 0.1 or done == total:
                said = now
                task, since = began[what]
                bars.update(task, completed=done, rate=f"{done / max(now - since, 1e-9):,.0f}/s")

        yield progress
