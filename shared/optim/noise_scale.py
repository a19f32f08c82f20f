"""The gradient noise scale: how large a batch may be before larger ones bring little.

McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", arXiv:1812.06162, Section 2.2 and appendix A.1:
``B_simple = tr(Sigma) / |G|^2``, with ``Sigma`` the covariance of one sample's gradient and ``G`` its mean. The length
of a gradient over B samples tells both apart, ``E|G_B|^2 = |G|^2 + tr(Sigma) / B``, if it is known for two sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from zoo.shared.distributed import world_size
from zoo.shared.errors import UserError


def unbiased(*, small: float, big: float, small_batch: int, big_batch: int) -> tuple[float, float]:
    """Estimates of ``|G|^2`` and ``tr(Sigma)``, either of which may come out negative.

    Args:
        small: Mean squared length of the gradients of ``small_batch`` samples each.
        big: Squared length of the gradient of ``big_batch`` samples.
        small_batch: Samples of a small gradient.
        big_batch: Samples of the big one.

    Raises:
        ValueError: The batches are not of two sizes.
    """
    if not 0 < small_batch < big_batch:
        raise ValueError(f"two sizes are needed, the smaller one first, not {small_batch} and {big_batch}")
    squared = (big_batch * big - small_batch * small) / (big_batch - small_batch)
    trace = (small - big) / (1 / small_batch - 1 / big_batch)
    return squared, trace


class NoiseAverages:
    """Moving averages of ``|G|^2`` and ``tr(Sigma)``, each by itself: the mean of their ratios would be biased.

    Args:
        decay: Share of the old average that stays with each new estimate.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be from 0 to below 1, not {decay}")
        self.decay = decay
        self.squared = 0.0
        self.trace = 0.0
        self.count = 0

    def add(self, squared: float, trace: float) -> None:
        """Take in one more pair of estimates."""
        self.squared = self.decay * self.squared + (1 - self.decay) * squared
        self.trace = self.decay * self.trace + (1 - self.decay) * trace
        self.count += 1

    @property
    def noise_scale(self) -> float | None:
        """The ratio, in samples; None while noise hides the gradient (an average is not above zero)."""
        if not self.count or self.squared <= 0 or self.trace <= 0:
            return None
        debias = 1 - self.decay**self.count  # the same for both, and so without effect on the ratio
        return (self.trace / debias) / (self.squared / debias)


class GradientNoiseScale(Callback):
    """Logs ``train/noise_scale``: ``B_simple`` in samples. The training stays what it is, bit for bit.

    The two batch sizes are, in this order of preference: a process's share and the whole batch, with DDP (the share is
    seen just before it is averaged); one backward pass and the step, where steps are accumulated; half a batch and the
    batch, which costs a further forward and backward pass in every measured step.

    The task's loss must be a mean over samples that do not see each other: neither batch norm nor a contrastive loss.
    Micro-batches and shares count as equally large. Gradients are looked at before they are clipped.

    Args:
        every: Optimiser steps from one measurement to the next.
        decay: Of the moving averages, per measurement.
    """

    def __init__(self, every: int = 10, decay: float = 0.95) -> None:
        if every < 1:
            raise UserError(f"the gradient noise scale is measured every so many steps, at least 1, not {every}")
        self.every = every
        self.averages = NoiseAverages(decay)
        self._ranks = False  # whether the small batches are the shares of processes
        self._batch: Any = None
        self._samples = 0  # of one backward pass of this process
        self._before: list[Tensor | None] = []
        self._squares: list[float] = []  # of the small gradients of this step
        self._shares: list[Tensor] = []  # squared lengths of the parts of this process's gradient

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the small batches.

        Raises:
            UserError: Gradients are sharded, or steps have several backward passes of their own.
        """
        if not pl_module.automatic_optimization:
            raise UserError("the gradient noise scale needs one loss a step; this model has several optimisers")
        if any(isinstance(p, DTensor) for p in pl_module.parameters()):
            raise UserError("the gradient noise scale is not measured on sharded weights; use --trainer.strategy ddp")
        wrapped = trainer.strategy.model
        self._ranks = world_size() > 1 and isinstance(wrapped, DistributedDataParallel)
        if self._ranks:
            assert isinstance(wrapped, DistributedDataParallel)
            # Without annotations, which DDP compares with classes and finds to be text.
            wrapped.register_comm_hook(trainer, lambda state, bucket: self._average(state, bucket))

    def _due(self, trainer: Trainer) -> bool:
        return trainer.global_step % self.every == 0

    def _average(self, trainer: Trainer, bucket: dist.GradBucket) -> Any:
        """What DDP does with a bucket by itself, after a look at this process's part."""
        if self._due(trainer):
            self._shares.append(bucket.buffer().detach().double().square().sum())
        everybody = dist.group.WORLD
        assert everybody is not None
        return allreduce_hook(everybody, bucket)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batch, which a single process without accumulation halves."""
        self._batch, self._samples = batch, len(batch["index"])

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what this backward pass has added to the gradient."""
        if self._ranks or trainer.accumulate_grad_batches == 1 or not self._due(trainer):
            return
        now = [None if p.grad is None else p.grad.detach().clone() for p in pl_module.parameters()]
        before = self._before or [None] * len(now)
        added = [a if b is None else a - b for a, b in zip(now, before, strict=True) if a is not None]
        self._squares.append(squared_length(added))
        self._before = now

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Estimate, and log."""
        squares, shares = self._squares, self._shares
        self._squares, self._shares, self._before = [], [], []
        window, count = trainer.accumulate_grad_batches, world_size() if self._ranks else 1
        if not self._due(trainer):
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if self._ranks:
            mean = torch.stack(shares).sum() if shares else torch.zeros((), dtype=torch.float64)
            dist.all_reduce(mean)
            scale = _loss_scale(trainer)  # the share was seen before it was unscaled
            small, big = float(mean) / count / scale**2, squared_length(gradients)
            few, many = self._samples * window, self._samples * window * count
        elif window > 1:
            if len(squares) != window:  # the last step of an epoch may be a short one
                return
            scale = _loss_scale(trainer)
            small, big = window**2 * sum(squares) / window / scale**2, squared_length(gradients)
            few, many = self._samples, self._samples * window
        else:
            if self._samples < 2:
                raise UserError("the gradient noise scale halves a batch, which needs at least 2 samples")
            half = self._samples // 2
            parts = half_gradients(trainer, pl_module, self._batch, half)
            small = sum(squared_length(part) for part in parts) * 4 / 2
            big = squared_length([a + b for a, b in zip(*parts, strict=True)])
            few, many = half, 2 * half
        if math.isfinite(small) and math.isfinite(big) and gradients:
            self.averages.add(*unbiased(small=small, big=big, small_batch=few, big_batch=many))
        found = self.averages.noise_scale
        if found is not None:
            pl_module.log("train/noise_scale", found)

    def state_dict(self) -> dict[str, Any]:
        """The averages."""
        return {"squared": self.averages.squared, "trace": self.averages.trace, "count": self.averages.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from them."""
        for name, value in state_dict.items():
            setattr(self.averages, name, value)


