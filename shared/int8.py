"""Matrices in int8 for decoding on a CPU, where reading the weights is what a token costs.

Weights are rounded once, by one scale for each output channel; states are rounded as they come, by one scale for each
token (Dettmers et al. 2022, arXiv:2208.07339, Section 2.1: vector-wise). Sums are exact, in int32. Embeddings, norms
and attention stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.shared.transformer.attention import FusedProjection, SplitProjection

_LARGEST = 127
_TINY = 1e-30  # a row of zeros has a scale too
_CACHED, _LEAST_ROWS = 1 << 18, 32  # numbers that a core's cache holds; rows that are worth a call


class Int8Linear(nn.Module):
    """``nn.Linear`` with an int8 matrix, for inference in float32 on a CPU.

    Args:
        linear: The layer whose place it takes.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        rounded, step = round_rows(weight)
        self.weight = nn.Buffer(rounded)
        self.scale = nn.Buffer(step[:, 0])
        self.bias = None if linear.bias is None else nn.Buffer(linear.bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) == 1 and not torch.compiler.is_compiling():
            return self._one(rows).view(*x.shape[:-1], -1)
        # Many rows at a time would leave the core's cache between one step of rounding and the next.
        count = max(_LEAST_ROWS, _CACHED // max(self.weight.shape))
        if len(rows) <= count:
            return self._some(rows).view(*x.shape[:-1], -1)
        out = rows.new_empty(len(rows), len(self.weight))
        for first in range(0, len(rows), count):
            self._some(rows[first : first + count], out[first : first + count])
        return out.view(*x.shape[:-1], -1)

    def _some(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        rounded, step = round_rows(rows)
        # Whole numbers become floats first: a product of mixed types is not vectorised.
        sums = torch._int_mm(rounded, self.weight.t())
        sums = (sums.float() if out is None else out.copy_(sums)).mul_(self.scale)
        return sums.mul_(step) if self.bias is None else torch.addcmul(self.bias, sums, step, out=sums)

    def _one(self, row: Tensor) -> Tensor:
        """The same with a single scale for the states, a number: half the calls, which are what a token costs."""
        step = max(float(row.abs().amax()), _TINY) / _LARGEST
        sums = torch._int_mm((row / step).round_().to(torch.int8), self.weight.t())
        if self.bias is None:
            return sums.float().mul_(self.scale).mul_(step)
        return torch.addcmul(self.bias, sums, self.scale, value=step)


def round_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of ``rows`` ``(N, D)`` to 8 bits.

    Returns:
        int8 ``(N, D)``, and what a step of each row stands for, ``(N, 1)``.
    """
    step = rows.abs().amax(1, keepdim=True).clamp_min_(_TINY).div_(_LARGEST)
    return (rows / step).round_().to(torch.int8), step


class Int8FusedProjection(Int8Linear):
    """:class:`~zoo.shared.transformer.FusedProjection` of self-attention with an int8 matrix."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Project ``x`` ``(B, T, D)`` to queries, keys and values."""
        assert context is None, "only self-attention has int8 projections"
        q, k, v = super().forward(x).chunk(3, dim=-1)
        return q, k, v


def fused(split: SplitProjection) -> FusedProjection:
    """Three matrices as one, which costs fewer calls."""
    parts = [split.query, split.key, split.value]
    width = split.query.in_features
    with torch.device("meta"):
        joined = FusedProjection(width, bias=split.query.bias is not None)
    joined.weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
    if joined.bias is not None:
        biases: list[Tensor] = [torch.zeros(width) if part.bias is None else part.bias for part in parts]
        joined.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return joined


_PARTS: dict[type[nn.Module], type[Int8Linear]] = {nn.Linear: Int8Linear, FusedProjection: Int8FusedProjection}


def to_int8(model: nn.Module) -> None:
    """Give a model int8 matrices in place of its linear layers, to decode with.

    Args:
        model: In ``eval()`` mode, in float32, on the CPU. One whose output shares the embedding's matrix must give the
            output a layer of its own first.

    Raises:
        ValueError: The model lies elsewhere or has another type.
    """
    some = next(model.parameters())
    if some.device.type != "cpu" or some.dtype != torch.float32:
        raise ValueError(f"int8 decoding needs a float32 model on a CPU, not {some.dtype} on {some.device}")
    for module in list(model.modules()):
        for name, part in list(module.named_children()):
            part = fused(part) if isinstance(part, SplitProjection) else part
            if isinstance(part, nn.Linear) and type(part) in _PARTS:
                setattr(module, name, _PARTS[type(part)](part))


def computes_in_bfloat16() -> bool:
    """Whether this machine's processor has instructions for bfloat16; without, the type costs time."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
