"""Scores of continuations and texts: order, marks, and what cannot be scored."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.gpt.scoring import continuation_losses, score_continuations, text_losses, text_windows
from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe

V = 300


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return zoo.create_model("gpt-debug", vocab_size=V, context=32)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_byte_level_bpe(["the cat sat on the mat and the dog ran after the cat"], 280)


def test_a_batch_is_what_each_is_alone(model: Any) -> None:
    generator = np.random.default_rng(0)
    contexts = [generator.integers(0, V, size=n).tolist() for n in (1, 9, 25, 4, 12)]
    continuations = [generator.integers(0, V, size=n).tolist() for n in (3, 1, 6, 2, 12)]
    together = continuation_losses(model, contexts, continuations, batch_size=5)
    for context, continuation, losses in zip(contexts, continuations, together, strict=True):
        (alone,) = continuation_losses(model, [context], [continuation])
        np.testing.assert_allclose(losses, alone, rtol=1e-5)
        assert len(losses) == len(continuation)


def test_the_models_own_losses(model: Any) -> None:
    row = torch.randint(V, (1, 20), generator=torch.Generator().manual_seed(1))
    wanted = model.token_losses(row[:, :-1], row[:, 1:])[0, -7:]
    (found,) = continuation_losses(model, [row[0, :13].tolist()], [row[0, 13:].tolist()])
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5)


def test_training_mode_comes_back(model: Any) -> None:
    model.train()
    score_continuations(model, [[1]], [[2]])
    assert model.training
    model.eval()
    score_continuations(model, [[1]], [[2]])
    assert not model.training


def test_an_empty_context_follows_the_end_of_text(model: Any) -> None:
    with_start = continuation_losses(model, [[]], [[5, 6]], start=7)
    np.testing.assert_array_equal(with_start[0], continuation_losses(model, [[7]], [[5, 6]])[0])
    with pytest.raises(UserError, match="no end of text"):
        continuation_losses(model, [[]], [[5, 6]])


@pytest.mark.parametrize("count", [0, 33])
def test_what_cannot_be_scored(model: Any, count: int) -> None:
    with pytest.raises(UserError, match=f"continuation of {count} tokens cannot be scored in a context of 32"):
        continuation_losses(model, [[1]], [[2] * count])


def test_the_context_holds_one_token_more_than_it_reads(model: Any) -> None:
    assert score_continuations(model, [[1] * 31], [[2, 3]]).truncated == 0
    assert score_continuations(model, [[1] * 32], [[2, 3]]).truncated == 1


@pytest.mark.parametrize(("length", "stride", "start"), [(70, 32, 0), (70, 5, 0), (71, 1, None), (3, 32, None)])
def test_windows_cover_a_text_once(length: int, stride: int, start: int | None) -> None:
    tokens = list(range(100, 100 + length))
    windows = list(text_windows(tokens, context=32, stride=stride, start=start))
    covered = [token for _, after in windows for token in after]
    assert covered == tokens[start is None :]
    whole = ([] if start is None else [start]) + tokens
    for before, after in windows:
        assert len(before) + len(after) <= 33
        place = whole.index(after[0])
        assert list(before) == whole[place - len(before) : place]
        assert len(before) > 32 - stride or len(before) == place  # each sees enough, or all there is


def test_bytes_that_have_nothing_before_them_do_not_count(model: Any, tokenizer: Any) -> None:
    text = "the cat sat on the mat"
    first = tokenizer.encode(text)[:1]
    bare = SimpleNamespace(end_of_text=None, encode_batch=tokenizer.encode_batch, token_lengths=tokenizer.token_lengths)
    all_of_it, less = (text_losses(model, one, [text]) for one in (tokenizer, bare))
    assert all_of_it.bytes[0] == len(text)
    assert less.bytes[0] == len(text) - len(tokenizer.decode(first))
    assert less.tokens[0] == all_of_it.tokens[0] - 1


def test_bits_per_byte_of_a_model_that_knows_nothing(model: Any, tokenizer: Any) -> None:
    model = zoo.create_model("gpt-debug", vocab_size=V, context=32)
    with torch.no_grad():
        model.tokens.weight.zero_()
    text = "größer als the cat"
    found = text_losses(model, tokenizer, [text])
    tokens = len(tokenizer.encode(text))
    assert found.bits_per_byte == pytest.approx(tokens * math.log2(V) / len(text.encode()))


@pytest.mark.parametrize("stride", [0, 33])
def test_strides_that_leave_gaps(model: Any, tokenizer: Any, stride: int) -> None:
    with pytest.raises(UserError, match="choose 1 to 32"):
        text_losses(model, tokenizer, ["the cat"], stride=stride)
    with pytest.raises(UserError, match="too short"):
        text_losses(model, tokenizer, [""])
