"""Opening image–text pairs by what the user wrote: a name, a path or a pattern."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.shared.data.pairs import PairSource
from zoo.shared.data.samples import Progress
from zoo.shared.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a source may need to know; each kind reads what concerns it."""

    size: int
    image_column: str | None
    caption_column: str | None
    languages: tuple[str, ...]
    category_words: bool
    seed: int
    progress: Progress


def open_source(
    source: str,
    *,
    size: int = 64,
    image_column: str | None = None,
    caption_column: str | None = None,
    languages: Sequence[str] = ("en",),
    category_words: bool = True,
    seed: int = 0,
    progress: Progress = lambda line: None,
) -> PairSource:
    """Open image–text pairs.

    Args:
        source: ``emoji``, ``shapes``, a table, a folder, tar files by path or pattern, or a stream of tars by
            ``https://``, ``gs://``, ``hf://`` address or ``pipe:`` command.
        size: Side at which drawn sources draw; the others keep their images' sizes.
        image_column: A table's column of image paths.
        caption_column: A table's column of captions.
        languages: Languages of the emoji's names.
        category_words: Whether captions of emoji may name the category.
        seed: Chooses the order of a stream, which decides its own.
        progress: Called with a line when something takes time.

    Raises:
        UserError: Nothing that is known stands there.
    """
    options = Options(
        size=size,
        image_column=image_column,
        caption_column=caption_column,
        languages=tuple(languages),
        category_words=category_words,
        seed=seed,
        progress=progress,
    )
    for fits, opens in _KINDS:
        if fits(source):
            return opens(source, options)
    where = Path(source).expanduser()
    if where.exists():
        raise UserError(f"{source} is no table (.csv .tsv .jsonl .parquet), no tar and no folder")
    raise UserError(f"there is no data at {source!r}; give a file, a folder, a tar pattern or `emoji`")


def _emoji(source: str, options: Options) -> PairSource:
    from zoo.shared.data.emoji import EmojiSource

    return EmojiSource(
        size=options.size,
        languages=options.languages,
        category_words=options.category_words,
        progress=options.progress,
    )


def _shapes(source: str, options: Options) -> PairSource:
    from zoo.shared.data.shapes import ShapeSource

    return ShapeSource(size=options.size)


def _tars(source: str, options: Options) -> PairSource:
    from zoo.shared.data.tars import TarSource

    return TarSource(source, progress=options.progress)


def _table(source: str, options: Options) -> PairSource:
    from zoo.shared.data.tables import TableSource

    return TableSource(source, image_column=options.image_column, caption_column=options.caption_column)


def _folder(source: str, options: Options) -> PairSource:
    from zoo.shared.data.folders import FolderSource, open_special

    folder = Path(source).expanduser()
    return open_special(folder, options.progress) or FolderSource(folder)


def is_remote(source: str) -> bool:
    """Whether a source can only be read from front to back."""
    return source.startswith(("http://", "https://", "pipe:", "gs://", "hf://"))


def _stream(source: str, options: Options) -> PairSource:
    from zoo.shared.data.streams import PairStream

    return PairStream(source, seed=options.seed)


_KINDS: tuple[tuple[Callable[[str], bool], Callable[[str, Options], PairSource]], ...] = (
    (lambda source: source == "emoji", _emoji),
    (lambda source: source == "shapes", _shapes),
    (is_remote, _stream),
    (lambda source: source.endswith(".tar"), _tars),
    (lambda source: Path(source).suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet"), _table),
    (lambda source: Path(source).expanduser().is_dir(), _folder),
)
