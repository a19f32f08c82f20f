"""``zoo data dedupe dcgan``: leave out images that are near-duplicates of an earlier one."""

from __future__ import annotations

import argparse
import json
import os
import re
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
    import numpy as np
    from numpy.typing import NDArray

    from zoo.dcgan.near_duplicates import Progress
    from zoo.shared.data.image_sources import ImageSource

DRAWN = 64  # side at which drawn sources are drawn
_SHOWN, _ACROSS, _PICTURE = 12, 10, 64  # rows of a sheet, images in a row, and their side in pixels
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
    parser.add_argument("--distance", type=int, default=0, metavar="D", help="bits in which alike images may differ "
        "(%(default)s, the paper's); 2 finds most copies that were re-compressed, resized or made noisy")  # fmt: skip
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

    source = open_images(args.source, size=DRAWN, root=args.root, progress=say)
    if len(source) < 2:
        raise UserError(f"{args.source} holds {len(source)} image; there is nothing to compare it with")
    out = _empty_folder(args.out, source)
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
    """Compare the images of a source and write the outcome into a folder."""
    import numpy as np

    from zoo.dcgan.near_duplicates import (
        bits_apart,
        first_alike,
        hashes,
        idle_bits,
        pixels_apart,
        read_small,
        train,
    )

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
        apart, pixels = bits_apart(codes, leaders), pixels_apart(small, leaders)
        del small
        mapped.unlink()
        dropped = np.flatnonzero(leaders != np.arange(len(leaders)))
        pairs = (
            {
                "image": source.id(int(numbers[i])),
                "duplicate_of": source.id(int(numbers[leaders[i]])),
                "bits_apart": int(apart[i]),
                "pixels_apart": round(float(pixels[i]), 2),
            }
            for i in dropped
        )
        with (folder / "dropped.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(pair) + "\n" for pair in pairs)
        kept = numbers[leaders == np.arange(len(leaders))]
        with (folder / "kept.txt").open("w", encoding="utf-8", errors="surrogateescape") as lines:
            lines.writelines(source.id(int(i)) + "\n" for i in kept)
        _draw(source, numbers, leaders, pixels, folder)
        copied = _copy(source, kept, folder / "images", progress) if args.copy else {}
    sizes = np.unique(leaders, return_counts=True)[1]
    spread = np.percentile(pixels[dropped], [50, 90, 100]).round(2).tolist() if len(dropped) else []
    with (folder / "dropped.jsonl").open(encoding="utf-8") as lines:
        examples = [json.loads(line) for line, _ in zip(lines, range(10), strict=False)]
    report: dict[str, Any] = {
        "source": args.source,
        "looked_at": len(numbers),
        "kept": len(kept),
        "dropped": len(dropped),
        "dropped_share": len(dropped) / len(numbers),
        "groups": int((sizes > 1).sum()),
        "largest_groups": sorted(sizes[sizes > 1].tolist(), reverse=True)[:10],
        "pixels_apart": dict(zip(("median", "90 %", "most"), spread, strict=False)),
        "examples": examples,
        "unreadable": bad,
        "hash": {
            "bits": args.bits,
            "idle_bits": idle_bits(codes, args.bits),
            "distance": args.distance,
            "different": len(np.unique(codes, axis=0)),
        },
        "training": {**learnt, "seed": args.seed, "device": device},
        **copied,
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(folder / "report.json", report)
    return report


def _draw(
    source: ImageSource,
    numbers: NDArray[np.int64],
    leaders: NDArray[np.int64],
    pixels: NDArray[np.float64],
    folder: Path,
) -> None:
    """Sheets to judge by: the largest groups, and the pairs whose pixels differ most."""
    import numpy as np
    import torch

    from zoo.dcgan.configs import DcganConfig
    from zoo.dcgan.data import fit, to_signed
    from zoo.dcgan.pictures import grid, save_picture, stacked, titled

    config = DcganConfig(image_size=_PICTURE, channels=3)

    def row(title: str, places: list[int]) -> Any:
        images = [fit(source.image(int(numbers[i])), config=config, enlarge=True) for i in places]
        return titled(grid(to_signed(torch.from_numpy(np.stack(images))), columns=len(images)), title)

    firsts, sizes = np.unique(leaders, return_counts=True)
    largest = [i for i in np.argsort(-sizes, kind="stable")[:_SHOWN] if sizes[i] > 1]
    rows = []
    for i in largest:
        alike = np.flatnonzero(leaders == firsts[i])[1:]
        alike = alike[np.argsort(-pixels[alike], kind="stable")][: _ACROSS - 1]
        name = _short(source.id(int(numbers[firsts[i]])))
        rows.append(row(f"kept {name}, and {sizes[i] - 1:,} like it", [int(firsts[i]), *map(int, alike)]))
    if rows:
        save_picture(stacked(*rows), folder / "groups.png")
    dropped = np.flatnonzero(leaders != np.arange(len(leaders)))
    doubtful = dropped[np.argsort(-pixels[dropped], kind="stable")][: _SHOWN * _ACROSS // 2]
    rows = []
    for start in range(0, len(doubtful), _ACROSS // 2):
        part = [int(i) for i in doubtful[start : start + _ACROSS // 2]]
        title = "kept and dropped, pixels apart: " + ", ".join(f"{pixels[i]:.1f}" for i in part)
        rows.append(row(title, [int(i) for dropped_one in part for i in (leaders[dropped_one], dropped_one)]))
    if rows:
        save_picture(stacked(*rows), folder / "doubtful.png")


def _copy(source: ImageSource, kept: NDArray[np.int64], folder: Path, progress: Progress) -> dict[str, int]:
    """Put images into a folder: links or copies of files under their names, others as PNGs by class."""
    from zoo.shared.data.folders import ImageFolder

    folder.mkdir()
    count = {"linked": 0, "copied": 0}
    for done, number in enumerate(map(int, kept), 1):
        if isinstance(source, ImageFolder):
            target = folder / source.id(number)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source.files[number].resolve(), target)
                count["linked"] += 1
            except OSError:  # another disk, or one without links
                shutil.copy2(source.files[number], target)
                count["copied"] += 1
        else:
            label = source.label(number)
            target = folder / ("" if label is None else _folder_name(source.classes[label])) / f"{number:07}.png"
            target.parent.mkdir(exist_ok=True)
            source.image(number).save(target)
            count["copied"] += 1
        progress("writing", done, len(kept))
    return count


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
        yield "more than a quarter was dropped; look at the sheets, and try more --bits, more --epochs or less --distance"
    sheets = f", with groups.png and doubtful.png to judge by; {report['seconds']:.0f} s" if report["dropped"] else ""
    yield f"wrote {out}{sheets}"
    if "copied" in report:
        yield f"train on what is kept: zoo train dcgan --data.source {out / 'images'}"


def _empty_folder(path: str, source: ImageSource) -> Path:
    """The folder to make.

    Raises:
        UserError: It is a file, holds something, lies in the folder that is read, or cannot be written.
    """
    from zoo.shared.data.folders import ImageFolder

    out = Path(path).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {path} is {'not empty' if out.is_dir() else 'a file'}; choose a new folder")
    if isinstance(source, ImageFolder) and source.folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out {path} lies in the folder that is read; choose another")
    check_writable(out.parent)
    return out


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out`` that takes its place when the body succeeds, and goes when it does not."""
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield folder
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)  # mkdtemp makes private folders
        if out.is_dir():
            out.rmdir()
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"…{name[-59:]}"


def _folder_name(name: str) -> str:
    """A class as a folder that reads as a class again; numbers alone would be shards."""
    found = re.sub(r"[^\w-]+", "_", name).strip("_")
    return f"class_{found}" if found.isdigit() or not found else found
