"""The weights that a run starts from: found once for all processes, and gone when the run is resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

import zoo
from zoo.shared.errors import UserError
from zoo.shared.runs.folder import RunFolder
from zoo.shared.text.tokenizer_files import load_tokenizer
from zoo.start_weights import NEWEST, choose_newest


def finished(runs: Path, name: str, at: int) -> Path:
    """The weights of a run that is finished, as far as a search can tell."""
    run = RunFolder(runs / "gpt-debug" / name)
    run.weights.mkdir(parents=True)
    run.finish({"family": "gpt", "model": "gpt-debug"})
    os.utime(run.metrics, (at, at))
    return run.weights


def chosen() -> str:
    settings = {"weights": NEWEST}
    choose_newest(Console(quiet=True), "gpt-debug", settings)
    return settings["weights"]


def test_processes_that_start_later_take_the_run_that_the_first_one_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_START_WEIGHTS", "")  # put back afterwards
    first = finished(Path("runs"), "one", 100)
    assert chosen() == str(first.resolve())
    later = finished(Path("runs"), "two", 200)
    with monkeypatch.context() as second:
        second.setenv("LOCAL_RANK", "1")  # started by Lightning, with a copy of the environment
        assert chosen() == str(first.resolve())
        second.delenv("ZOO_START_WEIGHTS")
        with pytest.raises(UserError, match="give --weights FOLDER"):
            chosen()
    assert chosen() == str(later.resolve())


SCRIPT = """
import os, sys
from rich.console import Console
from zoo.start_weights import choose_newest

os.chdir(os.environ["LOCAL_RANK"])  # each finds another newest run
settings = {"weights": "newest"}
choose_newest(Console(quiet=True), "gpt-debug", settings)
open("found", "w").write(settings["weights"])
"""


@pytest.mark.timeout(120)
def test_processes_of_torchrun_agree(tmp_path: Path) -> None:
    weights = [finished(tmp_path / str(rank) / "runs", "one", 100) for rank in range(2)]
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "script.py"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK")} | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / str(rank) / "found").read_text() for rank in range(2)] == [str(weights[0].resolve())] * 2


@pytest.mark.parametrize("recipe", ["smoke", "finetune-smoke"])
def test_a_run_goes_on_when_the_weights_that_it_began_with_are_gone(recipe: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    quiet = {"enable_progress_bar": False, "accelerator": "cpu", "limit_val_batches": 0}
    settings = {"report": False, "audit": False, "checkpoint_every": 2}
    base = zoo.train("gpt", "smoke", out=tmp_path / "base", trainer={**quiet, "max_steps": 1}, **settings).weights
    began = load_tokenizer(base).fingerprint
    out = tmp_path / "run"
    trainer = {**quiet, "max_steps": 2, "max_epochs": -1}
    zoo.train("gpt", recipe, out=out, weights=str(base), trainer=trainer, **settings)
    shutil.rmtree(base)
    result = zoo.train("gpt", resume=out, trainer={"max_steps": 4})
    assert json.loads((out / "metrics.json").read_text())["steps"] == 4
    kept = {path.name for path in (out / "start").iterdir()}
    assert "tokenizer.json" in kept
    assert not any(name.endswith("safetensors") for name in kept)
    assert load_tokenizer(out / "start").fingerprint == began
    if recipe == "smoke":
        assert load_tokenizer(result.weights).fingerprint == began
    shutil.rmtree(out / "checkpoints")  # now they are needed
    with pytest.raises(UserError, match="no weights at"):
        zoo.train("gpt", resume=out, trainer={"max_steps": 6})
