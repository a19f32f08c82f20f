"""The words of the command line that CLIP answers to: ``classify``, ``search``, ``embed clip``, ``eval clip``."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import Parser, add_model_options, console, give, pick_device, pick_weights, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def load_model(weights: str | None, device: str | None) -> tuple[nn.Module, Any, str]:
    """Load a CLIP model and what belongs to it.

    Returns:
        Model, preprocessor, and what was loaded, for people.

    Raises:
        UserError: No weights, damaged weights, or weights of another family.
    """
    place, weights = pick_device(device), pick_weights("clip", weights)
    from zoo.clip.model import CLIP
    from zoo.factory import create_preprocessor
    from zoo.weights import load

    model = load(weights)
    if not isinstance(model, CLIP):
        raise UserError(f"{weights} holds a {type(model).__name__}, not CLIP; choose other --weights")
    return model.to(place).eval(), create_preprocessor(weights), weights


def expand_images(words: Sequence[str]) -> tuple[list[Path], set[Path]]:
    """Turn files, folders and patterns into image files.

    Returns:
        The files, each once, and those of them that were named outright.

    Raises:
        UserError: Something does not exist, or holds no image.
    """
    from zoo.clip.retrieval import image_files

    files: dict[Path, None] = {}
    named: set[Path] = set()
    for word in words:
        path = Path(word).expanduser()
        if path.is_dir():
            files.update(dict.fromkeys(image_files(path)))
        elif path.exists():
            files[path] = None
            named.add(path)
        elif glob.has_magic(word):
            found = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
            if not found:
                raise UserError(f"no file fits {word!r}")
            for match in found:
                files.update(dict.fromkeys(image_files(match) if match.is_dir() else [match]))
        else:
            raise UserError(f"no such file: {word}")
    return list(files), named


def embed_files(
    model: nn.Module, preprocessor: Any, words: Sequence[str], *, batch_size: int = 64
) -> tuple[list[Path], Any]:
    """Embed the images that a user names; those merely found in a folder may be bad.

    Returns:
        N paths and unit vectors ``(N, E)``.

    Raises:
        UserError: A named file cannot be used, or none of a folder's can.
    """
    import torch

    from zoo.clip.zero_shot import embed_images

    files, named = expand_images(words)
    good: list[Path] = []
    rows, reason = [], ""
    for first in range(0, len(files), batch_size):
        tensors = []
        for path in files[first : first + batch_size]:
            try:
                tensors.append(preprocessor.image(path))
            except UserError as error:
                if path in named:
                    raise
                reason = str(error)
                say(f"skipped: {reason}")
                continue
            good.append(path)
        if tensors:
            rows.append(embed_images(model, preprocessor, torch.stack(tensors)))
    if not rows:
        raise UserError(f"none of the {len(files)} image files can be used; {reason}")
    return good, torch.cat(rows)


def check_output(out: str, suffixes: Sequence[str]) -> Path:
    """Prove that a file can be written, before any work is done.

    Raises:
        UserError: Wrong suffix, a folder, or not writable.
    """
    from zoo.shared.files import check_writable

    path = Path(out).expanduser()
    if path.suffix.lower() not in suffixes:
        raise UserError(f"--out {out}: choose a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"--out {out} is a folder; choose the name of a file")
    check_writable(path.parent)
    return path


def classify(words: list[str]) -> int:
    """``zoo classify``: name what is in images."""
    parser = Parser(prog="zoo classify", description="Name what is in images, from labels in words.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, folders or patterns like '*.jpg'")
    parser.add_argument("--labels", required=True, help="what it may be, separated by commas: 'a cat,a dog'")
    parser.add_argument(
        "--template", action="append", metavar="TEXT", help="sentence with {} for the label; repeat to average several"
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="labels shown for each image (default 5)")
    add_model_options(parser, title="CLIP")
    args = parser.parse_args(words)
    labels = list(dict.fromkeys(label for part in args.labels.split(",") if (label := part.strip())))
    if not labels:
        raise UserError("--labels is empty; give names separated by commas, like --labels 'a cat,a dog'")
    if args.top < 1:
        raise UserError(f"--top {args.top}: ask for at least one label")
    from zoo.clip.zero_shot import TEMPLATES, fill, probabilities, zero_shot_classifier

    templates = args.template or list(TEMPLATES)
    for template in templates:
        fill(template, "")
    expand_images(args.images)  # a wrong name is told before the weights are read
    model, preprocessor, _ = load_model(args.weights, args.device)
    paths, vectors = embed_files(model, preprocessor, args.images)
    classifier = zero_shot_classifier(model, preprocessor, labels, templates)
    values, places = probabilities(model, vectors, classifier).topk(min(args.top, len(labels)), dim=-1)
    results: list[dict[str, Any]] = [
        {
            "image": str(path),
            "labels": [{"label": labels[i], "probability": p} for p, i in zip(row, numbers, strict=True)],
        }
        for path, row, numbers in zip(paths, values.tolist(), places.tolist(), strict=True)
    ]
    if args.json:
        give(results)
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("image", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column("", justify="right")
    table.add_column("", no_wrap=True)
    for result in results:
        for place, entry in enumerate(result["labels"]):
            table.add_row(
                escape(result["image"]) if place == 0 else "",
                escape(entry["label"]),
                f"{100 * entry['probability']:.1f} %",
                f"[blue]{'█' * round(20 * entry['probability'])}[/]",
                end_section=place + 1 == len(result["labels"]),
            )
    console().print(table)
    return 0


def search(words: list[str]) -> int:
    """``zoo search``: find images by a sentence."""
    parser = Parser(prog="zoo search", description="Find the images of a folder that fit a sentence.")
    parser.add_argument("folder", metavar="FOLDER", help="searched with all folders below")
    parser.add_argument("query", metavar="QUERY", help="what to look for, in words")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="images shown (default 10)")
    parser.add_argument("--out", metavar="PICTURE", help="write the hits as one picture: .png, .jpg or .webp")
    add_model_options(parser, title="CLIP")
    args = parser.parse_args(words)
    if not args.query.strip():
        raise UserError("the query is empty; say what to look for, like 'a red bicycle'")
    if args.top < 1:
        raise UserError(f"--top {args.top}: ask for at least one image")
    from zoo.clip.retrieval import embed_folder, image_files
    from zoo.clip.retrieval import search as find

    count = len(image_files(args.folder))
    out = check_output(args.out, (".png", ".jpg", ".jpeg", ".webp")) if args.out else None
    model, preprocessor, weights = load_model(args.weights, args.device)

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task("embedding", total=None)
        index = embed_folder(
            model, preprocessor, args.folder, progress=lambda done, total: bar.update(job, completed=done, total=total)
        )
    for path, reason in list(index.skipped.items())[:5]:
        say(f"skipped {path}: {reason.removeprefix(f'cannot use image {path}: ')}")
    if len(index.skipped) > 5:
        say(f"skipped {len(index.skipped)} files in all")
    hits = find(model, preprocessor, index, args.query, top=args.top)
    if out:
        from zoo.clip.sheet import contact_sheet

        subtitle = f"best {len(hits)} of {len(index.paths):,} images in {args.folder} · {weights}"
        contact_sheet(hits, out, title=args.query, subtitle=subtitle)
    if args.json:
        give([{"image": str(hit.path), "score": hit.score} for hit in hits])
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("score", justify="right")
    table.add_column("image", overflow="fold")
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", escape(str(hit.path)))
    shown = console()
    shown.print(table)
    new = f"{index.embedded:,} of {count:,} files embedded now, the others were known"
    shown.print(f"[dim]{new if index.embedded < count else f'{count:,} files embedded'}[/]")
    if out:
        shown.print(f"wrote {escape(str(out))}")
    return 0


def embed(words: list[str]) -> int:
    """``zoo embed clip``: write embeddings of images or texts."""
    parser = Parser(prog="zoo embed clip", description="Write embeddings of images or texts, as unit vectors.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", nargs="+", metavar="PATH", help="image files, folders or patterns")
    what.add_argument("--texts", nargs="+", metavar="TEXT", help="texts, or one file with a text on each line")
    parser.add_argument("--out", required=True, metavar="FILE", help="ends in .npz or .safetensors")
    add_model_options(parser, title="CLIP")
    args = parser.parse_args(words)
    out = check_output(args.out, (".npz", ".safetensors"))
    if args.images:
        expand_images(args.images)
    else:
        names = read_texts(args.texts)
    model, preprocessor, weights = load_model(args.weights, args.device)
    if args.images:
        paths, vectors = embed_files(model, preprocessor, args.images)
        names = [str(path) for path in paths]
    else:
        from zoo.clip.zero_shot import embed_texts

        vectors = embed_texts(model, preprocessor, names)
    write_embeddings(out, vectors, names)
    if args.json:
        give({"out": str(out), "count": len(names), "size": vectors.shape[1], "weights": weights})
    else:
        sys.stdout.write(f"wrote {len(names):,} embeddings of size {vectors.shape[1]} to {out}\n")
    return 0


def read_texts(words: Sequence[str]) -> list[str]:
    """Texts as given, or the lines of the one file that is named.

    Raises:
        UserError: There is no text, or the file cannot be read.
    """
    texts = list(words)
    try:
        is_file = len(texts) == 1 and Path(texts[0]).expanduser().is_file()
    except (OSError, ValueError):  # a long sentence is no name of a file
        is_file = False
    if is_file:
        try:
            texts = Path(texts[0]).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {words[0]} as text: {error}") from error
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError(f"{words[0]} holds no text" if is_file else "--texts is empty")
    return texts


def write_embeddings(path: Path, vectors: Any, names: list[str]) -> None:
    """Write vectors ``(N, E)`` and what each is of, as ``embeddings`` and ``names``."""
    from zoo.shared.files import atomic_path

    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npz":
            import numpy as np

            with temporary.open("wb") as opened:  # by name, numpy would append a second suffix
                np.savez(opened, embeddings=vectors.numpy(), names=np.array(names))
        else:
            from safetensors.torch import save_file

            save_file({"embeddings": vectors.contiguous()}, str(temporary), {"names": json.dumps(names)})


def data_settings(words: Sequence[str]) -> dict[str, Any]:
    """Turn ``--data.NAME VALUE`` and ``--data.NAME=VALUE`` into settings.

    Raises:
        UserError: A word that is neither.
    """
    import yaml

    settings: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--data."):
            raise UserError(f"unknown option {word}; `zoo eval clip --help` shows how it is used")
        name, equals, value = word.removeprefix("--data.").partition("=")
        if not equals:
            if not rest:
                raise UserError(f"{word} needs a value")
            value = rest.pop(0)
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            settings[name] = value
    return settings


def evaluate(words: list[str]) -> int:
    """``zoo eval clip``: measure trained weights."""
    from zoo.clip.evaluation import BENCHMARKS, run_benchmarks

    parser = Parser(
        prog="zoo eval clip",
        description="Measure a CLIP model on held-out pairs: the emoji that no training saw, or data of your own.",
        epilog="Settings of the data module are given as --data.NAME VALUE.",
    )
    parser.add_argument("--benchmark", default="all", metavar="NAME", help=f"all (default), {', '.join(BENCHMARKS)}")
    parser.add_argument("--source", metavar="PATH", help="your own data: an image folder or a table of pairs")
    parser.add_argument(
        "--template", action="append", metavar="TEXT", help="sentence with {} for the class; repeatable"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use at most N samples")
    parser.add_argument("--out", metavar="DIR", help="folder for figures.json and pictures")
    add_model_options(parser, title="CLIP")
    args, rest = parser.parse_known_args(words)
    settings = data_settings(rest)
    if args.source is not None:
        settings["source"] = args.source
    if "config" in settings:
        raise UserError("the weights decide the config; leave --data.config out")
    if args.benchmark != "all" and args.benchmark not in BENCHMARKS:
        raise UserError(f"unknown benchmark {args.benchmark!r}; there are all, {', '.join(BENCHMARKS)}")
    if args.limit is not None and args.limit < 2:
        raise UserError(f"--limit {args.limit}: at least two samples are needed")
    names = BENCHMARKS if args.benchmark == "all" else (args.benchmark,)
    from zoo.clip.data import ClipDataModule
    from zoo.factory import checked
    from zoo.shared.files import check_writable, write_json

    checked(ClipDataModule.__init__, "the data of clip", settings)
    out = check_writable(args.out) if args.out else None
    model, preprocessor, weights = load_model(args.weights, args.device)
    config: Any = model.config
    from zoo.shared.runs.folder import data_of_run

    known = data_of_run(weights)
    if settings.get("source", known.get("source")) != known.get("source"):  # its columns mean nothing elsewhere
        known = {key: value for key, value in known.items() if key in ("seed", "held_out")}
    data = ClipDataModule(config=config, **{**known, **settings})
    data.setup("fit")
    results: dict[str, Any] = {
        "weights": weights,
        "data": data.held_out_source.name,
        **run_benchmarks(
            model, preprocessor, data, names, templates=args.template, limit=args.limit, out=out, progress=say
        ),
    }
    if out:
        write_json(out / "figures.json", results)
    if args.json:
        give(results)
    else:
        show_figures(results)
    return 0


def show_figures(results: dict[str, Any]) -> None:
    """Print the figures of ``zoo eval clip`` for people."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{results['weights']} on {results['data']}"), title_justify="left", box=None)
    for column in ("benchmark", "figure"):
        table.add_column(column)
    table.add_column("value", justify="right")
    for name, figures in results.items():
        if not isinstance(figures, dict):
            continue
        rows: list[tuple[str, Any]] = [
            (key, value) for key, value in figures.items() if isinstance(value, int | float) and key != "skipped"
        ]
        if name == "corruption":
            for measure in ("accuracy", "cosine"):
                for kind, values in (figures[measure] or {}).items():
                    rows.append((f"{measure}, {kind}", " ".join(f"{v:.2f}" for v in values)))
        if figures["skipped"]:
            rows.append(("skipped (unreadable)", figures["skipped"]))
        for place, (key, value) in enumerate(rows):
            shown = value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else _share(key, value)
            table.add_row(name if place == 0 else "", key.replace("_", " "), shown, end_section=place + 1 == len(rows))
        if "picture" in figures:
            table.add_row("", "picture", escape(figures["picture"]))
    console().print(table)


def _share(key: str, value: float) -> str:
    return f"{value:.3g}" if key == "best_c" else f"{100 * value:.1f} %"
