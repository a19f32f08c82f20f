"""What ``zoo verify`` needs to know of Whisper: outputs to compare, decoding in all ways, and broken recordings."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import soundfile
import torch
from torch import Tensor, nn

from zoo.factory import create_model
from zoo.shared.generation.decode import generate
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.transformer import KVCache
from zoo.verify.cases import Damage, Decoder
from zoo.whisper.model import Whisper
from zoo.whisper.speech.sounds import samples_of
from zoo.whisper.speech.tones import DialledNumbers

_LENGTHS = (3, 5, 9)
_CLIPS = 64
WAYS: dict[str, dict[str, Any]] = {
    "uncached, left-padded batch": {"cache": "none"},
    "growing cache": {"batch_size": 1},
    "growing cache, left-padded batch": {},
    "static cache": {"cache": "static", "batch_size": 1},
    "static cache, left-padded batch": {"cache": "static"},
    "static cache, compiled": {"compile": "aot_eager", "batch_size": 1},
    "static cache, compiled, left-padded batch": {"compile": "aot_eager"},
}


def outputs(model: Whisper) -> dict[str, Tensor]:
    """States of sound and logits, on inputs drawn from a fixed seed."""
    config, draw = model.config, torch.Generator().manual_seed(0)
    mel = torch.randn(2, config.mels, 2 * config.audio_context, generator=draw)
    tokens = torch.randint(config.vocab_size, (2, min(12, config.text_context)), generator=draw)
    return {"audio": model.hear(mel), "logits": model(mel, tokens)}


class Hearing(nn.Module):
    """A model that has heard something, for the decoding that all families share.

    Args:
        model: The model.
        audio: ``(1, A, D)`` from its encoder.
    """

    def __init__(self, model: Whisper, audio: Tensor) -> None:
        super().__init__()
        self.model = model
        self.audio = audio
        self.config = SimpleNamespace(context=model.config.text_context)  # what the shared decoding asks for

    def next_logits(
        self, tokens: Tensor, cache: KVCache | None = None, *, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Logits ``(B, V)`` of what follows ``tokens`` ``(B, T)``."""
        decoder = self.model.decoder
        states = decoder.hidden(tokens, self.audio, cache, padding_mask=padding_mask)[:, -1]
        return decoder.logits(states)

    def new_cache(self, batch: int, slots: int | None = None, *, static: bool = False) -> KVCache:
        """An empty cache for ``batch`` texts of ``slots`` tokens."""
        return self.model.decoder.new_cache(self.audio, texts=batch, slots=slots, static=static)


def decoder(name: str) -> Decoder:
    """Greedy decoding of a model with random weights that are large enough to say more than one word."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = create_model(name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    assert isinstance(model, Whisper)
    return decoder_of(model)


@torch.no_grad()
def decoder_of(model: Whisper) -> Decoder:
    """The same of a model that is given."""
    model, config = model.eval(), model.config
    draw = torch.Generator().manual_seed(0)
    audio = model.hear(torch.randn(1, config.mels, 2 * config.audio_context, generator=draw))
    prompts = [torch.randint(config.vocab_size, (length,), generator=draw).tolist() for length in _LENGTHS]
    hearing = Hearing(model, audio)
    return Decoder(
        prompts=prompts,
        room=config.text_context - max(map(len, prompts)),
        plain=partial(_plain, model, audio),
        ways={label: partial(_way, hearing, settings) for label, settings in WAYS.items()},
    )


@torch.no_grad()
def _plain(model: Whisper, audio: Tensor, prompt: Sequence[int], count: int) -> list[int]:
    """The likeliest token of the whole forward pass, over and over."""
    tokens = torch.tensor([prompt])
    for _ in range(count):
        tokens = torch.cat([tokens, model.decoder(tokens, audio)[:, -1].argmax(-1, keepdim=True)], 1)
    return tokens[0, len(prompt) :].tolist()


def _way(hearing: Hearing, settings: dict[str, Any], prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The same by the shared loop."""
    options = GenerationOptions(max_new_tokens=count, **settings)
    return [found.tokens for found in generate(hearing, prompts, options, end=None)]


def damaged(folder: Path) -> list[Damage]:
    """A recording that is none, one that cannot be opened, and a tar that breaks off."""
    return [_corrupt(folder / "corrupt"), _missing(folder / "missing"), _truncated_tar(folder)]


def _settings(source: Path) -> dict[str, Any]:
    data = {"source": str(source), "language": "en", "batch_size": 12, "held_out": 0.0, "workers": 1}
    return {"data": data, "report": False}


def _clips() -> list[tuple[str, bytes]]:
    """Texts and wav files."""
    clips, numbers = [], DialledNumbers(count=2 * _CLIPS, seed=7)
    for utterance in (numbers[index] for index in range(len(numbers)) if numbers[index].text):
        file = io.BytesIO()
        soundfile.write(file, samples_of(utterance).numpy(), 16_000, format="wav")
        clips.append((utterance.text, file.getvalue()))
    return clips[:_CLIPS]


def _manifest(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = []
    for number, (text, content) in enumerate(_clips()):
        (folder / f"{number:03d}.wav").write_bytes(content)
        lines.append(json.dumps({"audio": f"{number:03d}.wav", "text": text, "language": "en"}))
    (folder / "speech.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "speech.jsonl"


def _corrupt(folder: Path) -> Damage:
    manifest = _manifest(folder)
    (folder / "003.wav").write_bytes(b"RIFF, or so it says")
    return Damage(what="a recording is corrupt", settings=_settings(manifest), named=["003.wav"])


def _missing(folder: Path) -> Damage:
    manifest = _manifest(folder)
    (folder / "005.wav").unlink()
    (folder / "005.wav").symlink_to("nowhere")
    return Damage(what="a recording cannot be opened", settings=_settings(manifest), named=["005.wav"])


def _truncated_tar(folder: Path) -> Damage:
    path = folder / "speech.tar"
    with tarfile.open(path, "w") as tar:
        for number, (text, content) in enumerate(_clips()):
            for name, part in ((f"{number:03d}.wav", content), (f"{number:03d}.txt", text.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(part)
                tar.addfile(member, io.BytesIO(part))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10 // 512 * 512 - 700])
    return Damage(what="a tar breaks off", settings=_settings(path), named=["speech.tar"])
