"""What may come next in a transcript (Radford et al. 2022, arXiv:2212.04356, Section 4.5, and the released code).

Whole batches at a time, and on the device: the state that the rules for timestamps read is kept there too.

Shapes: B texts, V tokens of the vocabulary, S timestamps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.shared.errors import UserError
from zoo.whisper.configs import FRAME_SECONDS
from zoo.whisper.decoding.options import DecodingOptions

if TYPE_CHECKING:
    from zoo.whisper.tokenizer import WhisperTokenizer

_NEVER = -torch.inf


def suppressed_ids(tokenizer: WhisperTokenizer, options: DecodingOptions) -> list[int]:
    """Ids that never come because of ``suppress_tokens``: the given ones, and those that start a transcript.

    Raises:
        UserError: An id that the vocabulary does not have.
    """
    if not options.suppress_tokens:
        return []
    given, specials = options.suppressed(), tokenizer.specials
    found = {index for index in given if index >= 0}
    if any(index >= specials.vocab_size for index in found):
        raise UserError(f"suppress_tokens: the vocabulary of {specials.vocab_size} has no id {max(found)}")
    if -1 in given:
        found.update(tokenizer.non_speech_ids)
    found |= {specials.sot, specials.translate, specials.transcribe, specials.sot_lm, specials.sot_prev}
    return sorted(found | {specials.no_speech})


class TimestampState:
    """What the rules remember of each text.

    Args:
        texts: Their number B.
        begin: Id of the first timestamp.
        device: Where it lies.
    """

    def __init__(self, texts: int, begin: int, device: torch.device) -> None:
        self.begin = begin
        # As if a timestamp came before the first token: text follows the timestamp that a transcript starts with.
        self.last_is_time = self.before_is_time = torch.ones(texts, dtype=torch.bool, device=device)
        self.last_time = torch.full((texts,), -1, device=device)

    def advance(self, tokens: Tensor) -> None:
        """Each text got one of ``tokens`` ``(B,)``."""
        self.before_is_time = self.last_is_time
        self.last_is_time = tokens >= self.begin
        self.last_time = torch.where(self.last_is_time, tokens - self.begin, self.last_time)

    def select(self, rows: Tensor) -> None:
        """Put text ``rows[b]`` in the place of text ``b``."""
        self.last_is_time, self.before_is_time, self.last_time = (
            kept[rows] for kept in (self.last_is_time, self.before_is_time, self.last_time)
        )


class Rules:
    """The filters of one call of ``decode``.

    Args:
        tokenizer: Knows the ids.
        options: Which filters.
        size: Logits of a token, V; those beyond the tokenizer's ids never come.
        device: Where the logits lie.
    """

    def __init__(
        self, tokenizer: WhisperTokenizer, options: DecodingOptions, *, size: int, device: torch.device
    ) -> None:
        specials = tokenizer.specials
        self.begin, self.eot, self.end = specials.timestamp_begin, specials.eot, specials.vocab_size
        self.timed = not options.without_timestamps
        always = torch.zeros(size)
        always[self.end :] = _NEVER
        always[suppressed_ids(tokenizer, options)] = _NEVER
        if self.timed:
            always[specials.no_timestamps] = _NEVER
        first = always.clone()
        if options.suppress_blank:
            first[[*tokenizer.encode(" "), self.eot]] = _NEVER
        if self.timed:
            first[: self.begin] = _NEVER
            if options.max_initial_timestamp:
                first[self.begin + round(options.max_initial_timestamp / FRAME_SECONDS) + 1 :] = _NEVER
        self.always, self.first = always.to(device), first.to(device)
        self.steps = torch.arange(size - self.begin, device=device)

    def start(self, texts: int) -> TimestampState | None:
        """The state of texts that have no token yet; None where there are no timestamps."""
        return TimestampState(texts, self.begin, self.steps.device) if self.timed else None

    def apply(self, logits: Tensor, state: TimestampState | None, *, first: bool = False) -> Tensor:
        """Set the logits of what may not come next to minus infinity.

        Args:
            logits: float32 ``(B, V)``; changed in place.
            state: From :meth:`start`, told of every token since.
            first: Whether no text has a token yet.
        """
        logits += self.first if first else self.always
        if first or state is None:
            return logits
        times, others = logits[:, self.begin :], logits[:, : self.begin]
        # A timestamp that ends a segment is followed by that of the next one, which may be the same, or by the end;
        # two are followed by text. Otherwise a segment must not end where it started.
        only_times = state.last_is_time & ~state.before_is_time
        least = torch.where(state.last_is_time, state.last_time, state.last_time + 1)
        least = least.masked_fill_(state.last_is_time & state.before_is_time, len(self.steps))
        times.masked_fill_(self.steps < least[:, None], _NEVER)
        _forbid(logits[:, : self.eot], only_times)
        # Timestamps that together are likelier than any other token: then it is one of them.
        _forbid(others, times.logsumexp(-1) > others.amax(-1))
        return logits


def _forbid(logits: Tensor, texts: Tensor) -> None:
    """Set the logits ``(B, V)`` of some texts, bool ``(B,)``, to minus infinity."""
    if not logits.is_cpu:
        logits.masked_fill_(texts[:, None], _NEVER)  # asking which would make the device wait
        return
    for row, chosen in enumerate(texts.tolist()):
        if chosen:
            logits[row] = _NEVER
