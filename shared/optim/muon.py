"""Muon (Jordan et al. 2024) for matrices with AdamW for the rest, as one optimiser.

The update of a matrix is its momentum with all singular values brought close to one, by five Newton-Schulz steps. It
is scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982, Section 2.2), so that one learning rate and one
decay serve both. ``torch.optim.Muon`` does the same to one matrix at a time in bfloat16; here matrices of one shape go
together, in float32 where the CPU computes, which is several times as fast there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from zoo.shared.errors import UserError
from zoo.shared.optim.groups import parameter_groups

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_RMS = 0.2  # of AdamW's updates, as measured in the paper


@torch.no_grad()
def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of ``(N, R, C)`` matrices close to one, keeping their singular vectors."""
    x = matrices if matrices.device.type == "cpu" else matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for the matrices that ``chosen`` takes, AdamW for all other parameters.

    Args:
        named: Names and parameters, as from ``model.named_parameters()``.
        chosen: Says by the name whether a matrix is Muon's: hidden ones are, embeddings and outputs are not.
        lr: Learning rate of both.
        betas: AdamW's moments.
        eps: AdamW's epsilon.
        weight_decay: Decoupled decay of matrices, of both.
        momentum: Of Muon's matrices, in Nesterov's form.

    Raises:
        UserError: The parameters are sharded.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        chosen: Callable[[str], bool],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        named = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        if any(isinstance(parameter, DTensor) for _, parameter in named):
            raise UserError(
                "muon needs whole matrices, and a sharded strategy divides them; use --task.optimizer adamw"
            )
        hidden = [parameter for name, parameter in named if parameter.dim() == 2 and chosen(name)]
        others = [(name, parameter) for name, parameter in named if parameter.dim() != 2 or not chosen(name)]
        groups: list[dict[str, Any]] = (
            [{"params": hidden, "weight_decay": weight_decay, "muon": True}] if hidden else []
        )
        groups += [{**group, "muon": False} for group in parameter_groups(others, weight_decay)]
        # By `fused` torch knows that the count of steps has to lie beside the parameters when a state is loaded.
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum, "fused": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            learnt = [parameter for parameter in group["params"] if parameter.grad is not None]
            (self._muon if group["muon"] else self._adamw)(group, learnt)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            update = gradient.lerp(state["momentum"], group["momentum"])
            rows, columns = update.shape
            update = update.mT if rows > columns else update  # up and down projections then have one shape
            alike.setdefault((update.shape[0], update.shape[1]), []).append((parameter, update))
        for (_, longer), pairs in alike.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            for (parameter, _), update in zip(pairs, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                same = update if parameter.shape == update.shape else update.mT
                parameter.add_(same, alpha=-group["lr"] * _RMS * longer**0.5)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
