"""Two processes give what one gives, through the commands that people type."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import zoo
from zoo.cli import main

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("processes")]

STEPS = 10
TOLERANCE = 1e-5
RECIPE = ["--recipe", "smoke", "--trainer.accelerator", "cpu", "--trainer.limit_val_batches", "0"]
LENGTH = ["--trainer.max_steps", str(STEPS), "--trainer.log_every_n_steps", "1"]
# Adam divides a gradient by its size, so where it is nothing but rounding the rounding would become a full step.
CALM = ["--task.eps", "1e-3"]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
RESNET = [
    *["--model.vision", "resnet", "--model.vision_depth", "[1,1,1,1]", "--model.vision_width", "8"],
    *["--model.vision_heads", "4", "--trainer.sync_batchnorm", "true"],
]
VARIANTS = {"local": {"task": {"local_loss": True}}, "micro": {"task": {"micro_batches": 2}}}


def start(words: list[str], cwd: Path, *, torchrun: bool = False) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if torchrun else []
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "zoo", "train", "clip", *RECIPE, *TWO, *words],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # both of them
        out, err = process.communicate()
        raise AssertionError(f"the processes hang: {out}{err}") from None
    return process.returncode, out, err


def only_run(cwd: Path) -> Path:
    """The run folder that the clock named; there must be one, though two processes looked at the clock."""
    runs = list((cwd / "runs" / "clip-debug").iterdir())
    assert len(runs) == 1, runs
    return runs[0]


def losses(run: Path) -> torch.Tensor:
    with (run / "metrics.csv").open(newline="") as file:
        found = [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]
    assert [step for step, _ in found] == list(range(STEPS)), found
    return torch.tensor([loss for _, loss in found])


def difference(run: Path, other: Path) -> float:
    """Largest difference of any logged loss or weight of two runs."""
    first, second = (zoo.load(folder / "weights").state_dict() for folder in (run, other))
    assert first.keys() == second.keys()
    worst = max((first[key].double() - second[key].double()).abs().max().item() for key in first)
    logged = (losses(run) - losses(other)).abs().max().item()
    print(f"{other.name}: weights differ by {worst:.1e}, losses by {logged:.1e}")
    return max(worst, logged)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", "clip", *RECIPE, *LENGTH, *CALM, "--out", str(out)]) == 0
    return out


def test_two_processes_equal_one(alone: Path, tmp_path: Path) -> None:
    """Whole and local loss and micro-batches, in one launch, with the files of one run."""
    words = [*LENGTH, *CALM, "--compare", json.dumps(VARIANTS)]
    code, out, err = finish(start(words, tmp_path))
    assert code == 0, err
    run = only_run(tmp_path)
    assert err.count("audit before the first step") == 1 + len(VARIANTS)
    assert err.count("weights  ") == 1
    assert out.count("measured") == 1
    assert not list(run.rglob("*.part"))
    assert len(list((run / "tensorboard").glob("events*"))) == 1
    for folder in (run, *(run / "compare" / label for label in VARIANTS)):
        assert json.loads((folder / "metrics.json").read_text())["samples"] == STEPS * 32
        assert difference(alone, folder) < TOLERANCE, folder


def test_torchrun_and_batch_norm_over_all_processes(tmp_path: Path) -> None:
    assert main(["train", "clip", *RECIPE, *LENGTH, *CALM, *RESNET, "--out", str(tmp_path / "alone")]) == 0
    code, _, err = finish(start([*LENGTH, *CALM, *RESNET], tmp_path, torchrun=True))
    assert code == 0, err
    assert difference(tmp_path / "alone", only_run(tmp_path)) < TOLERANCE


def test_a_failing_audit_stops_all_processes(tmp_path: Path) -> None:
    model = zoo.create_model("clip-debug")
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    zoo.save_weights(model, tmp_path / "broken")
    code, _, err = finish(start(["--weights", str(tmp_path / "broken")], tmp_path))
    assert code == 2, err
    assert err.count("zoo: the audit stopped the run") == 1
    assert "Traceback" not in err


def test_one_interrupted_process_stops_both_and_both_go_on(tmp_path: Path) -> None:
    """Only the first process hears Ctrl-C. The run goes on from where it was and ends as one process does."""
    process = start([*LENGTH[2:], "--trainer.max_steps", "100000", "--checkpoint_every", "4"], tmp_path)
    while not list(tmp_path.rglob("*.ckpt")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    run = only_run(tmp_path)
    assert err.count(f"--resume {run.relative_to(tmp_path)}") == 1
    assert not os.path.exists(f"/proc/{process.pid}")
