"""Greedy decoding and sampling of several texts at once.

Prompts of unequal length are padded on the left. Texts that have ended leave the batch.

Shapes: B texts, T tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from zoo.shared.errors import UserError
from zoo.shared.generation.batch import Batch, Decodable, Generated, batches, check_prompts, occurrences
from zoo.shared.generation.beam import beam_search
from zoo.shared.generation.compiled import compiled_step
from zoo.shared.generation.logits import draw, filtered, penalise_repetition
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.generation.stop import DecodeBytes, StopTexts
from zoo.shared.transformer.cache import KVCache

OnToken = Callable[[int, int], None]


def generate(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    end: int | None,
    decode_bytes: DecodeBytes | None = None,
    vocab_size: int | None = None,
    on_token: OnToken | None = None,
) -> list[Generated]:
    """Continue prompts.

    Args:
        model: The model, in ``eval()`` mode.
        prompts: Token ids, none of them empty.
        options: How.
        end: The token that ends a text; None: only the length does.
        decode_bytes: Bytes of ids, needed by stop texts.
        vocab_size: Ids from here on are padding of the embedding and are never chosen.
        on_token: Called with the prompt's number and each new token as it is chosen; not while beams are searched.

    Returns:
        One result for each prompt, in their order.

    Raises:
        UserError: A prompt is empty, has foreign ids or fills the context; or stop texts without ``decode_bytes``.
    """
    check_prompts(prompts, context=model.config.context, vocab_size=vocab_size)
    if options.stop and decode_bytes is None:
        raise UserError("stop texts need the tokenizer's decode_bytes")
    numbers = occurrences(prompts)
    results: dict[int, Generated] = {}
    with torch.inference_mode():
        for rows in batches(prompts, options, model.config.context):
            batch = Batch(
                model=model,
                prompts=[prompts[row] for row in rows],
                numbers=[numbers[row] for row in rows],
                options=options,
                end=end,
                decode_bytes=decode_bytes,
                vocab_size=vocab_size,
            )
            if options.beams > 1:
                found = beam_search(batch)
            else:
                found = sample(batch, None if on_token is None else partial(_tell, on_token, rows))
            results.update(zip(rows, found, strict=True))
    return [results[row] for row in range(len(prompts))]


def _tell(on_token: OnToken, rows: Sequence[int], row: int, token: int) -> None:
    """Name a row of a batch by its prompt."""
    on_token(rows[row], token)


class Picker:
    """Chooses the next token of each text.

    Args:
        batch: The texts.
    """

    def __init__(self, batch: Batch) -> None:
        self.options = batch.options
        self.uniforms = _uniforms(batch) if self.options.temperature > 0 else None
        self.seen: Tensor | None = None
        if self.options.repetition_penalty != 1.0:
            size = batch.vocab_size or 1 + max(max(prompt) for prompt in batch.prompts)
            self.seen = torch.zeros(len(batch.prompts), size, dtype=torch.bool, device=batch.device)
            for row, prompt in enumerate(batch.prompts):
                self.seen[row, torch.tensor(list(prompt), device=batch.device)] = True

    def pick(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Tokens ``(B,)`` from logits ``(B, V)``, and their log-probabilities ``(B,)`` under the model."""
        scores = logits
        if self.seen is not None:
            if self.seen.shape[1] < logits.shape[1]:
                self.seen = torch.nn.functional.pad(self.seen, (0, logits.shape[1] - self.seen.shape[1]))
            scores = penalise_repetition(logits, self.seen, self.options.repetition_penalty)
        if self.uniforms is None:
            tokens = scores.argmax(-1)
        else:
            tokens = draw(filtered(scores, self.options), self.uniforms[:, step])
        if self.seen is not None:
            self.seen[torch.arange(len(tokens), device=tokens.device), tokens] = True
        logits = logits.float()
        return tokens, logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)

    def keep(self, rows: Tensor) -> None:
        """Go on with these texts only."""
        self.uniforms = None if self.uniforms is None else self.uniforms[rows]
        self.seen = None if self.seen is None else self.seen[rows]


def _uniforms(batch: Batch) -> Tensor:
    """The random numbers of all steps, ``(B, steps)``; a row's follow from the seed and the sample's number alone."""
    key = batch.options.seed
    rows = [
        np.random.Generator(np.random.Philox(key=np.array([key, number], dtype=np.uint64))).random(max(batch.rooms))
        for number in batch.numbers
    ]
    return torch.from_numpy(np.stack(rows)).to(batch.device)


class Row:
    """A text in the making."""

    def __init__(self, batch: Batch, number: int) -> None:
        self.number = number
        self.room = batch.rooms[number]
        self.end = batch.end
        self.tokens: list[int] = []
        self.log_probabilities: list[float] = []
        self.finish: str | None = None
        self.stops = StopTexts(batch.options.stop) if batch.options.stop else None
        self.decode_bytes = batch.decode_bytes

    def add(self, token: int, log_probability: float) -> None:
        """Take a token, and see whether the text ends with it."""
        self.tokens.append(token)
        self.log_probabilities.append(log_probability)
        if token == self.end:
            self.finish = "end"
            return
        if self.stops is not None:
            assert self.decode_bytes is not None
            self.stops.push(self.decode_bytes([token]))
            if self.stops.found:
                self.finish = "stop"
                return
        if len(self.tokens) == self.room:
            self.finish = "length"

    def generated(self) -> Generated:
        """The result."""
        assert self.finish is not None
        return Generated(tokens=self.tokens, finish=self.finish, log_probabilities=self.log_probabilities)


def sample(batch: Batch, on_token: OnToken | None = None) -> list[Generated]:
    """Greedy decoding or sampling of one batch."""
    options = batch.options
    rows = [Row(batch, number) for number in range(len(batch.prompts))]
    live, picker = rows, Picker(batch)
    tokens, padding = batch.padded()
    static = options.cache == "static" or options.compile is not None
    cache = None if options.cache == "none" else batch.model.new_cache(len(rows), batch.slots, static=static)
    step: Callable[[Tensor, KVCache], Tensor] = batch.logits
    if options.compile is not None:
        assert cache is not None
        step, cache = compiled_step(batch, cache)
    logits = batch.logits(tokens, cache, padding)
    for count in range(max(batch.rooms)):
        chosen, found = picker.pick(logits, count)
        for row, token, log_probability in zip(live, chosen.tolist(), found.tolist(), strict=True):
            if row.finish is None:
                row.add(token, log_probability)
                if on_token is not None:
                    on_token(row.number, token)
        going = [place for place, row in enumerate(live) if row.finish is None]
        if not going:
            break
        if not static and 2 * len(going) <= len(live):  # moving the cache costs, so not for each text that ends
            places = torch.tensor(going, device=tokens.device)
            live, chosen = [live[place] for place in going], chosen[places]
            picker.keep(places)
            if cache is None:
                tokens, padding = tokens[places], None if padding is None else padding[places]
            else:
                cache.reorder(places)
        if cache is None:
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            padding = None if padding is None else torch.nn.functional.pad(padding, (0, 1), value=True)
            logits = batch.logits(tokens, None, padding)
        else:
            logits = step(chosen[:, None], cache)
    return [row.generated() for row in rows]
