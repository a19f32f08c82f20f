"""The strategies ``fsdp`` and ``tp``: sharded parameters and tensor parallelism, on processors (gloo) and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from zoo.shared.distributed import set_data_group
from zoo.shared.errors import UserError
from zoo.shared.optim.norms import clip_by_norm, clip_by_value
from zoo.shared.scale.folders import META, load_folder, save_folder
from zoo.shared.scale.sharding import average_plain_gradients, shard
from zoo.shared.transformer.tensor_parallel import fuse_projections, parallelize


class ShardedStrategy(ModelParallelStrategy):
    """Shards a model that is built already. The task and the data module need not know of it.

    ``fsdp`` shards parameters, gradients and optimiser state over all processes, each of which reads its part of the
    batch. ``tp`` divides the work of each block over the devices of a machine, which read the same part of the batch
    and draw the same random numbers (:func:`zoo.shared.transformer.tensor_parallel.parallelize`); over machines the
    data and the parameters are divided as by ``fsdp``.

    Args:
        kind: Which of the two.
    """

    def __init__(self, kind: Literal["fsdp", "tp"]) -> None:
        super().__init__()
        self.kind = kind

    def setup_environment(self) -> None:
        """Meet the other processes and lay them out."""
        if self.kind == "fsdp":
            self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()
        set_data_group(self.device_mesh["data_parallel"].get_group())

    def setup(self, trainer: Trainer) -> None:
        """Shard the model, then build the optimisers over what became of its parameters.

        Lightning's own asks for a ``configure_model`` hook that shards.
        """
        task = self.lightning_module
        assert task is not None
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(task)
        if self._layer_sync is not None:
            self.model = self._layer_sync.apply(self.model)
        data, tensor = self.device_mesh["data_parallel"], self.device_mesh["tensor_parallel"]
        for model in task.children():
            if not any(True for _ in model.parameters()):
                continue
            if self.kind == "tp":
                parallelize(model, tensor)
            if self.kind == "fsdp" or data.size() > 1:
                shard(model, data, precision=self.precision_plugin.precision)
        if data.size() > 1:
            average_plain_gradients(task, data.get_group())
        self.model_to_device()
        self.barrier()
        plugin: Any = self.precision_plugin  # its own functions know plain gradients only
        plugin.clip_grad_by_norm = lambda optimizer, value: clip_by_norm(plugin.main_params(optimizer), value)
        plugin.clip_grad_by_value = lambda optimizer, value: clip_by_value(plugin.main_params(optimizer), value)
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def teardown(self) -> None:
        """Leave the processes as they were before."""
        set_data_group(None)
        if self._layer_sync is not None and self.model is not None:
            self.model = self._layer_sync.revert(self.model)
        super().teardown()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Write a folder (:func:`zoo.shared.scale.folders.save_folder`)."""
        rest = dict(checkpoint) | {"strategy": self.kind}
        shards = {"state_dict": rest.pop("state_dict")}
        shards |= {f"optimizer_{index}": state for index, state in enumerate(rest.pop("optimizer_states", []))}
        save_folder(Path(self.broadcast(str(filepath))), shards, rest)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read model and optimisers from a folder; never runs code from it.

        Returns:
            Everything else that it holds.

        Raises:
            UserError: It was written by another strategy, or is damaged.
        """
        path = Path(self.broadcast(str(checkpoint_path)))
        if not path.is_dir():
            raise UserError(f"{path} was not written in shards; resume with the strategy that the run began with")
        assert self.model is not None
        kind = torch.load(path / META, weights_only=True).get("strategy")
        if kind != self.kind:
            raise UserError(f"{path} was written by {kind}; resume with the strategy that the run began with")
        shards: dict[str, Any] = {"state_dict": get_model_state_dict(self.model)}
        shards |= {f"optimizer_{i}": get_optimizer_state_dict(self.model, o) for i, o in enumerate(self.optimizers)}
        rest = load_folder(path, shards)
        set_model_state_dict(self.model, shards["state_dict"])
        for index, optimizer in enumerate(self.optimizers):
            set_optimizer_state_dict(self.model, optimizer, shards[f"optimizer_{index}"])
        return rest

    def whole_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights of a sharded model, named and shaped as before sharding. Every process must call this.

        Returns:
            Tensors on the processor; nothing on processes other than the first.
        """
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights: Any = get_model_state_dict(model, options=options)
        return fuse_projections(weights, model) if self.kind == "tp" else weights
