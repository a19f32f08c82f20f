"""Tensor parallelism (Shoeybi et al. 2019, arXiv:1909.08053) for anything that is built from the core's blocks.

Every device computes some of the heads and some of the hidden units of each block. Two sums over the devices in the
forward pass, after the attention and after the feed-forward part, make the stream between blocks whole again.

Shapes: B batch, Q queries, K keys, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from zoo.shared.errors import UserError
from zoo.shared.transformer.attention import Attention, FusedProjection, SplitProjection
from zoo.shared.transformer.block import Block
from zoo.shared.transformer.parts import MLP
from zoo.shared.transformer.wrap import towers_without_blocks

_REMEDY = "use --trainer.strategy fsdp"
_PARTS = ("query", "key", "value")


class DividedProjection(SplitProjection):
    """What :func:`parallelize` puts in the place of a :class:`FusedProjection`."""


def split_projection(fused: FusedProjection) -> DividedProjection:
    """A :class:`FusedProjection` as three matrices: half of the rows of the fused one are not half of the heads."""
    has_bias = fused.bias is not None
    with torch.device("meta"):
        split = DividedProjection(fused.in_features, bias=has_bias, key_bias=has_bias)
    for index, part in enumerate(_PARTS):
        for name, parameter in fused.named_parameters():
            third = parameter.detach().chunk(3)[index].clone()
            setattr(getattr(split, part), name, nn.Parameter(third, requires_grad=parameter.requires_grad))
    return split


def fuse_projections(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Whole weights of a model that :func:`parallelize` has changed, under the names it had before."""
    divided = {name for name, module in model.named_modules() if isinstance(module, DividedProjection)}
    fused: dict[str, Tensor] = {}
    for name, weight in weights.items():
        owner, _, leaf = name.rpartition(".")
        place, _, part = owner.rpartition(".")
        if place not in divided:
            fused[name] = weight
        elif part == _PARTS[0]:
            fused[f"{place}.{leaf}"] = torch.cat([weights[f"{place}.{p}.{leaf}"] for p in _PARTS])
    return fused


def parallelize(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divide each block of ``model`` over the devices of ``mesh``, in place. All of them must hold the same weights.

    What is not divided (embeddings, norms, the stream between blocks) is computed by all devices alike, so they must
    draw the same random numbers for it. They do: they start from one seed, and draw for tensors of the same shapes.
    Dropout on attention probabilities drops the same entries of the heads of each device.

    Args:
        model: Built from :class:`Block`; its projections to queries, keys and values become three matrices.
        mesh: One-dimensional.

    Raises:
        UserError: Something cannot be divided.
    """
    others = towers_without_blocks(model)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    if others or not blocks:
        what = type(others[0] if others else model).__name__
        raise UserError(f"tensor parallelism divides transformer blocks, and {what} has none; {_REMEDY}")
    for block in blocks:  # all of them are looked at before one is changed
        _check(block, mesh.size())
    for block in blocks:
        _parallelize_block(block, mesh)


def _check(block: Block, devices: int) -> None:
    attention, cross, mlp = block.attention, block.cross, block.mlp
    projections = (FusedProjection, SplitProjection)
    if not isinstance(attention, Attention) or not isinstance(attention.project, projections):
        raise UserError(f"tensor parallelism cannot divide the attention of this model; {_REMEDY}")
    if not isinstance(mlp, MLP):
        raise UserError(f"tensor parallelism cannot divide a feed-forward part {type(mlp).__name__}; {_REMEDY}")
    numbers = [(attention.heads, "attention heads"), (mlp.up.out_features, "hidden units")]
    numbers += [] if cross is None else [(cross.heads, "attention heads")]
    for number, name in numbers:
        if number % devices:
            raise UserError(
                f"{number} {name} cannot be divided over {devices} devices; "
                f"choose --trainer.devices that divides {number}, or {_REMEDY}"
            )


def _parallelize_block(block: Block, mesh: DeviceMesh) -> None:
    attention, cross = block.attention, block.cross
    assert isinstance(attention, Attention)
    if isinstance(attention.project, FusedProjection):
        attention.project = split_projection(attention.project)
    attention.heads //= mesh.size()

    def replicated(module: nn.Module, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        # Here and not in each of the three, so that the backward pass sums over the devices once.
        return tuple(x if x is None else DTensor.from_local(x, mesh, [Replicate()], run_check=False) for x in inputs)

    attention.project.register_forward_pre_hook(replicated)
    plan: dict[str, ParallelStyle] = {f"attention.project.{part}": ColwiseParallel() for part in _PARTS}
    plan |= {"attention.out": RowwiseParallel(), "mlp.up": ColwiseParallel(), "mlp.down": RowwiseParallel()}
    if cross is not None:
        cross.heads //= mesh.size()
        plan |= {f"cross.{part}": ColwiseParallel() for part in _PARTS} | {"cross.out": RowwiseParallel()}
    parallelize_module(block, mesh, plan)
