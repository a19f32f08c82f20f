"""A Bloom filter over 64-bit hashes in one numpy array of bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError


class BloomFilter:
    """A set that may claim to hold what it does not, with a bounded probability, and never the other way round.

    Args:
        capacity: Different items that will be added, at most.
        bound: Probability of a false positive when it is full.

    Raises:
        UserError: It does not fit into memory.
    """

    def __init__(self, capacity: int, *, bound: float) -> None:
        per_item = -math.log(bound) / math.log(2) ** 2
        self.hashes = max(round(per_item * math.log(2)), 1)
        self.bits = max(math.ceil(capacity * per_item), 64)
        try:
            self._bytes = np.zeros((self.bits + 7) // 8, dtype=np.uint8)
        except MemoryError as error:
            raise UserError(
                f"a Bloom filter of {capacity:,} n-grams takes {self.bits / 8e9:.1f} GB; compare fewer files at once"
            ) from error

    def _places(self, items: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Bits of items ``(N, hashes)``: two mixed hashes, combined (Kirsch and Mitzenmacher 2006)."""
        first = mix(items)
        second = mix(first ^ np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
        steps = np.arange(self.hashes, dtype=np.uint64)
        return (first[:, None] + steps * second[:, None]) % np.uint64(self.bits)

    def add(self, items: NDArray[np.uint64]) -> None:
        """Add hashes ``(N,)``."""
        for start in range(0, len(items), 1 << 16):
            places = self._places(items[start : start + (1 << 16)]).ravel()
            flags = np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
            np.bitwise_or.at(self._bytes, (places >> np.uint64(3)).astype(np.int64), flags)

    def __contains__(self, item: int) -> bool:
        return bool(self.has(np.array([item], dtype=np.uint64))[0])

    def has(self, items: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which hashes are in the set, ``(N,)``."""
        found = np.zeros(len(items), dtype=bool)
        for start in range(0, len(items), 1 << 16):
            places = self._places(items[start : start + (1 << 16)])
            bits = self._bytes[(places >> np.uint64(3)).astype(np.int64)] >> (places & np.uint64(7)).astype(np.uint8)
            found[start : start + (1 << 16)] = (bits & 1).all(axis=1)
        return found


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit numbers one to one (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
