"""``zoo sample dcgan``: images from trained weights, and what the paper does with them."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import Parser, add_model_options, console, give, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.dcgan.analysis.exemplars import Exemplars
    from zoo.dcgan.data import DcganDataModule

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_MOST = 100_000  # samples of a command


def sample(words: list[str]) -> int:
    """``zoo sample dcgan [grid|walk|arithmetic|turn|features|drop]``; without a word: a grid.

    Raises:
        UserError: There is no such word.
    """
    if not words or words[0].startswith("-"):
        return _grid(words)
    if words[0] in KINDS:
        return KINDS[words[0]](words[1:])
    close = difflib.get_close_matches(words[0], KINDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KINDS)}"
    raise UserError(f"`zoo sample dcgan` knows no {words[0]!r}; {hint}")


def _grid(words: list[str]) -> int:
    parser = _parser("grid", "Write images of random latent vectors, as one picture or one by one.", drawn=64)
    parser.add_argument("--each", action="store_true", help="write every image by itself, into a folder")
    parser.epilog = (
        "`zoo sample dcgan WORD --help` says more of: walk (between random points), arithmetic (7 - 1 + 0), turn "
        "(along a direction), features (what the discriminator looks at), drop (without the maps of a region)."
    )
    job = Job(parser, words, folders=True)
    images = job.images(job.latents())
    from zoo.dcgan.pictures import save_each, save_grid

    if job.args.each or not job.out.suffix:
        written = save_each(images, job.out)
        return job.finish(written, {"images": len(written)})
    return job.finish([save_grid(images, job.out)], {"images": len(images)})


def _walk(words: list[str]) -> int:
    parser = _parser("walk", "Walk between random points (Figure 4): a strip, one leg a row, and a looping GIF.")
    _count(parser, "--points", 9, "random points")
    _count(parser, "--steps", 10, "images from one point to the next")
    job = Job(parser, words)
    from zoo.dcgan.analysis.walks import save_walk, walk

    found = walk(job.model, job.latents(job.args.points), steps=job.args.steps)
    note = f"largest step between images {found.sharpness:.1f} times the mean step; a jump would tell of memorising"
    return job.finish(save_walk(found, job.out), {"sharpness": found.sharpness}, [note])


def _arithmetic(words: list[str]) -> int:
    parser = _parser("arithmetic", "Add and subtract concepts, each the mean of some samples (Figure 7).")
    parser.add_argument(
        "expression",
        nargs="+",
        metavar="TERM",
        help="classes: 7 - 1 + 0; or numbers of samples, with commas: 12,40,7 - 3,9,31 + 5,8,22",
    )
    _exemplar_options(parser, exemplars=3)
    job = Job(parser, words)
    from zoo.dcgan.analysis.arithmetic import arithmetic, draw_arithmetic
    from zoo.dcgan.pictures import save_picture

    z = job.latents(job.args.among)
    terms = job.exemplars(z).terms(" ".join(job.args.expression), exemplars=job.args.exemplars)
    found = arithmetic(job.model, z, terms, seed=job.args.seed)
    written = [save_picture(draw_arithmetic(found, terms), job.out)]
    figures = [{"sign": term.sign, "name": term.name, "samples": list(term.samples)} for term in terms]
    lines = [f"{'+' if t.sign > 0 else '-'} {t.name}: samples {', '.join(map(str, t.samples))}" for t in terms]
    return job.finish(written, {"terms": figures}, lines)


def _turn(words: list[str]) -> int:
    parser = _parser("turn", "Move samples along the direction from one concept to another (Figure 8).")
    for name in ("start", "end"):
        parser.add_argument(name, metavar=name.upper(), help="a class, or numbers of samples with commas")
    _exemplar_options(parser, exemplars=4)
    _count(parser, "--count", 8, "samples to move, one a row")
    _count(parser, "--steps", 9, "images of each, from minus to plus the direction")
    job = Job(parser, words)
    from zoo.dcgan.analysis.arithmetic import turn, turn_vector
    from zoo.dcgan.pictures import save_grid

    z, args = job.latents(job.args.among), job.args
    picker = job.exemplars(z)
    (start, starts), (end, ends) = (picker.pick(word, exemplars=args.exemplars) for word in (args.start, args.end))
    moved = job.model.draw(args.count, seed=args.seed + 1)  # samples that the exemplars are not among
    rows = turn(job.model, moved, turn_vector(z, starts, ends), steps=args.steps)
    written = [save_grid(rows.flatten(0, 1), job.out, columns=args.steps)]
    ends_of = {"start": {"name": start, "samples": list(starts)}, "end": {"name": end, "samples": list(ends)}}
    lines = [f"{side}: {was['name']}, samples {', '.join(map(str, was['samples']))}" for side, was in ends_of.items()]
    return job.finish(written, ends_of, lines)


def _features(words: list[str]) -> int:
    parser = _parser("features", "What the discriminator looks at (Figure 5): guided backpropagation.", latents=False)
    _count(parser, "--count", 6, "features of the last convolution")
    _count(parser, "--examples", 4, "images of each")
    _source(parser)
    job = Job(parser, words)
    from zoo.dcgan.analysis.guided import compare_features, draw_features
    from zoo.dcgan.pictures import save_picture

    images, _ = job.data().train_items.tensor()
    if not len(images):
        raise UserError("none of the images can be used; choose another --source")
    args = job.args
    found = compare_features(job.model, images, features=args.count, examples=args.examples, seed=args.seed)
    responses = {name: part.responses.tolist() for name, part in zip(("random", "trained"), found, strict=True)}
    return job.finish([save_picture(draw_features(found), job.out)], {"responses": responses})


def _drop(words: list[str]) -> int:
    from zoo.dcgan.analysis.windows import REGIONS, draw_dropped, drop_maps, read_boxes, region

    parser = _parser("drop", "Draw without the feature maps that belong to a region (Section 6.3.1).", drawn=150)
    regions = ", ".join(REGIONS)
    parser.add_argument(
        "--boxes",
        required=True,
        metavar="B",
        help=f'{regions}; or a JSON file of boxes in samples: [{{"index": 3, "box": [x0, y0, x1, y1]}}, ...]',
    )
    parser.add_argument(
        "--layer", type=int, metavar="L", help="whose inputs are dropped, from 0 (default: the paper's)"
    )
    job = Job(parser, words)
    from zoo.dcgan.pictures import save_picture

    z, side, boxes = job.latents(), job.model.config.image_size, job.args.boxes
    if boxes in REGIONS:
        where = region(boxes, len(z), side)
    elif Path(boxes).is_file():
        where = read_boxes(boxes, count=len(z), side=side)
    else:
        raise UserError(f"--boxes {boxes}: no such file; give a JSON file, or one of {regions}")
    found = drop_maps(job.model, z, where, layer=job.args.layer, seed=job.args.seed)
    figures = {name: getattr(found, name) for name in ("maps", "of", "accuracy", "inside", "outside")}
    lines = [f"dropped {found.maps} of {found.of} maps"]
    if found.accuracy is not None:
        lines.append(f"in or out of the boxes, on images left out of the fit: {100 * found.accuracy:.1f} % right")
    for name, (dropped, control) in (("inside", found.inside), ("outside", found.outside)):
        lines.append(f"mean change {name} the boxes: {dropped:.3f} (as many maps at random: {control:.3f})")
    return job.finish([save_picture(draw_dropped(found, sorted(where)), job.out)], figures, lines)


KINDS = {
    "grid": _grid,
    "walk": _walk,
    "arithmetic": _arithmetic,
    "turn": _turn,
    "features": _features,
    "drop": _drop,
}


class Job:
    """What every word does first and last: read the options, load the weights, say what was written.

    Args:
        parser: From :func:`_parser`.
        words: The rest of the command line.
        folders: ``--out`` may be a folder.
    """

    def __init__(self, parser: Parser, words: Sequence[str], *, folders: bool = False) -> None:
        self.args: Any = parser.parse_args(words)
        self.out = _output(self.args, folders=folders)
        from zoo.dcgan.loading import load_model
        from zoo.dcgan.sampling import ready

        model, self.weights = load_model(self.args.weights, self.args.device)
        self.model = ready(model)

    def latents(self, count: int | None = None) -> Tensor:
        """Latent vectors ``(N, Z)``: those of ``--z``, or drawn ones."""
        if self.args.z is None:
            return self.model.draw(self.args.count if count is None else count, seed=self.args.seed)
        from zoo.dcgan.sampling import read_latents

        z = read_latents(self.args.z, latent=self.model.config.latent)
        return z.to(next(self.model.parameters()).device)

    def images(self, z: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` in [-1, 1]."""
        from zoo.dcgan.sampling import images_of

        return images_of(self.model, z)

    def data(self) -> DcganDataModule:
        """The images that the weights were trained on, or those of ``--source``."""
        from zoo.dcgan.data import DcganDataModule
        from zoo.shared.runs.folder import data_of_run

        source, known = self.args.source, {**data_of_run(self.weights), "workers": 0}
        if source is not None and source != known.get("source"):
            known = {"source": source, "enlarge": True}
        if "source" not in known:
            raise UserError(f"{self.weights} does not say what it was trained on; name it, such as --source mnist")
        data = DcganDataModule(config=self.model.config, **known)
        data.setup("fit")
        return data

    def exemplars(self, z: Tensor) -> Exemplars:
        """Picks samples by number, or by class with the classifier of the data."""
        from zoo.dcgan.analysis.exemplars import Exemplars, class_probabilities

        return Exemplars(len(z), lambda: class_probabilities(self.images(z), self.data(), progress=say))

    def finish(self, written: Sequence[Path], figures: dict[str, Any], lines: Sequence[str] = ()) -> int:
        """Say what was found and written."""
        if self.args.json:
            give({"weights": self.weights, "written": [str(path) for path in written], **figures})
            return 0
        files = [f"wrote {path}" for path in written]
        if len(written) > 2:
            files = [f"wrote {len(written):,} files into {written[0].parent}"]
        for line in [*lines, *files]:
            console().print(line, markup=False, soft_wrap=True)
        return 0


