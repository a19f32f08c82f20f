"""A decoding step through ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from zoo.shared.generation.batch import Batch
from zoo.shared.transformer.cache import KVCache

Step = Callable[[Tensor, KVCache], Tensor]
# Compiled steps of a model, by backend and shape. A CUDA graph works on the very memory that it was recorded with, so
# the cache is kept with it.
_steps: WeakKeyDictionary[Any, dict[Any, tuple[Callable[..., Tensor], KVCache]]] = WeakKeyDictionary()


def compiled_step(batch: Batch, cache: KVCache) -> tuple[Step, KVCache]:
    """A function ``(tokens (B, 1), cache) -> logits (B, V)``, compiled once for each shape, and the cache to use.

    Args:
        batch: What is generated.
        cache: An empty cache of the shape that is needed; an earlier one of the same shape is used instead.
    """
    kept = _steps.setdefault(batch.model, {})
    layer = cache.layers[0].keys
    key = (batch.options.compile, batch.vocab_size, len(batch.prompts), cache.slots, layer.dtype, layer.device)
    if key not in kept:
        kept[key] = (_compile(str(batch.options.compile), batch.vocab_size, cache), cache)
    run, cache = kept[key]
    cache.reset()
    return partial(run, batch.model), cache


def _compile(backend: str, size: int | None, cache: KVCache) -> Callable[..., Tensor]:
    def step(model: Any, tokens: Tensor, cache: KVCache) -> Tensor:
        logits: Tensor = model.next_logits(tokens, cache)
        return logits[:, :size]

    # Dynamo counts recompilations by code object and gives up after a few: each shape gets one of its own.
    own = FunctionType(step.__code__.replace(), step.__globals__, step.__name__, None, step.__closure__)
    if backend != "inductor" or cache.layers[0].keys.device.type != "cuda":
        return torch.compile(own, backend=backend, dynamic=False)
    from torch._dynamo import mark_static_address

    for tensor in cache.tensors():  # a graph may write only into memory that stays where it is
        mark_static_address(tensor)
    graph = torch.compile(own, mode="reduce-overhead", dynamic=False)

    def replay(model: Any, tokens: Tensor, cache: KVCache) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return graph(model, tokens, cache)

    return replay
