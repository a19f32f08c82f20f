"""A decoding step, plain or through ``torch.compile``.

Shapes: B texts, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from zoo.shared.transformer.cache import KVCache
from zoo.whisper.model import Decoder

Step = Callable[[Decoder, Tensor, KVCache], Tensor]
# Compiled steps of a decoder, by backend and shape. A CUDA graph works on the very memory that it was recorded with, so
# the cache is kept with it.
_steps: WeakKeyDictionary[Decoder, dict[Any, tuple[Step, KVCache]]] = WeakKeyDictionary()


def plain_step(decoder: Decoder, tokens: Tensor, cache: KVCache) -> Tensor:
    """Logits ``(B, V)`` in float32 after ``tokens`` ``(B, 1)``."""
    return decoder.logits(decoder.hidden(tokens, cache=cache)[:, -1]).float()


def compiled_step(decoder: Decoder, cache: KVCache, *, backend: str, slots: int) -> tuple[Step, KVCache]:
    """A compiled :func:`plain_step`, once for each shape, and the cache to use.

    Args:
        decoder: The decoder.
        cache: A static one, empty but for what was heard; an earlier one of its shape is used instead, and told that.
        backend: Of ``torch.compile``.
        slots: Of the cache.
    """
    kept = _steps.setdefault(decoder, {})
    layer = cache.layers[0]
    assert layer.memory is not None
    keys, memory = layer.keys, layer.memory[0]
    key = (backend, slots, keys.shape, memory.shape, keys.dtype, memory.dtype, keys.device)
    if key not in kept:
        kept[key] = (_compile(backend, cache), cache)
    step, own = kept[key]
    if own is not cache:
        for mine, heard in zip(own.layers, cache.layers, strict=True):
            assert mine.memory is not None
            assert heard.memory is not None
            for target, source in zip(mine.memory, heard.memory, strict=True):
                target.copy_(source)
        own.reset()
    return step, own


def _compile(backend: str, cache: KVCache) -> Step:
    # Dynamo counts recompilations by code object and gives up after a few: each shape gets one of its own.
    code = plain_step.__code__.replace()
    own = FunctionType(code, plain_step.__globals__, plain_step.__name__, None, plain_step.__closure__)
    if backend != "inductor" or cache.layers[0].keys.device.type != "cuda":
        return torch.compile(own, backend=backend, dynamic=False)
    from torch._dynamo import mark_static_address

    heard = [part for layer in cache.layers if layer.memory is not None for part in layer.memory]
    for tensor in [*cache.tensors(), *heard]:  # a graph may use only memory that stays where it is
        mark_static_address(tensor)
    graph = torch.compile(own, mode="reduce-overhead", dynamic=False)

    def replay(decoder: Decoder, tokens: Tensor, cache: KVCache) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return graph(decoder, tokens, cache)

    return replay
