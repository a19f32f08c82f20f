"""Decoding in int8: near the float model however many texts there are, and the same text plain and compiled."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from zoo.whisper.configs import WhisperConfig
from zoo.whisper.decoding import DecodingOptions, decode
from zoo.whisper.model import Whisper
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.vocabulary import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    texts = ["the cat sat on the mat (again)", "hello, world; it's a day", "[music] one two three four"] * 20
    return train_tokenizer(texts, 330, languages=("en", "de", "fr"), audio_context=30)


@pytest.fixture(scope="module")
def models(tokenizer: WhisperTokenizer) -> tuple[Whisper, Whisper]:
    """One with random weights that listens to what it hears, and the same in int8."""
    torch.manual_seed(0)
    config = WhisperConfig(
        audio_context=30, text_context=48, width=32, heads=2, audio_depth=1, text_depth=2,
        vocab_size=tokenizer.vocab_size, tokenizer="bpe",
    )  # fmt: skip
    model = Whisper(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, copy.deepcopy(model).for_int8_decoding()


def sound(count: int) -> Tensor:
    return torch.randn(count, 80, 60, generator=torch.Generator().manual_seed(1))


def logits(model: Whisper, mel: Tensor, *, alone: bool) -> Tensor:
    """Of some tokens written one by one."""
    with torch.inference_mode():
        cache = model.decoder.new_cache(model.encoder(mel), alone=alone)
        tokens = torch.arange(6).expand(len(mel), -1)
        return torch.cat([model.decoder(tokens[:, at : at + 1], cache=cache) for at in range(6)], 1)


@pytest.mark.parametrize("heard", [None, torch.bfloat16])
@pytest.mark.parametrize("windows", [1, 3])
def test_near_the_float_model(models: tuple[Whisper, Whisper], windows: int, heard: torch.dtype | None) -> None:
    """Whatever this processor computes in, both types of what is heard are tried."""
    model, int8 = models
    assert not [name for name, part in int8.named_modules() if isinstance(part, nn.Linear)]
    int8 = copy.deepcopy(int8)
    int8.decoder.heard_dtype = heard
    wanted, found = logits(model, sound(windows), alone=True), logits(int8, sound(windows), alone=True)
    assert 0 < (found - wanted).norm() < 0.05 * wanted.norm()
    deaf = logits(int8, torch.zeros(windows, 80, 60), alone=True)
    assert (deaf - wanted).norm() > 0.1 * wanted.norm()


def test_only_single_texts_hear_in_fewer_bits(models: tuple[Whisper, Whisper]) -> None:
    model, int8 = models
    int8 = copy.deepcopy(int8)
    int8.decoder.heard_dtype = torch.bfloat16
    states = torch.randn(2, 30, 32)
    for one, alone, dtype in ((int8, True, torch.bfloat16), (int8, False, torch.float32), (model, True, torch.float32)):
        for layer in one.decoder.new_cache(states, alone=alone).layers:
            assert layer.memory is not None
            for part in layer.memory:
                assert part.dtype == dtype
                assert part.is_contiguous()


@pytest.mark.parametrize("beams", [None, 3])
def test_compiled_steps_write_the_same(
    models: tuple[Whisper, Whisper], tokenizer: WhisperTokenizer, beams: int | None
) -> None:
    _, int8 = models
    with torch.inference_mode():
        states = int8.encoder(sound(2))
    plain = decode(int8, tokenizer, states, DecodingOptions(language="en", beam_size=beams))
    compiled = decode(int8, tokenizer, states, DecodingOptions(language="en", beam_size=beams, compile="aot_eager"))
    assert [one.tokens for one in compiled] == [one.tokens for one in plain]
