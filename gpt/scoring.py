"""How probable a model finds texts: continuations of contexts, and whole texts in rolling windows.

Shapes: B batch, T tokens, D width, V vocabulary, N texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.shared.errors import UserError

Tokens = Sequence[int]
Progress = Callable[[int, int], object]
_LOGITS = 1 << 24  # logits held at a time


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model says of continuations.

    Attributes:
        losses: Of each continuation the nats of each token, float32 ``(T,)``.
        greedy: Of each continuation whether each token is the likeliest of all, bool ``(T,)``.
        truncated: Contexts that lost tokens at the left, because they did not fit.
    """

    losses: list[np.ndarray]
    greedy: list[np.ndarray]
    truncated: int

    def totals(self) -> np.ndarray:
        """Nats of each continuation, float64 ``(N,)``."""
        return np.array([float(losses.sum(dtype=np.float64)) for losses in self.losses])

    def means(self) -> np.ndarray:
        """Nats per token of each continuation, float64 ``(N,)``."""
        return np.array([float(losses.mean(dtype=np.float64)) for losses in self.losses])

    def all_greedy(self) -> np.ndarray:
        """Whether greedy decoding would write each continuation, bool ``(N,)``."""
        return np.array([bool(greedy.all()) for greedy in self.greedy])


def inner_tokenizer(tokenizer: Any) -> Any:
    """The :class:`~zoo.shared.text.base.TextTokenizer` in what :func:`zoo.create_preprocessor` gives."""
    return getattr(tokenizer, "tokenizer", tokenizer)


def score_continuations(
    model: Any,
    contexts: Sequence[Tokens],
    continuations: Sequence[Tokens],
    *,
    start: int | None = None,
    batch_size: int = 16,
    progress: Progress = lambda done, total: None,
) -> Scores:
    """Score continuations, each after its context. A context is cut at the left until both fit.

    Args:
        model: A GPT; its weights decide the device.
        contexts: Token ids.
        continuations: Token ids, at least one each.
        start: Stands before a continuation whose context is empty, such as the end of the text before it.
        batch_size: Texts scored at once.
        progress: Called with the texts done and their number.

    Returns:
        Losses and greedy marks in the order given.

    Raises:
        UserError: A continuation is empty or longer than the model's context, or follows nothing at all.
    """
    room = int(model.config.context)
    inputs, truncated = [], 0
    for context, continuation in zip(contexts, continuations, strict=True):
        before = list(context) or ([] if start is None else [start])
        if not before:
            raise UserError("this tokenizer has no end of text to stand before a first token; give a context")
        if not 0 < len(continuation) <= room:
            raise UserError(f"a continuation of {len(continuation)} tokens cannot be scored in a context of {room}")
        # The last token is only predicted, so that one more than the context fits.
        truncated += len(before) + len(continuation) > room + 1
        inputs.append([*before, *continuation][-(room + 1) :])
    losses: list[np.ndarray] = [np.empty(0)] * len(inputs)
    greedy: list[np.ndarray] = [np.empty(0)] * len(inputs)
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            counts = [len(continuations[i]) for i in chosen]
            found, marks = _score_batch(model, [inputs[i] for i in chosen], counts)
            for i, loss, mark in zip(chosen, found.split(counts), marks.split(counts), strict=True):
                losses[i], greedy[i] = loss.numpy(), mark.numpy()
            progress(min(first + batch_size, len(order)), len(order))
    finally:
        model.train(was_training)
    return Scores(losses=losses, greedy=greedy, truncated=truncated)


