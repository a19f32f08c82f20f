"""Generation against `transformers` with random weights: the same tokens, filters and beams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import zoo
from toys.gpts import reference
from zoo.shared.generation.batch import Generated
from zoo.shared.generation.decode import generate
from zoo.shared.generation.logits import filtered, keep_top_k, keep_top_p, penalise_repetition
from zoo.shared.generation.options import GenerationOptions

VOCAB = 97
PROMPTS = [[3, 1, 4], [15, 92, 65, 35, 89, 79, 32], [27]]
architectures = pytest.mark.parametrize("pair", ["gpt1", "gpt2"], indirect=True)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Their model and ours, read from the folder that they wrote."""
    sizes: dict[str, Any] = {"vocab_size": VOCAB, "n_positions": 256, "n_embd": 64, "n_layer": 3, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0} if request.param == "gpt2" else {}
    theirs = reference(request.param, scale=0.15, **sizes, **ends)
    folder: Path = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return theirs, zoo.load(folder)


def their_tokens(theirs: Any, prompt: list[int], *, end: int | None = None, **how: Any) -> tuple[list[int], float]:
    """New tokens and, of beams, the score."""
    ids = torch.tensor([prompt])
    found = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, eos_token_id=end,
        return_dict_in_generate=True, output_scores=True, **how,
    )  # fmt: skip
    tokens = found.sequences[0, len(prompt) :].tolist()
    tokens = tokens[: tokens.index(end) + 1] if end in tokens else tokens
    return tokens, float(found.sequences_scores[0]) if how.get("num_beams", 1) > 1 else 0.0


def our_tokens(ours: Any, prompts: list[list[int]], *, end: int | None = None, **how: Any) -> list[Generated]:
    return generate(ours, prompts, GenerationOptions(**how), end=end)


@architectures
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_tokens_are_equal_for_200_tokens(pair: tuple[Any, Any], penalty: float) -> None:
    theirs, ours = pair
    expected = [their_tokens(theirs, p, max_new_tokens=200, repetition_penalty=penalty)[0] for p in PROMPTS]
    assert all(len(row) == 200 for row in expected)
    assert len({token for row in expected for token in row}) > (3 if penalty == 1.0 else 10)  # free, it repeats itself
    for how in ({"batch_size": 1}, {}, {"cache": "static"}):
        found = our_tokens(ours, PROMPTS, max_new_tokens=200, repetition_penalty=penalty, **how)
        assert [one.tokens for one in found] == expected, how


@architectures
def test_a_padded_batch_ends_where_theirs_does(pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    long = [their_tokens(theirs, p, max_new_tokens=60)[0] for p in PROMPTS]
    end = next(token for token in long[0][5:] if any(token not in row for row in long))
    expected = [their_tokens(theirs, p, max_new_tokens=60, end=end)[0] for p in PROMPTS]
    found = our_tokens(ours, PROMPTS, max_new_tokens=60, end=end)
    assert [one.tokens for one in found] == expected
    assert [one.finish for one in found] == ["end" if row[-1] == end else "length" for row in expected]
    assert {one.finish for one in found} == {"end", "length"}


@architectures
@pytest.mark.parametrize("penalty", [0.6, 2.0, -0.5])
def test_beams_are_equal(pair: tuple[Any, Any], penalty: float) -> None:
    theirs, ours = pair
    plain = their_tokens(theirs, PROMPTS[0], max_new_tokens=16, num_beams=4)[0]
    ended = 0
    for end in (None, plain[2], plain[-1]):
        expected = [
            their_tokens(theirs, p, max_new_tokens=16, num_beams=4, length_penalty=penalty, end=end) for p in PROMPTS
        ]
        found = our_tokens(ours, PROMPTS, max_new_tokens=16, beams=4, length_penalty=penalty, end=end)
        assert [one.tokens for one in found] == [tokens for tokens, _ in expected]
        for one, (_, score) in zip(found, expected, strict=True):
            assert one.log_probability / len(one.tokens) ** penalty == pytest.approx(score, rel=1e-4)
        ended += sum(one.finish == "end" for one in found)
    assert ended or penalty > 1  # which favours long texts


@architectures
def test_beams_with_a_repetition_penalty_are_equal(pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    expected = [their_tokens(theirs, p, max_new_tokens=16, num_beams=3, repetition_penalty=1.4)[0] for p in PROMPTS]
    found = our_tokens(ours, PROMPTS, max_new_tokens=16, beams=3, repetition_penalty=1.4)
    assert [one.tokens for one in found] == expected


def random_logits(rows: int = 64, vocab: int = 3000) -> Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("k", [1, 2, 40, 2999, 3000, 5000])
def test_top_k_equals_theirs(k: int) -> None:
    logits = random_logits()
    logits[:, 5] = logits[:, 6]
    assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(torch.zeros(64, 1), logits))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_top_p_equals_theirs(p: float, scale: float) -> None:
    """In double precision: in single, the sum of a long tail hangs on the order of its terms."""
    logits = scale * random_logits().double()
    assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(torch.zeros(64, 1), logits))


def test_all_filters_in_their_order() -> None:
    logits = random_logits()
    seen = torch.randint(3000, (64, 30), generator=torch.Generator().manual_seed(8))
    expected = RepetitionPenaltyLogitsProcessor(1.7)(seen, logits.clone())
    for warper in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(50), TopPLogitsWarper(0.8)):
        expected = warper(seen, expected)
    mask = torch.zeros(64, 3000, dtype=torch.bool).scatter_(1, seen, True)
    options = GenerationOptions(temperature=0.7, top_k=50, top_p=0.8, repetition_penalty=1.7)
    found = filtered(penalise_repetition(logits, mask, 1.7), options)
    assert torch.equal(found.isinf(), expected.isinf())
    torch.testing.assert_close(found, expected)
