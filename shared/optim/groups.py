"""Parameter groups and the optimiser that all families use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn


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
        The non-empty groups, for any torch optimiser.
    """
    split: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in named:
        if parameter.requires_grad:
            split[decays(name, parameter)].append(parameter)
    groups: list[dict[str, object]] = [
        {"params": split[True], "weight_decay": weight_decay},
        {"params": split[False], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW over :func:`parameter_groups` of a model; one fused kernel updates all tensors."""
    groups = parameter_groups(model.named_parameters(), weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)
