"""Sharding a model's parameters over the processes that share the data."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from zoo.shared.transformer.block import Block
from zoo.shared.transformer.wrap import units


def shard(model: nn.Module, mesh: DeviceMesh, *, precision: str) -> None:
    """Shard the parameters of ``model`` over ``mesh``, unit by unit, in place (FSDP2). All must hold the same weights.

    A model that is called by other methods than ``forward`` names them in a class attribute ``entry_points``. Scalars
    cannot be sharded and stay plain: see :func:`average_plain_gradients`.

    Args:
        model: The model; what none of its units holds is sharded as one more unit.
        mesh: One-dimensional, the processes with different data.
        precision: Lightning's name. On a GPU, ``bf16-mixed`` gathers the blocks in bfloat16 and keeps the shards as
            they are; gradients are summed in float32 at least.
    """
    model.to(memory_format=torch.contiguous_format)  # no other layout can be sharded
    scalars = {parameter for parameter in model.parameters() if parameter.dim() == 0}
    # Autocast of a processor does not mix a float32 stream with a bfloat16 LayerNorm.
    half = torch.bfloat16 if precision == "bf16-mixed" and mesh.device_type != "cpu" else None
    summed = torch.float32 if precision in ("bf16-mixed", "bf16-true", "16-true") else None
    whole = MixedPrecisionPolicy(reduce_dtype=summed, cast_forward_inputs=False)
    # Autocast chooses the precision of each operation. Embeddings, which it leaves alone, and BatchNorm, which mixes
    # precisions in its own way, keep float32.
    block = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=summed, cast_forward_inputs=False)
    for unit in units(model):
        fully_shard(unit, mesh=mesh, mp_policy=block if isinstance(unit, Block) else whole, ignored_params=scalars)
    fully_shard(model, mesh=mesh, mp_policy=whole, ignored_params=scalars)
    for name in getattr(model, "entry_points", ()):
        register_fsdp_forward_method(model, name)


def average_plain_gradients(module: nn.Module, group: dist.ProcessGroup) -> None:
    """Average the gradients of the parameters of ``module`` that are not sharded over ``group`` as they arrive."""
    size = dist.get_world_size(group)

    def average(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad, group=group)
        parameter.grad /= size

    for parameter in module.parameters():
        if parameter.requires_grad and not isinstance(parameter, DTensor):
            parameter.register_post_accumulate_grad_hook(average)
