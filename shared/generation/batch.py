"""Prompts that are computed together, and what comes back.

Shapes: B texts, T tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from zoo.shared.errors import UserError
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.generation.stop import DecodeBytes
from zoo.shared.transformer.cache import KVCache

_COMPILED_SLOTS = 64


class Decodable(Protocol):
    """A model that texts can be generated with.

    Attributes:
        config: Has ``context``, the longest text in tokens.
    """

    config: Any

    def next_logits(
        self, tokens: Tensor, cache: KVCache | None = None, *, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Logits ``(B, V)`` of what follows the last of ``tokens`` ``(B, T)``.

        With a cache, ``tokens`` are those that it does not hold yet. ``padding_mask`` ``(B, T)`` is True where a token
        is real, comes with the first tokens, and is False only at the left.
        """
        ...

    def new_cache(self, batch: int, slots: int | None = None, *, static: bool = False) -> KVCache:
        """An empty cache for ``batch`` texts of ``slots`` tokens."""
        ...


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What was generated after a prompt.

    Attributes:
        tokens: The new tokens; the last one is the end of text, or completes a stop text, where that ended it.
        finish: ``end``: the model ended the text. ``stop``: a stop text was found. ``length``: ``max_new_tokens`` or
            the context was reached.
        log_probabilities: Of each token under the model itself, before temperature and filters, in nats.
    """

    tokens: list[int]
    finish: str
    log_probabilities: list[float]

    @property
    def log_probability(self) -> float:
        """Of all tokens together."""
        return sum(self.log_probabilities)


def check_prompts(prompts: Sequence[Sequence[int]], *, context: int, vocab_size: int | None) -> None:
    """Refuse prompts that cannot be continued.

    Raises:
        UserError: Which, and why.
    """
    for number, prompt in enumerate(prompts, 1):
        which = "the prompt" if len(prompts) == 1 else f"prompt {number}"
        if not len(prompt):
            raise UserError(f"{which} is empty; give it at least one token")
        if len(prompt) >= context:
            excess = len(prompt) - context
            much = f"{excess} more than the context of {context} holds"
            much = much if excess else f"which fill the context of {context}"
            raise UserError(f"{which} has {len(prompt)} tokens, {much}; shorten it by at least {excess + 1}")
        foreign = [token for token in prompt if token < 0 or (vocab_size is not None and token >= vocab_size)]
        if foreign:
            raise UserError(f"{which} holds the id {foreign[0]}, which the vocabulary of {vocab_size} does not have")


def room(prompt: Sequence[int], options: GenerationOptions, context: int) -> int:
    """Tokens that may follow a prompt."""
    return min(options.max_new_tokens, context - len(prompt))


def batches(prompts: Sequence[Sequence[int]], options: GenerationOptions, context: int) -> list[list[int]]:
    """Numbers of the prompts that are computed together: those of similar length.

    Padding takes room too, so a long prompt and a short one with much to come may not share a batch: each result is
    as long as it would be alone.
    """
    found: list[list[int]] = []
    slots = longest = 0
    for row in sorted(range(len(prompts)), key=lambda row: -len(prompts[row])):
        mine = room(prompts[row], options, context)
        slots = max(slots, longest + mine)
        if not found or len(found[-1]) == options.batch_size or slots > context:
            found.append([])
            longest = len(prompts[row])
            slots = longest + mine
        found[-1].append(row)
    return found


def occurrences(prompts: Sequence[Sequence[int]]) -> list[int]:
    """How often each prompt came up before."""
    seen: Counter[tuple[int, ...]] = Counter()
    numbers = []
    for prompt in prompts:
        key = tuple(prompt)
        numbers.append(seen[key])
        seen[key] += 1
    return numbers


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Prompts that are computed together, and what :func:`generate` was told."""

    model: Decodable
    prompts: Sequence[Sequence[int]]
    numbers: Sequence[int]
    options: GenerationOptions
    end: int | None
    decode_bytes: DecodeBytes | None
    vocab_size: int | None

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        parameters: Any = self.model
        return next(parameters.parameters()).device

    @property
    def slots(self) -> int:
        """Tokens that the longest text may have, padding included; a round number where each is compiled anew."""
        slots = max(map(len, self.prompts)) + max(self.rooms)
        if self.options.compile is not None:
            slots = -(-slots // _COMPILED_SLOTS) * _COMPILED_SLOTS
        return min(slots, self.model.config.context)

    @property
    def rooms(self) -> list[int]:
        """Tokens that may follow each prompt."""
        return [room(prompt, self.options, self.model.config.context) for prompt in self.prompts]

    def padded(self) -> tuple[Tensor, Tensor | None]:
        """Prompts ``(B, T)``, padded on the left with id 0, and the mask ``(B, T)``; None where nothing is padded."""
        longest = max(map(len, self.prompts))
        rows = [[0] * (longest - len(prompt)) + list(prompt) for prompt in self.prompts]
        tokens = torch.tensor(rows, device=self.device)
        if all(len(prompt) == longest for prompt in self.prompts):
            return tokens, None
        missing = torch.tensor([[longest - len(prompt)] for prompt in self.prompts], device=self.device)
        return tokens, torch.arange(longest, device=self.device) >= missing

    def logits(self, tokens: Tensor, cache: KVCache | None = None, padding_mask: Tensor | None = None) -> Tensor:
        """Logits ``(B, V)`` of the ids that the vocabulary has."""
        return self.model.next_logits(tokens, cache, padding_mask=padding_mask)[:, : self.vocab_size]
