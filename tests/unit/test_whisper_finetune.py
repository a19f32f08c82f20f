"""``zoo train whisper --recipe finetune-smoke``: figures before and after, also over an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.registry import family_of
from zoo.settings import read_recipe
from zoo.shared.runs.report import Figure
from zoo.weights import identify
from zoo.whisper.configs import VARIANTS
from zoo.whisper.data import WhisperDataModule
from zoo.whisper.listener import Listener, measure
from zoo.whisper.report import beside

CPU = ["--trainer.accelerator", "cpu"]
KEY = "wer/tones/transcribe/en"


def finetune(out: Path, weights: Path, *words: str) -> int:
    # So few steps have not taught the weights to listen, which an audit would say.
    start = ["train", "whisper", "--recipe", "finetune-smoke", *CPU, "--no-audit", "--out", str(out)]
    return main([*start, "--weights", str(weights), *words])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    words = ["--recipe", "smoke", "--trainer.max_steps", "10", "--task.lr", "1e-2", "--trainer.limit_val_batches", "0"]
    assert main(["train", "whisper", *words, *CPU, "--report", "false", "--out", str(out)]) == 0
    return out / "weights"


@pytest.fixture(scope="module")
def run(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "finetuned"
    assert finetune(out, pretrained) == 0
    return out


def test_a_run_says_how_many_words_are_wrong_before_and_after(run: Path, pretrained: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    figures = metrics["figures"]
    for weights, key in ((pretrained, f"before/{KEY}"), (run / "weights", KEY)):
        listener = Listener(zoo.load(weights), zoo.create_preprocessor(weights))
        data = WhisperDataModule(listener.model.config, source="tones", utterances=200)
        data.start_from(weights)
        data.setup()
        assert data.speech is not None
        again = {figure.key: figure.value for figure in measure(listener, data.speech.held_out)[0]}
        assert figures[key] == pytest.approx(again[KEY])
    assert metrics["shown"][f"before/{KEY}"]["name"].endswith("word errors before training")
    assert metrics["shown"][KEY]["name"].endswith("word errors after training")
    assert list(figures).index(f"before/{KEY}") == list(figures).index(KEY) - 1
    assert 0 <= metrics["logged"]["val/wer"] <= 20
    card = (run / "weights" / "README.md").read_text()
    assert "word errors before training" in card


def test_the_trained_weights_hear_the_whole_window(run: Path) -> None:
    model: Any = zoo.load(run / "weights")
    assert model.config.audio_context == 50  # though 0.8 seconds were trained on
    assert model.hear(torch.zeros(1, 80, 100)).shape[1] == 50


def test_an_interrupted_run_ends_with_the_same_figures(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    for late in ("metrics.json", "checkpoints/00000020.ckpt"):
        (out / late).unlink()
    assert main(["train", "--resume", str(out)]) == 0
    mine, theirs = (json.loads((path / "metrics.json").read_text()) for path in (out, run))
    assert mine["figures"] == theirs["figures"]
    assert mine["logged"]["val/wer_rise"] == theirs["logged"]["val/wer_rise"]
    first, second = (zoo.load(path / "weights").state_dict() for path in (out, run))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_figures_stand_beside_what_they_were() -> None:
    figures = [Figure(name="a", key="a", value=0.1), Figure(name="b", key="b", value=0.2)]
    assert beside(figures, {}) == figures
    both = beside(figures, {"a": 0.3})
    assert [(one.name, one.key, one.value) for one in both] == [
        ("a before training", "before/a", 0.3),
        ("a after training", "a", 0.1),
        ("b", "b", 0.2),
    ]


def test_weights_without_a_tokenizer_beside_them_count_as_trained() -> None:
    data = WhisperDataModule(VARIANTS["whisper-tiny.en"], source="prompts-en", tokenizer="some/folder")
    assert not data.trained  # a tokenizer alone says nothing about weights
    data = WhisperDataModule(VARIANTS["whisper-tiny.en"], source="prompts-en")
    data.start_from(None)
    assert data.trained


def test_the_recipe_starts_from_real_weights_of_its_size() -> None:
    recipe = read_recipe(family_of("whisper"), "finetune")
    found = identify(recipe["weights"])
    assert found.config.architecture() == zoo.get_config(recipe["name"]).architecture()


def test_mistakes_end_with_one_line(pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(tmp_path / "one", pretrained, "--task.written", "-1") == 2
    assert "--task.written is a number of transcripts, not -1" in capsys.readouterr().err
    assert finetune(tmp_path / "two", pretrained, "--data.window", "2") == 2
    assert "--data.window must be from 0.1 to the 1 s that the model hears, not 2" in capsys.readouterr().err
