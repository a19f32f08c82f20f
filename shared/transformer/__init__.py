"""The transformer core: blocks that receive built parts; masks and pooled rows are arguments."""

from zoo.shared.transformer.attention import (
    Attention,
    FusedProjection,
    SplitProjection,
    naive_attention,
    sdpa_attention,
)
from zoo.shared.transformer.block import Block, Transformer
from zoo.shared.transformer.cache import KVCache, LayerCache, StaticKVCache
from zoo.shared.transformer.cross_attention import CrossAttention, Memory
from zoo.shared.transformer.masks import CAUSAL, FULL, Mask
from zoo.shared.transformer.parts import MLP, QuickGELU, StochasticDepth, activation

__all__ = [
    "CAUSAL",
    "FULL",
    "MLP",
    "Attention",
    "Block",
    "CrossAttention",
    "FusedProjection",
    "KVCache",
    "LayerCache",
    "Mask",
    "Memory",
    "QuickGELU",
    "SplitProjection",
    "StaticKVCache",
    "StochasticDepth",
    "Transformer",
    "activation",
    "naive_attention",
    "sdpa_attention",
]
