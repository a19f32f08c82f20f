"""What ``zoo verify`` needs to know of GPT: outputs to compare, decoding in all ways, and broken texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.factory import create_model
from zoo.gpt.model import GPT
from zoo.shared.generation.decode import generate
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.text.sentences import sentences
from zoo.verify.cases import Damage, Decoder

LENGTHS = (3, 5, 9)
WAYS: dict[str, dict[str, Any]] = {
    "uncached, left-padded batch": {"cache": "none"},
    "growing cache": {"batch_size": 1},
    "growing cache, left-padded batch": {},
    "static cache": {"cache": "static", "batch_size": 1},
    "static cache, left-padded batch": {"cache": "static"},
    "static cache, compiled": {"compile": "aot_eager", "batch_size": 1},
    "static cache, compiled, left-padded batch": {"compile": "aot_eager"},
}


def outputs(model: GPT) -> dict[str, Tensor]:
    """Logits and losses on tokens drawn from a fixed seed."""
    length = min(model.config.context, 24)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (2, length + 1), generator=draw)
    return {"logits": model(tokens[:, :-1]), "losses": model.token_losses(tokens[:, :-1], tokens[:, 1:])}


def damaged(folder: Path) -> list[Damage]:
    """A text that is no UTF-8, and a line that is no JSON."""
    texts = sentences(120)
    plain = folder / "texts"
    plain.mkdir(parents=True)
    for number, document in enumerate(texts):
        (plain / f"{number:03d}.txt").write_text(document.text, encoding="utf-8")
    (plain / "007.txt").write_bytes(b"The king \xff\xfe sees the queen.\n")
    lines = [json.dumps({"text": document.text}) for document in texts]
    lines[4] = lines[4][: len(lines[4]) // 2]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [
        Damage(what="a text is not UTF-8", settings=_trained_on(plain), named=["007.txt"]),
        Damage(what="a line breaks off", settings=_trained_on(folder / "texts.jsonl"), named=["texts.jsonl line 5"]),
    ]


def _trained_on(source: Path) -> dict[str, Any]:
    return {"data": {"source": str(source), "batch_size": 12, "held_out": 0.0}, "report": False}


def decoder(name: str) -> Decoder:
    """Greedy decoding of a model with random weights that are large enough to say more than one word."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = create_model(name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    assert isinstance(model, GPT)
    return decoder_of(model)


def decoder_of(model: GPT) -> Decoder:
    """The same of a model that is given."""
    model = model.eval()
    draw = torch.Generator().manual_seed(0)
    vocab_size, context = model.config.vocab_size, model.config.context
    prompts = [torch.randint(vocab_size, (min(length, context - 1),), generator=draw).tolist() for length in LENGTHS]
    return Decoder(
        prompts=prompts,
        room=context - max(map(len, prompts)),
        plain=partial(plain, model),
        ways={label: partial(way, model, settings) for label, settings in WAYS.items()},
    )


@torch.no_grad()
def plain(model: GPT, prompt: Sequence[int], count: int) -> list[int]:
    """The likeliest token of the whole forward pass, over and over."""
    tokens = torch.tensor([prompt], device=model.tokens.weight.device)
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens)[:, -1].argmax(-1, keepdim=True)], 1)
    return tokens[0, len(prompt) :].tolist()


def way(model: GPT, settings: dict[str, Any], prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The same by the library's loop."""
    options = GenerationOptions(max_new_tokens=count, **settings)
    return [found.tokens for found in generate(model, prompts, options, end=None)]
