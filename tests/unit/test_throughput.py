"""The throughput line: what is counted, that counting changes nothing, and how it is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from zoo.clip.loss import encode_in_chunks
from zoo.shared.data.datamodule import KeyedDataModule
from zoo.shared.machine import matmul_rate
from zoo.shared.runs import throughput
from zoo.shared.runs.progress import describe, progress_bar
from zoo.shared.runs.throughput import Throughput
from zoo.shared.runs.update_ratio import UpdateRatio, sampled

BATCH, WIDTH = 8, 16
ONE = 2 * BATCH * WIDTH * WIDTH  # FLOPs of one layer's forward pass
PEAK = 1e9
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:Total length of `list`"
)


class Rows:
    def __len__(self) -> int:
        return 64

    def id(self, index: int) -> str:
        return str(index)

    def read(self, index: int, rng: Any) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(rng.random(WIDTH)).float()}


class Data(KeyedDataModule):
    def __init__(self) -> None:
        super().__init__(batch_size=BATCH, workers=0, seed=0, max_bad_fraction=0.0)

    def open(self) -> Any:
        return Rows(), None


class Task(L.LightningModule):
    """Two layers with dropout; ``how`` says how the batch goes through them."""

    def __init__(self, how: str = "plain") -> None:
        super().__init__()
        self.how = how
        self.one, self.two = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.automatic_optimization = how != "manual"
        if how == "compiled":
            self.one.compile()

    def run(self, x: Tensor) -> Tensor:
        return self.two(nn.functional.dropout(self.one(x).tanh(), 0.1))

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor | None:
        x = batch["x"]
        if self.how == "manual":
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.run(x).square().mean())
                optimizer.step()
            return None
        return (encode_in_chunks(self.run, x, 4) if self.how == "chunks" else self.run(x)).square().mean()

    def validation_step(self, batch: dict[str, Tensor], number: int) -> None:
        """Nothing is held out."""

    def configure_optimizers(self) -> Any:
        if self.how == "manual":
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.one, self.two)]
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def fit(how: str, *callbacks: L.Callback, steps: int = 3, resume: Path | None = None) -> tuple[Task, L.Trainer]:
    torch.manual_seed(1)
    task = Task(how)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=2 * steps if how == "manual" else steps, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=2,
        use_distributed_sampler=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(task, Data(), ckpt_path=resume, weights_only=True if resume else None)
    return task, trainer


@pytest.fixture(autouse=True)
def _known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "measured_peak", lambda dtype, device: PEAK)


# What the compiler says of the machine's tools (distutils, slow probes of the instruction set) is not ours,
# and what another process left in its shared cache must not matter.
COMPILED = pytest.param("compiled", marks=pytest.mark.filterwarnings("ignore"))


@pytest.mark.parametrize("how", ["plain", "manual", "chunks", COMPILED])
def test_flops_of_a_step_are_counted_and_nothing_changes(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    counter = Throughput()
    task, trainer = fit(how, counter, UpdateRatio())
    passes = 2 if how == "manual" else 1
    assert counter.ideal * PEAK == pytest.approx(3 * 3 * passes * 2 * ONE)
    plain, _ = fit(how)
    assert all(torch.equal(a, b) for a, b in zip(task.parameters(), plain.parameters(), strict=True))
    metrics = trainer.callback_metrics
    assert metrics["time/mfu"] > 0
    assert metrics["time/peak_memory_gb"] > 0.05
    assert counter.samples == 3 * BATCH
    assert 1e-4 < float(metrics["train/update_ratio"]) < 0.5


def test_a_resumed_run_neither_loses_nor_doubles(tmp_path: Path) -> None:
    first = Throughput()
    _, trainer = fit("plain", first, steps=3)
    trainer.save_checkpoint(tmp_path / "3.ckpt")
    second = Throughput()
    fit("plain", second, steps=5, resume=tmp_path / "3.ckpt")
    assert second.samples == 5 * BATCH
    assert second.ideal == pytest.approx(first.ideal * 5 / 3)
    assert second.seconds > first.seconds


def test_the_update_ratio_of_a_known_step() -> None:
    weight = torch.arange(1, 10_001, dtype=torch.float32).reshape(100, 100)
    assert len(sampled(weight)) == 3334
    assert sampled(weight)[:3].tolist() == [1, 4, 7]
    assert len(sampled(weight[:5])) == 500


def test_measuring_the_machine_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    assert matmul_rate(torch.float32, repeats=1) > 1e8
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("width", [80, 100])
def test_the_bar_fits_on_a_line(width: int) -> None:
    metrics = {
        "train/loss": torch.tensor(4.5678),
        "time/samples_per_second": torch.tensor(12345.6),
        "time/mfu": torch.tensor(0.41),
        "time/data_wait": torch.tensor(0.013),
        "time/peak_memory_gb": torch.tensor(71.2),
    }
    note = describe(metrics, 2.0)
    assert note == "loss 4.568  12,346 samples/s  mfu 41%  wait 1%  71.2 GB"
    assert describe({}, 2.0) == "2.00 steps/s"
    assert len(f"step 12000/100000  {note}  10:02:03 left") <= 100
    out = io.StringIO()
    bar = progress_bar(Console(file=out, width=width, force_terminal=True, color_system=None))
    bar.add_task("", total=100_000, completed=12_000, note=note)
    bar.console.print(bar)
    shown = [line for line in out.getvalue().splitlines() if line.strip()]
    assert len(shown) == 1
    assert note in shown[0]
