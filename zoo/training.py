"""The training entry: a recipe, overrides and Lightning's Trainer become a run folder."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from zoo.factory import build_model, checked
from zoo.registry import FamilySpec, canonical, family_of, resolve
from zoo.results import RunResult, read_results, write_results
from zoo.settings import build_parser, choose, merge, parse_overrides
from zoo.shared.audit import AuditBeforeTraining
from zoo.shared.batch_norm import SyncedBatchNorm
from zoo.shared.distributed import agree, first_process
from zoo.shared.errors import UserError
from zoo.shared.optim.noise_scale import GradientNoiseScale
from zoo.shared.runs.callbacks import ResumeLog, SameFolder
from zoo.shared.runs.checkpoints import (
    AtomicCheckpointIO,
    Checkpoints,
    ModelIdentity,
    RandomState,
    newest_checkpoint,
)
from zoo.shared.runs.csv_log import AppendingCSVLogger
from zoo.shared.runs.finite import FiniteSteps
from zoo.shared.runs.folder import RunFolder
from zoo.shared.runs.progress import StepProgress
from zoo.shared.runs.report import show_reports
from zoo.shared.runs.signals import Signals, stop
from zoo.shared.runs.throughput import Throughput
from zoo.shared.runs.update_ratio import UpdateRatio
from zoo.shared.runs.watching import Watching
from zoo.shared.transformer.wrap import compile_units
from zoo.shared.watch import COMMON
from zoo.start_weights import NEWEST, choose_newest, start_from
from zoo.weights import load_into


def train(
    name_or_family: str,
    recipe: str | Path = "default",
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    **overrides: Any,
) -> RunResult:
    """Train a model.

    Args:
        name_or_family: A model, or a family for its default model.
        recipe: Name of one of the family's recipes, or a file.
        out: Folder of the run; by default ``runs/<model>/<date-time>``.
        resume: Folder of an interrupted run to continue; its settings are used, overrides only add to them.
        callbacks: Further callbacks of Lightning's trainer.
        **overrides: Settings by section (``trainer={"max_steps": 10}``) or by themselves (``seed=1``).

    Returns:
        The finished run.

    Raises:
        UserError: A setting is wrong, the audit found something impossible, or the output cannot be written.
    """
    if resume is not None:
        return resume_run(resume, overrides, callbacks)
    name, spec, settings = choose(name_or_family, recipe)
    parser = build_parser(spec, name, settings)
    return start_run(name, parse_overrides(parser, overrides | ({"out": str(out)} if out else {})), callbacks)


def start_run(name: str, settings: dict[str, Any], callbacks: Sequence[Callback] = ()) -> RunResult:
    """Start a run from complete settings (see :mod:`zoo.settings`), and those to compare with it."""
    console = Console(stderr=True, quiet=not first_process())
    config_of(family_of(name), settings)  # wrong sizes are said before a folder is made
    choose_newest(console, name, settings)
    spec = family_of(name).trained_for(settings.get("objective"))
    for part, values in ((spec.task, settings["task"]), (spec.datamodule, settings["data"])):
        checked(resolve(part).__init__, f"the objective {settings.get('objective')}", values)
    run = RunFolder.create(canonical(name), settings.pop("out", None))
    run.write_config({"name": name, **settings})
    return run_and_compare(console, run, name, settings, callbacks, resume=False)


def resume_run(folder: str | Path, overrides: dict[str, Any], callbacks: Sequence[Callback] = ()) -> RunResult:
    """Continue an interrupted run to the same weights that it would have had."""
    console = Console(stderr=True, quiet=not first_process())
    run = RunFolder.existing(folder)
    settings = run.read_config()
    name = settings.pop("name")
    spec = family_of(name).trained_for(settings.get("objective"))
    settings = parse_overrides(build_parser(spec, name, {}), merge(settings, overrides))
    settings.pop("out", None)
    if overrides:
        run.reopen()
        run.write_config({"name": name, **settings})
    return run_and_compare(console, run, name, settings, callbacks, resume=True)


def config_of(spec: FamilySpec, settings: dict[str, Any]) -> Any:
    """The family's config with the run's sizes."""
    try:
        return spec.config(**settings["model"])
    except ValueError as error:
        raise UserError(f"model: {error}") from error


def run_and_compare(
    console: Console,
    run: RunFolder,
    name: str,
    settings: dict[str, Any],
    callbacks: Sequence[Callback],
    *,
    resume: bool,
) -> RunResult:
    """Train the run, then each run of its ``compare`` section, and show their figures side by side."""
    spec = family_of(name).trained_for(settings.get("objective"))
    others = settings.get("compare") or {}
    result = train_once(console, run, name, {**settings, "compare": {}}, callbacks, resume=resume)
    reports = {name: result.report}
    for label, changes in others.items():
        other = RunFolder(run.path / "compare" / label)
        again = agree(resume and other.config.is_file())
        merged = parse_overrides(build_parser(spec, name, {}), {**merge(settings, changes), "compare": {}, "out": None})
        merged.pop("out", None)
        if again:
            known = other.read_config()
            if merged["weights"] == NEWEST:
                merged["weights"] = known["weights"]
            if known != {"name": name, **merged}:
                other.reopen()  # the run was asked to go further
        else:
            other = RunFolder.create(name, other.path)
            choose_newest(console, name, merged)
        other.write_config({"name": name, **merged})
        console.print(f"\n[bold]compare: {label}[/]")
        reports[label] = train_once(console, other, name, merged, callbacks, resume=again).report
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


def train_once(
    console: Console,
    run: RunFolder,
    name: str,
    settings: dict[str, Any],
    further: Sequence[Callback],
    *,
    resume: bool,
) -> RunResult:
    """Train one model into one run folder."""
    spec, began = family_of(name).trained_for(settings.get("objective")), time.time()
    if resume and run.metrics.is_file():
        console.print(f"{run.path} is finished already", highlight=False, soft_wrap=True)
        return read_results(run)
    checkpoint = newest_checkpoint(run.checkpoints) if resume else None
    if resume and checkpoint is None:
        console.print(f"{run.path} has no checkpoint yet; it starts from its first step", highlight=False)
    seed_everything(settings["seed"], verbose=False)
    config = config_of(spec, settings)
    weights, tags = settings.get("weights"), spec.weight_tags.get(name, {})
    if weights and checkpoint is None:
        model = load_into(spec.name, config, tags.get(weights, weights)).train()
    else:
        model = build_model(spec.name, config)
    if settings["compile"]:
        compile_units(model, lengths_vary=settings["trainer"].get("strategy") != "tp")
    task = resolve(spec.task)(model, **settings["task"])
    target = resolve(spec.datamodule)
    datamodule = target(config=config, seed=settings["seed"], **checked(target.__init__, "data", settings["data"]))
    if weights:
        start_from(datamodule, run, tags.get(weights, weights), resumed=checkpoint is not None)

    if settings["checkpoint_every"] < 1 or settings["max_skipped_steps"] < 1:
        raise UserError("--checkpoint_every and --max_skipped_steps must be at least 1")
    if settings["keep_checkpoints"] < 0:
        raise UserError("--keep_checkpoints must be 0, which keeps all of them, or more")
    every = None if settings["trainer"].get("enable_checkpointing") is False else settings["checkpoint_every"]
    signals, throughput, finite = Signals(), Throughput(), FiniteSteps(run, settings["max_skipped_steps"])
    checkpoints = Checkpoints(run, every, signals, keep=settings["keep_checkpoints"])
    watching = Watching((*COMMON, *spec.watches))  # after the callbacks that log what it watches
    callbacks = [SameFolder(run), ModelIdentity(spec.name, config), signals, throughput, finite, checkpoints, *further]
    if settings["noise_scale"]:
        callbacks.append(GradientNoiseScale(every=settings["noise_scale"]))
    callbacks += [UpdateRatio(), watching]
    if settings["audit"] and spec.audit and checkpoint is None:
        callbacks.append(AuditBeforeTraining(resolve(spec.audit), console))
    trainer = build_trainer(
        run,
        settings,
        console,
        callbacks,
        first_step=0 if checkpoint is None else int(checkpoint.stem),
        several_backwards=not task.automatic_optimization,
    )

    with warnings.catch_warnings():
        for category, pattern in QUIET:
            warnings.filterwarnings("ignore", message=pattern, category=category)
        try:
            trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        except BaseException as error:
            signals.release()  # or this process would end 25 s after a SIGTERM, whatever it does then
            # Lightning wraps Ctrl-C in an exit of its own.
            if isinstance(error, KeyboardInterrupt) or (signals.heard and isinstance(error, SystemExit)):
                saved = f"; saved {checkpoints.newest.name}" if checkpoints.newest else ""
                console.print(
                    f"interrupted at step {trainer.global_step}{saved}; continue with `zoo train --resume {run.path}`",
                    highlight=False,
                    soft_wrap=True,
                )
                raise stop(signals.heard) from None
            if isinstance(error, OSError) and error.errno in FULL:
                raise UserError(
                    f"the disk is full: {error}; free some space, then continue with `zoo train --resume {run.path}`"
                ) from error
            raise
    if signals.agree():  # after the last step
        raise stop(signals.heard)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if not checkpoints.trained:
        logged = checkpoints.logged
        end_again(trainer, task)
    observed = {
        "logged": logged,
        "samples": throughput.samples,
        **({"tokens": throughput.tokens} if throughput.tokens else {}),
        "training_seconds": round(throughput.seconds, 2),
        "data_wait_fraction": round(throughput.waited / max(throughput.seconds, 1e-9), 4),
        "mfu": throughput.mfu and round(throughput.mfu, 4),
        "peak_memory_gb": round(throughput.peak_memory_gb, 3),
        "seconds": round(time.time() - began, 2),
        "bad_samples": datamodule.all_bad(),
        "skipped_steps": finite.skipped,
        "watches": watching.crossings,
    }
    return write_results(run, spec, name, settings, trainer, task, observed)


def end_again(trainer: Any, task: LightningModule) -> None:
    """Do what the end of training does, for a run that was killed after its last step.

    Lightning trains no step then, and calls no hook; the weights are not the averaged ones yet.
    """
    for callback in trainer.callbacks:
        if isinstance(callback, RandomState):
            callback.on_train_start(trainer, task)
        if isinstance(callback, EMAWeightAveraging):
            callback.on_train_end(trainer, task)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHARDED = ("fsdp", "tp")  # strategies of ours

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


def build_trainer(
    run: RunFolder,
    settings: dict[str, Any],
    console: Console,
    callbacks: list[Any],
    *,
    first_step: int,
    several_backwards: bool,
) -> Trainer:
    """Lightning's Trainer with our logs, checkpoints and callbacks.

    Args:
        run: The folder of the run.
        settings: The run's settings.
        console: Where progress is shown.
        callbacks: Those that the caller looks at afterwards.
        first_step: The step that it goes on from; what TensorBoard has of later ones is not shown.
        several_backwards: A step has several backward passes, each through a part of the model (a GAN).
    """
    arguments = dict(settings["trainer"])
    bar = arguments.pop("enable_progress_bar", None)
    arguments["enable_model_summary"] = bool(arguments.get("enable_model_summary"))
    callbacks = [*callbacks, ResumeLog(), RandomState(), LearningRateMonitor(logging_interval="step")]
    if bar is not False:
        callbacks.append(StepProgress(console))
    if settings["ema"]:
        callbacks.append(EMAWeightAveraging(decay=settings["ema"]))
    arguments["enable_checkpointing"] = True  # ours, which saves on a signal whatever the setting
    plugins: list[Any] = [AtomicCheckpointIO(), *([SyncedBatchNorm()] if arguments.get("sync_batchnorm") else [])]
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun knows how many it has started, also when a run is resumed
        arguments["devices"] = int(os.environ["LOCAL_WORLD_SIZE"])
        arguments["num_nodes"] = int(os.environ["GROUP_WORLD_SIZE"])
    if arguments.get("strategy") in SHARDED:
        from zoo.shared.scale.strategy import ShardedStrategy  # deferred: few runs need it

        if settings["ema"]:
            raise UserError("--ema keeps no average of sharded weights: leave it out, or use --trainer.strategy ddp")
        arguments["strategy"] = ShardedStrategy(arguments["strategy"])
        if arguments.get("precision") in ("64-true", "64", 64):
            arguments["precision"] = None
            plugins.append(DoublePrecision())  # Lightning refuses the name, but not the thing
    try:
        trainer = Trainer(
            **arguments,
            enable_progress_bar=False,
            callbacks=callbacks,
            logger=[
                AppendingCSVLogger(run.rows),
                TensorBoardLogger(run.path, name="", version="tensorboard", purge_step=first_step or None),
            ],
            plugins=plugins,
            default_root_dir=run.path,
            use_distributed_sampler=False,
        )
        if several_backwards and isinstance(trainer.strategy, DDPStrategy):
            trainer.strategy._ddp_kwargs["find_unused_parameters"] = True
        return trainer
    except Exception as error:
        if type(error).__name__ in ("MisconfigurationException", "ValueError", "RuntimeError"):
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error
        raise
