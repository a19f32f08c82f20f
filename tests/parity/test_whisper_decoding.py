"""Decoding of windows against openai-whisper: random multilingual weights and the real tiny.en."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.convert import OPENAI
from zoo.whisper.decoding import DecodingOptions, DecodingResult, decode, detect_language
from zoo.whisper.model import Whisper
from zoo.whisper.peers import openai_whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.pretrained import tiny_en
from zoo.whisper.speech.speaking import Speaker, speak
from zoo.whisper.tokenizer import WhisperTokenizer

SENTENCES = (
    "She had your dark suit in greasy wash water all year. The train to Boston leaves at seven.",
    "Please bring me a cup of tea.",
)
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # their numpy calls
RANDOM = WhisperConfig(width=64, heads=1, audio_depth=1, text_depth=2)


def peer_of(model: Whisper) -> Any:
    """Their model with the same weights."""
    config, whisper = model.config, openai_whisper()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # they leave the vocabulary's file open; it is kept then
        for name in ("gpt2", "multilingual"):
            whisper.tokenizer.get_encoding(name=name, num_languages=99)
    dims = whisper.model.ModelDimensions(
        n_mels=config.mels, n_audio_ctx=config.audio_context, n_audio_state=config.width, n_audio_head=config.heads,
        n_audio_layer=config.audio_depth, n_vocab=config.vocab_size, n_text_ctx=config.text_context,
        n_text_state=config.width, n_text_head=config.heads, n_text_layer=config.text_depth,
    )  # fmt: skip
    theirs = whisper.model.Whisper(dims)
    theirs.load_state_dict(OPENAI.foreign_state(model))
    return theirs.eval()


class Pair:
    """A model on both sides, and windows."""

    def __init__(self, model: Whisper, tokenizer: WhisperTokenizer, audio: Tensor) -> None:
        self.model, self.tokenizer, self.audio = model.eval(), tokenizer, audio
        self.theirs = peer_of(model)

    def ours(self, *, audio: Tensor | None = None, prompts: Any = None, **how: Any) -> list[DecodingResult]:
        audio = self.audio if audio is None else audio
        return decode(self.model, self.tokenizer, audio, DecodingOptions(**how), prompts)

    def expected(self, **how: Any) -> list[Any]:
        """Theirs for each window alone."""
        options = openai_whisper().DecodingOptions(fp16=False, **how)
        return [openai_whisper().decode(self.theirs, one[None], options)[0] for one in self.audio]


@pytest.fixture(scope="module")
def real() -> Pair:
    """tiny.en and three sentences that are spoken."""
    model = zoo.load(tiny_en())
    assert isinstance(model, Whisper)
    tokenizer = WhisperTokenizer.load(tiny_en(), model.config)
    spoken = speak([(text, Speaker("en-US")) for text in SENTENCES])
    features = WhisperPreprocessor(tokenizer, model.config)
    mel = torch.stack([features.features(torch.from_numpy(one.astype(np.float32) / 32768)) for one in spoken])
    with torch.inference_mode():
        audio = model.eval().encoder(mel)
    return Pair(model, tokenizer, audio.clone())


@pytest.fixture(scope="module")
def random() -> Pair:
    """Random weights that change their mind at every token, know times, and come to an end."""
    torch.manual_seed(3)
    model = Whisper(RANDOM)
    tokenizer = WhisperTokenizer.for_model(RANDOM)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        embedding = model.decoder.tokens.weight
        embedding[tokenizer.specials.timestamp_begin :] *= 1.2
        embedding[tokenizer.specials.eot] *= 3.0
        embedding[tokenizer.specials.sot : tokenizer.specials.timestamp_begin] *= 0.3  # they spell them out in texts
    return Pair(model, tokenizer, torch.randn(3, RANDOM.audio_context, RANDOM.width))


def check(found: list[DecodingResult], wanted: list[Any]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.tokens == theirs.tokens
        assert (mine.text, mine.language, mine.temperature) == (theirs.text, theirs.language, theirs.temperature)
        for name in ("avg_logprob", "no_speech_prob", "compression_ratio"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), abs=1e-4), name


CASES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no timestamps": {"without_timestamps": True},
    "no rules": {"suppress_tokens": "", "suppress_blank": False, "max_initial_timestamp": None},
    "some tokens": {"suppress_tokens": "-1,11,13,257"},
    "short": {"sample_len": 7},
    "late start": {"max_initial_timestamp": 0.0},
    "prompt": {"prompt": "He said: my name is Bob."},
    "prefix": {"prefix": "She had", "sample_len": 40},
    "long prefix": {"prefix": "one two three " * 20, "sample_len": 210, "without_timestamps": True},
    "whole prefix": {"prefix": "She had your"},
    "beam": {"beam_size": 5},
    "patience": {"beam_size": 5, "patience": 2.0},
    "impatience": {"beam_size": 5, "patience": 0.5},
    "penalty": {"beam_size": 5, "length_penalty": 0.6},
    "no penalty": {"beam_size": 5, "length_penalty": 0.0},
    "short beam": {"beam_size": 3, "sample_len": 9, "prompt": "Hello"},
    "beam without timestamps": {"beam_size": 4, "without_timestamps": True},
}


REAL_CASES = ("greedy", "no timestamps", "prompt", "prefix", "beam", "patience", "penalty", "impatience")


@pytest.mark.parametrize("case", REAL_CASES)
def test_real_speech(real: Pair, case: str) -> None:
    how = {"language": "en", **CASES[case]}
    wanted = real.expected(**how)
    assert all(one.tokens for one in wanted)
    check(real.ours(**how), wanted)


@pytest.mark.parametrize("case", CASES)
def test_random_weights(random: Pair, case: str) -> None:
    """Languages are heard too."""
    how = {"sample_len": 40, **CASES[case]}
    wanted = random.expected(**how)
    found = random.ours(**how)
    check(found, wanted)
    assert all(mine.language_probs for mine in found)
    if case in ("greedy", "beam", "patience", "penalty"):
        assert len({len(one.tokens) for one in wanted}) > 1, "windows of different length were wanted"
        times = [token for one in wanted for token in one.tokens if token >= random.tokenizer.specials.timestamp_begin]
        assert how.get("without_timestamps") or len(set(times)) > 5


def test_translation_and_given_language(random: Pair) -> None:
    how: dict[str, Any] = {"task": "translate", "language": "fr", "sample_len": 30}
    check(random.ours(**how), random.expected(**how))


def test_windows_with_different_prompts(real: Pair, random: Pair) -> None:
    """Padding, and windows of different languages: each window as theirs alone."""
    for pair, beams in ((real, 3), (random, None), (random, 3)):
        prompts = ["My dear friend, how are you?", list(range(1000, 1300)), []][: len(pair.audio)]
        how: dict[str, Any] = {"beam_size": beams, "language": "en" if pair is real else None}
        how |= {"sample_len": 30} if pair is random and beams else {}
        options = openai_whisper().DecodingOptions(fp16=False, **how)
        wanted = [
            openai_whisper().decode(pair.theirs, one[None], replace(options, prompt=prompt))[0]
            for one, prompt in zip(pair.audio, prompts, strict=True)
        ]
        check(pair.ours(prompts=prompts, **how), wanted)


def test_languages(random: Pair) -> None:
    _, wanted = openai_whisper().decoding.detect_language(random.theirs, random.audio)
    found = detect_language(random.model, random.tokenizer, random.audio)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
        assert next(iter(mine)) == max(theirs, key=theirs.get)
    check_ids = random.ours(task="lang_id")
    assert [one.language_probs for one in check_ids] == [pytest.approx(probabilities) for probabilities in wanted]
    few = random.ours(task="lang_id", languages=("de", "Korean", "ja"))
    for mine, theirs in zip(few, wanted, strict=True):
        total = sum(theirs[code] for code in ("de", "ko", "ja"))
        assert mine.language_probs == pytest.approx(
            {code: theirs[code] / total for code in ("de", "ko", "ja")}, abs=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("beams", [None, 3])
def test_compiled_steps_change_nothing(real: Pair, beams: int | None) -> None:
    wanted = real.ours(language="en", beam_size=beams, prompts=["Well.", None])
    for _ in range(2):  # the second time an earlier cache is used again
        found = real.ours(language="en", beam_size=beams, compile="aot_eager", prompts=["Well.", None])
        check(found, wanted)


@pytest.mark.slow
def test_first_sample_has_their_distribution(real: Pair) -> None:
    """Three tokens of many samples: random numbers differ, so frequencies are compared."""
    torch.manual_seed(0)
    how: dict[str, Any] = {"language": "en", "temperature": 1.2, "sample_len": 2, "max_initial_timestamp": 0.1}
    options = openai_whisper().DecodingOptions(fp16=False, best_of=200, **how)
    task = openai_whisper().decoding.DecodingTask(real.theirs, options)
    kept: list[Tensor] = []
    task.sequence_ranker.rank = lambda tokens, _: [kept.extend(tokens[0]) or 0]
    task.run(real.audio[:1])
    mine = samples_of(real, best_of=200, **how)
    assert len(kept) == len(mine) == 200
    for place in range(2):
        theirs_seen, seen = (
            np.array([int(one[place]) if len(one) > place else -1 for one in texts]) for texts in (kept, mine)
        )
        for token in np.unique(theirs_seen):
            a, b = (theirs_seen == token).mean(), (seen == token).mean()
            assert abs(a - b) < 4.5 * np.sqrt((a + b) / 2 * (1 - min((a + b) / 2, 0.99)) * 2 / 200) + 1e-9


def samples_of(pair: Pair, **how: Any) -> list[list[int]]:
    """All samples of the first window."""
    module = import_module("zoo.whisper.decoding.decode")
    kept: list[list[int]] = []

    def keep(candidates: Any, options: Any) -> Any:
        kept.extend(one.tokens for one in candidates)
        return candidates[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "likeliest", keep)
        pair.ours(audio=pair.audio[:1], **how)
    return kept
