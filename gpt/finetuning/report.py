"""What a fine-tuned GPT can do on held-out items: figures and a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.gpt.finetuning.data import FinetuneDataModule
from zoo.gpt.finetuning.metrics import NAMES, expected_score, measure
from zoo.shared.files import save_atomically
from zoo.shared.runs.report import Figure, Report

_BATCH = 64
_NAMED = 12  # classes that a picture names


def report(task: Any, datamodule: FinetuneDataModule, folder: Path) -> Report:
    """Measure a trained model on held-out items and draw what it takes for what.

    Args:
        task: The trained :class:`~zoo.gpt.finetuning.task.FinetuneTask`.
        datamodule: The data of the run.
        folder: Where the picture goes.
    """
    reader = datamodule.readers[1]
    if reader is None or not len(reader):
        return Report(title=f"{datamodule.description}: nothing was held out, so nothing was measured")
    logits, target = answers(task, datamodule)
    pictures = []
    if datamodule.scores or datamodule.labels:
        pictures.append(folder / "held_out.png")
        draw(logits, target, datamodule, pictures[0])
    return Report(
        title=f"{len(logits)} held-out items of {datamodule.description}",
        figures=figures_of(logits, target, datamodule),
        pictures=pictures,
        next_commands=["zoo ablate gpt", "zoo convert {weights} EXPORT --to hf"],
    )


@torch.no_grad()
def answers(task: Any, datamodule: FinetuneDataModule) -> tuple[Tensor, Tensor]:
    """Logits and targets ``(N, K)`` of the held-out items that can be used, on the CPU."""
    reader = datamodule.readers[1]
    assert reader is not None
    usable = [i for i in range(len(reader)) if reader.items[i] and reader.target[i].any()]
    usable.sort(key=lambda i: sum(map(len, reader.items[i])))  # little padding
    device = next(task.model.parameters()).device
    found = []
    for first in range(0, len(usable), _BATCH):
        batch = datamodule.batch_of(reader, usable[first : first + _BATCH])
        states = task.model.hidden(batch["tokens"].flatten(0, 1).to(device)).unflatten(0, batch["tokens"].shape[:2])
        logits = task.read_out(states, batch["lengths"].to(device))
        found.append((logits.float().cpu(), batch["target"]))
    both = [torch.cat(part) for part in zip(*found, strict=True)]
    return both[0], both[1]


def figures_of(logits: Tensor, target: Tensor, datamodule: FinetuneDataModule) -> list[Figure]:
    """The task's own metric first."""
    found = measure(logits, target, scores=datamodule.scores)
    counts = Counter(target.argmax(-1).tolist())
    chance = {"accuracy": max(counts.values()) / len(target), "matthews": 0.0, "pearson": 0.0, "spearman": 0.0}
    order = sorted(found, key=lambda name: name != datamodule.metric)
    return [
        Figure(
            name=NAMES[name] + (" (chance: always the most frequent)" if name == "accuracy" else ""),
            key=name,
            value=found[name],
            chance=chance.get(name),
            percent=name in ("accuracy", "f1"),
        )
        for name in order
    ]


def draw(logits: Tensor, target: Tensor, datamodule: FinetuneDataModule, path: Path) -> None:
    """Draw how often each class is taken for each, or predicted over true scores."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    if datamodule.scores:
        truth = expected_score(target, datamodule.scores)
        found = expected_score(logits.softmax(-1), datamodule.scores)
        axes.scatter(truth.numpy(), found.numpy(), s=8, alpha=0.5)
        axes.plot(datamodule.scores, datamodule.scores, color="grey", linewidth=0.8)
        axes.set(xlabel="score", ylabel="predicted", xlim=datamodule.scores, ylim=datamodule.scores)
    else:
        names, classes = datamodule.labels, len(datamodule.labels)
        table = torch.zeros(classes, classes)
        table.index_put_((target.argmax(-1), logits.argmax(-1)), torch.ones(len(target)), accumulate=True)
        shares = table / table.sum(1, keepdim=True).clamp(min=1)
        axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
        axes.set(xlabel="predicted", ylabel="is")
        if classes <= _NAMED:
            axes.set_xticks(range(classes), names, rotation=30, ha="right")
            axes.set_yticks(range(classes), names)
            for row in range(classes):
                for column in range(classes):
                    share = float(shares[row, column])
                    colour = "white" if share > 0.5 else "black"
                    axes.text(column, row, f"{int(table[row, column])}", ha="center", va="center", color=colour)
    axes.set_title(f"{len(target)} held-out items of {datamodule.description}", fontsize=9)
    save_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
