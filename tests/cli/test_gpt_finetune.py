"""``zoo train gpt --recipe finetune-smoke`` and ``zoo ablate gpt``: from pre-trained weights to a table."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.gpt.finetuning.inputs import FinetuneTokenizer, pad
from zoo.gpt.finetuning.sources import generated
from zoo.gpt.finetuning.task import FinetuneTask
from zoo.shared.text.prepare import is_held_out

CPU = ["--trainer.accelerator", "cpu"]


def finetune(out: Path, *words: str) -> int:
    return main(["train", "gpt", "--recipe", "finetune-smoke", *CPU, "--out", str(out), *words])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    words = ["--trainer.max_steps", "3", "--report", "false", "--checkpoint_every", "1", "--keep_checkpoints", "0"]
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

    assert measured_again(run, "classification") == pytest.approx(metrics["figures"]["accuracy"])


def measured_again(run: Path, kind: Any) -> float:
    """Accuracy on the held-out sentences, from the saved weights and tokenizer alone."""
    model = zoo.load(run / "weights")
    tokenizer = FinetuneTokenizer.load(run / "weights", model.config)
    labels = tokenizer.labels or ("0", "1")  # of multiple choice: the numbers of the answers
    examples = [example for example in generated(kind) if is_held_out(example.texts[0], 0.1)]
    task, hits = FinetuneTask(model).eval(), 0
    for example in examples:
        rows = tokenizer.inputs(example.texts, model.config.context)
        padded = pad(rows, count=len(rows), length=max(map(len, rows)), fill=0)
        tokens, lengths = (torch.from_numpy(part)[None] for part in padded)
        with torch.no_grad():
            logits = task.read_out(model.hidden(tokens[0])[None], lengths)
        hits += labels[int(logits.argmax())] == example.label
    return hits / len(examples)


def test_only_the_newest_checkpoints_stay_unless_asked_for(pretrained: Path, tmp_path: Path, capsys: Any) -> None:
    assert len(list((pretrained / "checkpoints").iterdir())) == 3
    words = ["--trainer.max_steps", "4", "--report", "false", "--audit", "false", "--checkpoint_every", "1"]
    words += ["--trainer.limit_val_batches", "0"]
    for keep, steps in ((None, [3, 4]), ("1", [4])):
        out = tmp_path / str(keep)
        assert finetune(out, *words, *(["--keep_checkpoints", keep] if keep else [])) == 0
        assert sorted(int(path.stem) for path in (out / "checkpoints").iterdir()) == steps
    assert finetune(tmp_path / "none", "--keep_checkpoints", "-1") == 2
    assert "--keep_checkpoints must be 0" in capsys.readouterr().err


def test_a_resumed_run_ends_with_the_same_bits(run: Path, pretrained: Path, tmp_path: Path) -> None:
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
    assert figures["accuracy"] == pytest.approx(measured_again(tmp_path / kind, kind))


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
    assert f"over {found['held_out_items']} held-out items: its standard error is" in shown.out
    assert "[4/6]" in shown.err
    assert "[1/6]" not in shown.err
    assert main([*words[:-1], str(out), "--items", "32"]) == 2
    assert "results of other settings" in capsys.readouterr().err


def test_the_ablations_refuse_before_they_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "one.csv"
    one.write_text("text,label\nthe cat,good\n")
    words = ["ablate", "gpt", "gpt-debug", "--out", str(tmp_path / "out")]
    for further, message in (
        (["--source", str(tmp_path / "missing.csv")], "missing.csv: no such file"),
        (["--source", str(one)], "nothing is held out; give --held-out-source"),
        (["--source", "sentences", "--weights", str(tmp_path / "none")], "no weights at"),
        (["--lr", "-1"], "--lr -1: it must be above 0"),
        (["--kind", "similarity"], "movie-reviews are for classification"),
    ):
        assert main([*words, *further]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()  # so that the corrected command may use it


def test_the_ablations_take_weights_of_the_hub(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call neither trains the LSTM twin again nor looks for a folder called hf:..."""
    from zoo.gpt.finetuning import ablations
    from zoo.shared.convert import source

    asked: list[str] = []

    def download(name: str) -> Path:
        asked.append(name)
        return pretrained / "weights"

    monkeypatch.setattr(source, "_download", download)
    chosen = [arm for arm in ablations.arms(1) if arm.key in ("full", "lstm")]
    monkeypatch.setattr(ablations, "arms", lambda depth: chosen)
    config = zoo.load(pretrained / "weights").config
    plan = ablations.Plan(
        config=config, data={"source": "sentences", "limit": 32}, epochs=1, pretrain_steps=2, weights="hf:us/gpt"
    )
    said: list[str] = []
    first = ablations.run(plan, tmp_path, progress=said.append)
    assert [line.partition(" for")[0] for line in said] == ["pre-training the LSTM twin", "[1/2] pre-training and "
                                                            "auxiliary LM", "[2/2] LSTM with auxiliary LM"]  # fmt: skip
    (tmp_path / "full.json").unlink()
    said.clear()
    second = ablations.run(plan, tmp_path, progress=said.append)
    assert said == ["[1/2] pre-training and auxiliary LM"]
    assert second[0].figures == first[0].figures
    assert set(asked) == {"us/gpt"}


def test_the_heuristics_over_the_checkpoints_of_a_run(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.gpt.evaluation.heuristics import Tasks, draw, generated_schemas, over_checkpoints
    from zoo.shared.errors import UserError

    points = over_checkpoints(pretrained, Tasks(pronouns=generated_schemas()))
    assert [step for step, _ in points] == [1, 2, 3]
    assert points[0][1]["pronouns"].count == 30
    draw(points, tmp_path / "heuristics.png")
    assert (tmp_path / "heuristics.png").stat().st_size > 5000
    with pytest.raises(UserError, match="has no checkpoints"):
        over_checkpoints(tmp_path)

    words = ["eval", "gpt", "--benchmark", "heuristics", "--run", str(pretrained), "--limit", "8", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["step"] for point in found["steps"]] == [1, 2, 3]
    last = {name: score["value"] for name, score in found["steps"][-1]["scores"].items()}  # the run's own weights
    assert last == {figure["name"]: figure["value"] for figure in found["benchmarks"]["heuristics"]["figures"]}
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == found
    assert (tmp_path / "out" / "heuristics.png").stat().st_size > 5000
    few = tmp_path / "few"
    shutil.copytree(pretrained, few)
    (few / "checkpoints" / "00000001.ckpt").unlink()
    assert main(["eval", "gpt", "--benchmark", "heuristics", "--run", str(few), *words[6:], "--out", str(few)]) == 0
    assert "only 2 checkpoints" in capsys.readouterr().err
    for further, message in (([], "say where with --out DIR"), (["--out", str(tmp_path / "o")], "has no checkpoints")):
        assert main([*(words if not further else [*words[:5], str(tmp_path)]), *further]) == 2
        assert message in capsys.readouterr().err
