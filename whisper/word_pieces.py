"""Cutting ids into the words that they spell, for the times of words."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
Words = tuple[list[str], list[list[int]]]
_UNKNOWN = "\ufffd"


def split_at_characters(ids: Sequence[int], decode: Decode, eot: int) -> Words:
    """Cut wherever the ids so far spell whole characters.

    Args:
        ids: Text, special ids, timestamps.
        decode: Ids to text, U+FFFD for bytes that are no character.
        eot: Ids from here on are special.

    Returns:
        The parts' text, and the ids of each. Together they are all of the ids.
    """
    whole = decode(ids)
    words: list[str] = []
    groups: list[list[int]] = []
    open_ids: list[int] = []
    offset = 0
    for index in ids:
        open_ids.append(index)
        text = decode(open_ids)
        unknown = text.find(_UNKNOWN)
        # U+FFFD that stays one even with the ids that follow is no unfinished character.
        if unknown < 0 or whole[offset + unknown : offset + unknown + 1] == _UNKNOWN:
            words.append(text)
            groups.append(open_ids)
            offset, open_ids = offset + len(text), []
    if open_ids:
        words.append(decode(open_ids))
        groups.append(open_ids)
    return words, groups


def split_at_spaces(ids: Sequence[int], decode: Decode, eot: int) -> Words:
    """Cut before spaces, before and after punctuation, and at special ids; see :func:`split_at_characters`."""
    words: list[str] = []
    groups: list[list[int]] = []
    for text, group in zip(*split_at_characters(ids, decode, eot), strict=True):
        starts = group[0] >= eot or text.startswith(" ") or text.strip() in string.punctuation
        if starts or not words:
            words.append(text)
            groups.append(group)
        else:
            words[-1] += text
            groups[-1].extend(group)
    return words, groups
