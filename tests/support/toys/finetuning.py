"""A small model, tokenizer and task to fine-tune."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from zoo.gpt.configs import GptConfig
from zoo.gpt.finetuning.inputs import Marks
from zoo.gpt.finetuning.task import FinetuneTask, extend
from zoo.gpt.model import GPT
from zoo.shared.text.bpe_training import train_byte_level_bpe

SIZES: dict[str, Any] = {"vocab_size": 300, "context": 24, "width": 32, "depth": 2, "heads": 2, "tokenizer": "bpe"}

CONFIG = GptConfig(**SIZES)

MARKS = Marks(start=300, delimiter=301, classify=302)


def tuned(classes: int, *, layout: str = "gpt2", dropout: float = 0.0) -> FinetuneTask:
    model = GPT(GptConfig(**SIZES | {"layout": layout}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    extend(model, rows=303, classes=classes, seed=0)
    return FinetuneTask(model, dropout=dropout).eval()


def small_tokenizer() -> Any:
    words = [
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "ran",
        "home",
        "away",
        "very",
        "good",
        "bad",
        "film",
        "story",
        "and",
        "of",
        "was",
        "not",
    ]
    texts = [" ".join(np.random.default_rng(i).permutation(words)) for i in range(40)]
    return train_byte_level_bpe(texts, 300)