@torch.no_grad()
def _score_batch(model: Any, rows: Sequence[Tokens], counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Losses and greedy marks of the last ``counts`` tokens of each row, one row after the other, on the CPU."""
    device = next(model.parameters()).device
    longest = max(len(row) for row in rows) - 1
    # Padding is at the right, where causal attention never looks.
    tokens = torch.tensor([[*row[:-1], *[0] * (longest + 1 - len(row))] for row in rows], device=device)
    targets = torch.tensor(
        [token for row, count in zip(rows, counts, strict=True) for token in row[-count:]], device=device
    )
    hidden = model.hidden(tokens)
    places = [(i, len(row) - 1, count) for i, (row, count) in enumerate(zip(rows, counts, strict=True))]
    states = torch.cat([hidden[i, end - count : end] for i, end, count in places])
    matrix = model.output_matrix()
    losses, marks = [], []
    size = max(1, _LOGITS // len(matrix))
    for part, wanted in zip(states.split(size), targets.split(size), strict=True):
        logits = F.linear(part, matrix).float()
        losses.append(F.cross_entropy(logits, wanted, reduction="none").cpu())
        marks.append((logits.argmax(-1) == wanted).cpu())
    return torch.cat(losses), torch.cat(marks)


def likeliest_next(
    model: Any, contexts: Sequence[Tokens], count: int, *, vocab_size: int, batch_size: int = 16
) -> np.ndarray:
    """The likeliest next tokens after each context, the likeliest first.

    Args:
        model: A GPT.
        contexts: N contexts, each of at least one token and none longer than the model's.
        count: How many.
        vocab_size: Ids from here on are padding of the embedding.
        batch_size: Contexts computed at once.

    Returns:
        Ids, int64 ``(N, count)``, fewer where the vocabulary is smaller.
    """
    found = np.zeros((len(contexts), min(count, vocab_size)), dtype=np.int64)
    order = sorted(range(len(contexts)), key=lambda i: -len(contexts[i]))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            longest = len(contexts[chosen[0]])
            rows = [[*contexts[i], *[0] * (longest - len(contexts[i]))] for i in chosen]
            with torch.no_grad():
                hidden = model.hidden(torch.tensor(rows, device=device))
                last = torch.stack([hidden[row, len(contexts[i]) - 1] for row, i in enumerate(chosen)])
                logits = F.linear(last, model.output_matrix()).float()[:, :vocab_size]
            found[chosen] = logits.topk(found.shape[1], dim=-1).indices.cpu().numpy()
    finally:
        model.train(was_training)
    return found


def continuation_losses(
    model: Any,
    contexts: Sequence[Tokens],
    continuations: Sequence[Tokens],
    *,
    start: int | None = None,
    batch_size: int = 16,
) -> list[np.ndarray]:
    """Nats of each token of each continuation; see :func:`score_continuations`."""
    return score_continuations(model, contexts, continuations, start=start, batch_size=batch_size).losses


@dataclass(frozen=True, kw_only=True)
class TextLosses:
    """What a model says of whole texts.

    Attributes:
        nats: Of each text, float64 ``(N,)``.
        bytes: UTF-8 bytes that were scored of each text, int64 ``(N,)``.
        tokens: Tokens that were scored of each text, int64 ``(N,)``.
    """

    nats: np.ndarray
    bytes: np.ndarray
    tokens: np.ndarray

    @property
    def bits_per_byte(self) -> float:
        """Of all texts together."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())


def text_windows(tokens: Tokens, *, context: int, stride: int, start: int | None) -> Iterable[tuple[Tokens, Tokens]]:
    """Cut a text into contexts and continuations such that each token is predicted once.

    The first window predicts as much as fits; every further one predicts ``stride`` tokens and sees as much before them
    as fits, so that each token is predicted from at least ``context - stride`` others, as far as there are so many.
    """
    row = list(tokens) if start is None else [start, *tokens]
    place = 1
    while place < len(row):
        end = min(len(row), place + (context if place == 1 else stride))
        yield row[max(0, end - 1 - context) : place], row[place:end]
        place = end


def text_losses(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    stride: int | None = None,
    batch_size: int = 16,
    progress: Progress = lambda done, total: None,
) -> TextLosses:
    """Score whole texts, each token once, each text for itself.

    Args:
        model: A GPT.
        tokenizer: The tokenizer that belongs to it. Its end of text, if any, stands before each text; otherwise the
            first token of a text has nothing to follow, and neither it nor its bytes count.
        texts: N texts of any length.
        stride: Tokens predicted by each window after the first; None: the model's context, so that windows adjoin.
        batch_size: Windows scored at once.
        progress: Called with the windows done and their number.

    Raises:
        UserError: The stride is not between 1 and the context, or a text has nothing to score.
    """
    room = int(model.config.context)
    if stride is not None and not 1 <= stride <= room:
        raise UserError(f"stride {stride}: choose 1 to {room}, the model's context")
    start: int | None = tokenizer.end_of_text
    rows: list[list[int]] = tokenizer.encode_batch(list(texts))
    lengths = inner_tokenizer(tokenizer).token_lengths()
    sizes = np.array([len(text.encode("utf-8", "replace")) for text in texts], dtype=np.int64)
    owners: list[int] = []
    contexts: list[Tokens] = []
    continuations: list[Tokens] = []
    for number, row in enumerate(rows):
        if len(row) < (2 if start is None else 1):
            raise UserError(f"text {number + 1} is too short to score: {texts[number][:40]!r}")
        if start is None:
            sizes[number] -= int(lengths[row[0]])
        for before, after in text_windows(row, context=room, stride=stride or room, start=start):
            owners.append(number)
            contexts.append(before)
            continuations.append(after)
    scores = score_continuations(model, contexts, continuations, batch_size=batch_size, progress=progress)
    nats, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for number, losses in zip(owners, scores.losses, strict=True):
        nats[number] += float(losses.sum(dtype=np.float64))
        counts[number] += len(losses)
    return TextLosses(nats=nats, bytes=sizes, tokens=counts)
