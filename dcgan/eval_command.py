"""``zoo eval dcgan``: measure what trained weights generate, or what their discriminator has learnt."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import Parser, add_model_options, console, give, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.dcgan.configs import DcganConfig
    from zoo.dcgan.data import DcganDataModule
    from zoo.dcgan.evaluation.measure import Results
    from zoo.dcgan.model import DCGAN


def evaluate(words: list[str]) -> int:
    """``zoo eval dcgan``: distances to real images, classes, memorisation; or few labels on the features."""
    from zoo.dcgan.evaluation.features import CHOICES

    parser = Parser(
        prog="zoo eval dcgan",
        description="Measure generated images against training images, with held-out real ones beside them; or, with "
        "--benchmark probe, a linear SVM on the discriminator's features, beside an untrained network's and pixels.",
        epilog="The data and its split are those of the run that wrote the weights, where its config.yaml is there.",
    )
    parser.add_argument("--benchmark", default="samples", choices=tuple(_BENCHMARKS), help="what to measure")
    parser.add_argument(
        "--labels",
        metavar="N,N",
        default="10,20,50,100,200,500,1000",
        help="probe: numbers of labels (default all of 10 to 1000)",
    )
    parser.add_argument("--draws", type=int, default=10, metavar="N", help="probe: draws of labels (default 10)")
    parser.add_argument("--source", metavar="S", help="mnist, digits, emoji, torchvision:NAME or a folder of images")
    parser.add_argument("--root", metavar="DIR", help="where a set of torchvision has its files")
    parser.add_argument(
        "--samples", type=int, metavar="N", help="images to generate (default: as many as are held out, 1000 to 2000)"
    )
    parser.add_argument(
        "--features",
        default="auto",
        choices=CHOICES,
        help="network to compare by: Inception (minutes on a processor), a classifier trained on the data (needs "
        "labels), random convolutions; auto takes the first of these that is at hand, quick leaves Inception out",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of the latent vectors, and of the split where no run has one (default 0)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for figures.json and pictures")
    add_model_options(parser, title="DCGAN")
    args = parser.parse_args(words)
    check(args)
    from zoo.dcgan.data import DcganDataModule
    from zoo.dcgan.loading import load_model
    from zoo.shared.files import check_writable, write_json

    out = check_writable(Path(args.out).expanduser()) if args.out else None
    model, weights = load_model(args.weights, args.device)
    settings = data_settings(weights, model.config, source=args.source, root=args.root, seed=args.seed)
    data = DcganDataModule(config=model.config, **settings)
    data.setup("fit")
    figures, draw, show = _BENCHMARKS[args.benchmark](model, data, args)
    found: dict[str, Any] = {"weights": weights, **figures}
    if out:
        found["pictures"] = [str(path) for path in draw(out)]
        write_json(out / "figures.json", found)
    if args.json:
        give(found)
        return 0
    show(weights)
    for picture in found.get("pictures", []):
        sys.stdout.write(f"wrote {picture}\n")
    return 0


def check(args: argparse.Namespace) -> None:
    """Say what cannot be measured before anything is loaded."""
    from zoo.dcgan.evaluation.measure import LEAST

    if args.samples is not None and args.samples < LEAST:
        raise UserError(f"--samples {args.samples}: at least {LEAST} are needed")
    try:
        args.labels = [int(word) for word in args.labels.split(",")]
    except ValueError as error:
        raise UserError(f"--labels {args.labels}: give numbers, such as 100,1000") from error


Outcome = tuple[dict[str, Any], Callable[[Path], list[Path]], Callable[[str], None]]
"""Figures, what draws them into a folder, and what shows them to people."""


def _samples(model: DCGAN, data: DcganDataModule, args: argparse.Namespace) -> Outcome:
    from zoo.dcgan.evaluation.measure import measure
    from zoo.dcgan.evaluation.pictures import draw

    results = measure(model, data, samples=args.samples, seed=args.seed or 0, features=args.features, progress=say)
    return results.as_dict(), partial(draw, results), partial(show_samples, results)


def _probe(model: DCGAN, data: DcganDataModule, args: argparse.Namespace) -> Outcome:
    from zoo.dcgan.analysis.probing import draw_curve, probe

    say("probing: a linear SVM on the discriminator's features, an untrained network's and pixels")
    found = probe(model, data, labels=args.labels, draws=args.draws, seed=args.seed or 0)
    return found, lambda folder: [draw_curve(found, folder / "probe.png")], partial(show_probe, found)


_BENCHMARKS: dict[str, Callable[[DCGAN, DcganDataModule, argparse.Namespace], Outcome]] = {
    "samples": _samples,
    "probe": _probe,
}


def data_settings(
    weights: str, config: DcganConfig, *, source: str | None, root: str | None, seed: int | None
) -> dict[str, Any]:
    """The data of the run that wrote these weights, with its split, so that held-out images stay held out.

    Args:
        weights: What the model was loaded from.
        config: Of the model.
        source: The data that the user names, if any.
        root: Where a set of torchvision has its files, if named.
        seed: Of the split where there is no run.

    Raises:
        UserError: There is no run beside the weights, and no data is named.
    """
    from zoo.shared.runs.folder import data_of_run

    kept = ("seed", "source", "root", "held_out", "enlarge", "max_bad_fraction")
    known = {key: value for key, value in data_of_run(weights).items() if key in kept}
    if source is not None and source != known.get("source"):
        known = {key: value for key, value in known.items() if key in ("seed", "held_out", "enlarge")}
        known["source"] = source
    if "source" not in known:
        if config.image_shape != (1, 28, 28):
            raise UserError(
                "there is no run beside these weights that tells what they were trained on; name the data with "
                "--source, such as --source torchvision:CIFAR10 or a folder"
            )
        known["source"] = "mnist"
    known.setdefault("seed", seed or 0)
    return {**known, "root": root} if root is not None else known


def show_probe(found: dict[str, Any], weights: str) -> None:
    """Print a probe's accuracies for people."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{weights}: {found['test_images']:,} held-out images, mean and deviation of {found['draws']} draws"
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("labels", justify="right")
    for kind, size in found["features"].items():
        table.add_column(f"{kind} ({size:,} numbers)", justify="right")
    for row, count in enumerate(found["labels"]):
        cells = ((found["accuracy"][kind][row], found["std"][kind][row]) for kind in found["features"])
        table.add_row(f"{count:,}", *(f"{100 * mean:.1f} ± {100 * deviation:.1f} %" for mean, deviation in cells))
    console().print(table)


def show_samples(results: Results, weights: str) -> None:
    """Print figures for people."""
    from rich.markup import escape
    from rich.table import Table

    from zoo.dcgan.evaluation.table import notes, rows

    real = f"real, held out ({results.real.images:,})" if results.real else "real (nothing is held out)"
    title = f"{weights} against {results.train_images:,} training images of {results.data}"
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("measured")
    table.add_column(f"generated ({results.generated.images:,})", justify="right")
    table.add_column(real, justify="right")
    for figure, floor in rows(results):
        table.add_row(escape(figure.name), figure.show(figure.value), figure.show(floor))
    screen = console()
    screen.print(table)
    for line in notes(results):
        screen.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
