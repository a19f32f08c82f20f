"""The speed harness on toy rows."""

from __future__ import annotations

import json
import math
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from zoo.cli import main
from zoo.clip.bench import prepare_tokenize
from zoo.shared import bench_measure
from zoo.shared.bench import (
    BEST,
    SAME,
    Case,
    Disagreement,
    Limit,
    MissingPeer,
    Mode,
    Row,
    Setting,
    Side,
    choose_rows,
    import_peer,
)
from zoo.shared.bench_measure import count_operations, in_turns, measure, measure_limit, peak_of
from zoo.shared.bench_report import as_json, plot, show
from zoo.shared.errors import UserError
from zoo.shared.machine import bandwidth, hardware, matmul_rate


def toy(side: Side, setting: Setting, *, off: float = 0.0) -> Case:
    x = torch.eye(8)

    def call() -> torch.Tensor:
        if side == "peer":
            time.sleep(0.02)
        return x @ x

    return Case(call=call, result=lambda: {"y": call() + (off if side == "zoo" else 0.0)}, samples=3, note="toy")


def die(side: Side, setting: Setting) -> Case:
    raise SystemExit(1)


def toy_row(**changes: object) -> Row:
    settings: dict = {"name": "toy", "what": "a sleep", "peer": "sleep", "prepare": toy, "modes": (Mode(),)}
    return Row(**settings | changes)


def test_sides_that_disagree_are_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_measure, "in_turns", lambda *a, **k: pytest.fail("timed"))
    with pytest.raises(Disagreement, match=r"differ by 0\.28"):
        measure(toy_row(prepare=partial(toy, off=0.1)), memory=False)
    with pytest.raises(Disagreement, match="differ by nan"):
        measure(toy_row(prepare=partial(toy, off=float("nan"))), memory=False)


def test_other_shapes_are_a_disagreement() -> None:
    def prepare(side: Side, setting: Setting) -> Case:
        return Case(call=lambda: None, result=lambda: {"y": torch.ones(2 if side == "zoo" else 1)})

    with pytest.raises(Disagreement, match="different things"):
        measure(toy_row(prepare=prepare), memory=False)


def test_rounds_are_interleaved_after_the_warm_up() -> None:
    order: list[str] = []

    def side(name: str) -> None:
        order.append(name)
        time.sleep(0.021)

    rounds = in_turns(lambda: side("A"), lambda: side("B"), repeats=5, warmup=2)
    assert "".join(order) == "AB" * (2 + 1 + 5)
    assert len(rounds) == 5


def test_short_calls_are_timed_several_at_a_time() -> None:
    calls = [0, 0]

    def count(i: int) -> None:
        calls[i] += 1
        time.sleep(0.001)

    rounds = in_turns(lambda: count(0), lambda: count(1), repeats=5, warmup=1)
    assert min(calls) > 20
    assert all(0.001 <= seconds < 0.1 for pair in rounds for seconds in pair)


def test_the_ratio_is_of_the_minima(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_measure, "in_turns", lambda *a, **k: [(9.0, 1.5), (3.0, 6.0), (4.0, 2.0)])
    result = measure(toy_row(modes=(), goal=1.9, has_floor=False), memory=False)[0]
    assert (result.peer_seconds, result.zoo_seconds) == (3.0, 1.5)
    assert result.ratio == 2.0
    assert (result.low, result.high) == (0.5, 6.0)
    assert result.rate == 2.0
    assert result.reached


def test_both_comparisons_and_what_was_tried() -> None:
    same, best = measure(toy_row(goal=1e9), memory=False)
    assert (same.comparison, best.comparison) == (SAME, BEST)
    assert same.reached is None
    assert best.reached is False
    assert set(best.tried) == {"peer: float32", "zoo: float32"}
    assert same.ratio > 1


def test_a_mode_that_cannot_compile_is_left_out() -> None:
    def prepare(side: Side, setting: Setting) -> Case:
        if setting.mode.compiled:
            return Case(call=lambda: 1 / 0, result=dict)
        return toy(side, setting)

    said: list[str] = []
    best = measure(toy_row(prepare=prepare, modes=(Mode(), Mode(compiled=True))), memory=False, progress=said.append)[1]
    assert best.zoo == "float32"
    assert any("cannot run float32, compiled" in line for line in said)


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    row = toy_row(prepare=prepare_tokenize)  # of a module that the new process can import, unlike this one
    assert 10 < peak_of(row, "zoo", Setting(quick=True)) < 10_000


def test_a_process_that_dies_leaves_no_figure() -> None:
    assert math.isnan(peak_of(toy_row(prepare=die), "zoo", Setting()))


def test_operations_are_counted() -> None:
    a, b = torch.ones(4, 5), torch.ones(5, 6)
    assert count_operations(lambda: a @ b) == 2 * 4 * 5 * 6
    assert matmul_rate(torch.float32, repeats=1) > 1e8
    assert bandwidth(repeats=1) > 1e8
    assert hardware()["threads"] == 1


def test_unknown_rows_and_missing_peers_are_user_errors() -> None:
    rows = [toy_row(), toy_row(name="clip-train")]
    assert choose_rows(rows, []) == rows
    assert choose_rows(rows, ["toy"]) == rows[:1]
    with pytest.raises(UserError, match="did you mean clip-train"):
        choose_rows(rows, ["clip-trian"])
    with pytest.raises(MissingPeer, match="pip install no_such_peer"):
        import_peer("no_such_peer", package="no_such_peer")
    with pytest.raises(UserError, match="cpu only"):
        measure(toy_row(devices=("cpu",)), device="cuda")


def test_a_limit_takes_the_smallest_figure() -> None:
    figures = iter([0.7, 0.4, 0.6, 0.9, 0.8])
    row = Limit(name="start", what="a start", limit=0.5, unit="s", figure=lambda quick: next(figures))
    result = measure_limit(row)
    assert result.figure == 0.4
    assert result.reached


def test_json_table_and_picture(tmp_path: Path) -> None:
    results = measure(toy_row(goal=1.0), memory=False)
    results.append(measure_limit(Limit(name="l", what="w", limit=1.0, unit="s", figure=lambda quick: 2.0)))
    machine = {"hardware": {"cpu": "one"}, "versions": {"torch": "2"}}
    read = json.loads(as_json(results, machine))
    assert set(read) == {"hardware", "versions", "results"}
    assert [row["reached"] for row in read["results"]] == [None, True, False]
    assert {"row", "comparison", "ratio", "goal", "low", "high", "floor", "peer_memory", "tried"} <= set(
        read["results"][0]
    )
    with (tmp_path / "out").open("w") as file:
        show(Console(file=file, width=120), results, machine)
    text = (tmp_path / "out").read_text()
    assert "toy" in text
    assert "✗" in text
    assert "2 s" in text
    plot(results, tmp_path / "ratios.png", title="one")
    assert (tmp_path / "ratios.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip-trian"], "did you mean clip-train"),
        (["--repeats", "2"], "at least 5"),
        (["--threads", "0"], "at least 1"),
        (["--json", "no/such/folder/x.json"], "there is no folder"),
    ],
)
def test_mistakes_on_the_command_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "clip-tokenize", "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err
