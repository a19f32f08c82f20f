"""Checks before a GPT is fine-tuned: labels, sequences, the first loss, and texts on both sides."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch

from zoo.gpt.finetuning.data import FinetuneDataModule
from zoo.gpt.finetuning.task import FinetuneTask
from zoo.shared.audit import Check


def audit(task: FinetuneTask, datamodule: FinetuneDataModule) -> list[Check]:
    """Look at the data, and at the losses of the first items.

    Args:
        task: The task that will be trained.
        datamodule: The data of the run.
    """
    train, held_out = datamodule.readers
    task.prepare(datamodule)
    batch = datamodule.peek(64)
    training = task.training
    task.eval()
    try:
        with torch.no_grad():
            found = task.sums(batch)
    finally:
        task.train(training)
    items, rows = len(batch["tokens"]), int((batch["lengths"] > 0).sum())
    known = datamodule.config.classes > 0  # a head that was trained before
    expected = math.log(batch["target"].shape[1])
    loss = float(found.classification) / items
    checks = [
        Check(
            name="loss of the head",
            found=f"{loss:.3f}",
            expected="finite: the head was trained before" if known else f"ln K = {expected:.3f} within 1",
            passed=math.isfinite(loss) and (known or abs(loss - expected) < 1),
        )
    ]
    if task.lm_weight:
        language, limit = float(found.language) / rows, math.log(datamodule.rows)
        checks.append(
            Check(
                name="loss of language modelling",
                found=f"{language:.3f}",
                expected=f"at most ln V = {limit:.3f}, the untrained model's, and 1",
                passed=math.isfinite(language) and language < limit + 1,
            )
        )
    return [*checks, marks(batch, datamodule), labels(train, datamodule), cut(train, datamodule), leak(train, held_out)]


def marks(batch: dict[str, torch.Tensor], datamodule: FinetuneDataModule) -> Check:
    """Every sequence begins and ends as it must."""
    tokens, lengths = batch["tokens"].flatten(0, 1), batch["lengths"].flatten()
    tokens, lengths = tokens[lengths > 0], lengths[lengths > 0]
    last = tokens.gather(1, (lengths - 1)[:, None]).squeeze(1)
    wrong = int(((tokens[:, 0] != datamodule.marks.start) | (last != datamodule.marks.classify)).sum())
    return Check(
        name="sequences from start to classify",
        found=f"{wrong} of {len(tokens)} are not",
        expected="0",
        passed=wrong == 0,
    )


def labels(reader: Any, datamodule: FinetuneDataModule) -> Check:
    """More than one thing is asked for."""
    counts = Counter(example.label for example in reader.examples if example.label)
    label, most = counts.most_common(1)[0] if counts else ("", 0)
    total = sum(counts.values())
    return Check(
        name="labels",
        found=f"{len(counts)}, the most frequent one ({label}) in {most} of {total}",
        expected="several, none in more than 99 % of the items",
        passed=len(counts) > 1 and most <= 0.99 * total,
    )


def cut(reader: Any, datamodule: FinetuneDataModule) -> Check:
    """Most texts fit."""
    return Check(
        name="training items longer than the context",
        found=f"{datamodule.cut[0]} of {len(reader)}",
        expected="not all",
        passed=datamodule.cut[0] < len(reader),
    )


def leak(train: Any, held_out: Any) -> Check:
    """No item is on both sides."""
    both = 0
    if held_out is not None:
        trained = {example.texts for example in train.examples}
        both = sum(example.texts in trained for example in held_out.examples)
    return Check(
        name="held-out items that are trained on",
        found=str(both),
        expected="fewer than a tenth",
        passed=both * 10 < max(1, 0 if held_out is None else len(held_out)) or both == 0,
    )
