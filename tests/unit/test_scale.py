"""Sharded and tensor-parallel training give what one process gives, through the commands that people type."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import zoo
from zoo.cli import main
from zoo.shared.errors import UserError
from zoo.shared.optim.norms import clip_by_norm, clip_by_value, grad_norm
from zoo.shared.scale.folders import intact_folder
from zoo.shared.transformer import MLP, Attention, Block, FusedProjection, activation
from zoo.shared.transformer.attention import SplitProjection
from zoo.shared.transformer.tensor_parallel import fuse_projections, parallelize, split_projection
from zoo.shared.transformer.wrap import units

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("processes")]

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
TOLERANCE = 1e-10
CPU = ["--recipe", "smoke", "--trainer.accelerator", "cpu", "--trainer.limit_val_batches", "1"]
LENGTH = ["--trainer.max_steps", str(STEPS), "--trainer.log_every_n_steps", "1", "--checkpoint_every", "3"]
# Adam divides a gradient by its size, so where it is nothing but rounding the rounding would become a full step.
EXACT = ["--trainer.precision", "64-true", "--task.eps", "1e-3", "--trainer.gradient_clip_val", "0.5"]
# 24 pairs are divided by 1, 2 and 3.
WORDS = [*CPU, *LENGTH, *EXACT, "--data.batch_size", "24"]
RESNET = {
    "model": {"vision": "resnet", "vision_depth": [1, 1, 1, 1], "vision_width": 8, "vision_heads": 4},
    "trainer": {"sync_batchnorm": True},
}
SAVING = {"model": {"checkpointing": True}, "task": {"micro_batches": 2, "local_loss": True}}


def run(words: list[str], cwd: Path, *, processes: int) -> tuple[int, str]:
    """Run ``zoo`` under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "zoo", *words],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        raise AssertionError(f"the processes hang: {out}") from None
    return process.returncode, out


