"""Scores of GPT against `transformers` with random weights, and LAMBADA against a slow computation written here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from toys.gpts import reference as model_of_theirs
from zoo.gpt.evaluation.exam import Exam
from zoo.gpt.evaluation.free_form import bleu, rouge, torch_bleu
from zoo.gpt.evaluation.lambada import CANDIDATES, first_word, lambada
from zoo.gpt.evaluation.stop_words import STOP_WORDS
from zoo.gpt.scoring import continuation_losses, likeliest_next, score_continuations, text_losses
from zoo.shared.text.bpe_training import train_byte_level_bpe

CONTEXT = 32
TEXT = (
    "The old man walked slowly to the harbour and looked for his little boat. The boat was gone, and the harbour was "
    "empty. He asked the children where the boat had gone, but nobody of the children had seen it go. "
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_byte_level_bpe([TEXT * 3], 300)


@pytest.fixture(scope="module")
def pair(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The same random weights in both libraries, large enough to prefer some tokens clearly."""
    sizes = {"n_positions": CONTEXT, "n_embd": 64, "n_layer": 2, "n_head": 2}
    ends = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
    theirs = model_of_theirs("gpt2", scale=0.15, vocab_size=tokenizer.vocab_size, **sizes, **ends)
    folder = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(folder)
    return theirs, zoo.load(folder).eval()


@torch.no_grad()
def reference(theirs: Any, context: list[int], continuation: list[int]) -> np.ndarray:
    row = torch.tensor([context + continuation])
    logs = theirs(row[:, :-1]).logits.double().log_softmax(-1)[0]
    return np.array([-float(logs[len(context) - 1 + i, token]) for i, token in enumerate(continuation)])


def test_continuations_of_all_lengths(pair: Any, tokenizer: Any) -> None:
    theirs, ours = pair
    generator = np.random.default_rng(0)
    sizes = [(1, 1), (5, 3), (20, 12), (32, 1), (1, 32), (7, 7), (2, 9)]
    contexts = [generator.integers(0, tokenizer.vocab_size, size=n).tolist() for n, _ in sizes]
    continuations = [generator.integers(0, tokenizer.vocab_size, size=n).tolist() for _, n in sizes]
    found = continuation_losses(ours, contexts, continuations, batch_size=3)
    for context, continuation, losses in zip(contexts, continuations, found, strict=True):
        np.testing.assert_allclose(losses, reference(theirs, context, continuation), rtol=1e-5, atol=1e-5)


