"""What a trained Whisper writes for held-out speech: error rates by part, language and task, and a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.shared.runs.report import Figure, Report
from zoo.whisper.data import WhisperDataModule
from zoo.whisper.listener import Listener, measure
from zoo.whisper.pictures import listening_sheet

_SHOWN = 4  # in the picture


def report(task: Any, datamodule: WhisperDataModule, folder: Path) -> Report:
    """Measure a trained model on held-out speech and draw what it heard.

    Where the run started from weights, what they wrote for the same speech is put beside it.

    Args:
        task: The trained :class:`~zoo.whisper.task.WhisperTask`.
        datamodule: The data module of the run.
        folder: Where the picture goes.
    """
    assert datamodule.speech is not None
    commands = ["zoo transcribe AUDIO --weights {weights}", "zoo eval whisper --weights {weights} --data MANIFEST"]
    if not datamodule.speech.held_out:
        return Report(title=f"{datamodule.description}: nothing was held out, so nothing was measured",
                      next_commands=commands)  # fmt: skip
    listener = Listener(task.model, datamodule.preprocessor)
    figures, written = measure(listener, datamodule.speech.held_out)
    shown = []
    for found in written.values():
        spoken = [(one, result.text.strip()) for one, result, _ in found if not one.no_speech]
        shown += spoken[: _SHOWN // len(written)]
    picture = folder / "heard.png"
    listening_sheet([listener.attention(one, text) for one, text in shown], picture)
    return Report(
        title=f"held-out speech of {datamodule.description}",
        figures=beside(figures, task.before),
        pictures=[picture],
        next_commands=commands,
    )


def beside(figures: Sequence[Figure], before: Mapping[str, float]) -> list[Figure]:
    """The figures, each after what it was before training.

    Args:
        figures: After training.
        before: Key to value before training; empty where the run started from scratch.
    """
    both = []
    for figure in figures:
        if figure.key in before:
            name, key = f"{figure.name} before training", f"before/{figure.key}"
            both += [
                dataclasses.replace(figure, name=name, key=key, value=before[figure.key]),
                dataclasses.replace(figure, name=f"{figure.name} after training"),
            ]
        else:
            both.append(figure)
    return both
