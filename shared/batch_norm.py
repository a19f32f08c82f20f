"""Batch normalisation over the batches of all processes, on processors too, where PyTorch's layer refuses."""

from __future__ import annotations

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from zoo.shared.distributed import data_world_size, total


class SyncedBatchNorm(TorchSyncBatchNorm):
    """Lightning's plugin behind ``--trainer.sync_batchnorm true``, for processes that talk over gloo as well."""

    def __init__(self) -> None:
        self.classes: dict[BatchNorm, type] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Exchange the layers of ``model`` for synchronised ones; parameters and statistics stay."""
        if torch.distributed.get_backend() == "nccl":
            return super().apply(model)
        for module in model.modules():
            if isinstance(module, BatchNorm):
                self.classes[module] = type(module)
                module.__class__ = GlooBatchNorm
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the layers back."""
        for module, kind in self.classes.items():
            module.__class__ = kind
        self.classes.clear()
        return super().revert(model)


class GlooBatchNorm(BatchNorm):
    """Normalises by mean and variance over all processes, which are two sums over them.

    Not a ``SyncBatchNorm``: DistributedDataParallel refuses those on a processor.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise this process's part ``(B, C, ...)``, which is as large as the others'."""
        if not self.training or data_world_size() == 1:
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.numel() // x.shape[1] * data_world_size()
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
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of axes after the channels."""
