"""Which parts of a model are sharded, gathered and compiled one at a time."""

from __future__ import annotations

from torch import nn

from zoo.shared.transformer.block import Block


def towers_without_blocks(model: nn.Module) -> list[nn.Module]:
    """Children of ``model`` that are built of modules, but of no :class:`Block`: convolutional towers, for example."""
    return [
        child
        for child in model.children()
        if any(True for _ in child.children())
        and any(True for _ in child.parameters())
        and not any(isinstance(module, Block) for module in child.modules())
    ]


def units(model: nn.Module) -> list[nn.Module]:
    """The wrap policy: each block, and each tower that has none, in the order of the model.

    What is left (embeddings, final norms, projections) belongs to the model as a whole.
    """
    chosen = {module for module in model.modules() if isinstance(module, Block)} | set(towers_without_blocks(model))
    return [module for module in model.modules() if module in chosen]


def compile_units(model: nn.Module, *, lengths_vary: bool = True) -> None:
    """Compile each unit where it is; names of weights stay, and nothing happens before the unit is first called.

    Args:
        model: The model.
        lengths_vary: Compile once for all lengths of text, and not for each; tensor parallelism cannot.
    """
    import torch._dynamo  # deferred: it takes seconds, and few runs compile

    # All blocks are one piece of code to the compiler, which by default gives up after eight kinds of calls: widths,
    # lengths of text, pooled or not, with gradients or without.
    torch._dynamo.config.recompile_limit = 64
    # A block is smaller than a bucket of gradients; cutting it at buckets fails where lengths vary.
    torch._dynamo.config.optimize_ddp = False
    for unit in units(model):
        unit.compile(dynamic=None if lengths_vary else False)