def squared_length(gradients: Sequence[Tensor]) -> float:
    """Squared Euclidean length of tensors taken together; sums in float64."""
    if not gradients:
        return 0.0
    return float(torch.stack([g.double().square().sum() for g in gradients]).sum())


def half_gradients(trainer: Trainer, pl_module: LightningModule, batch: Any, half: int) -> list[list[Tensor]]:
    """Gradients of the loss of the first and of the second ``half`` samples of a batch; their sum is the batch's.

    Gradients that are there, the random state and the logs are left alone.
    """
    parameters = [p for p in pl_module.parameters() if p.requires_grad]
    size, found = len(batch["index"]), []
    devices = [pl_module.device] if pl_module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _silent(pl_module), torch.enable_grad():
        for rows in (slice(0, half), slice(half, 2 * half)):
            with trainer.precision_plugin.train_step_context():
                step: Any = pl_module.training_step(_rows(batch, rows, size), 0)
            loss: Tensor = step["loss"] if isinstance(step, dict) else step
            scale = _loss_scale(trainer)
            # Its share of the mean over all `size` samples, of which an odd one is left out, or a mean of its own.
            loss = loss * size / (2 * half) if _is_share_of_mean(batch) else loss / 2
            gradients = torch.autograd.grad(loss * scale, parameters, allow_unused=True)
            found.append(
                [torch.zeros_like(p) if g is None else g / scale for p, g in zip(parameters, gradients, strict=True)]
            )
    return found


def _is_share_of_mean(batch: Any) -> bool:
    """Whether the loss of a part is its share of the step's mean (:func:`zoo.shared.optim.accumulation.share_of_mean`),
    which divides by counts that the batch brings along.
    """
    return isinstance(batch, dict) and "step_counts" in batch


def _rows(value: Any, rows: slice, size: int) -> Any:
    """Some samples of a batch; counts and other values that are not one per sample stay."""
    if isinstance(value, dict):
        return {key: part if key == "step_counts" else _rows(part, rows, size) for key, part in value.items()}
    if isinstance(value, Tensor) and value.ndim and len(value) == size:
        return value[rows]
    if isinstance(value, (list, tuple)) and len(value) == size:
        return value[rows]
    return value


@contextmanager
def _silent(pl_module: LightningModule) -> Iterator[None]:
    """Let a training step log nothing."""

    def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    pl_module.log = pl_module.log_dict = nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__delattr__(pl_module, "log")
        nn.Module.__delattr__(pl_module, "log_dict")


def _loss_scale(trainer: Trainer) -> float:
    """What float16 losses are multiplied by; 1 in other precisions."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None else 1.0
