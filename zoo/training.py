"""The training entry: a recipe, overrides and Lightning's Trainer become a run folder."""

from __future__ import annotations

import platform
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

import zoo
from zoo.factory import build_model, checked
from zoo.registry import FamilySpec, canonical, family_of, resolve
from zoo.settings import build_parser, choose, parse_overrides
from zoo.shared.audit import AuditBeforeTraining
from zoo.shared.batch_norm import SyncedBatchNorm
from zoo.shared.distributed import agree, first_process
from zoo.shared.errors import UserError
from zoo.shared.runs.callbacks import GracefulInterrupt, ResumeLog, SameFolder, StepProgress, Throughput
from zoo.shared.runs.card import model_card
from zoo.shared.runs.checkpoints import (
    AtomicCheckpointIO,
    ModelIdentity,
    RandomState,
    checkpoint_every,
    newest_checkpoint,
)
from zoo.shared.runs.csv_log import AppendingCSVLogger
from zoo.shared.runs.folder import RunFolder
from zoo.shared.runs.report import Report, show_reports
from zoo.weights import load_into, save_weights


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


def train(
    name_or_family: str,
    recipe: str | Path = "default",
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    **overrides: Any,
) -> RunResult:
    """Train a model.

    Args:
        name_or_family: A model, or a family for its default model.
        recipe: Name of one of the family's recipes, or a file.
        out: Folder of the run; by default ``runs/<model>/<date-time>``.
        resume: Folder of an interrupted run to continue; its settings are used, overrides only add to them.
        **overrides: Settings by section (``trainer={"max_steps": 10}``) or by themselves (``seed=1``).

    Returns:
        The finished run.

    Raises:
        UserError: A setting is wrong, the audit found something impossible, or the output cannot be written.
    """
    if resume is not None:
        return resume_run(resume, overrides)
    name, spec, settings = choose(name_or_family, recipe)
    parser = build_parser(spec, name, settings)
    return start_run(name, parse_overrides(parser, overrides | ({"out": str(out)} if out else {})))


def start_run(name: str, settings: dict[str, Any]) -> RunResult:
    """Start a run from complete settings (see :mod:`zoo.settings`), and those to compare with it."""
    console = Console(stderr=True, quiet=not first_process())
    config_of(family_of(name), settings)  # wrong sizes are said before a folder is made
    run = RunFolder.create(canonical(name), settings.pop("out", None))
    run.write_config({"name": name, **settings})
    return run_and_compare(console, run, name, settings, resume=False)


def resume_run(folder: str | Path, overrides: dict[str, Any]) -> RunResult:
    """Continue an interrupted run to the same weights that it would have had."""
    console = Console(stderr=True, quiet=not first_process())
    run = RunFolder.existing(folder)
    settings = run.read_config()
    name = settings.pop("name")
    parser = build_parser(family_of(name), name, {})
    settings = parse_overrides(parser, merge(settings, overrides))
    settings.pop("out", None)
    if overrides:
        run.write_config({"name": name, **settings})
    return run_and_compare(console, run, name, settings, resume=True)


def config_of(spec: FamilySpec, settings: dict[str, Any]) -> Any:
    """The family's config with the run's sizes."""
    try:
        return spec.config(**settings["model"])
    except ValueError as error:
        raise UserError(f"model: {error}") from error