def _parser(word: str, description: str, *, drawn: int | None = None, latents: bool = True) -> Parser:
    """The options of every word; with ``--count`` where latent vectors are drawn for their own sake."""
    parser = Parser(prog=f"zoo sample dcgan {word}", description=description)
    default = "samples.png" if word == "grid" else f"{word}.png"
    parser.add_argument("--out", metavar="FILE", help=f"the picture (default {default})")
    parser.set_defaults(standard=default)
    parser.add_argument("--seed", type=int, default=0, help="chooses what is random (default 0)")
    if latents:
        parser.add_argument("--z", metavar="FILE", help="latent vectors to use, .npy or .json of shape (N, Z)")
    if drawn is not None:
        _count(parser, "--count", drawn, "samples")
    add_model_options(parser, title="DCGAN")
    return parser


def _count(parser: Parser, name: str, default: int, what: str) -> None:
    def number(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= _MOST:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_MOST:,}")
        return int(text)

    parser.add_argument(name, type=number, default=default, metavar="N", help=f"{what} (default {default})")


def _source(parser: Parser) -> None:
    parser.add_argument("--source", metavar="S", help="images to use; default: what the weights were trained on")


def _exemplar_options(parser: Parser, *, exemplars: int) -> None:
    _count(parser, "--exemplars", exemplars, "samples that stand for a class: those a classifier is surest of")
    _count(parser, "--among", 1000, "samples to choose from, numbered from 0")
    _source(parser)


def _output(args: Any, *, folders: bool) -> Path:
    from zoo.shared.files import check_writable

    each = getattr(args, "each", False)
    out = Path(args.out or ("samples" if each else args.standard)).expanduser()
    if folders and (each or not out.suffix):
        if out.suffix.lower() in _PICTURES:
            raise UserError(f"--out {out}: single images go into a folder; leave the ending out, or leave --each out")
        return check_writable(out)
    if out.suffix.lower() not in _PICTURES or out.is_dir():
        raise UserError(f"--out {out}: choose the name of a file that ends in {', '.join(_PICTURES)}")
    check_writable(out.parent)
    return out
