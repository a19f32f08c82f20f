"""Decoding of windows: rules against a plain twin, options, prompts, batches, samples."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.shared.errors import UserError
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.decoding import DecodingOptions, DecodingResult, decode, detect_language
from zoo.whisper.decoding.prompts import past_ids, start_ids
from zoo.whisper.decoding.result import compression_ratio
from zoo.whisper.decoding.rules import Rules
from zoo.whisper.model import Whisper
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.vocabulary import train_tokenizer

TEXTS = ["the cat sat on the mat (again)", "hello, world; it's a day", "[music] one two three four"] * 20


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    return train_tokenizer(TEXTS, 330, languages=("en", "de", "fr"), audio_context=30)


@pytest.fixture(scope="module")
def model(tokenizer: WhisperTokenizer) -> Whisper:
    """Random weights that change their mind at every token, and come to an end."""
    torch.manual_seed(0)
    config = WhisperConfig(
        audio_context=30, text_context=48, width=32, heads=2, audio_depth=1, text_depth=2,
        vocab_size=tokenizer.vocab_size, tokenizer="bpe",
    )  # fmt: skip
    model = Whisper(config).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.decoder.tokens.weight[tokenizer.specials.eot] *= 2.0
    return model


def audio(count: int) -> Tensor:
    return torch.randn(count, 30, 32, generator=torch.Generator().manual_seed(1))


def plainly(logits: list[float], tokens: list[int], tokenizer: WhisperTokenizer, suppressed: set[int]) -> list[float]:
    """The rules for one text with timestamps, id by id."""
    ids = tokenizer.specials
    begin, never = ids.timestamp_begin, -math.inf
    banned = set(suppressed) | {ids.no_timestamps}
    if not tokens:
        banned |= {*tokenizer.encode(" "), ids.eot, *range(begin), *range(begin + 11, len(logits))}
    times = [token for token in tokens if token >= begin]
    if tokens and tokens[-1] >= begin:
        if len(tokens) == 1 or tokens[-2] >= begin:
            banned |= set(range(begin, len(logits)))
        else:
            banned |= set(range(ids.eot)) | set(range(begin, times[-1]))
    elif times:
        banned |= set(range(begin, times[-1] + 1))
    kept = [never if index in banned else logit for index, logit in enumerate(logits)]
    if sum(math.exp(logit) for logit in kept[begin:]) > max(math.exp(logit) for logit in kept[:begin]):
        kept[:begin] = [never] * begin
    return kept


def test_rules_equal_their_plain_twin(tokenizer: WhisperTokenizer) -> None:
    """Random texts that keep the rules, eight at a time."""
    draw, ids = random.Random(0), tokenizer.specials
    rules = Rules(
        tokenizer, DecodingOptions(max_initial_timestamp=0.2), size=tokenizer.vocab_size, device=torch.device("cpu")
    )
    suppressed = set(tokenizer.non_speech_ids) | {
        ids.sot, ids.sot_prev, ids.sot_lm, ids.no_speech, ids.translate, ids.transcribe
    }  # fmt: skip
    texts: list[list[int]] = [[] for _ in range(8)]
    state = rules.start(8)
    kinds: Counter[str] = Counter()
    for step in range(40):
        logits = 2 * torch.randn(8, tokenizer.vocab_size, generator=torch.Generator().manual_seed(step))
        logits[:, ids.timestamp_begin :] += draw.choice([-2.0, 0.0, 2.0])
        logits[:, ids.eot] -= 100.0
        wanted = [plainly(row, text, tokenizer, suppressed) for row, text in zip(logits.tolist(), texts, strict=True)]
        assert state is not None
        found = rules.apply(logits.clone(), state, first=step == 0)
        assert torch.equal(found, torch.tensor(wanted))
        chosen = found.argmax(-1)
        state.advance(chosen)
        for text, token in zip(texts, chosen.tolist(), strict=True):
            text.append(token)
            kinds["time" if token >= ids.timestamp_begin else "text"] += 1
        if step == 20:
            rows = [3, 1, 1, 0, 7, 6, 5, 4]
            state.select(torch.tensor(rows))
            texts = [list(texts[row]) for row in rows]
    assert min(kinds.values()) > 40


def test_rules_that_are_off(tokenizer: WhisperTokenizer) -> None:
    options = DecodingOptions(without_timestamps=True, suppress_tokens=None, suppress_blank=False)
    rules = Rules(tokenizer, options, size=tokenizer.vocab_size + 3, device=torch.device("cpu"))
    found = rules.apply(torch.zeros(1, tokenizer.vocab_size + 3), rules.start(1), first=True)
    assert found[0].isinf().nonzero().flatten().tolist() == [tokenizer.vocab_size + more for more in range(3)]
    with pytest.raises(UserError, match="has no id 9999"):
        Rules(tokenizer, DecodingOptions(suppress_tokens="9999"), size=500, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"beam_size": 5, "best_of": 5, "temperature": 0.2}, "exclude each other"),
        ({"best_of": 5}, "temperature above 0"),
        ({"beam_size": 5, "temperature": 0.2}, "does not sample"),
        ({"patience": 2.0}, "give beam_size"),
        ({"beam_size": 2, "patience": 0.1}, "keeps no text"),
        ({"length_penalty": 1.5}, "from 0 to 1"),
        ({"task": "sing"}, "transcribe, translate, lang_id"),
        ({"hotwords": "a", "prefix": "b"}, "exclude each other"),
        ({"suppress_tokens": "1,x"}, "no list of ids"),
        ({"sample_len": 0}, "at least 1"),
        ({"languages": ()}, "must not be empty"),
        ({"languages": "en"}, "several codes"),
        ({"compile": "magic"}, "unknown"),
    ],
)
def test_options_refuse(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecodingOptions(**how)


def test_hotwords_take_their_room_from_the_prompt(tokenizer: WhisperTokenizer) -> None:
    hot = tokenizer.encode(" cat mat")
    kept = past_ids(list(range(100)), tokenizer, DecodingOptions(hotwords="cat mat"), 48)
    assert kept == [tokenizer.specials.sot_prev, *hot, *range(100 - (23 - len(hot)), 100)]
    assert past_ids(None, tokenizer, DecodingOptions(), 48) == []
    start = start_ids(tokenizer, DecodingOptions(prefix=[5, 6, 7], sample_len=22), "de", 48)
    assert start == [*tokenizer.sot_sequence("de", "transcribe"), 6, 7]


@pytest.mark.parametrize("how", [{}, {"beam_size": 3}, {"beam_size": 3, "patience": 0.4}, {"without_timestamps": True}])
def test_a_batch_gives_what_each_window_gives_alone(
    model: Whisper, tokenizer: WhisperTokenizer, how: dict[str, Any]
) -> None:
    prompts: list[Any] = [None, list(range(60)), "the cat", None, [7, 8], None, None]
    windows, options = audio(7), DecodingOptions(**how)
    together = decode(model, tokenizer, windows, options, prompts)
    alone = [decode(model, tokenizer, windows[i : i + 1], options, [prompts[i]])[0] for i in range(7)]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert [one.language for one in together] == [one.language for one in alone]
    for mine, other in zip(together, alone, strict=True):
        assert mine.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-5)
    assert len({len(one.tokens) for one in alone}) > 2


def test_log_probability_is_that_of_the_rules(model: Whisper, tokenizer: WhisperTokenizer) -> None:
    """Sampled texts, computed again without a cache."""
    options = DecodingOptions(temperature=0.8, best_of=4, language="de", seed=3)
    found = decode(model, tokenizer, audio(2), options)
    assert found == decode(model, tokenizer, audio(2), options)
    assert found != decode(
        model, tokenizer, audio(2), DecodingOptions(temperature=0.8, best_of=4, language="de", seed=4)
    )
    rules = Rules(tokenizer, options, size=tokenizer.vocab_size, device=torch.device("cpu"))
    start = list(tokenizer.sot_sequence("de", "transcribe"))
    for window, one in zip(audio(2), found, strict=True):
        assert isinstance(one, DecodingResult)
        ids = [*one.tokens, tokenizer.specials.eot][:24]
        with torch.inference_mode():
            logits = model.decoder(torch.tensor([start + ids]), window[None])[0, len(start) - 1 : -1].clone()
            total, state = 0.0, rules.start(1)
            for step, token in enumerate(ids):
                row = rules.apply(logits[step : step + 1], state, first=step == 0)
                total += float(row.log_softmax(-1)[0, token])
                assert state is not None
                state.advance(torch.tensor([token]))
        assert one.avg_logprob == pytest.approx(total / (len(one.tokens) + 1), abs=1e-4)


def test_mistakes_and_small_things(model: Whisper, tokenizer: WhisperTokenizer) -> None:
    with pytest.raises(UserError, match="shorten the prefix"):
        decode(model, tokenizer, audio(1), DecodingOptions(language="en", prefix=[5] * 60))
    with pytest.raises(UserError, match="does not have"):
        decode(model, tokenizer, audio(1), DecodingOptions(language="en"), [[9999]])
    with pytest.raises(ValueError, match="2 prompts"):
        decode(model, tokenizer, audio(1), DecodingOptions(language="en"), ["a", "b"])
    heard = detect_language(model, tokenizer, audio(2), languages=("de", "en"))
    assert all(set(one) == {"de", "en"} and sum(one.values()) == pytest.approx(1) for one in heard)
    assert compression_ratio("ha" * 200) > 10 > 1.1 > compression_ratio("Hello.")
