"""`zoo scale gpt`: a whole grid on generated text, going on with it, and one clear line for every mistake."""

from __future__ import annotations

import csv
import functools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zoo.cli import main
from zoo.gpt.configs import GptConfig
from zoo.gpt.model import GPT
from zoo.gpt.scaling import fits as scaling_fits
from zoo.gpt.scaling.corpus import prepare_corpus
from zoo.gpt.scaling.grid import (
    LADDER,
    SMOKE,
    GridSettings,
    flops_per_token,
    learning_rate,
    plans,
    read_settings,
    shapes_of,
    target,
)
from zoo.shared.errors import UserError

QUICK = ("--smoke", "--tokens", "8192")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Intervals from a few refits: what they cover is measured in tests/unit/test_scaling_fits.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling_fits, "fit", functools.partial(scaling_fits.fit, draws=12))
        yield


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished grid."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("scale") / "grid"
    assert main(["scale", "gpt", *QUICK, "--out", str(out)]) == 0
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.timeout(300)
def test_a_grid_leaves_records_fits_a_scored_prediction_and_pictures(grid: Path) -> None:
    found, summary, score = read(grid / "grid.json"), read(grid / "fits.json"), read(grid / "score.json")
    parts = [run["part"] for run in found["runs"]]
    assert [parts.count(part) for part in ("grid", "shape", "batch", "target")] == [9, 4, 3, 1]
    for run in found["runs"]:
        assert 0 < run["loss"] < 1.2 * math.log(found["corpus"]["vocab_size"])
        # Nats per token and bits per byte measure the same text.
        ratio = run["loss"] / math.log(2) / run["bits_per_byte"]
        assert ratio == pytest.approx(found["runs"][0]["loss"] / math.log(2) / found["runs"][0]["bits_per_byte"])
        assert run["curve"][-1] == [run["steps"], pytest.approx(run["loss"])]
        assert run["flops_6nd"] == 6 * run["size"] * run["tokens"] < run["flops"]
    assert any(run["noise_scale_tokens"] for run in found["runs"] if run["part"] == "batch")
    with (grid / "grid.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [run["name"] for run in found["runs"]]
    for name in ("L(N)", "L(D)", "L(N,D)", "Chinchilla"):
        for constant in summary["fits"][name]["constants"].values():
            assert constant["low"] <= constant["high"]
    assert set(summary["fits"]) | set(summary["refused"]) >= {"L(C), C = 6ND", "L(C), exact", "Bcrit(L)", "L(N,S)"}
    losses = [run["loss"] for run in found["runs"] if run["part"] == "shape" or run["name"] == "grid-2-2"]
    assert sorted(summary["shape"]["losses"].values()) == sorted(losses)
    assert summary["shape"]["spread"] == pytest.approx(max(losses) - min(losses))
    assert summary["shape"]["spread"] > 0
    last = found["runs"][-1]
    for said in score["scores"].values():
        assert said["error"] == pytest.approx(said["loss"] - last["loss"])
        assert said["inside"] == (said["low"] <= last["loss"] <= said["high"])
    # Written before the run was begun.
    assert (grid / "prediction.json").stat().st_mtime < (grid / "runs" / "target" / "config.yaml").stat().st_mtime
    for name in ("laws", "size-and-data", "batches"):
        assert (grid / "pictures" / f"{name}.png").stat().st_size > 20_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_grid_goes_on_and_keeps_its_prediction(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the foretold run and the last size's runs it ends where it had ended; finished runs are not trained."""
    out = tmp_path / "again"
    shutil.copytree(grid, out)
    for name in ("target", "grid-3-3"):
        shutil.rmtree(out / "runs" / name)
    (out / "runs" / "grid-1-2" / "metrics.json").unlink()  # as if killed between its last step and its figures
    finished = (out / "runs" / "grid-1-1" / "metrics.json").stat().st_mtime_ns
    assert main(["scale", "gpt", "--resume", "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (out / "runs" / "grid-1-1" / "metrics.json").stat().st_mtime_ns == finished
    assert (out / "prediction.json").read_bytes() == (grid / "prediction.json").read_bytes()
    before, after = ({r["name"]: r["loss"] for r in read(folder / "grid.json")["runs"]} for folder in (grid, out))
    assert after == before
    assert summary["prediction"] == read(grid / "score.json")["scores"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sizes", "2"), "--sizes 2: a power law needs at least 3 sizes"),
        (("--budgets", "2"), "--budgets 2: a power law needs at least 3 budgets"),
        (("--sizes", "99"), "at most 7"),
        (("--tokens", "4096", "--smoke"), "use 8,192 or more"),
        (("--smoke", "--tokens", "10000000"), "times, more than 4; give more text or --tokens"),
        (("--budget", "3"), "unknown option --budget"),
        (("--model.width", "8"), "unknown option --model.width"),
        (("--data.sauce", "x"), "sauce"),
        (("--data.ramp_start", "2"), "does not fit a grid"),
        (("--data.source", "nowhere"), "nowhere"),
        (("--resume",), "needs --out"),
        (("--resume", "--out", "empty"), "holds no grid"),
        (("--resume", "--out", "empty", "--sizes", "4"), "give it --out DIR alone"),
    ],
)
def test_mistakes(words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "gpt", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert not list(tmp_path.glob("runs/*/*/runs"))


def test_a_finished_grid_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grid.json").write_text("{}")
    assert main(["scale", "gpt", "--smoke", "--out", str(tmp_path)]) == 2
    assert "holds a grid already" in capsys.readouterr().err


def test_repeated_text_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zoo.gpt.scaling import command as scale_command

    corpus = prepare_corpus(SMOKE, tmp_path)
    assert prepare_corpus(SMOKE, tmp_path) == corpus
    more = GridSettings(**{**vars(SMOKE), "tokens": 2 * corpus["tokens"]})

    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scale_command.work(more, tmp_path / "more", stop)
    assert "goes over it 2.00 times" in capsys.readouterr().err
    # --resume finds the grid though its first run was stopped.
    assert read_settings(tmp_path / "more") == more


def test_a_corpus_is_not_taken_for_another(tmp_path: Path) -> None:
    out, corpus = tmp_path / "out", prepare_corpus(SMOKE, tmp_path / "out")
    other = GridSettings(**{**vars(SMOKE), "data": {"source": "sentences", "held_out": 0.4}})
    with pytest.raises(UserError, match="holds the corpus of other settings"):
        prepare_corpus(other, out)
    twice = GridSettings(**{**vars(SMOKE), "tokens": 2 * corpus["tokens"]})
    assert prepare_corpus(twice, out)["passes_of_the_largest_budget"] == pytest.approx(2)
    # Stopped between the training text and the excerpts, and begun again with other text.
    (out / "corpus.json").unlink()
    shutil.rmtree(out / "tokens" / "held-out")
    with pytest.raises(UserError, match="made in another way"):
        prepare_corpus(other, out)
    assert prepare_corpus(SMOKE, out) == corpus


@pytest.mark.parametrize("shape", [LADDER[0], LADDER[2], LADDER[3]])
def test_exact_operations_are_what_torch_counts(shape: tuple[int, int, int]) -> None:
    width, depth, heads = shape
    model = GPT(GptConfig(vocab_size=300, context=16, width=width, depth=depth, heads=heads, tokenizer="bpe"))
    tokens = torch.randint(0, 300, (2, 16))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(tokens)
    assert counter.get_total_flops() * 3 == 32 * flops_per_token(width=width, depth=depth, context=16, vocab_size=300)


def test_plans() -> None:
    settings = GridSettings()
    found = plans(settings)
    assert len({plan.name for plan in found}) == len(found)
    for plan in (*found, target(settings)):
        matrices = 12 * plan.depth * plan.width**2
        assert plan.size == matrices
        assert plan.width % plan.heads == 0
        assert plan.steps % plan.points == 0
        assert plan.part == "batch" or plan.lr == learning_rate(plan.size)
    sizes = [plan.size for plan in found if plan.part == "shape"]
    assert max(sizes) / min(sizes) < 1.05
    assert target(settings).size > 2 * max(plan.size for plan in found)
    assert shapes_of(64, 2, 4)["deep"] == (32, 8, 2)
