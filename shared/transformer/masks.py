"""What may attend to what, as one value that is passed along and never rebuilt inside a layer.

Shapes: B batch, H heads, Q queries, K keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask:
    """An attention mask. The default lets every query see every key.

    Attributes:
        causal: A query sees no key behind its own position.
        window: A query sees only the last ``window`` keys up to its own position (locally banded
            attention); implies ``causal``.
        padding: Bool ``(B or 1, K)``, True where a key is real, here and everywhere in zoo.
        start: Position of the first query among the keys, int64 ``(1,)``; None where the queries are the last keys.
        sees_itself: Whoever asks knows that every query is a real token, so that none of them is left without a key.
        built: What :meth:`build` has written out, for the last keys that the queries reach.
    """

    causal: bool = False
    window: int | None = None
    padding: Tensor | None = None
    start: Tensor | None = None
    sees_itself: bool = False
    built: Tensor | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")

    @property
    def is_plain_causal(self) -> bool:
        """True when the mask is the lower triangle and nothing else."""
        return self.causal and self.window is None and self.padding is None and self.start is None

    @property
    def may_blind(self) -> bool:
        """True when a query may have no key that it is allowed to see."""
        return self.padding is not None and not (self.sees_itself and (self.causal or self.window is not None))

    def reach(self, queries: int, keys: int) -> int:
        """How many of the last keys the queries see at most; the others need not be read."""
        return keys if self.window is None or self.start is not None else min(keys, self.window + queries - 1)

    def build(self, queries: int, keys: int, *, device: torch.device) -> Mask:
        """The same mask for one number of queries and keys, written out once for all blocks.

        Args:
            queries: Number of queries Q.
            keys: Number of keys K.
            device: Where to build it.
        """
        mask = self
        if self.window is not None and self.window >= keys:
            mask = replace(self, causal=True, window=None)
        if mask.is_plain_causal and queries == keys:
            return mask
        return replace(mask, built=mask.dense(queries, mask.reach(queries, keys), device=device))

    def dense(self, queries: int, keys: int, *, device: torch.device) -> Tensor | None:
        """Write the mask out as bool ``(B or 1, 1, Q, K)``, True where attention is allowed.

        Args:
            queries: Number of queries Q.
            keys: Number of keys K; fewer than there are stand for the last ones, see :meth:`reach`.
            device: Where to build it.

        Returns:
            The mask, or None when everything is allowed.
        """
        allowed = None
        sees_all = queries == 1 and self.start is None and (self.window is None or self.window >= keys)  # the last key
        if (self.causal or self.window is not None) and not sees_all:
            first = keys - queries if self.start is None else self.start
            at = torch.arange(queries, device=device)[:, None] + first
            key = torch.arange(keys, device=device)[None, :]
            allowed = key <= at
            if self.window is not None:
                allowed = allowed & (key > at - self.window)
            allowed = allowed[None, None]
        if self.padding is not None:
            real = self.padding[:, None, None, -keys:]
            allowed = real if allowed is None else allowed & real
        return allowed


FULL = Mask()
CAUSAL = Mask(causal=True)