def rows(folder: Path) -> dict[str, torch.Tensor]:
    with (folder / "metrics.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert [int(row["step"]) for row in found] == list(range(STEPS))
    return {
        name: torch.tensor([float(row[name]) for row in found], dtype=torch.float64)
        for name in ("train/loss", "train/grad_norm")
    }


def difference(folder: Path, other: Path) -> float:
    """Largest relative difference of a logged loss, gradient norm or weight of two runs; also compares the names."""
    pairs = [(rows(folder)[name], rows(other)[name]) for name in rows(folder)]
    first, second = (load_file(run / "weights" / "model.safetensors") for run in (folder, other))
    assert {k: (v.shape, v.dtype) for k, v in first.items()} == {k: (v.shape, v.dtype) for k, v in second.items()}
    pairs += [(first[key].double(), second[key].double()) for key in first]
    worst = max(((a - b).norm() / a.norm().clamp(min=1e-3)).item() for a, b in pairs)
    print(f"{other.name}: {worst:.1e}")
    return worst


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process: the plain one, and one with a ResNet."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("alone") / "run"
    variants = json.dumps({"resnet": {"model": RESNET["model"]}})
    assert main(["train", "clip", *WORDS, "--compare", variants, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes: fsdp by the documentation's command, with more settings, and what is compared with it."""
    out = tmp_path_factory.mktemp("sharded") / "run"
    text = (ROOT / "docs" / "scale.md").read_text()
    (command,) = re.findall(r"^torchrun .*nproc_per_node 2 -m zoo train clip --recipe smoke.*$", text, re.MULTILINE)
    words = shlex.split(command)
    assert words[words.index("--trainer.strategy") + 1] == "fsdp"
    variants = {"resnet": RESNET, "saving": SAVING, "tp": {**SAVING, "trainer": {"strategy": "tp"}}}
    words += [*WORDS[2:], "--compare", json.dumps(variants), "--out", str(out)]
    code, text = run(words[words.index("zoo") + 1 :], out.parent, processes=2)
    assert code == 0, text
    return out


def test_two_processes_equal_one(alone: Path, sharded: Path) -> None:
    for label in ("", "compare/saving", "compare/tp"):
        assert difference(alone, sharded / label) < TOLERANCE, label
    assert difference(alone / "compare/resnet", sharded / "compare/resnet") < TOLERANCE


def test_consolidated_weights_load(sharded: Path) -> None:
    for label in ("", "compare/tp"):
        model = zoo.load(sharded / label / "weights")
        assert model.state_dict().keys() == zoo.create_model("clip-debug").state_dict().keys()


def interrupted(finished: Path, to: Path) -> Path:
    """The folder of a run that was killed after its first checkpoint, which is in the middle."""
    shutil.copytree(finished, to, ignore=shutil.ignore_patterns("compare", "weights", "metrics.json", "0*6.ckpt"))
    assert [path.name for path in (to / "checkpoints").iterdir()] == ["00000003.ckpt"]
    config = yaml.safe_load((to / "config.yaml").read_text())
    (to / "config.yaml").write_text(yaml.safe_dump(config | {"compare": {}}))
    return to


@pytest.mark.parametrize(
    ("label", "processes"), [("", 1), pytest.param("", 3, marks=pytest.mark.slow), ("compare/tp", 2)]
)
def test_resume_on_any_number_of_processes(
    alone: Path, sharded: Path, tmp_path: Path, label: str, processes: int
) -> None:
    folder = interrupted(sharded / label, tmp_path / "run")
    code, text = run(["train", "--resume", str(folder)], tmp_path, processes=processes)
    assert code == 0, text
    assert difference(alone, folder) < TOLERANCE


def test_checkpoint_folder_knows_its_files(sharded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "00000003.ckpt"
    shutil.copytree(sharded / "checkpoints" / "00000003.ckpt", folder)
    assert intact_folder(folder)
    assert not [path for path in (sharded / "checkpoints").iterdir() if path.name.startswith(".")]
    shard = next(folder.glob("*.distcp"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert not intact_folder(folder)
    shard.unlink()
    assert not intact_folder(folder)
    assert not intact_folder(tmp_path / "absent")
    assert torch.load(folder / "meta.pt", weights_only=True)["global_step"] == 3


def test_ema_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*CPU, "--ema", "0.9", "--trainer.strategy", "fsdp", "--out", str(tmp_path / "run")]
    assert main(["train", "clip", *words]) == 2
    assert "zoo: --ema keeps no average of sharded weights" in capsys.readouterr().err


class Mesh:
    """As much of a device mesh as is looked at before anything is changed."""

    def __init__(self, size: int) -> None:
        self.size = lambda: size


@pytest.mark.parametrize(
    ("sizes", "devices", "said"),
    [
        (RESNET["model"], 2, "ModifiedResNet has none"),
        ({}, 3, "attention heads cannot be divided over 3 devices"),
    ],
)
def test_what_cannot_be_divided_is_refused(sizes: dict[str, Any], devices: int, said: str) -> None:
    model = zoo.create_model("clip-debug", **sizes)
    names = model.state_dict().keys()
    with pytest.raises(UserError, match=said) as caught:
        parallelize(model, Mesh(devices))  # type: ignore[arg-type]
    assert "--trainer.strategy fsdp" in str(caught.value)
    assert model.state_dict().keys() == names


@pytest.mark.slow
def test_compiled_blocks_give_the_same_and_keep_their_names(alone: Path, tmp_path: Path) -> None:
    for strategy in ("ddp", "fsdp", "tp"):
        words = [*WORDS, "--compile", "true", "--trainer.strategy", strategy, "--out", str(tmp_path / strategy)]
        code, text = run(["train", "clip", *words], tmp_path, processes=2)
        assert code == 0, text
        assert difference(alone, tmp_path / strategy) < TOLERANCE


def block(width: int = 8) -> Block:
    attention = Attention(FusedProjection(width), nn.Linear(width, width), heads=2)
    return Block(attention, MLP(width, 16, act=activation("gelu")))


def test_split_projections_compute_the_same_and_fuse_again() -> None:
    fused, x, context = FusedProjection(8), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    split = split_projection(fused)
    for arguments in ((x,), (x, context)):
        for one, other in zip(fused(*arguments), split(*arguments), strict=True):
            torch.testing.assert_close(one, other)
    model = nn.ModuleDict({"a": nn.ModuleDict({"project": split}), "b": SplitProjection(8, key_bias=False)})
    again = fuse_projections(model.state_dict() | {"other": x}, model)
    whole = {"a.project.weight", "a.project.bias", "other"}  # what was split from the beginning stays so
    assert again.keys() == whole | {f"b.{name}" for name in model["b"].state_dict()}
    assert torch.equal(again["a.project.weight"], fused.weight)


def test_units_are_blocks_and_towers_without_any() -> None:
    convolutions = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.ReLU())
    model = nn.ModuleDict({"one": nn.Sequential(block(), block()), "two": convolutions, "norm": nn.LayerNorm(8)})
    assert units(model) == [*model["one"], convolutions]


def test_clipping_of_plain_gradients_is_torchs() -> None:
    torch.manual_seed(0)
    models = [block(), block()]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model(torch.ones(2, 3, 8)).square().sum().backward()
    expected = nn.utils.clip_grad_norm_(models[0].parameters(), 0.5)
    torch.testing.assert_close(clip_by_norm(models[1].parameters(), 0.5), expected)
    torch.testing.assert_close(grad_norm(models[1].parameters()), torch.tensor(0.5))
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    clip_by_value(models[1].parameters(), 1e-3)
    assert max(p.grad.abs().max() for p in models[1].parameters() if p.grad is not None) <= 1e-3
    assert grad_norm([nn.Parameter(torch.ones(()))]) == 0
