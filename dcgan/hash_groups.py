"""Groups of images by the bits of a semantic hash: exactly equal ones, or ones that differ in a few places.

Shapes: N images, B bits, eight to a byte.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Progress = Callable[[str, int, int], object]
"""Called with what is done, how much of it, and how much there is."""

_CHUNK = 1024  # codes at a time


def first_alike(codes: Bytes, *, distance: int, progress: Progress) -> NDArray[np.int64]:
    """For every image the first one that is kept and is alike; itself where it is kept.

    Bits that differ in at most d places are equal in at least one of d + 1 bands of them, so only those that share a
    band are compared. What is near a dropped image, but not near a kept one, is kept: likeness is not handed on.

    Args:
        codes: Bits ``(N, ceil(B / 8))``, eight to a byte.
        distance: Places in which bits of alike images may differ.
        progress: Told of every image.

    Returns:
        Numbers ``(N,)``, none greater than its place.
    """
    rows, first, inverse = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    if distance == 0:
        return first[inverse]
    in_order = np.argsort(first)
    rows, first = rows[in_order], first[in_order]
    bands = [_Band(rows, part) for part in np.array_split(np.arange(8 * rows.shape[1]), distance + 1) if len(part)]
    kept = np.ones(len(rows), dtype=bool)
    leader = np.arange(len(rows))
    for place in range(len(rows)):
        near = np.concatenate([band.before(place) for band in bands])
        near = near[kept[near]]
        alike = near[np.bitwise_count(rows[near] ^ rows[place]).sum(1) <= distance]
        if len(alike):
            kept[place], leader[place] = False, alike.min()
        progress("comparing", place + 1, len(rows))
    return first[leader[_inverse(in_order)[inverse]]]


def bits_apart(codes: Bytes, leaders: NDArray[np.int64]) -> NDArray[np.int64]:
    """In how many places the bits of each image differ from those of the image that stands for it ``(N,)``."""
    return np.concatenate(
        [np.bitwise_count(codes[part] ^ codes[leaders[part]]).sum(1, dtype=np.int64) for part in parts(len(codes))]
    )


def idle_bits(codes: Bytes, bits: int) -> int:
    """How many of B bits are the same in all images."""
    either, both = (np.unpackbits(join.reduce(codes, axis=0))[:bits] for join in (np.bitwise_or, np.bitwise_and))
    return int((either == both).sum())


def parts(total: int) -> list[slice]:
    """Cut so many rows into pieces that are worked on one after the other."""
    return [slice(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK)]


class _Band:
    """Some of the bits of all codes, sorted so that those of equal bits lie together, the earlier ones first."""

    def __init__(self, rows: Bytes, places: NDArray[np.int64]) -> None:
        bits = np.concatenate([_cut(rows[part], places) for part in parts(len(rows))])
        group = np.unique(bits, axis=0, return_inverse=True)[1].reshape(-1)
        self.sorted = np.argsort(group, kind="stable")
        self.start = np.searchsorted(group[self.sorted], group)
        self.position = _inverse(self.sorted)

    def before(self, place: int) -> NDArray[np.int64]:
        """Earlier codes with the same bits as this one."""
        return self.sorted[self.start[place] : self.position[place]]


def _cut(rows: Bytes, places: NDArray[np.int64]) -> Bytes:
    return np.packbits(np.unpackbits(rows, axis=1)[:, places], axis=1)


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.empty_like(order)
    found[order] = np.arange(len(order))
    return found
