"""Prompts of the GPT papers' evaluations: demonstrations, generated tasks, and how answers are compared."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.gpt.evaluation.arithmetic import TASKS, demonstrations, problems
from zoo.gpt.evaluation.choices import choose, encode_pair
from zoo.gpt.evaluation.detokenizers import DETOKENIZERS
from zoo.gpt.evaluation.exam import Exam, protocol
from zoo.gpt.evaluation.free_form import exact_match, f1, jackknife_error, sentences
from zoo.gpt.evaluation.prompts import Item, build_prompts, draw_demonstrations
from zoo.gpt.evaluation.reading import leave_one_out
from zoo.gpt.evaluation.summarisation import random_sentences
from zoo.gpt.evaluation.words import cycled, frequent_words, interrupted, read_words, scrambled, shuffled
from zoo.gpt.scoring import continuation_losses
from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe

POOL = [Item(prompt=f"Q: {i}? A:", answers=(f" {i}",)) for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_byte_level_bpe(["Q: What is 12? A: 12\n\nthe cat sat on the mat"], 270)


@pytest.fixture(scope="module")
def exam(tokenizer: Any) -> Exam:
    torch.manual_seed(0)
    model = zoo.create_model("gpt-debug", vocab_size=300, context=32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Exam(model=model, tokenizer=tokenizer)


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_demonstrations_follow_from_seed_and_item() -> None:
    drawn = draw_demonstrations(POOL[3], 3, POOL, 10, 0)
    assert drawn == draw_demonstrations(POOL[3], 3, POOL, 10, 0)
    assert drawn[:4] == draw_demonstrations(POOL[3], 3, POOL, 4, 0)
    assert drawn != draw_demonstrations(POOL[3], 3, POOL, 10, 1)
    assert drawn != draw_demonstrations(POOL[3], 4, POOL, 10, 0)
    everything = draw_demonstrations(POOL[3], 3, POOL, 100, 0)
    assert sorted(item.prompt for item in everything) == sorted(item.prompt for item in POOL if item != POOL[3])
    firsts = Counter(draw_demonstrations(POOL[0], n, POOL, 1, 0)[0].prompt for n in range(4000))
    assert len(firsts) == 39
    assert max(firsts.values()) < 160  # 103 each on average


def test_prompts_hold_as_many_as_fit(tokenizer: Any) -> None:
    (whole,) = build_prompts(tokenizer, POOL[:1], POOL, shots=2, room=1000, separator="\n", description="Copy.")
    lines = whole.text.split("\n")
    assert lines[0] == "Copy."
    assert len(lines) == 4
    assert all(line in {item.shown for item in POOL[1:]} for line in lines[1:3])
    assert lines[3] == "Q: 0? A:"
    assert tokenizer.decode(whole.tokens) == whole.text
    room = 60
    (cut,) = build_prompts(tokenizer, POOL[:1], POOL, shots=30, room=room)
    assert 0 < cut.shots < 30
    assert len(cut.tokens) <= room
    (more,) = build_prompts(tokenizer, POOL[:1], POOL, shots=cut.shots + 1, room=1000)
    assert len(more.tokens) > room
    assert more.text.endswith("\n\nQ: 0? A:")


def test_prompts_that_cannot_be() -> None:
    bytes_only = train_byte_level_bpe(["x"], 257)
    with pytest.raises(UserError, match="not even one demonstration fits into the 12 tokens"):
        build_prompts(bytes_only, POOL[:1], POOL, shots=3, room=12)
    with pytest.raises(UserError, match="no other item"):
        build_prompts(bytes_only, POOL[:1], POOL[:1], shots=1, room=100)
    with pytest.raises(UserError, match="one or two newlines"):
        build_prompts(bytes_only, POOL[:1], POOL, shots=1, room=100, separator=" ")
    assert build_prompts(bytes_only, POOL[:1], [], shots=0, room=100)[0].text == "Q: 0? A:"


@pytest.mark.parametrize("task", list(TASKS))
def test_arithmetic_is_right(task: str) -> None:
    items = problems(task)
    assert len(items) == 2000
    assert items[:9] == problems(task, 9)
    assert items != problems(task, seed=1)
    signs = {"plus": "+", "minus": "-", "times": "*"}
    numbers = []
    for item in items:
        expression = item.prompt.removeprefix("Q: What is ").removesuffix("? A:")
        for word, sign in signs.items():
            expression = expression.replace(f" {word} ", f" {sign} ")
        assert f" {eval(expression)}" == item.answers[0]
        numbers += [int(part) for part in expression.replace("(", " ").replace(")", " ").split() if part.isdigit()]
        if task == "1DC":
            assert expression[1] in "+-*"
            assert expression[2] == "("
            assert expression[4] in "+-*"
    if task != "1DC":
        top = 10 ** TASKS[task][1]
        assert len(numbers) == 4000
        assert max(numbers) < top
        assert abs(np.mean(numbers) / top - 0.5) < 0.02  # uniform, so not only numbers of full length
    shown = demonstrations(task, items)
    assert not {item.prompt for item in shown} & {item.prompt for item in items}
    assert shown
    assert any(item.answers[0].startswith(" -") for item in items) == ("-" in task or task == "1DC")


def test_words_are_scrambled_as_described() -> None:
    generator = random.Random(0)
    word = "reciprocal"
    turns = {cycled(word, generator) for _ in range(200)}
    assert turns == {word[i:] + word[:i] for i in range(1, 10)}
    for kept in (1, 2):
        mixed = [shuffled(word, generator, kept) for _ in range(50)]
        assert all(one[:kept] == word[:kept] and one[-kept:] == word[-kept:] for one in mixed)
        assert all(sorted(one) == sorted(word) for one in mixed)
        assert len(set(mixed)) > 40
    broken = interrupted(word, generator)
    assert broken[::2] == word
    assert not any(sign.isalnum() for sign in broken[1::2])
    assert scrambled("RW", [word])[0] == Item(prompt="lacorpicer =", answers=(" reciprocal",))
    assert scrambled("A1", [word]) == scrambled("A1", ["other", word])[1:]


def test_word_lists(tmp_path: Path) -> None:
    text = "House house HOUSE apple Apple tree cat banana internationalization e2e2e"
    assert frequent_words([text]) == ["house", "apple", "banana"]
    assert frequent_words([text], 1) == ["house"]
    assert read_words(written(tmp_path, "w", "the\nhouse\napple\nhouse\nit's\n")) == ["house", "apple"]
    with pytest.raises(UserError, match="one word on each line"):
        read_words(written(tmp_path, "x", "house 12\n"))
    with pytest.raises(UserError, match="holds 1 words"):
        read_words(written(tmp_path, "y", "house\n"))


def test_answers_are_compared_as_in_squad() -> None:
    assert exact_match("The  Eiffel-Tower!", ["eiffeltower"])
    assert not exact_match("towers", ["tower"])
    assert f1("a red cat", ["the red dog", "nothing"]) == pytest.approx(0.5)
    assert f1("the cat", ["cat"]) == 1
    assert f1("", ["cat"]) == 0
    assert f1("the", ["an"]) == 1  # both have no word left
    assert leave_one_out(exact_match, "cat", ("cat", "dog")) == 0.5
    assert leave_one_out(exact_match, "cat", ("cat",)) == 1


def test_sentences_are_found() -> None:
    assert sentences('He said "Go." Then left!  Why?\nNo end') == ['He said "Go.', "Then left!", "Why?", "No end"]
    article = "One. Two. Three. Four. Five."
    for seed in range(20):
        places = [article.index(part) for part in random_sentences(article, random.Random(seed)).split()]
        assert len(places) == 3
        assert places == sorted(places)


def test_the_error_of_a_mean_by_leaving_out() -> None:
    values = np.random.default_rng(0).normal(size=20)
    error = jackknife_error(lambda chosen: float(values[chosen].mean()), 20)
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    assert jackknife_error(lambda chosen: 1.0, 1) is None


def test_choices_by_the_three_rules(exam: Exam, tokenizer: Any) -> None:
    contexts, choices = ["the cat sat", "Q: What"], [[" on the mat", " on", " 12"], [" is the cat", " cat"]]
    for rule in ("mean", "sum", "answer context"):
        scores = []
        for context, texts in zip(contexts, choices, strict=True):
            row = []
            for text in texts:
                (losses,) = continuation_losses(exam.model, [tokenizer.encode(context)], [tokenizer.encode(text)])
                value = -losses.mean() if rule == "mean" else -losses.sum()
                if rule == "answer context":
                    value += continuation_losses(exam.model, [tokenizer.encode("A:")], [tokenizer.encode(text)])[
                        0
                    ].sum()
                row.append(value)
            scores.append(row)
        found = choose(exam, contexts, choices, rule=rule, answer_context="A:")
        for one, two in zip(found.scores, scores, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4)
        assert found.best.tolist() == [int(np.argmax(row)) for row in scores]
    with pytest.raises(UserError, match="rule 'median'"):
        choose(exam, contexts, choices, rule="median")


def test_pairs_are_split_at_words(tokenizer: Any) -> None:
    before, after = encode_pair(tokenizer, "the cat ", "sat")
    assert tokenizer.decode(before) == "the cat"
    assert tokenizer.decode(after) == " sat"
    assert before + after == tokenizer.encode("the cat sat")
    assert encode_pair(tokenizer, "", "the")[0] == []


def test_a_protocol_is_named_by_all_that_decides_it(exam: Exam) -> None:
    one = protocol(exam, template="x", scoring="mean")
    assert one == protocol(exam, scoring="mean", template="x")
    assert one["id"] == one["sha256"][:8]
    assert one["tokenizer"]["fingerprint"] == exam.tokenizer.fingerprint
    other = SimpleNamespace(name="bpe", fingerprint="0" * 16, vocab_size=270)
    changed = [
        protocol(exam, template="y", scoring="mean"),
        protocol(exam, template="x", scoring="sum"),
        protocol(Exam(model=exam.model, tokenizer=exam.tokenizer, seed=1), template="x", scoring="mean"),
        protocol(Exam(model=exam.model, tokenizer=other), template="x", scoring="mean"),
    ]
    assert len({found["sha256"] for found in (one, *changed)}) == 5
    with pytest.raises(UserError, match="301 ids but the model only 300"):
        Exam(model=exam.model, tokenizer=SimpleNamespace(name="gpt2", vocab_size=301))
    names = [detokenizer.named()["sha256"] for detokenizer in DETOKENIZERS.values()]
    assert len(set(names)) == 3
