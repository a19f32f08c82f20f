"""Parameter groups and the optimiser that all families use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.distributed.tensor import DTensor


def decays_matrices(name: str, parameter: nn.Parameter) -> bool:
    """Decay matrices and kernels; leave gains, biases and scalars alone (CLIP Section 2.5, GPT-1 Section 4.1)."""
    return parameter.dim() > 1


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    *,
    decays: Callable[[str, nn.Parameter], bool] = decays_matrices,
) -> list[dict[str, object]]:
    """Split trainable parameters into a decayed and an undecayed group.

    Args:
        named: Names and parameters, as from ``model.named_parameters()``.
        weight_decay: Decay of the first group.
        decays: Says whether a parameter decays; papers differ.

    Returns:
        The non-empty groups, for any torch optimiser. Sharded parameters are split further, because one fused or
        foreach kernel takes tensors of one device mesh only.
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    sharded = any(isinstance(parameter, DTensor) for _, parameter in trained)
    split: dict[tuple[bool, object], list[nn.Parameter]] = {}
    for name, parameter in trained:
        key = (decays(name, parameter), _layout(parameter) if sharded else None)
        split.setdefault(key, []).append(parameter)
    return [
        {"params": split[key], "weight_decay": weight_decay if key[0] else 0.0}
        for key in sorted(split, key=lambda key: not key[0])
    ]


def _layout(parameter: nn.Parameter) -> object:
    """Equal for parameters on one mesh, and such that it divides a model alike on any number of processes."""
    mesh = parameter.device_mesh.mesh_dim_names if isinstance(parameter, DTensor) else None
    return "tensor_parallel" in (mesh or ()), parameter.dim() == 0


def adamw(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """AdamW over :func:`parameter_groups` of a model; one fused kernel updates all tensors."""
    groups = parameter_groups(model.named_parameters(), weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
    # A fused step offers to unscale float16 gradients itself, whereupon Lightning refuses to clip, in bfloat16 too.
    # Without the offer the scaler does it.
    optimizer._step_supports_amp_scaling = False
    return optimizer
