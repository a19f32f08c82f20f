"""What the first utterances and the first loss of a Whisper must look like.

Shapes: B utterances, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from zoo.shared.audit import Check
from zoo.shared.data.images import BadSample
from zoo.whisper.speech.sounds import samples_of
from zoo.whisper.targets import IGNORED

_UTTERANCES, _TRIES = 8, 32
_SILENT = 1e-4  # root mean square of full scale


@torch.no_grad()
def audit(task: Any, datamodule: Any) -> list[Check]:
    """Look at a few utterances, at the loss on them, and at what the model sees.

    Args:
        task: The :class:`~zoo.whisper.task.WhisperTask` that will be trained.
        datamodule: The run's :class:`~zoo.whisper.data.WhisperDataModule`.
    """
    model, reader = task.model, datamodule.readers[0]
    batch = datamodule.peek(_UTTERANCES)
    was_training = model.training
    model.eval()
    try:
        return [
            vocabulary(batch, model, reader.tokenizer),
            order(batch, reader.tokenizer),
            transcripts(batch, reader.tokenizer),
            sound(datamodule.speech.train),
            spectrogram(batch["mel"]),
            *losses(model, batch, trained=bool(datamodule.tokenizer)),
            future(model, batch),
            leak(datamodule.speech),
        ]
    finally:
        model.train(was_training)


def vocabulary(batch: dict[str, Any], model: Any, tokenizer: Any) -> Check:
    """The tokenizer has as many ids as the model."""
    size = model.config.vocab_size
    largest = int(max(batch["tokens"].max(), batch["targets"].max()))
    return Check(
        name="vocabulary",
        found=f"{tokenizer.vocab_size:,} ids, the largest seen {largest:,}",
        expected=f"{size:,}",
        passed=tokenizer.vocab_size == size and largest < size,
    )


def order(batch: dict[str, Any], tokenizer: Any) -> Check:
    """Every target is the token that follows, once; texts end; what is before the start does not count."""
    tokens, targets, special = batch["tokens"], batch["targets"], tokenizer.specials
    wrong = 0
    for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        start = row.index(special.sot) if special.sot in row else -1
        end = wanted.index(special.eot) if special.eot in wanted else -1
        shifted = all(wanted[i] == row[i + 1] for i in range(max(start, 0), max(end, 0)))
        quiet = all(target == IGNORED for target in (*wanted[: max(start, 0)], *wanted[end + 1 :]))
        wrong += not (start >= 0 and end > start and shifted and quiet)
    return Check(
        name="targets",
        found=f"{wrong} of {len(tokens)} texts are not in order",
        expected="start, language, task, text, end; each target the next token; no target before the start",
        passed=not wrong,
    )


def transcripts(batch: dict[str, Any], tokenizer: Any) -> Check:
    """Most of what is to be learnt is text."""
    texts = [tokenizer.decode([t for t in row if t != IGNORED]).strip() for row in batch["targets"].tolist()]
    letters = sum(any(c.isalpha() for c in text) for text in texts)
    return Check(
        name="transcripts",
        found=f"{letters} of {len(texts)} have letters, such as {next(iter(texts), '')[:50]!r}",
        expected="half of them",
        passed=2 * letters >= len(texts) > 0,
    )


def sound(source: Any) -> Check:
    """Something is to be heard, and not only clipped samples."""
    heard = clipped = looked = 0
    for index in range(min(len(source), _TRIES)):
        with suppress(BadSample):
            audio = samples_of(source[index])
            heard += float(audio.square().mean().sqrt()) > _SILENT
            clipped += float((audio.abs() > 0.999).float().mean()) > 0.05
            looked += 1
    return Check(
        name="sound",
        found=f"{heard} of {looked} are loud enough, {clipped} clipped",
        expected="most are, few clipped",
        passed=2 * heard >= looked > 2 * clipped,
    )


def spectrogram(mel: Tensor) -> Check:
    """The range that the paper's scaling gives."""
    low, high = float(mel.min()), float(mel.max())
    return Check(
        name="spectrogram",
        found=f"{low:.2f} to {high:.2f}",
        expected="within -1.6 and 2.6, at most 2 apart for each utterance",
        passed=-1.6 < low < high < 2.6 and bool((mel.amax((1, 2)) - mel.amin((1, 2)) < 2.001).all()),
    )


def losses(model: Any, batch: dict[str, Any], *, trained: bool) -> list[Check]:
    """The loss against what it is known to be: ln V untrained; a trained model prefers the true sound to another."""
    tokens, targets = batch["tokens"], batch["targets"]
    count, expected = int((targets != IGNORED).sum()), math.log(model.config.vocab_size)
    found = float(model.loss_sum(batch["mel"], tokens, targets)) / count
    other = float(model.loss_sum(batch["mel"].roll(1, 0), tokens, targets)) / count
    return [
        Check(
            name="first loss",
            found=f"{found:.3f} nats",
            expected="finite" if trained else f"ln {model.config.vocab_size} = {expected:.3f} within 0.5",
            passed=math.isfinite(found) and (trained or abs(found - expected) < 0.5),
        ),
        Check(
            name="first loss, sound of another utterance",
            found=f"{other:.3f} nats",
            expected=f"above {found:.3f}" if trained else f"within 0.1 of {found:.3f}",
            passed=other > found if trained else abs(other - found) < 0.1,
        ),
    ]


def future(model: Any, batch: dict[str, Any]) -> Check:
    """The state at a token does not depend on what follows it."""
    mel, tokens = batch["mel"][:1], batch["tokens"][:1]
    half = tokens.shape[1] // 2
    changed = tokens.clone()
    changed[:, half:] = (changed[:, half:] + 1) % model.config.vocab_size
    audio = model.hear(mel)
    apart = float((model.decoder(tokens, audio) - model.decoder(changed, audio))[:, :half].abs().max()) if half else 0.0
    return Check(name="a token sees the future", found=f"{apart:.1e}", expected="below 1e-4", passed=apart < 1e-4)


def leak(speech: Any) -> Check:
    """Whether held-out sentences are in training, in the same language."""
    train = {(u.language, u.text.casefold()) for u in _utterances(speech.train) if u.text}
    asked = [(u.language, u.text.casefold()) for part in speech.held_out.values() for u in _utterances(part) if u.text]
    share = sum(pair in train for pair in asked) / max(1, len(asked))
    return Check(
        name="held-out sentences in training",
        found=f"{100 * share:.1f} % of {len(asked):,}",
        expected="below 5 %",
        passed=share < 0.05,
    )


def _utterances(source: Any) -> Any:
    return (source[index] for index in range(len(source)))