def merge(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay ``changes`` over ``settings``, section by section."""
    merged = dict(settings)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def run_and_compare(
    console: Console, run: RunFolder, name: str, settings: dict[str, Any], *, resume: bool
) -> RunResult:
    """Train the run, then each run of its ``compare`` section, and show their figures side by side."""
    spec = family_of(name)
    others = settings.get("compare") or {}
    result = train_once(console, run, name, {**settings, "compare": {}}, resume=resume)
    reports = {name: result.report}
    for label, changes in others.items():
        other = RunFolder(run.path / "compare" / label)
        again = agree(resume and other.config.is_file())
        merged = parse_overrides(build_parser(spec, name, {}), {**merge(settings, changes), "compare": {}, "out": None})
        merged.pop("out", None)
        if not again:
            other = RunFolder.create(name, other.path)
            other.write_config({"name": name, **merged})
        console.print(f"\n[bold]compare: {label}[/]")
        reports[label] = train_once(console, other, name, merged, resume=again).report
    if not first_process():
        return result
    show_reports(Console(), reports)
    for picture in result.report.pictures:
        console.print(f"picture  {picture}", highlight=False, soft_wrap=True)
    console.print(f"weights  {result.weights}", highlight=False, soft_wrap=True)
    if result.report.next_commands:
        console.print("\nnext:")
        for command in result.report.next_commands:
            console.print(f"  {command.format(weights=result.weights)}", highlight=False, soft_wrap=True, markup=False)
    return result


def train_once(console: Console, run: RunFolder, name: str, settings: dict[str, Any], *, resume: bool) -> RunResult:
    """Train one model into one run folder."""
    spec, began = family_of(name), time.time()
    if resume and run.metrics.is_file():
        console.print(f"{run.path} is finished already", highlight=False, soft_wrap=True)
    seed_everything(settings["seed"], verbose=False)
    config = config_of(spec, settings)
    weights = settings.get("weights")
    if weights and not resume:
        tags = spec.weight_tags.get(name, {})
        model = load_into(spec.name, config, tags.get(weights, weights)).train()
    else:
        model = build_model(spec.name, config)
    task = resolve(spec.task)(model, **settings["task"])
    target = resolve(spec.datamodule)
    datamodule = target(config=config, seed=settings["seed"], **checked(target.__init__, "data", settings["data"]))

    interrupt, throughput = GracefulInterrupt(run.checkpoints), Throughput()
    callbacks = [SameFolder(run), ModelIdentity(spec.name, config), interrupt, throughput]
    if settings["audit"] and spec.audit and not resume:
        callbacks.append(AuditBeforeTraining(resolve(spec.audit), console))
    trainer = build_trainer(run, settings, console, callbacks)
    checkpoint = newest_checkpoint(run.checkpoints) if resume else None

    with warnings.catch_warnings():
        for category, pattern in QUIET:
            warnings.filterwarnings("ignore", message=pattern, category=category)
        try:
            trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        except BaseException as error:
            # Lightning wraps Ctrl-C in an exit of its own.
            if interrupt.asked or isinstance(error, KeyboardInterrupt):
                saved = f"; saved, continue with `zoo train --resume {run.path}`" if interrupt.saved else ""
                console.print(f"interrupted at step {trainer.global_step}{saved}", highlight=False, soft_wrap=True)
                raise KeyboardInterrupt from None
            raise
    return finish(run, spec, name, settings, trainer, task, datamodule, throughput, began)


# Warnings of Lightning that are about choices we make on purpose.
QUIET: list[tuple[type[Warning], str]] = [
    (Warning, r".*does not have many workers.*"),
    (Warning, r".*The number of training batches .* is smaller than the logging interval.*"),
    (Warning, r".*Total length of `list` across ranks is zero.*"),  # nothing is held out
    (Warning, r".*Your `IterableDataset` has `__len__` defined.*"),
    (Warning, r".*Checkpoint directory .* exists and is not empty.*"),
    (Warning, r".*`LeafSpec` is deprecated.*"),
    (Warning, r".*isinstance\(treespec, LeafSpec\).*"),
    (Warning, r".*found in TensorBoard.*"),
]


def build_trainer(run: RunFolder, settings: dict[str, Any], console: Console, callbacks: list[Any]) -> Trainer:
    """Lightning's Trainer with our logs, checkpoints and callbacks."""
    arguments = dict(settings["trainer"])
    checkpoints = arguments.pop("enable_checkpointing", None)
    bar = arguments.pop("enable_progress_bar", None)
    arguments["enable_model_summary"] = bool(arguments.get("enable_model_summary"))
    callbacks = [*callbacks, ResumeLog(), RandomState(), LearningRateMonitor(logging_interval="step")]
    if bar is not False:
        callbacks.append(StepProgress(console))
    if settings["ema"]:
        callbacks.append(EMAWeightAveraging(decay=settings["ema"]))
    if checkpoints is not False:
        callbacks.append(checkpoint_every(run.checkpoints, settings["checkpoint_every"]))
    try:
        return Trainer(
            **arguments,
            enable_checkpointing=checkpoints is not False,
            enable_progress_bar=False,
            callbacks=callbacks,
            logger=[
                AppendingCSVLogger(run.rows),
                TensorBoardLogger(run.path, name="", version="tensorboard"),
            ],
            plugins=[AtomicCheckpointIO(), *([SyncedBatchNorm()] if arguments.get("sync_batchnorm") else [])],
            default_root_dir=run.path,
            use_distributed_sampler=False,
        )
    except Exception as error:
        if type(error).__name__ in ("MisconfigurationException", "ValueError", "RuntimeError"):
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error
        raise


def finish(
    run: RunFolder, spec: FamilySpec, name: str, settings: dict[str, Any], trainer: Trainer, task: Any,
    datamodule: Any, throughput: Throughput, began: float,
) -> RunResult:  # fmt: skip
    """Write weights, figures and pictures of a trained model."""
    report = Report(title=name)
    metrics: dict[str, Any] = {}
    if trainer.is_global_zero:
        task.eval()
        if spec.report:
            run.samples.mkdir(exist_ok=True)
            report = resolve(spec.report)(task, datamodule, run.samples)
        metrics = {
            "family": spec.name,
            "model": name,
            "figures": {f.key: f.value for f in report.figures},
            "chance": {f.key: f.chance for f in report.figures if f.chance is not None},
            "logged": {k: float(v) for k, v in trainer.callback_metrics.items()},
            "parameters": sum(p.numel() for p in task.model.parameters()),
            "steps": trainer.global_step,
            "samples": throughput.samples,
            "training_seconds": round(throughput.seconds, 2),
            "data_wait_fraction": round(throughput.waited / max(throughput.seconds, 1e-9), 4),
            "seconds": round(time.time() - began, 2),
            "bad_samples": dict(datamodule.bad),
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
    import lightning

    return {
        "zoo": zoo.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }
