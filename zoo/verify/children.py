"""Training runs in processes of their own, which can be killed, starved and made to meet over gloo.

All of them are forks of one server that has imported Lightning once; importing it takes longer than most runs here.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from zoo.registry import FamilySpec, registry, resolve

PATIENCE = 300.0  # seconds after which a child counts as hung
AT_ONCE = 2  # runs of one process each that go on beside each other


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run.

    Attributes:
        spec: The family; the child registers it if it does not know it.
        model: Name of the model.
        out: The run folder.
        recipe: The recipe.
        settings: Laid over the recipe, section by section.
        resume: Continue what is in ``out``.
        callbacks: Called in the child to make further callbacks of the trainer. Must be picklable.
        before: Called in the child first. Must be picklable.
    """

    spec: FamilySpec
    model: str
    out: Path
    recipe: str = "smoke"
    settings: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    callbacks: tuple[Callable[[], Any], ...] = ()
    before: Callable[[], Any] | None = None

    @property
    def log(self) -> Path:
        """Where the child's output goes."""
        return self.out.parent / f"{self.out.name}.log"

    @property
    def last_words(self) -> str:
        """The end of the child's output."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    @property
    def last_line(self) -> str:
        """Its last line."""
        lines = self.last_words.split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class ChildFailed(RuntimeError):
    """A child ended otherwise than it should; the message has its last words."""


@cache
def context() -> ForkServerContext:
    """The server that children are forks of."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["zoo.verify.job"])
    return server


def start(job: Job) -> BaseProcess:
    """Start a job in a child; its exit code is that of the command line."""
    job.out.parent.mkdir(parents=True, exist_ok=True)
    child = context().Process(target=_alone, args=(job,))
    child.start()
    return child


def finish(job: Job, child: BaseProcess, *, code: int = 0) -> None:
    """Wait for a child.

    Raises:
        ChildFailed: It hangs, or its exit code is not ``code``.
    """
    child.join(PATIENCE)
    if child.is_alive():
        child.kill()
        child.join()
        raise ChildFailed(f"{job.out.name} hangs: {job.last_line}")
    if child.exitcode != code:
        raise ChildFailed(f"{job.out.name} ended with {child.exitcode} instead of {code}: {job.last_line}")


def run(job: Job, *, code: int = 0) -> None:
    """Run a job in a child to its end."""
    finish(job, start(job), code=code)


def _like_a_shell_child() -> None:
    """Let data loaders start their workers as in any run, and end when the command that wants the results is gone."""
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    os._exit(1)


def _alone(job: Job) -> None:
    _like_a_shell_child()
    raise SystemExit(resolve("zoo.verify.job:run_job")(job))


class Crew:
    """Processes that train together again and again: one set serves runs of any number of processes up to its own.

    Args:
        size: The most processes that a run takes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.members: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self.restart()

    def restart(self) -> None:
        """End the processes; the next run starts new ones."""
        for child, connection in self.members:
            connection.close()  # ends the loop of a child that is not busy
            child.join(2)
            if child.is_alive():
                child.kill()
                child.join()
        self.members.clear()

    def _start(self) -> None:
        for _ in range(self.size):
            here, there = context().Pipe()
            child = context().Process(target=_serve, args=(there,))
            child.start()
            there.close()
            self.members.append((child, here))

    def run(self, job: Job, *, processes: int, codes: Sequence[int] = (0,)) -> list[int]:
        """Run one job in several processes that meet over gloo.

        Args:
            job: The run; all processes share its folder and its log.
            processes: How many.
            codes: Exit codes that are expected.

        Returns:
            The exit codes by rank.

        Raises:
            ChildFailed: A process hangs, dies, or ends with another code.
        """
        job.out.parent.mkdir(parents=True, exist_ok=True)
        if not self.members:
            self._start()
        members, port = self.members[:processes], free_port()
        for rank, (_, connection) in enumerate(members):
            connection.send((job, _torchrun_variables(rank, processes, port)))
        found: dict[int, int] = {}
        until = time.monotonic() + PATIENCE
        while len(found) < processes:
            waiting: dict[Any, int] = {
                connection: rank for rank, (_, connection) in enumerate(members) if rank not in found
            }
            ready: list[Any] = wait(list(waiting), max(0.0, until - time.monotonic()))
            if not ready:
                raise ChildFailed(f"{job.out.name}: processes {sorted(waiting.values())} hang: {job.last_line}")
            for connection in ready:
                try:
                    code = found[waiting[connection]] = connection.recv()
                except EOFError as error:
                    raise ChildFailed(f"{job.out.name}: process {waiting[connection]} died: {job.last_line}") from error
                if code not in codes:  # the others may wait for it in vain
                    until = min(until, time.monotonic() + 10)
        if not set(found.values()) <= set(codes):
            raise ChildFailed(f"{job.out.name} ended with {found}: {job.last_line}")
        return [found[rank] for rank in range(processes)]


def _torchrun_variables(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torchrun tells its processes."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1",
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "verify",
    }  # fmt: skip


def _serve(connection: Connection) -> None:
    _like_a_shell_child()
    run_job = resolve("zoo.verify.job:run_job")
    while True:
        try:
            job, variables = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        code = run_job(job, variables)
        with suppress(BrokenPipeError):  # nobody waits for it any more
            connection.send(code)


def free_port() -> int:
    """A local port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ensure_registered(spec: FamilySpec) -> None:
    """Make a family known that came with a job."""
    if spec.name not in registry().families:
        registry().add_family(spec)
