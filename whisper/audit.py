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
from zoo.shared.cross_entropy import cross_entropy_sum
from zoo.shared.data.images import BadSample
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.prompts import start_ids
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
            prompts(batch, reader.source, reader.tokenizer, model.config.text_context),
            transcripts(batch, reader.tokenizer),
            sound(datamodule.speech.train),
            spectrogram(batch["mel"]),
            *losses(model, batch, trained=datamodule.trained),
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


def prompts(batch: dict[str, Any], source: Any, tokenizer: Any, context: int) -> Check:
    """Every text starts with what decoding will start with for its language and task, after the text before it."""
    special, wrong = tokenizer.specials, []
    for index, row in zip(batch["index"].tolist(), batch["tokens"].tolist(), strict=True):
        one, start = source[index], row.index(special.sot) if special.sot in row else len(row)
        before, text = row[:start], row[start:]
        if one.no_speech:
            wanted = [special.sot, special.no_speech]
        else:
            untimed = special.no_timestamps in text
            options = DecodingOptions(language=one.language, task=one.task, without_timestamps=untimed)
            wanted = start_ids(tokenizer, options, one.language if tokenizer.multilingual else None, context)
            timed = len(text) > len(wanted) and text[len(wanted)] >= special.timestamp_begin
            wanted = wanted if untimed or timed else []
        told = before[:1] in ([], [special.sot_prev]) and all(token < special.eot for token in before[1:])
        if not wanted or text[: len(wanted)] != wanted or not told:
            wrong.append(one.id)
    return Check(
        name="decoder prompts",
        found=f"{len(wrong)} of {len(batch['tokens'])} texts start otherwise"
        + (f", {wrong[0]} first" if wrong else ""),
        expected="none: language, task and times as when the model is used",
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
    """The loss against what it is known to be: ln V untrained; a trained model prefers the true sound to another, and
    the targets as they are to targets that are shifted once more or less.
    """
    tokens, targets = batch["tokens"], batch["targets"]
    guessing = math.log(model.config.vocab_size)
    states = model.hear(batch["mel"])

    def loss(states: Tensor, targets: Tensor) -> float:
        hidden = model.decoder.hidden(tokens, states)
        nats = cross_entropy_sum(hidden.flatten(0, 1), model.decoder.tokens.weight, targets.flatten())
        return float(nats) / int((targets != IGNORED).sum())

    found, other = loss(states, targets), loss(states.roll(1, 0), targets)
    checks = [
        Check(
            name="first loss",
            found=f"{found:.3f} nats",
            expected=f"below {guessing:.3f}, which is guessing" if trained else f"ln V = {guessing:.3f} within 0.5",
            passed=math.isfinite(found) and (found < guessing if trained else abs(found - guessing) < 0.5),
        ),
        Check(
            name="first loss, sound of another utterance",
            found=f"{other:.3f} nats",
            expected=f"above {found:.3f}" if trained else f"within 0.1 of {found:.3f}",
            passed=other > found if trained else abs(other - found) < 0.1,
        ),
    ]
    if trained:
        apart = [loss(states, shifted(targets, by)) for by in (-1, 1)]
        checks.append(
            Check(
                name="first loss, targets shifted once more or less",
                found=f"{apart[0]:.3f} and {apart[1]:.3f} nats",
                expected=f"above {found:.3f}",
                passed=min(apart) > found,
            )
        )
    return checks


def shifted(targets: Tensor, by: int) -> Tensor:
    """Targets ``(B, T)`` that stand ``by`` places later; nothing is learnt where none is left."""
    moved = targets.roll(by, 1)
    moved[:, slice(by) if by > 0 else slice(by, None)] = IGNORED
    return moved


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