def test_long_contexts_lose_their_beginning(pair: Any, tokenizer: Any) -> None:
    theirs, ours = pair
    long = np.random.default_rng(1).integers(0, tokenizer.vocab_size, size=60).tolist()
    scores = score_continuations(ours, [long, long[:3]], [[5, 6, 7], [8]])
    assert scores.truncated == 1
    np.testing.assert_allclose(scores.losses[0], reference(theirs, long[-30:], [5, 6, 7]), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_greedy_marks_and_likeliest_tokens(pair: Any, tokenizer: Any) -> None:
    theirs, ours = pair
    contexts = [tokenizer.encode(TEXT)[: 4 + i] for i in range(6)]
    written = []
    for context in contexts:
        row = list(context)
        for _ in range(4):
            row.append(int(theirs(torch.tensor([row])).logits[0, -1].argmax()))
        written.append(row[len(context) :])
    spoiled = [[*row[:2], (row[2] + 1) % tokenizer.vocab_size, row[3]] for row in written]
    assert score_continuations(ours, contexts, written).all_greedy().all()
    marks = score_continuations(ours, contexts, spoiled).greedy
    assert all(mark[:2].all() and not mark[2] for mark in marks)
    best = likeliest_next(ours, contexts, 5, vocab_size=tokenizer.vocab_size, batch_size=4)
    for context, row in zip(contexts, best, strict=True):
        assert row.tolist() == theirs(torch.tensor([context])).logits[0, -1].topk(5).indices.tolist()


@pytest.mark.parametrize("stride", [None, 1, 10])
def test_windows_predict_every_token_once(pair: Any, tokenizer: Any, stride: int | None) -> None:
    theirs, ours = pair
    text = TEXT[:150]
    row = [tokenizer.end_of_text, *tokenizer.encode(text)]
    step, total, place = stride or CONTEXT, 0.0, 1
    while place < len(row):
        end = min(len(row), place + (CONTEXT if place == 1 else step))
        total += reference(theirs, row[max(0, end - 1 - CONTEXT) : place], row[place:end]).sum()
        place = end
    found = text_losses(ours, tokenizer, [text, TEXT[:20]], stride=stride)
    assert found.tokens[0] == len(row) - 1 > 2 * CONTEXT
    assert found.nats[0] == pytest.approx(total, rel=1e-5)
    assert found.bytes.tolist() == [150, 20]
    assert found.bits_per_byte == pytest.approx(found.nats.sum() / math.log(2) / 170)


@torch.no_grad()
def slow_word(theirs: Any, tokenizer: Any, context: list[int]) -> str:
    """The next word that is no stop word: each first token in order of its logit, completed token by token."""

    def step(row: list[int]) -> torch.Tensor:
        return theirs(torch.tensor([row[-CONTEXT:]])).logits[0, -1, : tokenizer.vocab_size]

    for first in step(context).topk(CANDIDATES).indices.tolist():
        row = [*context, first]
        for _ in range(5):
            row.append(int(step(row).argmax()))
            if row[-1] == tokenizer.end_of_text:
                row.pop()
                break
        word = first_word(tokenizer.decode(row[len(context) :]))
        if word and word.lower() not in STOP_WORDS:
            return word
    return ""


def test_lambada_by_a_slow_computation(pair: Any, tokenizer: Any, tmp_path: Path) -> None:
    theirs, ours = pair
    words = TEXT.split()
    rows = [(" ".join(words[i : i + 6]), words[i + 6].strip(".,")) for i in range(0, 24, 2)]
    # Make some of them right, so that both accuracies are neither 0 nor 1.
    rows += [
        (context, said) for context, _ in rows[:5] if (said := slow_word(theirs, tokenizer, tokenizer.encode(context)))
    ]
    with torch.no_grad():
        for context, _ in rows[:12]:
            row = tokenizer.encode(context)
            said = tokenizer.decode([int(theirs(torch.tensor([row])).logits[0, -1].argmax())])
            if said.startswith(" ") and said.strip():
                rows.append((context, said.strip()))
    path = tmp_path / "lambada.jsonl"
    path.write_text("".join(json.dumps({"text": f"{context} {word}"}) + "\n" for context, word in rows))
    result = lambada(Exam(model=ours, tokenizer=tokenizer, data=path))
    nats, right, filtered = [], [], []
    for context, word in rows:
        before, after = tokenizer.encode(context), tokenizer.encode(f" {word}")
        nats.append(reference(theirs, before, after).sum())
        row, marks = list(before), []
        with torch.no_grad():
            for token in after:
                marks.append(int(theirs(torch.tensor([row])).logits[0, -1].argmax()) == token)
                row.append(token)
        right.append(all(marks))
        filtered.append(slow_word(theirs, tokenizer, before) == word)
    perplexity, plain, passed = result.figures
    assert perplexity.value == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)
    assert plain.value == pytest.approx(np.mean(right))
    assert passed.value == pytest.approx(np.mean(filtered))
    assert 0 < passed.value < 1


def test_metrics_are_those_of_the_reference_libraries() -> None:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    said = ["the cat sat on the mat today", "a small dog, it barked at the moon!", "nothing in common here at all"]
    wanted = ["the cat sat on a mat today", "the small dog barked at the moon!", "quite another sentence was wanted"]
    expected = sacrebleu.corpus_bleu(said, [wanted], smooth_method="none").score
    assert bleu(said, wanted) == pytest.approx(expected)
    assert torch_bleu(said, wanted) == pytest.approx(expected, abs=1e-3)
    assert expected > 10
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for one, two in zip(said, wanted, strict=True):
        theirs = scorer.score(two, one)
        for name, value in rouge(one, two).items():
            assert value == pytest.approx(theirs[name].fmeasure, abs=1e-6)
