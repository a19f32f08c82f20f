"""The recurrent model that GPT-1 is compared with (Section 5): one LSTM layer of 2048 units in place of the blocks.

The paper says no more of it. Here, beside a GPT of width D, it has 2048 D / 768 units, the same tied embedding with a
norm after it, and a matrix from its states back to D.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.gpt.configs import GptConfig
from zoo.shared.cross_entropy import cross_entropy_sum

PAPER_UNITS, PAPER_WIDTH = 2048, 768


class LstmTwin(nn.Module):
    """A recurrent language model that GPT's tasks train unchanged.

    Args:
        config: Of the GPT that it stands beside: width, vocabulary, context and dropout count.
        units: Of the layer; None takes the paper's number in proportion to the width.
    """

    def __init__(self, config: GptConfig, *, units: int | None = None) -> None:
        super().__init__()
        self.config = config
        units = units or round(PAPER_UNITS * config.width / PAPER_WIDTH)
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        # Tied embeddings start at 0.02, at which the gates hardly see them: without a norm nothing is learnt for long.
        self.norm = nn.LayerNorm(config.width)
        self.lstm = nn.LSTM(config.width, units, batch_first=True)
        self.project = nn.Linear(units, config.width)
        self.head: nn.Linear | None = None
        nn.init.normal_(self.tokens.weight, std=0.02)

    def hidden(self, tokens: Tensor, cache: Any = None, *, padding_mask: Tensor | None = None) -> Tensor:
        """States ``(B, T, D)`` after each token ``(B, T)``; there is no cache, and padding stands at the right.

        Raises:
            ValueError: A cache or a padding mask is given.
        """
        if cache is not None or padding_mask is not None:
            raise ValueError("the LSTM twin takes whole texts that are padded at the right")
        states, _ = self.lstm(self.dropout(self.norm(self.tokens(tokens))))
        return self.project(self.dropout(states))

    def output_matrix(self) -> Tensor:
        """The embedding ``(V, D)``."""
        return self.tokens.weight

    def loss_sum(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """As :meth:`zoo.gpt.model.GPT.loss_sum`."""
        return cross_entropy_sum(self.hidden(tokens).flatten(0, 1), self.output_matrix(), targets.flatten())

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(B, T, V)``, without gradients."""
        return self.hidden(tokens) @ self.output_matrix().T
