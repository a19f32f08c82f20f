"""``zoo train`` from the command line: what it writes, resumes, refuses and survives."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import zoo
from zoo.cli import main

QUICK = ["--recipe", "smoke", "--trainer.accelerator", "cpu", "--trainer.limit_val_batches", "1"]

# Everything that has a state of its own: dropout, augmentation, averaged weights.
VARIED = ["--model.dropout", "0.1", "--data.flip", "0.5", "--ema", "0.9"]


def train(out: Path, *words: str) -> int:
    return main(["train", "clip", *QUICK, "--out", str(out), *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train(out, *VARIED, "--data.workers", "1") == 0
    return out


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Rows of a run's log that have a training loss."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["train/loss"]]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return zoo.load(folder / "weights").state_dict()


def test_a_run_writes_what_the_design_says(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["name"] == "clip-debug"
    assert config["trainer"]["max_steps"] == 20
    assert config["model"]["dropout"] == 0.1
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["family"] == "clip"
    assert metrics["steps"] == 20
    assert metrics["samples"] == 20 * 32
    assert metrics["parameters"] == 1_642_273
    assert 0 <= metrics["figures"]["zero_shot_top1"] <= 1
    assert torch.__version__.startswith(metrics["versions"]["torch"])
    rows = rows_of(run)
    assert len(rows) == 4
    assert all(math.isfinite(float(row["train/loss"])) for row in rows)
    assert {"time/samples_per_second", "time/data_wait", "train/logit_scale"} <= set(rows[0])
    assert list((run / "tensorboard").glob("events*"))
    assert (run / "samples" / "retrieval.png").stat().st_size > 10_000
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"00000010.ckpt", "00000020.ckpt"}
    assert {"model.safetensors", "config.json", "README.md", "tokenizer.json", "preprocessor_config.json"} <= {
        p.name for p in (run / "weights").iterdir()
    }
    assert not list(run.rglob("*.part"))


def test_the_weights_are_ready_to_use(run: Path) -> None:
    model, preprocessor = zoo.load(run / "weights"), zoo.create_preprocessor(run / "weights")
    assert not model.training
    with torch.no_grad():
        text = model.encode_text(preprocessor.text(["a small red circle on the left"]))
    assert text.shape == (1, 16)


def test_a_checkpoint_is_weights_too(run: Path) -> None:
    from_checkpoint, from_weights = zoo.load(run / "checkpoints" / "00000020.ckpt"), zoo.load(run / "weights")
    assert from_checkpoint.config == from_weights.config
    for key, value in from_weights.state_dict().items():
        assert torch.equal(value, from_checkpoint.state_dict()[key]), key


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_ends_with_the_same_bits(run: Path, tmp_path: Path, workers: int) -> None:
    """From a checkpoint in mid-epoch, with dropout and augmentation: weights and log equal those of the whole run."""
    cut = tmp_path / "cut"
    assert train(cut, *VARIED, "--data.workers", str(workers), "--checkpoint_every", "7") == 0
    for late in (*(cut / "checkpoints").glob("*[!4].ckpt"), cut / "metrics.json"):  # leaves 00000014.ckpt
        late.unlink()
    assert main(["train", "--resume", str(cut)]) == 0
    expected, found = state(run), state(cut)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    first, second = ([(row["step"], row["train/loss"]) for row in rows_of(folder)] for folder in (run, cut))
    assert first == second


def test_settings_are_typed_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as shown:
        main(["train", "clip", "--print_config"])
    assert shown.value.code == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["task"]["betas"] == [0.9, 0.98]
    with pytest.raises(SystemExit) as helped:
        main(["train", "clip-vit-b-32", "--help"])
    assert helped.value.code == 0
    text = capsys.readouterr().out
    assert "--data.batch_size" in text
    assert "--trainer.precision" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "clop"], "did you mean clip"),
        (["train", "clip", "--recipe", "defualt"], "recipes:"),
        (["train", "clip", "--task.lrr", "1"], "lrr"),
        (["train", "clip", "--task.lr", "fast"], "lr"),
        (["train", "clip-debug", "--model.patch_size", "5"], "patch_size"),
        (["train", "clip", "--trainer.accelerator", "warp"], "warp"),
        (["train", "clip", "--resume", "nowhere"], "nowhere"),
        (["train", "clip", "--data.source", "nowhere.csv"], "nowhere.csv"),
        (["train", "clip", "--weights", "nowhere"], "nowhere"),
        (["train", *["clip", "--recipe", "smoke"], "--trainer.accumulate_grad_batches", "2"], "micro_batches"),
        (["train", *["clip", "--recipe", "smoke"], "--data.batch_size", "100000"], "batch"),
        (["train", "--out", "x"], "needs a model"),
        (["tarin", "clip"], "did you mean train"),
        (["embed"], "needs a family"),
    ],
)
def test_mistakes_give_one_line_and_code_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert last.startswith("zoo: ")
    assert says in last
    assert "Traceback" not in err


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert train(tmp_path / "file") == 2
    assert "is a file" in capsys.readouterr().err
    assert train(tmp_path / "file" / "below") == 2
    assert "cannot write" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"


def test_a_run_is_never_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "metrics.json").read_bytes()
    assert train(run) == 2
    assert "--resume" in capsys.readouterr().err
    assert (run / "metrics.json").read_bytes() == before


def test_the_audit_stops_an_impossible_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weights = tmp_path / "broken"
    model = zoo.create_model("clip-debug")
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    zoo.save_weights(model, weights)
    assert train(tmp_path / "a", "--weights", str(weights)) == 2
    assert "logit scale" in capsys.readouterr().err
    assert train(tmp_path / "b", "--weights", str(weights), "--no-audit", "--trainer.max_steps", "1") == 0


def test_without_anything_held_out_checkpoints_are_saved_at_an_epochs_end(tmp_path: Path) -> None:
    """A validation is due there that has nothing to do."""
    out = tmp_path / "run"
    words = ["--data.held_out", "0", "--trainer.limit_train_batches", "3", "--checkpoint_every", "3"]
    assert train(out, *words, "--trainer.max_steps", "6", "--report", "false") == 0
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"00000003.ckpt", "00000006.ckpt"}


def test_a_finished_run_is_left_as_it_is(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert main(["train", "--resume", str(copy)]) == 0
    assert "finished already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_finished_run_goes_on_when_it_is_given_more_steps(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert zoo.train("clip", resume=copy, trainer={"max_steps": 22}).metrics["steps"] == 22


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_a_checkpoint_and_have_their_codes(number: int, code: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-m", "zoo", "train", "clip", *QUICK, "--out", str(out), "--trainer.max_steps", "100000"]
    process = subprocess.Popen(
        [*words, "--data.workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list((out / "checkpoints").glob("*.ckpt")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal signals the workers, too
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert f"--resume {out}" in err
    assert not list(out.rglob("*.part"))
    assert not (out / "weights").exists()
    newest = max((out / "checkpoints").glob("*.ckpt"))
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["trainer"]["max_steps"] = int(newest.stem) + 3
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--resume", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text())["steps"] == int(newest.stem) + 3


def test_python_entry_and_comparison(tmp_path: Path) -> None:
    result = zoo.train(
        "clip",
        recipe="smoke",
        out=tmp_path / "run",
        trainer={"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": False},
        compare={"no flip": {"data": {"flip": 0.0}}},
        data={"flip": 0.5},
        ema=0.9,
    )
    assert result.metrics["steps"] == 2
    other = tmp_path / "run" / "compare" / "no flip"
    assert yaml.safe_load((other / "config.yaml").read_text())["data"]["flip"] == 0.0
    assert (other / "weights" / "model.safetensors").exists()
    with pytest.raises(ValueError, match="max_step"):
        zoo.train("clip", recipe="smoke", trainer={"max_stepz": 2})
