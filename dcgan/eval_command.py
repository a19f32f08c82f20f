"""``zoo eval dcgan``: measure what trained weights generate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import Parser, add_model_options, console, give, pick_device, pick_weights, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.dcgan.configs import DcganConfig
    from zoo.dcgan.evaluation.measure import Results


def evaluate(words: list[str]) -> int:
    """``zoo eval dcgan``: distances to real images, classes, memorisation."""
    from zoo.dcgan.evaluation.features import CHOICES

    parser = Parser(
        prog="zoo eval dcgan",
        description="Measure generated images against training images, with held-out real ones beside them.",
        epilog="The data and its split are those of the run that wrote the weights, where its config.yaml is there.",
    )
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
    from zoo.dcgan.evaluation.measure import LEAST, measure

    if args.samples is not None and args.samples < LEAST:
        raise UserError(f"--samples {args.samples}: at least {LEAST} are needed")
    from zoo.dcgan.data import DcganDataModule
    from zoo.dcgan.model import DCGAN
    from zoo.shared.files import check_writable, write_json
    from zoo.weights import load

    place, weights = pick_device(args.device), pick_weights("dcgan", args.weights)
    out = check_writable(Path(args.out).expanduser()) if args.out else None
    model = load(weights)
    if not isinstance(model, DCGAN):
        raise UserError(f"{weights} holds a {type(model).__name__}, not DCGAN; choose other --weights")
    settings = data_settings(weights, model.config, source=args.source, root=args.root, seed=args.seed)
    data = DcganDataModule(config=model.config, **settings)
    data.setup("fit")
    results = measure(
        model.to(place), data, samples=args.samples, seed=args.seed or 0, features=args.features, progress=say
    )
    found: dict[str, Any] = {"weights": weights, **results.as_dict()}
    if out:
        from zoo.dcgan.evaluation.pictures import draw

        found["pictures"] = [str(path) for path in draw(results, out)]
        write_json(out / "figures.json", found)
    if args.json:
        give(found)
    else:
        show(weights, results, found.get("pictures", []))
    return 0


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
    known = run_settings(weights)
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


def run_settings(weights: str) -> dict[str, Any]:
    """How the data of the run that wrote these weights was set; empty where there is no such run."""
    from zoo.shared.runs.folder import RunFolder

    run = RunFolder(Path(weights).expanduser().resolve().parent)
    if not run.config.is_file():
        return {}
    config = run.read_config()
    data = config.get("data")
    data = data if isinstance(data, dict) else {}
    kept = ("source", "root", "held_out", "enlarge", "max_bad_fraction")
    return {"seed": config.get("seed", 0), **{key: data[key] for key in kept if key in data}}


def show(weights: str, results: Results, pictures: list[str]) -> None:
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
    for picture in pictures:
        screen.print(f"wrote {escape(picture)}", soft_wrap=True)
