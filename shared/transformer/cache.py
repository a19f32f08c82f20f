"""Keys and values of tokens that have been seen, allocated once before decoding starts.

Shapes: B batch, T new tokens, S slots (the longest text), H heads, C channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.shared.transformer.masks import Mask


class LayerCache:
    """One layer's part of a :class:`KVCache`.

    Attributes:
        keys: ``(B, H, S, C)``.
        values: ``(B, H, S, C)``.
        memory: Keys and values of another tower's states, where the layer attends to some.
    """

    def __init__(self, cache: KVCache, keys: Tensor, values: Tensor) -> None:
        self.cache = cache
        self.keys = keys
        self.values = values
        self.memory: tuple[Tensor, Tensor] | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' ``(B, H, T, C)`` into their slots; returns what they may attend to."""
        return self.cache.write(self.keys, k), self.cache.write(self.values, v)


class KVCache:
    """A cache whose filled part is what attention sees: least work for eager execution.

    A model calls :meth:`begin`, hands :attr:`layers` to its blocks and calls :meth:`advance`.

    Args:
        layers: Number of blocks.
        batch: Texts B.
        heads: Heads H of a block.
        channels: Channels C of a head.
        slots: Longest text S, prompt included.
        dtype: Type of keys and values.
        device: Where they lie.

    Attributes:
        missing: int64 ``(B, 1)``, padding tokens at the left of each text; None without padding.
    """

    def __init__(
        self,
        *,
        layers: int,
        batch: int,
        heads: int,
        channels: int,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        def empty() -> Tensor:
            return torch.zeros(batch, heads, slots, channels, dtype=dtype, device=device)

        self.slots = slots
        self.layers = [LayerCache(self, empty(), empty()) for _ in range(layers)]
        self.missing: Tensor | None = None
        self.slot = torch.arange(slots, device=device)
        self._length = 0

    @property
    def length(self) -> int:
        """Tokens held, padding included."""
        return self._length

    def begin(self, count: int, padding: Tensor | None = None) -> tuple[Tensor, Mask]:
        """Where the next ``count`` tokens stand and what they may see.

        Args:
            count: New tokens T.
            padding: Bool ``(B, T)``, True where a token is real; only with the first tokens, and only at the left.

        Returns:
            Positions in the text, ``(T,)``, or ``(B, T)`` where texts are padded; and the mask.

        Raises:
            ValueError: The text gets too long.
        """
        if self.length + count > self.slots:
            raise ValueError(f"a text of {self.length + count} tokens does not fit into a cache of {self.slots}")
        if padding is not None:
            self.missing = (~padding).sum(1, keepdim=True)
        slot, end = self.slot[self.length : self.length + count], self.length + count
        if self.missing is None:
            return slot, Mask(causal=True)
        return (slot - self.missing).clamp(min=0), Mask(causal=True, padding=self.slot[:end] >= self.missing)

    def write(self, kept: Tensor, new: Tensor) -> Tensor:
        """Write ``new`` ``(B, H, T, C)`` into ``kept`` ``(B, H, S, C)``; returns the part that is filled."""
        end = self._length + new.shape[2]
        kept[:, :, self._length : end] = new
        return kept[:, :, :end]

    def advance(self, count: int) -> None:
        """All layers hold ``count`` more tokens."""
        self._length += count

    def reorder(self, rows: Tensor) -> None:
        """Put text ``rows[b]`` in the place of text ``b``: for beam search, or to leave out texts that have ended.

        Args:
            rows: int64, of any length; the batch has that many texts afterwards.
        """
        for layer in self.layers:
            layer.keys, layer.values = (self._moved(kept, rows) for kept in (layer.keys, layer.values))
        if self.missing is not None:
            self.missing = self.missing[rows]

    def copy(self, rows: Tensor, sources: Tensor) -> None:
        """Put text ``sources[i]`` in the place of text ``rows[i]``, int64: beams of which most stay where they are.

        Padding stays too, so both texts must have the same.
        """
        length = self.length
        for layer in self.layers:
            for kept in (layer.keys, layer.values):
                kept[rows, :, :length] = kept[sources, :, :length]

    def keep_memory(self, rows: Tensor) -> None:
        """Go on with the memories of these contexts only, int64."""
        for layer in self.layers:
            assert layer.memory is not None
            keys, values = layer.memory
            layer.memory = keys[rows], values[rows]

    def _moved(self, kept: Tensor, rows: Tensor) -> Tensor:
        """Rows of ``kept`` ``(B, H, S, C)``; only what is filled is copied."""
        filled = kept[:, :, : self.length]
        moved = kept if len(rows) == len(kept) else kept.new_zeros(len(rows), *kept.shape[1:])
        moved[:, :, : self.length] = filled[rows]
        return moved

    def reset(self) -> None:
        """Forget all texts; what is allocated stays where it is."""
        self._length, self.missing = 0, None

    def tensors(self) -> list[Tensor]:
        """Everything that a step writes into."""
        return [kept for layer in self.layers for kept in (layer.keys, layer.values)]


class StaticKVCache(KVCache):
    """A cache for compiled steps and CUDA graphs: a single token is written and attends in shapes that never change.

    The position is a tensor, and a step attends to all slots, those not yet filled masked.
    """

    def __init__(
        self,
        *,
        layers: int,
        batch: int,
        heads: int,
        channels: int,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(
            layers=layers, batch=batch, heads=heads, channels=channels, slots=slots, dtype=dtype, device=device
        )
        self.at = torch.zeros(1, dtype=torch.int64, device=device)

    def begin(self, count: int, padding: Tensor | None = None) -> tuple[Tensor, Mask]:
        """As for :class:`KVCache`; whoever decodes makes sure that single tokens have room."""
        if count > 1:
            self._length = int(self.at)
            return super().begin(count, padding)
        if padding is not None:
            self.missing = (~padding).sum(1, keepdim=True)
        if self.missing is None:
            return self.at, Mask(causal=True, start=self.at)
        return self.at - self.missing, Mask(causal=True, start=self.at, padding=self.slot >= self.missing)

    def write(self, kept: Tensor, new: Tensor) -> Tensor:
        """As for :class:`KVCache`; a single token gets all slots back."""
        if new.shape[2] > 1:
            return super().write(kept, new)
        return kept.index_copy_(2, self.at, new)

    def advance(self, count: int) -> None:
        """As for :class:`KVCache`, but nothing that a compiled step would have to read as a number."""
        self.at.add_(count)

    @property
    def length(self) -> int:
        """Tokens held, padding included; waits for the device."""
        return int(self.at)

    def reset(self) -> None:
        """As for :class:`KVCache`."""
        super().reset()
        self.at.zero_()

    def tensors(self) -> list[Tensor]:
        """As for :class:`KVCache`, with the position."""
        return [*super().tensors(), self.at]
