"""``zoo bench`` from the command line, on its smallest shapes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from zoo.cli import main


def test_rows_of_the_core_and_of_the_family_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"start-list", "start-train", "clip-train", "clip-encode-image", "clip-data", "clip-data-wait"} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", ["clip-train-full", "clip-encode-image", "clip-encode-text-full"])
def test_quick_run_beside_open_clip(row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("open_clip", exc_type=ImportError)
    assert main(["bench", row, "--quick", "--json", "-", "--plot", str(tmp_path / "p.png")]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["hardware"]["threads"] == 1
    assert {"torch", "open_clip_torch"} <= set(read["versions"])
    (result,) = read["results"]
    assert result["comparison"] == "same precision"
    assert result["ratio"] > 0
    assert result["difference"] < 1e-3
    assert (tmp_path / "p.png").exists()


def test_a_missing_peer_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert main(["bench", "clip-train-full", "--quick"]) == 2
    assert "pip install open_clip_torch" in capsys.readouterr().err.splitlines()[-1]
