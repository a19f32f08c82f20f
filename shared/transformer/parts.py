"""Small parts that blocks are built from."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation that OpenAI's CLIP was trained with.

    Written as ``silu(1.702 x) / 1.702``, which keeps one tensor for the backward pass instead of two.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply elementwise to any shape."""
        return F.silu(1.702 * x).mul_(1 / 1.702)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "quick_gelu": QuickGELU,
}


def activation(name: str) -> nn.Module:
    """Build the activation called ``name``.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, *, act: nn.Module) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.act = act
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``."""
        return self.down(self.act(self.up(x)))


class StochasticDepth(nn.Module):
    """Drops a whole residual branch per sample (Huang et al. 2016) and rescales the ones kept.

    Args:
        rate: Probability that a sample's branch is dropped while training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"stochastic depth rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map a branch's output ``(B, ...)`` to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) < keep
        return x * kept.to(x.dtype) / keep
