"""Small GPTs of `transformers` whose random weights are large enough that a wrong place of a norm or a bias shows."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, OpenAIGPTConfig, OpenAIGPTLMHeadModel

TINY: dict[str, Any] = {"vocab_size": 97, "n_positions": 24, "n_embd": 128, "n_layer": 3, "n_head": 2}


@torch.no_grad()
def shaken(model: Any, scale: float = 0.1) -> Any:
    """The model with noise on every parameter, ready to be compared."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        parameter.add_(scale * torch.randn_like(parameter))
    return model.eval()


def reference(kind: str, *, scale: float = 0.1, **sizes: Any) -> Any:
    """Their ``gpt1`` or ``gpt2`` with a language-modelling head."""
    torch.manual_seed(5)
    if kind == "gpt2":
        return shaken(GPT2LMHeadModel(GPT2Config(**sizes)), scale)
    return shaken(OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes)), scale)
