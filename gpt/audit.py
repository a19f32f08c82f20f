"""What the first windows and the first loss of a GPT must look like.

Shapes: B windows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.shared.audit import Check
from zoo.shared.text.tokens import Tokens

_WINDOWS, _TOKENS = 8, 8192  # at most
_RUN = 48  # tokens in a row that two different texts do not share
_LOOKED_AT = 1 << 20  # tokens


@torch.no_grad()
def audit(task: Any, datamodule: Any) -> list[Check]:
    """Look at a few windows, at the loss on them, and at what the model sees.

    Args:
        task: The :class:`~zoo.gpt.task.GptTask` that will be trained.
        datamodule: A set-up :class:`~zoo.gpt.data.GptDataModule`.
    """
    model = task.model
    batch = datamodule.peek(max(1, min(_WINDOWS, _TOKENS // model.config.context)))
    tokens = batch["tokens"]
    checks = [ids(tokens, model.config.vocab_size), text(tokens, datamodule.preprocessor), sizes(tokens, datamodule)]
    if not checks[0].passed:
        return checks  # the model cannot take such a batch
    training = model.training
    model.eval()
    try:
        checks += [*losses(model, tokens, trained=datamodule.trained), future(model, tokens)]
    finally:
        model.train(training)
    train, held_out = datamodule.readers[0].tokens, datamodule.held_out_tokens
    return [*checks, documents(train), leak(train, held_out)]


def ids(tokens: Tensor, vocab_size: int) -> Check:
    """Every id has a row in the model's embedding."""
    low, high = int(tokens.min()), int(tokens.max())
    return Check(
        name="token ids",
        found=f"{low} to {high}",
        expected=f"0 to {vocab_size - 1}",
        passed=low >= 0 and high < vocab_size,
    )


def text(tokens: Tensor, preprocessor: Any) -> Check:
    """What the first window says, for a person to read; it must contain letters."""
    words = preprocessor.decode(tokens[0].tolist())
    letters = sum(letter.isalpha() for letter in words) / max(1, len(words))
    return Check(
        name="the first window",
        found=repr(words[:60]),
        expected="text a person can read, at least a quarter letters",
        passed=letters >= 0.25,
    )


def sizes(tokens: Tensor, datamodule: Any) -> Check:
    """A token stands for some bytes, but not for many; those that stand for none, as the end of text, do not count."""
    lengths = datamodule.readers[0].tokens.lengths[tokens.numpy()]
    each = float(lengths[lengths > 0].mean()) if lengths.any() else 0.0
    return Check(name="bytes per token", found=f"{each:.2f}", expected="1 to 12", passed=1 <= each <= 12)


def losses(model: Any, tokens: Tensor, *, trained: bool) -> list[Check]:
    """The loss against what it is known to be.

    Untrained, it is ln V, and the same on targets that belong to other places. A trained model may be much worse than
    that on text of another kind, but must be better on the true targets than on others.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    expected, count = math.log(model.config.vocab_size), targets.numel()
    found = float(model.loss_sum(inputs, targets)) / count
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    shuffled = float(model.loss_sum(inputs, targets.flatten()[order].view_as(targets))) / count
    return [
        Check(
            name="first loss",
            found=f"{found:.3f} nats",
            expected="finite" if trained else f"ln {model.config.vocab_size} = {expected:.3f} within 0.5",
            passed=math.isfinite(found) and (trained or found < expected + 0.5),
        ),
        Check(
            name="first loss, targets shuffled",
            found=f"{shuffled:.3f} nats",
            expected=f"above {found + 0.1:.3f}" if trained else f"not below {found:.3f} by more than 0.1",
            passed=shuffled > found + (0.1 if trained else -0.1),
        ),
    ]


def future(model: Any, tokens: Tensor) -> Check:
    """The state at a token does not depend on what follows it."""
    window = tokens[:1, :-1]
    half = window.shape[1] // 2
    changed = window.clone()
    changed[:, half:] = (changed[:, half:] + 1) % model.config.vocab_size
    apart = float((model.hidden(window)[:, :half] - model.hidden(changed)[:, :half]).abs().max()) if half else 0.0
    return Check(name="a token sees the future", found=f"{apart:.1e}", expected="below 1e-4", passed=apart < 1e-4)


def documents(tokens: Tokens) -> Check:
    """How much there is, and whether documents end."""
    count, end = len(tokens.documents), tokens.end_of_text
    marked = (
        end is None
        or int(tokens.read(int(tokens.documents["tokens"][0]) - 1, int(tokens.documents["tokens"][0]))[0]) == end
    )
    return Check(
        name="training text",
        found=f"{count:,} documents, {len(tokens):,} tokens, {tokens.bytes:,} bytes",
        expected="each document followed by end-of-text",
        passed=marked,
    )


def leak(train: Tokens, held_out: Tokens | None) -> Check:
    """Whether held-out text is in the training text: 48 tokens in a row, looked for at all places."""
    if held_out is None or len(held_out) < _RUN:
        return Check(name="held-out text", found="none", expected="none, or not in the training text", passed=True)
    known = runs(train.read(0, min(len(train), _LOOKED_AT)), step=_RUN)
    asked = runs(held_out.read(0, min(len(held_out), _LOOKED_AT)), step=1)
    share = float(np.isin(asked, known).mean()) * _RUN
    return Check(
        name="held-out text in the training text",
        found=f"{100 * min(share, 1):.2f} %",
        expected=f"below 5 % of its runs of {_RUN} tokens",
        passed=share < 0.05,
    )


def runs(tokens: np.ndarray, *, step: int) -> np.ndarray:
    """A hash of every run of tokens that begins at a multiple of ``step``, uint64."""
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(_RUN, 6364136223846793005, dtype=np.uint64))
        words = (tokens.astype(np.uint64) + 1) * np.uint64(2862933555777941757)
        starts = range(_RUN)
        count = len(tokens) - _RUN + 1
        total = np.zeros(max(0, -(-count // step)), dtype=np.uint64)
        for place in starts:
            total += words[place : place + count : step] * powers[place]
    return total
