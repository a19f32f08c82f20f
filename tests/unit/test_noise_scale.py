"""The gradient noise scale: right against per-example gradients, and no effect on the training."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import zoo
from zoo.shared.data.datamodule import KeyedDataModule
from zoo.shared.errors import UserError
from zoo.shared.optim.noise_scale import GradientNoiseScale, NoiseAverages, unbiased

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:Total length of `list`"
)
SAMPLES, WIDTH, BATCH = 16384, 6, 8
SMALL = {"model": {"dropout": 0.1}, "data": {"batch_size": 6}, "report": False, "audit": False, "checkpoint_every": 4}


class Population:
    """Inputs and noisy targets; every sample is a function of its number."""

    def __init__(self) -> None:
        own = torch.Generator().manual_seed(5)
        self.x = torch.randn(SAMPLES, WIDTH, generator=own)
        self.y = self.x.sum(1, keepdim=True).sin() + 1.5 + 0.7 * torch.randn(SAMPLES, 1, generator=own)

    def __len__(self) -> int:
        return SAMPLES

    def id(self, index: int) -> str:
        return str(index)

    def read(self, index: int, rng: Any) -> dict[str, Tensor]:
        return {"x": self.x[index], "y": self.y[index]}


class Data(KeyedDataModule):
    def __init__(self) -> None:
        super().__init__(batch_size=BATCH, workers=0, seed=0, max_bad_fraction=0.0)

    def open(self) -> Any:
        return Population(), None


class Task(L.LightningModule):
    """A tiny regression that stays where it is: its rate is 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 1))

    def validation_step(self, batch: dict[str, Tensor], number: int) -> None:
        """Nothing is held out."""

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        return (self.net(batch["x"]) - batch["y"]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def brute_force(task: Task) -> tuple[float, float]:
    """|G|^2 and tr(Sigma) from the gradient of every sample by itself."""
    parameters, data = dict(task.net.named_parameters()), Population()

    def loss(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return (functional_call(task.net, p, (x,)) - y).square().mean()

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, data.x, data.y)
    each = torch.cat([g.flatten(1) for g in found.values()], dim=1).double()
    each = each.detach()
    return float(each.mean(0).square().sum()), float(each.var(0).sum())


@pytest.mark.parametrize("window", [1, 4])
def test_against_the_gradients_of_single_samples(window: int, tmp_path: Path) -> None:
    callback, task = GradientNoiseScale(every=1, decay=0.999), Task()
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=256 * window, accumulate_grad_batches=window, accelerator="cpu", logger=False,
        callbacks=[callback], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, Data())
    squared, trace = brute_force(task)
    averages, seen = callback.averages, 1 - 0.999**callback.averages.count
    print(averages.trace / seen / trace, averages.squared / seen / squared)
    assert averages.count == 256
    assert averages.trace / seen == pytest.approx(trace, rel=0.1)
    assert averages.squared / seen == pytest.approx(squared, rel=0.15)
    assert averages.noise_scale == pytest.approx(trace / squared, rel=0.2)
    assert float(trainer.callback_metrics["train/noise_scale"]) == pytest.approx(trace / squared, rel=0.2)


def test_the_estimators_are_unbiased() -> None:
    """Gradients drawn around a known mean: the estimates' means are |G|^2 and tr(Sigma)."""
    own, mean = torch.Generator().manual_seed(0), torch.tensor([0.3, -0.4, 0.0])
    spread, draws = torch.tensor([1.0, 2.0, 0.5]), 40_000
    each = mean + spread * torch.randn(draws, 6, 3, generator=own)
    small, big = each[:, :2].mean(1).square().sum(1), each.mean(1).square().sum(1)
    pairs = [unbiased(small=float(s), big=float(b), small_batch=2, big_batch=6)
             for s, b in zip(small, big, strict=True)]  # fmt: skip
    squared, trace = torch.tensor(pairs).double().mean(0).tolist()
    assert squared == pytest.approx(0.25, abs=0.02)
    assert trace == pytest.approx(5.25, abs=0.1)
    assert min(p[0] for p in pairs) < 0  # an estimate may be; their average is what counts


