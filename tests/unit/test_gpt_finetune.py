"""Fine-tuning: sequences, losses, new rows, metrics, heuristics and the LSTM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from toys.finetuning import CONFIG, MARKS, SIZES, small_tokenizer, tuned
from zoo.gpt.configs import GptConfig
from zoo.gpt.evaluation.heuristics import Tasks, cross_fitted_matthews, generated_schemas, heuristic_scores
from zoo.gpt.evaluation.winograd import Schema
from zoo.gpt.finetuning.inputs import FinetuneTokenizer, pad, sequences, with_marks
from zoo.gpt.finetuning.lstm import LstmTwin
from zoo.gpt.finetuning.metrics import measure
from zoo.gpt.finetuning.sources import Example
from zoo.gpt.finetuning.targets import targets
from zoo.gpt.finetuning.task import FinetuneTask, extend, finetune_schedule, keep_blocks, language_loss_sum
from zoo.gpt.model import GPT
from zoo.gpt.tokenizer import GptTokenizer
from zoo.shared.errors import UserError


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
