"""Text out of tokens as they come: whole characters only, and an end where a stop text is found."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence

DecodeBytes = Callable[[Sequence[int]], bytes]


class StopTexts:
    """Finds stop texts in a stream of bytes, wherever tokens begin and end.

    UTF-8 of a text occurs in UTF-8 of another only where its characters do, so bytes may be compared. Of several stop
    texts the one that is complete first counts, so that the result does not depend on where tokens end.

    Args:
        stops: The texts; none of them is empty.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self.stops = [text.encode("utf-8", "replace") for text in stops]
        self.held = b""
        self.found = False

    def push(self, data: bytes) -> bytes:
        """Take the next bytes; returns those that certainly belong to the result.

        What may be the beginning of a stop text is held back. After one is found nothing comes any more.
        """
        if self.found:
            return b""
        self.held += data
        places = [(place + len(stop), place) for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if places:
            self.found = True
            ready, self.held = self.held[: min(places)[1]], b""
            return ready
        cut = len(self.held) - self._open()
        ready, self.held = self.held[:cut], self.held[cut:]
        return ready

    def finish(self) -> bytes:
        """What is still held back, when nothing will follow."""
        rest, self.held = self.held, b""
        return rest

    def _open(self) -> int:
        """Length of the longest end of what is held that a stop text begins with."""
        longest = min(len(self.held), max((len(stop) for stop in self.stops), default=1) - 1)
        sizes = (size for size in range(longest, 0, -1) if any(s.startswith(self.held[-size:]) for s in self.stops))
        return next(sizes, 0)


class TextStream:
    """Tokens in, text out.

    Args:
        decode_bytes: Bytes of ids.
        stops: Texts that end the stream.
    """

    def __init__(self, decode_bytes: DecodeBytes, stops: Iterable[str] = ()) -> None:
        self._decode_bytes = decode_bytes
        self._stops = StopTexts(stops)
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def stopped(self) -> bool:
        """Whether a stop text was found."""
        return self._stops.found

    def push(self, token: int) -> str:
        """Take a token; returns the characters that are complete now."""
        return self._characters.decode(self._stops.push(self._decode_bytes([token])))

    def finish(self) -> str:
        """The rest; bytes that are no whole character become U+FFFD."""
        return self._characters.decode(self._stops.finish(), final=True)


def text_of(tokens: Iterable[int], decode_bytes: DecodeBytes, stops: Iterable[str] = ()) -> str:
    """Text of tokens up to the first stop text."""
    stream = TextStream(decode_bytes, stops)
    return "".join(stream.push(token) for token in tokens) + stream.finish()