def test_averages() -> None:
    averages = NoiseAverages(0.9)
    assert averages.noise_scale is None
    averages.add(-1.0, 3.0)
    assert averages.noise_scale is None
    averages = NoiseAverages(0.5)
    averages.add(1.0, 3.0)
    assert averages.noise_scale == pytest.approx(3.0)
    averages.add(3.0, 3.0)
    assert averages.noise_scale == pytest.approx((0.25 * 3 + 0.5 * 3) / (0.25 * 1 + 0.5 * 3))
    with pytest.raises(ValueError, match="two sizes"):
        unbiased(small=1.0, big=1.0, small_batch=4, big_batch=4)
    with pytest.raises(UserError, match="at least 1"):
        GradientNoiseScale(every=0)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "weights" / "model.safetensors")


def logged(folder: Path, name: str) -> list[str]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row[name] for row in csv.DictReader(file) if row.get(name)]


@pytest.mark.parametrize("window", [1, 2])
def test_a_run_has_the_same_weights_with_and_without_it(window: int, tmp_path: Path) -> None:
    """With dropout, whose random numbers an extra pass must not use up; 7 windows make uneven halves."""
    settings = SMALL | {
        "trainer": {"max_steps": 8, "accumulate_grad_batches": window, "log_every_n_steps": 1},
        "data": {"batch_size": 7 if window == 1 else 6},
    }
    plain, measured = tmp_path / "plain", tmp_path / "measured"
    zoo.train("gpt", "smoke", out=plain, **settings)
    result = zoo.train("gpt", "smoke", out=measured, callbacks=[GradientNoiseScale(every=2, decay=0.5)], **settings)
    assert all(torch.equal(weights(plain)[k], v) for k, v in weights(measured).items())
    assert logged(plain, "train/loss") == logged(measured, "train/loss")
    assert result.metrics["logged"]["train/noise_scale"] > 0
    assert len(logged(measured, "train/noise_scale")) >= 2


def test_a_resumed_run_goes_on_with_the_averages(tmp_path: Path) -> None:
    settings = SMALL | {"task": {"schedule": "constant"}}

    def run(out: Path, steps: int, **more: Any) -> dict[str, Any]:
        callback = GradientNoiseScale(every=1, decay=0.9)
        trainer = {"max_steps": steps, "log_every_n_steps": 1}
        if more:
            zoo.train("gpt", callbacks=[callback], trainer=trainer, **more)
        else:
            zoo.train("gpt", "smoke", out=out, callbacks=[callback], trainer=trainer, **settings)
        return callback.state_dict()

    whole = run(tmp_path / "whole", 8)
    run(tmp_path / "parts", 4)
    assert run(tmp_path / "parts", 8, resume=tmp_path / "parts") == whole
    assert whole["count"] == 8


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 2 samples"):
        zoo.train("gpt", "smoke", out=tmp_path / "run", callbacks=[GradientNoiseScale(every=1)],
                  **SMALL | {"data": {"batch_size": 1}, "trainer": {"max_steps": 1}})  # fmt: skip


SCRIPT = """
import sys, zoo
from zoo.shared.optim.noise_scale import GradientNoiseScale
callbacks = [GradientNoiseScale(every=1, decay=0.9)] if sys.argv[2] == "yes" else []
zoo.train("gpt", "smoke", out=sys.argv[1], callbacks=callbacks, report=False, audit=False, data={"batch_size": 12},
          trainer={"max_steps": 6, "accumulate_grad_batches": 2, "strategy": "ddp", "accelerator": "cpu",
                   "log_every_n_steps": 1})
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """The shares of processes: the same weights as without, and a noise scale like that of one process."""
    (tmp_path / "script.py").write_text(SCRIPT)
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name in ("no", "yes"):
        words = [*launcher, str(tmp_path / "script.py"), str(tmp_path / name), name]
        subprocess.run(words, env=environment, check=True, capture_output=True, timeout=300)
    assert all(torch.equal(weights(tmp_path / "no")[k], v) for k, v in weights(tmp_path / "yes").items())
    alone = zoo.train("gpt", "smoke", out=tmp_path / "alone", callbacks=[GradientNoiseScale(every=1, decay=0.9)],
                      report=False, audit=False, data={"batch_size": 24},
                      trainer={"max_steps": 6, "accelerator": "cpu", "log_every_n_steps": 1})  # fmt: skip
    found = [float(logged(tmp_path / "yes", "train/noise_scale")[-1]), alone.metrics["logged"]["train/noise_scale"]]
    assert found[0] == pytest.approx(found[1], rel=0.5)
