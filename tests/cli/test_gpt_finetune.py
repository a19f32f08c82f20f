"""``zoo train gpt --recipe finetune-smoke`` and ``zoo ablate gpt``: from pre-trained weights to a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.gpt.finetuning.inputs import FinetuneTokenizer, pad
from zoo.gpt.finetuning.sources import generated
from zoo.gpt.finetuning.task import FinetuneTask

CPU = ["--trainer.accelerator", "cpu"]


def finetune(out: Path, *words: str) -> int:
    return main(["train", "gpt", "--recipe", "finetune-smoke", *CPU, "--out", str(out), *words])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    words = ["--trainer.max_steps", "2", "--report", "false", "--checkpoint_every", "1"]
    assert main(["train", "gpt", "--recipe", "smoke", *CPU, *words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def run(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "finetuned"
    assert finetune(out, "--weights", str(pretrained / "weights")) == 0
    return out


def test_a_run_begins_with_the_pretrained_weights_and_leaves_a_model_that_can_be_used(
    run: Path, pretrained: Path
) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["steps"] == 20
    assert set(metrics["figures"]) == {"accuracy", "f1", "matthews"}
    assert (run / "samples" / "held_out.png").stat().st_size > 5000
    model, before = zoo.load(run / "weights"), zoo.load(pretrained / "weights")
    assert (model.config.vocab_size, model.config.classes) == (before.config.vocab_size + 3, 2)
    assert zoo.load(run / "checkpoints" / "00000010.ckpt").config == model.config
    tokenizer = FinetuneTokenizer.load(run / "weights", model.config)
    text = "the cat was bright"
    assert tokenizer.encode(text) == zoo.create_preprocessor(pretrained / "weights").encode(text)

    # What the report measured can be measured again from the files alone.
    from zoo.gpt.finetuning.data import FinetuneDataModule

    data = FinetuneDataModule(before.config, source="sentences", tokenizer=str(pretrained / "weights"))
    data.setup()
    reader, task, hits = data.readers[1], FinetuneTask(model).eval(), 0
    assert reader is not None
    for example in reader.examples:
        rows = tokenizer.inputs(example.texts, model.config.context)
        tokens, lengths = (torch.from_numpy(part)[None] for part in pad(rows, count=1, length=len(rows[0]), fill=0))
        with torch.no_grad():
            logits = task.read_out(model.hidden(tokens[0])[None], lengths)
        hits += tokenizer.labels[int(logits.argmax())] == example.label
    assert hits / len(reader.examples) == pytest.approx(metrics["figures"]["accuracy"])


def test_a_resumed_run_ends_with_the_same_bits(run: Path, pretrained: Path, tmp_path: Path) -> None:
    import shutil

    halfway = tmp_path / "resumed"
    shutil.copytree(run, halfway)
    shutil.rmtree(halfway / "weights")
    (halfway / "metrics.json").unlink()
    (halfway / "checkpoints" / "00000020.ckpt").unlink()
    assert main(["train", "--resume", str(halfway)]) == 0
    one, two = zoo.load(run / "weights").state_dict(), zoo.load(halfway / "weights").state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_accumulation_is_exact_though_items_have_different_numbers_of_answers(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for number, example in enumerate(generated("multiple-choice", 160)):
        further = [f"the song was {word}" for word in ("long", "short", "loud")][: number % 4]
        rows.append({"context": example.texts[0], "choices": [*example.texts[1:], *further], "label": example.label})
    source = tmp_path / "items.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    found = []
    for name, size, window in (("whole", 16, 1), ("parts", 4, 4)):
        words = ["--data.source", str(source), "--data.kind", "multiple-choice", "--task.dropout", "0"]
        words += ["--task.eps", "1e-3", "--trainer.max_steps", "4", "--report", "false", "--audit", "false"]
        words += ["--data.batch_size", str(size), "--trainer.accumulate_grad_batches", str(window)]
        assert finetune(tmp_path / name, *words, "--trainer.limit_val_batches", "0") == 0
        found.append(zoo.load(tmp_path / name / "weights").state_dict())
    start = zoo.create_model("gpt-debug").state_dict()
    moved = max(float((found[0][key] - start[key]).abs().max()) for key in start if "blocks" in key)
    for key, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][key], rtol=0, atol=1e-5)
    assert moved > 1e-3


def test_the_settings_of_the_ablations_can_be_compared_in_one_run(pretrained: Path, tmp_path: Path) -> None:
    compare = '{"no auxiliary LM": {"task": {"lm_weight": 0}}, "one block": {"task": {"copied_blocks": 1}}}'
    words = ["--weights", str(pretrained / "weights"), "--compare", compare, "--trainer.max_steps", "2"]
    words += ["--trainer.log_every_n_steps", "1"]
    assert finetune(tmp_path / "run", *words) == 0
    folder = tmp_path / "run" / "compare"
    assert (folder / "one block" / "metrics.json").is_file()
    with (folder / "no auxiliary LM" / "metrics.csv").open(newline="") as file:
        values = [float(row["train/language"]) for row in csv.DictReader(file) if row.get("train/language")]
    assert not any(values)


@pytest.mark.parametrize("kind", ["entailment", "similarity", "multiple-choice"])
def test_the_other_kinds_train(kind: str, tmp_path: Path) -> None:
    assert finetune(tmp_path / kind, "--data.kind", kind, "--trainer.max_steps", "2") == 0
    figures = json.loads((tmp_path / kind / "metrics.json").read_text())["figures"]
    assert 0 <= figures["accuracy"] <= 1


def test_mistakes_end_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--data.kind", "tagging"], "--data.kind 'tagging' is unknown"),
        (["--data.source", str(tmp_path / "none.csv")], "no such file"),
        (["--task.copied_blocks", "9"], "--task.copied_blocks must be from 0"),
    ):
        assert finetune(tmp_path / words[0].replace(".", ""), *words) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("zoo: ")
        assert message in error


def test_the_ablations_draw_their_table_and_go_on_where_they_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ablations"
    words = ["ablate", "gpt", "gpt-debug", "--source", "sentences", "--items", "64", "--epochs", "1"]
    words += ["--pretrain-steps", "2", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [row["arm"] for row in found["arms"]]
    assert names == ["full", "no-pretraining", "no-auxiliary", "lstm", "blocks-0", "blocks-1"]
    assert (out / "ablations.png").stat().st_size > 10_000
    (out / "lstm.json").unlink()
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "LSTM with auxiliary LM" in shown.out
    assert "[4/6]" in shown.err
    assert "[1/6]" not in shown.err
    assert main([*words[:-1], str(out), "--items", "32"]) == 2
    assert "results of other settings" in capsys.readouterr().err


def test_the_heuristics_over_the_checkpoints_of_a_run(pretrained: Path, tmp_path: Path) -> None:
    from zoo.gpt.evaluation.heuristics import Tasks, draw, generated_schemas, over_checkpoints
    from zoo.shared.errors import UserError

    points = over_checkpoints(pretrained, Tasks(pronouns=generated_schemas()))
    assert [step for step, _ in points] == [1, 2]
    assert points[0][1]["pronouns"].count == 30
    draw(points, tmp_path / "heuristics.png")
    assert (tmp_path / "heuristics.png").stat().st_size > 5000
    with pytest.raises(UserError, match="has no checkpoints"):
        over_checkpoints(tmp_path)
