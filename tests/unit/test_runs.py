"""Run folders, the CSV log, atomic files and the random state."""

from __future__ import annotations

import csv
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path, read_json, write_json
from zoo.shared.runs.checkpoints import capture_random_state, newest_checkpoint, restore_random_state
from zoo.shared.runs.csv_log import AppendingCSVLogger
from zoo.shared.runs.folder import RunFolder, newest_weights


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_log_merges_a_step_grows_columns_and_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = AppendingCSVLogger(path)
    log.log_metrics({"lr": 1.0}, 0)
    log.log_metrics({"loss": 2.5}, 0)
    log.log_metrics({"lr": 0.5, "loss": 2.0}, 1)
    log.log_metrics({"val": 0.1}, 1)
    log.log_metrics({"loss": 1 / 3}, 2)
    assert rows(path) == [
        {"step": "0", "lr": "1.0", "loss": "2.5"},
        {"step": "1", "lr": "0.5", "loss": "2.0", "val": "0.1"},
        {"step": "2", "loss": repr(1 / 3)},
    ]
    again = AppendingCSVLogger(path)
    again.cut_back(2)
    again.log_metrics({"loss": 9.0}, 1)
    again.log_metrics({"loss": 8.0, "new": 1.0}, 2)
    again.log_metrics({"lr": 7.0}, 2)
    assert [row["step"] for row in rows(path)] == ["0", "1", "2"]
    assert rows(path)[1] == {"step": "1", "lr": "0.5", "loss": "9.0", "val": "0.1"}
    assert rows(path)[2] == {"step": "2", "lr": "7.0", "loss": "8.0", "new": "1.0"}


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,1.0\n1,2.0\n,\n")
    AppendingCSVLogger(path).log_metrics({"loss": 3.0}, 2)
    assert [row["step"] for row in rows(path)] == ["0", "1", "2"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert read_json(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]
    path.write_text("{")
    with pytest.raises(UserError, match="JSON"):
        read_json(path)


def test_random_state_round_trips_through_a_weights_only_file(tmp_path: Path) -> None:
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    random.gauss(0, 1), np.random.randn(3), torch.rand(5)
    torch.save(capture_random_state(), tmp_path / "state.pt")
    expected = random.gauss(0, 1), np.random.randn(4).tolist(), torch.rand(4).tolist()
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (random.gauss(0, 1), np.random.randn(4).tolist(), torch.rand(4).tolist()) == expected


@pytest.mark.gpu
def test_random_state_of_the_gpu_round_trips(tmp_path: Path) -> None:
    torch.cuda.manual_seed_all(3)
    torch.save(capture_random_state(), tmp_path / "state.pt")
    expected = torch.rand(4, device="cuda").tolist()
    torch.cuda.manual_seed_all(9)
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.rand(4, device="cuda").tolist() == expected


def test_run_folders_never_collide_and_the_newest_finished_one_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="zoo train clip"):
        newest_weights("clip")
    first, second = RunFolder.create("m"), RunFolder.create("m")
    assert first.path != second.path
    for age, (run, family) in enumerate([(first, "clip"), (second, "other")]):
        run.write_config({"name": "m"})
        run.weights.mkdir()
        run.finish({"family": family})
        os.utime(run.metrics, (age, age))
    assert newest_weights("clip").resolve() == first.weights.resolve()
    assert json.loads(second.metrics.read_text())["family"] == "other"
    with pytest.raises(UserError, match="--resume"):
        RunFolder.create("m", first.path)
    with pytest.raises(UserError, match=r"config\.yaml"):
        RunFolder.existing(tmp_path)
    assert newest_checkpoint(first.checkpoints) is None


def test_the_newest_intact_checkpoint_is_used_and_the_damaged_are_set_aside(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        torch.save({"weight": torch.arange(1000.0), "step": step}, tmp_path / f"{step:08d}.ckpt")
    (tmp_path / ".00000016.ckpt.abc.part").write_bytes(b"half")
    assert newest_checkpoint(tmp_path) == tmp_path / "00000012.ckpt"
    assert not list(tmp_path.glob(".*.part"))
    os.truncate(tmp_path / "00000012.ckpt", 3000)
    flipped = bytearray((tmp_path / "00000008.ckpt").read_bytes())
    flipped[flipped.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    (tmp_path / "00000008.ckpt").write_bytes(flipped)
    assert newest_checkpoint(tmp_path) == tmp_path / "00000004.ckpt"
    assert {path.name for path in tmp_path.iterdir()} == {
        "00000004.ckpt", "00000008.ckpt.damaged", "00000012.ckpt.damaged"
    }  # fmt: skip
    (tmp_path / "00000004.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match="all checkpoints"):
        newest_checkpoint(tmp_path)
