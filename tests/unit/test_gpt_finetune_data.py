"""Data to fine-tune on: benchmarks' files, tables, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toys.finetuning import CONFIG, SIZES, small_tokenizer, tuned
from zoo.gpt.configs import GptConfig
from zoo.gpt.finetuning.data import FinetuneDataModule
from zoo.gpt.tokenizer import GptTokenizer
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError


def module(tmp_path: Path, source: Any, **settings: Any) -> FinetuneDataModule:
    folder = tmp_path / "tokenizer"
    if not folder.exists():
        folder.mkdir()
        GptTokenizer(small_tokenizer()).save(folder)
    data = FinetuneDataModule(CONFIG, source=str(source), tokenizer=str(folder), **settings)
    data.setup()
    return data


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def lines(header: str | None, *rows: str) -> str:
    return "\n".join(([header] if header else []) + list(rows)) + "\n"


GLUE_FILES = {
    "cola": (None, "gj04\t1\t\tthe cat ran", "gj04\t0\t*\tran cat the", 2),
    "sst-2": ("sentence\tlabel", 'a "good film\t1', "a bad film\t0", 2),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t2\t3\tthe cat\ta cat", "0\t2\t3\tthe dog\thome", 2,
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\tthe cat\ta cat\t1", "2\t4\t5\tdog\thome\t0", 2,
    ),
    "sts-b": (
        "index\tgenre\tsentence1\tsentence2\tscore", "0\tnews\tthe cat\ta cat\t4.250", "1\tnews\tdog\thome\t0.500", 6,
    ),
    "mnli": (
        "index\tsentence1\tsentence2\tlabel1\tgold_label", "0\tthe cat\ta cat\tneutral\tentailment",
        "1\tdog\thome\tneutral\tneutral", 3,
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\tthe cat\ta cat\tentailment", "1\tdog\thome\tnot_entailment", 2),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\tthe cat\ta cat\tentailment", "1\tdog\thome\tnot_entailment", 2),
}  # fmt: skip


@pytest.mark.parametrize("layout", sorted(GLUE_FILES))
def test_glues_files(layout: str, tmp_path: Path) -> None:
    header, one, two, classes = GLUE_FILES[layout]
    folder = tmp_path / layout
    write(folder / "train.tsv", lines(header, one, two, one))
    write(folder / ("dev_matched.tsv" if layout == "mnli" else "dev.tsv"), lines(header, two))
    data = module(tmp_path, folder, layout=layout)
    train, held_out = data.readers
    assert (len(train), len(held_out or ())) == (3, 1)
    assert data.classes == classes
    batch = data.peek(3)
    assert batch["target"].shape == (3, classes)
    assert batch["tokens"].shape[1] == (2 if layout in ("mrpc", "qqp", "sts-b") else 1)
    assert not torch.equal(batch["target"][0], batch["target"][1])
    wanted = {"cola": "matthews", "mrpc": "f1", "qqp": "f1", "sts-b": "pearson"}
    assert data.metric == wanted.get(layout, "accuracy")
    with pytest.raises(UserError, match="no column"):
        module(tmp_path, write(tmp_path / "other.tsv", "x\ty\n1\t2\n"), layout=layout)


def test_quotes_mean_nothing_in_glues_files_and_broken_lines_are_bad_samples(tmp_path: Path) -> None:
    text = lines("sentence\tlabel", 'a "good film\t1', "broken", "a bad film\t0")
    reader = module(tmp_path, write(tmp_path / "train.tsv", text), layout="sst-2").readers[0]
    assert [e.texts[0] for e in reader.examples] == ['a "good film', "", "a bad film"]
    with pytest.raises(BadSample, match="empty"):
        reader.read(1, np.random.default_rng(0))


def test_race_and_story_cloze(tmp_path: Path) -> None:
    passage = {"article": "the cat ran", "questions": ["was it good", "and"], "options": [list("abcd"), list("efgh")],
               "answers": ["C", "A"]}  # fmt: skip
    for part in ("train/middle", "train/high", "dev/high"):
        write(tmp_path / "race" / part / "1.txt", json.dumps(passage))
    data = module(tmp_path, tmp_path / "race", layout="race")
    assert (len(data.readers[0]), len(data.readers[1] or ())) == (4, 2)
    assert data.classes == 1
    assert data.peek(1)["tokens"].shape[:2] == (1, 4)
    assert data.peek(2)["target"].argmax(-1).tolist() == [2, 0]

    header = "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,"
    text = lines(header + "RandomFifthSentenceQuiz2,AnswerRightEnding", "x,a,b,c,d,good,bad,2", "y,e,f,g,h,bad,good,1")
    cloze = module(tmp_path, write(tmp_path / "cloze.csv", text), layout="story-cloze", held_out=0.0)
    assert cloze.readers[0].examples[0].texts == ("a b c d", "good", "bad")
    assert cloze.peek(2)["target"].argmax(-1).tolist() == [1, 0]


def test_tables_of_ones_own(tmp_path: Path) -> None:
    rows = [{"context": "the cat", "choices": ["ran", "sat", "home"][: 2 + i % 2], "label": "sat"} for i in range(6)]
    source = write(tmp_path / "own.jsonl", "\n".join(map(json.dumps, rows)))
    data = module(tmp_path, source, kind="multiple-choice", held_out=0.0)
    batch = data.peek(2)
    assert batch["tokens"].shape[:2] == (2, 3)
    assert (batch["lengths"] > 0).tolist() == [[True, True, False], [True] * 3]
    assert data.count(batch) == {"items": 2, "sequences": 5}

    # The item with the most answers has an empty one, so it is left out; the batch fits the targets all the same.
    rows.append({"context": "the cat", "choices": ["ran", "sat", "home", "away", ""], "label": "sat"})
    data = module(tmp_path, write(tmp_path / "gap.jsonl", "\n".join(map(json.dumps, rows))), kind="multiple-choice",
                  held_out=0.0)  # fmt: skip
    batch = data.peek(7)
    assert batch["tokens"].shape[:2] == batch["target"].shape == (6, 5)
    assert np.isfinite(tuned(1).sums(batch).classification.item())

    pairs = write(tmp_path / "pairs.csv", "one,two,how\nthe cat,a cat,4.5\ndog,home,1\n")
    data = module(
        tmp_path, pairs, kind="similarity", columns=("one", "two"), label_column="how", scores=(0, 5), held_out=0.0
    )
    assert data.labels == tuple("012345")
    assert data.metric == "pearson"


def test_mistakes_are_said_in_one_line(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "text,label\nthe cat,good\nthe dog,bad\na film,good\n")
    for message, source, settings in (
        ("--data.kind 'tagging' is unknown; use classification", table, {"kind": "tagging"}),
        ("no column 'premise'; it has text, label", table, {"kind": "entailment"}),
        ("layout 'wnli' is unknown", table, {"layout": "wnli"}),
        ("label 'bad'; the known ones are good, fine", table, {"labels": ("good", "fine")}),
        ("only the label 'good'", write(tmp_path / "u.csv", "text,label\na,good\nb,good\n"), {}),
        ("is empty", write(tmp_path / "v.csv", "text,label\n"), {}),
        ("no such file", tmp_path / "missing.csv", {}),
        ("is a folder; say what it holds", tmp_path, {}),
        ("has no label in column", write(tmp_path / "w.csv", "text,label\na,\n"), {}),
        ("are 2: premise, hypothesis", table, {"kind": "entailment", "columns": ("text",)}),
        ("leave out --data.labels", table, {"labels": ("0", "1"), "scores": (0, 1)}),
        ("leave out --data.labels", table, {"labels": ("0", "1"), "layout": "sts-b"}),
        ("movie-reviews are for classification", "movie-reviews", {"kind": "similarity"}),
        ("movie-reviews are for classification", "movie-reviews", {"kind": "multiple-choice"}),
        ("--data.layout is for files", "movie-reviews", {"layout": "rte"}),
        ("--data.held_out_source is for files", "sentences", {"held_out_source": str(table)}),
    ):
        with pytest.raises(UserError, match=message):
            module(tmp_path, source, held_out=0.0, **settings)
    choice = write(tmp_path / "c.jsonl", json.dumps({"context": "a", "choices": ["b", "c"], "label": "d"}))
    with pytest.raises(UserError, match="'d' is none of its 2 answers"):
        module(tmp_path, choice, kind="multiple-choice")
    wrong = GptConfig(**SIZES | {"vocab_size": 280})
    with pytest.raises(UserError, match="300 ids but the model only 280"):
        FinetuneDataModule(wrong, source=str(table), tokenizer=str(tmp_path / "tokenizer")).setup()
    headed = GptConfig(**SIZES | {"classes": 5})
    with pytest.raises(UserError, match="the head has 5 outputs"):
        FinetuneDataModule(headed, source=str(table), tokenizer=str(tmp_path / "tokenizer")).setup()


def test_long_texts_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = write(tmp_path / "t.csv", f"text,label\n{'the cat ran home ' * 30},good\nthe dog,bad\n")
    with caplog.at_level("INFO", logger="zoo"):
        data = module(tmp_path, table, held_out=0.0)
    assert data.cut == (1, 0)
    assert "1 of 2 items are longer than the context and were cut" in caplog.text
    assert "trains from scratch" in caplog.text
    assert data.peek(2)["tokens"].shape[-1] == 24


def test_a_text_that_comes_twice_is_on_one_side_of_the_split(tmp_path: Path) -> None:
    rows = [f"text {i % 40},{'good' if i % 2 else 'bad'}" for i in range(200)]
    train, held_out = module(tmp_path, write(tmp_path / "t.csv", lines("text,label", *rows)), held_out=0.3).readers
    assert held_out is not None
    assert not {e.texts for e in train.examples} & {e.texts for e in held_out.examples}
    assert len(train) + len(held_out) == 200
