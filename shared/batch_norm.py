"""Batch normalisation over the batches of all processes, on processors too, where PyTorch's refuses."""

from __future__ import annotations

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import Tensor, nn

from zoo.shared.distributed import total, world_size


class SyncedBatchNorm(TorchSyncBatchNorm):
    """Lightning's plugin behind ``--trainer.sync_batchnorm true``, with layers that run on processors as well."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Exchange the layers of ``model``, keeping their parameters and statistics."""
        model = super().apply(model)
        for module in model.modules():
            if type(module) is nn.SyncBatchNorm:
                module.__class__ = AnywhereSyncBatchNorm
        return model


class AnywhereSyncBatchNorm(nn.SyncBatchNorm):
    """PyTorch's layer on accelerators; on a processor the same by two sums over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, ...)`` by mean and variance of all processes' batches.

        Args:
            x: This process's part, of the same shape as the others'.
        """
        if x.device.type != "cpu" or not self.training or world_size() == 1:
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.numel() // x.shape[1] * world_size()
        mean = total(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = total(centred.square().sum(axes)) / count
        self._update_statistics(mean, variance * count / max(1, count - 1))
        out = centred * (variance + self.eps).rsqrt().view(shape)
        return out if self.weight is None else out * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)
