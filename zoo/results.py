"""What a finished run leaves behind: weights, figures, pictures."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

import zoo
from zoo.factory import build_model
from zoo.registry import FamilySpec, resolve
from zoo.shared.runs.card import model_card
from zoo.shared.runs.folder import RunFolder
from zoo.shared.runs.report import Report
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
            report = resolve(spec.report)(task, trainer.datamodule, run.samples)
        metrics = {
            "family": spec.name,
            "model": name,
            "figures": {f.key: f.value for f in report.figures},
            "chance": {f.key: f.chance for f in report.figures if f.chance is not None},
            "logged": {k: float(v) for k, v in trainer.callback_metrics.items()},
            "parameters": sum(p.numel() for p in task.model.parameters()),
            "steps": trainer.global_step,
            **observed,
            "hardware": hardware(),
            "versions": versions(),
        }
        preprocessor = resolve(spec.preprocessor).for_model(task.model.config)
        card = model_card_of(spec, name, settings, metrics, report)
        save_weights(task.model, run.weights, preprocessor=preprocessor, card=card)
        run.finish(metrics)
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


def hardware() -> dict[str, Any]:
    """What the run ran on."""
    info: dict[str, Any] = {"machine": platform.machine(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        info["gpu"] = torch.cuda.get_device_name()
        info["gpus"] = torch.cuda.device_count()
    return info


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    return {
        "zoo": zoo.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }
