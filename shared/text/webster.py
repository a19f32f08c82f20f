"""Webster's Revised Unabridged Dictionary of 1913, the one embedded corpus that is dated sense by sense.

The pack ``webster-1913`` is a later dictionary made of it, in which a tag such as ``[1913 Webster]`` or
``[WordNet 1.5 +PJC]`` says of the text before it where that comes from. Only entries all of whose tags say 1913 are
taken; what follows the last tag of an entry is not dated by any, so it goes. Editors have slipped a few notes in under
the old tag; those that give themselves away, by a later year, an address in the internet, an editor's initials or one
of the terms that :mod:`zoo.shared.text.anachronism` dates later, go with their entries. A note that none of these shows
is not found. The tags go too: every model would learn them at once, which would only flatter its figures.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator

from zoo.shared.data.samples import Progress, open_pack
from zoo.shared.text.anachronism import TERMS, TermFilter
from zoo.shared.text.documents import Document
from zoo.shared.text.prepare import is_held_out

YEAR = 1913
HELD_OUT = 0.01  # of the headwords

_FILE = "usr/share/dictd/gcide.dict.dz"
_HEAD = re.compile(r"^(?=\S[^\n]*\\)", re.MULTILINE)  # a headword, then its pronunciation between backslashes
_TAG = re.compile(r"\[([^\[\]]*(?:1913 Webster|Webster 1913|WordNet|PJC|RDH|Century Dict)[^\[\]]*|(?:AS|RP)\.?)\]")
_LATER = re.compile(r"\b(?:191[4-9]|19[2-9]\d|200[1-9]|201\d|20th century|PJC|internet|https?)\b|1913 Webster")
_OF_1913 = re.compile(r"1913 Webster|Webster 1913 Suppl\.|[\s+]")


def documents(*, progress: Progress = lambda line: None) -> list[Document]:
    """The entries of 1913 in the dictionary's order; an id is the headword, with a number where it has several.

    Args:
        progress: Called with a line when the pack is fetched.

    Raises:
        UserError: The pack is not cached and cannot be fetched.
    """
    text = gzip.decompress(open_pack("webster-1913", progress=progress).read(_FILE)).decode("utf-8", "replace")
    return list(entries(text))


def entries(text: str) -> Iterator[Document]:
    """The entries of a dictionary in dictd's form whose tags all say 1913, and that name nothing later.

    Args:
        text: The dictionary; headwords stand at the beginning of a line, everything else is indented.
    """
    late = TermFilter(TERMS, cutoff=YEAR)
    seen: Counter[str] = Counter()
    for entry in _HEAD.split(text)[1:]:
        # Text, tag, text, tag, ..., and what follows the last tag.
        pieces = _TAG.split(entry)
        if len(pieces) == 1 or any(_OF_1913.sub("", tag) for tag in pieces[1::2]):
            continue
        text = "".join(piece.rstrip() for piece in pieces[:-1:2]).strip() + "\n"
        if _LATER.search(text) or late.find(text):
            continue
        word = entry[: entry.index("\\")].strip()
        seen[word] += 1
        yield Document(text, word if seen[word] == 1 else f"{word}/{seen[word]}", YEAR)


def split(*, progress: Progress = lambda line: None) -> tuple[list[Document], list[Document]]:
    """The entries to train on and those that are held out; entries of one headword stay together.

    Args:
        progress: Called with a line when the pack is fetched.
    """
    found = documents(progress=progress)
    sides = [is_held_out(entry.id.partition("/")[0], HELD_OUT) for entry in found]
    train = [entry for entry, away in zip(found, sides, strict=True) if not away]
    return train, [entry for entry, away in zip(found, sides, strict=True) if away]
