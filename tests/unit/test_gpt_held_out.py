"""Held-out windows and items of a GPT: dealt out to the processes, and measured as by one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zoo.cli import main
from zoo.gpt.configs import VARIANTS
from zoo.gpt.data import GptDataModule
from zoo.gpt.finetuning.data import FinetuneDataModule
from zoo.gpt.finetuning.metrics import measure
from zoo.gpt.finetuning.report import answers
from zoo.gpt.finetuning.task import FinetuneTask
from zoo.gpt.held_out import FILLER, DealtSampler
from zoo.gpt.model import GPT
from zoo.gpt.task import GptTask

WINDOWS = [1, 5, 12, 13, 25]


@pytest.mark.parametrize("size", WINDOWS)
@pytest.mark.parametrize("processes", [1, 2, 3, 6])
def test_batch_by_batch_the_processes_read_what_one_reads(size: int, processes: int) -> None:
    def read(rank: int, world_size: int) -> list[list[int]]:
        sampler = DealtSampler(size, batch_size=6, rank=rank, world_size=world_size)
        batches = [[key.index for key in keys] for keys in sampler]
        assert len(batches) == len(sampler)
        return batches

    parts = [read(rank, processes) for rank in range(processes)]
    for number, whole in enumerate(read(0, 1)):
        dealt = [part[number] for part in parts]
        assert [index for part in dealt for index in part if index != FILLER] == whole
        assert all(part == [FILLER] or FILLER not in part for part in dealt)


@torch.no_grad()
def test_a_filler_is_a_window_that_does_not_count() -> None:
    torch.manual_seed(0)
    module = GptDataModule(VARIANTS["gpt-debug"], source="sentences", batch_size=4)
    task = GptTask(GPT(VARIANTS["gpt-debug"]))
    batch = next(iter(module.val_dataloader()))
    task.validation_step(batch, 0)
    counted = task.held_out.clone()
    assert counted[1] == 4 * VARIANTS["gpt-debug"].context
    one = {key: value[:1] for key, value in batch.items() if isinstance(value, torch.Tensor)}
    task.validation_step({**one, "index": torch.tensor([FILLER])}, 1)
    assert torch.equal(task.held_out, counted)
    first = module.readers[1].read(0, None)["tokens"]
    assert torch.equal(module.readers[1].read(FILLER, None)["tokens"], first)


@torch.no_grad()
def test_items_that_cannot_be_used_and_fillers_have_no_answer(tmp_path: Path) -> None:
    """What stands in for an item without a text counts once, in its own place."""
    table, held_out = tmp_path / "train.csv", tmp_path / "held-out.csv"
    table.write_text("text,label\n" + "the cat was bright,good\nthe dog was dull,bad\n" * 20)
    rows = [f"the {word} was {how},{label}\n" for word in ("song", "play", "voice")
            for how, label in (("warm", "good"), ("cold", "bad"))]  # fmt: skip
    held_out.write_text("text,label\n" + '"",good\n' + "".join(rows))
    config = VARIANTS["gpt-debug"]
    torch.manual_seed(0)
    data = FinetuneDataModule(
        replace(config, vocab_size=258), source=str(table), held_out_source=str(held_out), batch_size=4
    )
    data.setup()
    task = FinetuneTask(GPT(data.config)).eval()
    task.prepare(data)
    logged: dict[str, float] = {}
    task.log_dict = logged.update  # type: ignore[method-assign]
    reader = data.readers[1]
    assert reader is not None
    assert reader.filler == 1
    assert torch.equal(torch.from_numpy(reader.read(FILLER, None)["tokens"]),  # type: ignore[arg-type]
                       torch.from_numpy(reader.read(1, None)["tokens"]))  # type: ignore[arg-type]  # fmt: skip
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    batches.append({**batches[0], "index": torch.full_like(batches[0]["index"], FILLER)})
    for number, batch in enumerate(batches):
        task.validation_step(batch, number)
    assert [len(found[0]) for found in task.held_out] == [3, 3, 0]
    task.on_validation_epoch_end()
    expected = measure(*answers(task, data), scores=None)
    assert {name: logged[f"val/{name}"] for name in expected} == pytest.approx(expected)
    assert not task.held_out


def measured(run: Path, *names: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row[f"val/{name}"]) for row in rows for name in names if row["val/loss"]]


def train_on_two_processes(words: list[str], out: Path, strategy: str) -> None:
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    words = [*words, "--trainer.devices", "2", "--trainer.strategy", strategy, "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "zoo", *words],
        env={k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(180)
@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_measure_what_one_does(tmp_path: Path, strategy: str) -> None:
    """All windows, of which the last batch has too few for both."""
    torch.set_num_threads(1)
    words = ["train", "gpt", "--recipe", "smoke", "--trainer.accelerator", "cpu", "--trainer.max_steps", "4"]
    words += ["--trainer.val_check_interval", "2", "--trainer.limit_val_batches", "1.0", "--task.eps", "1e-3"]
    module = GptDataModule(VARIANTS["gpt-debug"], source="sentences")
    windows = len(module.readers[1] or [])
    batch = next(size for size in range(8, 40, 2) if 0 < windows % size <= size // 2)
    words += ["--data.batch_size", str(batch), "--report", "false"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    train_on_two_processes(words, tmp_path / "two", strategy)
    one, two = (measured(tmp_path / name, "loss", "bits_per_byte") for name in ("one", "two"))
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.timeout(180)
@pytest.mark.xdist_group("processes")
def test_two_processes_answer_what_one_does(tmp_path: Path) -> None:
    """Fine-tuning: all items, of which the last batch has too few for both."""
    torch.set_num_threads(1)
    words = ["train", "gpt", "--recipe", "finetune-smoke", "--trainer.accelerator", "cpu", "--trainer.max_steps", "3"]
    words += ["--trainer.val_check_interval", "3", "--task.dropout", "0", "--task.eps", "1e-3", "--audit", "false"]
    items = len(FinetuneDataModule(VARIANTS["gpt-debug"], source="sentences").readers[1] or [])
    batch = next(size for size in range(8, 40, 2) if 0 < items % size <= size // 2)
    words += ["--data.batch_size", str(batch), "--report", "false"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    train_on_two_processes(words, tmp_path / "two", "ddp")
    one, two = (measured(tmp_path / name, "loss", "accuracy", "f1", "matthews") for name in ("one", "two"))
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-4)
