"""What a child of ``zoo verify`` does: one training run with its output in a file."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from zoo.cli.train import quieten
from zoo.registry import family_of
from zoo.settings import build_parser, flatten, parse_overrides, read_recipe
from zoo.shared.errors import Terminated, UserError
from zoo.training import resume_run, start_run
from zoo.verify.children import Job, ensure_registered


def run_job(job: Job, variables: Mapping[str, str] | None = None) -> int:
    """Run a job; returns the exit code that the command line would have.

    Args:
        job: The run.
        variables: Environment variables for its time.
    """
    with output_in(job.log), environment(variables or {}):
        try:
            torch.set_num_threads(1)
            quieten()
            if job.before:
                job.before()
            train(job)
        except UserError as error:
            sys.stderr.write(f"zoo: {error}\n")
            return 2
        except SystemExit as error:  # of a process that leaves it to the first one to say why
            return int(error.code or 0)
        except Terminated:
            return 143
        except KeyboardInterrupt:
            return 130
        except BaseException:
            traceback.print_exc()
            return 70
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
    return 0


def train(job: Job) -> None:
    """Train in this process."""
    ensure_registered(job.spec)
    callbacks = [make() for make in job.callbacks]
    if job.resume:
        resume_run(job.out, job.settings, callbacks=callbacks)
        return
    spec = family_of(job.model)
    parser = build_parser(spec, job.model, read_recipe(spec, job.recipe))
    ours = {"out": str(job.out), "report": False, "trainer.accelerator": "cpu"}
    settings = parse_overrides(parser, {**ours, **flatten(job.settings)})
    start_run(job.model, settings, callbacks=callbacks)


@contextmanager
def output_in(path: Path) -> Iterator[None]:
    """Send what this process and its libraries print to the end of a file."""
    sys.stdout.flush(), sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        for number, kept in enumerate(before, start=1):
            os.dup2(kept, number)
            os.close(kept)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
