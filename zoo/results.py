"""What a finished run leaves behind: weights, figures, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.factory import build_model
from zoo.registry import FamilySpec, resolve
from zoo.shared.files import read_json
from zoo.shared.machine import hardware, versions
from zoo.shared.runs.card import model_card
from zoo.shared.runs.folder import RunFolder
from zoo.shared.runs.report import Figure, Report
from zoo.weights import save_weights


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: Where everything was written.
        weights: The folder that ``zoo.load`` and ``--weights`` take.
        metrics: What ``metrics.json`` holds.
        report: The family's figures and pictures.
    """

    folder: Path
    weights: Path
    metrics: dict[str, Any]
    report: Report


def write_results(
    run: RunFolder,
    spec: FamilySpec,
    name: str,
    settings: dict[str, Any],
    trainer: Any,
    task: Any,
    observed: dict[str, Any],
) -> RunResult:
    """Measure a trained model and write weights, figures and pictures. Every process must call this.

    Args:
        run: The folder.
        spec: The family.
        name: The model.
        settings: The run's settings.
        trainer: The trainer that has trained it.
        task: The task that holds the model.
        observed: What was counted while it trained, for ``metrics.json``.
    """
    report = Report(title=name)
    metrics: dict[str, Any] = {}
    if hasattr(trainer.strategy, "whole_weights"):  # of a sharded model
        weights = trainer.strategy.whole_weights(task.model)
        if trainer.is_global_zero:
            task.model = build_model(spec.name, task.model.config)
            task.model.load_state_dict(weights, assign=True)
    if trainer.is_global_zero:
        task.eval()
        if spec.report and settings["report"]:
            run.samples.mkdir(exist_ok=True)
            task.model.to(trainer.strategy.root_device)  # the trainer has moved it to the CPU
            report = resolve(spec.report)(task, trainer.datamodule, run.samples)
            task.model.cpu()
        metrics = {
            "family": spec.name,
            "model": name,
            "objective": settings.get("objective"),
            "figures": {f.key: f.value for f in report.figures},
            "shown": {f.key: {"name": f.name, "percent": f.percent} for f in report.figures},
            "title": report.title,
            "chance": {f.key: f.chance for f in report.figures if f.chance is not None},
            "parameters": sum(p.numel() for p in task.model.parameters()),
            "steps": trainer.global_step,
            **observed,
            "hardware": hardware("cuda" if torch.cuda.is_available() else "cpu"),
            "versions": versions("paper-zoo", "torch", "lightning"),
        }
        preprocessor = trainer.datamodule.preprocessor or resolve(spec.preprocessor).for_model(task.model.config)
        card = model_card_of(spec, name, settings, metrics, report)
        save_weights(task.model, run.weights, preprocessor=preprocessor, card=card)
        run.finish(metrics)
    return RunResult(folder=run.path, weights=run.weights, metrics=metrics, report=report)


def read_results(run: RunFolder) -> RunResult:
    """The results of a run that is finished already, as they lie in its folder."""
    metrics = read_json(run.metrics)
    figures = [
        Figure(
            key=key, value=value, chance=metrics["chance"].get(key), **metrics.get("shown", {}).get(key, {"name": key})
        )
        for key, value in metrics["figures"].items()
    ]
    report = Report(title=metrics.get("title", metrics["model"]), figures=figures)
    return RunResult(folder=run.path, weights=run.weights, metrics=metrics, report=report)


def model_card_of(
    spec: FamilySpec, name: str, settings: dict[str, Any], metrics: dict[str, Any], report: Report
) -> str:
    """The README.md of a run's weights."""
    return model_card(
        name=name,
        family=spec.title,
        paper=spec.paper,
        parameters=metrics["parameters"],
        data=f"{settings['data'].get('source', '')}; figures on {report.title}",
        recipe={key: settings[key] for key in ("task", "data")},
        figures={figure.name: figure.show(figure.value) for figure in report.figures},
    )
