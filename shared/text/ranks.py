"""``tiktoken``'s rank files, and the merges that do the same."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from itertools import pairwise

from zoo.shared.errors import UserError


def parse_ranks(data: bytes, *, what: str) -> dict[bytes, int]:
    """Read lines of a token in base64 and its rank.

    Args:
        data: The file's contents.
        what: What the file is called, for messages.

    Raises:
        UserError: A line is something else, or a token or rank comes twice.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise UserError(f"line {number} of {what} is no token in base64 with a rank; copy it again") from error
    if not ranks or len(set(ranks.values())) != sum(1 for line in data.splitlines() if line) or min(ranks.values()) < 0:
        raise UserError(f"{what} is empty or gives a token or a rank twice; copy it again")
    return ranks


def format_ranks(ranks: Mapping[bytes, int]) -> str:
    """Write what :func:`parse_ranks` reads."""
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    return "".join(f"{base64.b64encode(token).decode('ascii')} {rank}\n" for token, rank in ordered)


def merges_of_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The one pair that ever merges into each token, in the order of the tokens' ranks.

    A token can only come about where no merge has crossed its ends, and there its bytes merge as they would alone.
    So the last two parts of that lonely encoding are the only pair that ever spells it, for whatever ranks.
    A token whose bytes alone do not get that far has no pair; it is only reached by a word that is spelled like it.
    """
    merges = []
    for token, _ in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(left + right, -1) for left, right in pairwise(parts)]
            known = [rank for rank in found if rank >= 0]
            if not known:
                break
            at = found.index(min(known))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges
