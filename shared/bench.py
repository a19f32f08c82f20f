"""Speed beside a peer: both sides in one process on the same inputs, checked to agree first, then timed in turns.

Machines are noisy, so what counts is the ratio of the two minima; the ratios of the single rounds say how far to
trust it.
"""

from __future__ import annotations

import difflib
import math
import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from zoo.shared.errors import UserError
from zoo.shared.machine import forget_peak, matmul_rate, peak_memory, seconds, synchronise

Side = Literal["peer", "zoo"]
SAME, BEST = "same precision", "best against best"
_HOPELESS = 1.5  # a precision that loses by more is not compiled as well, which takes minutes
_SHORTEST = 0.02  # seconds; quicker calls are timed several at a time


class MissingPeer(UserError):
    """The peer of a row is not installed."""


class Disagreement(RuntimeError):
    """Peer and zoo do not compute the same, so their times mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a side computes.

    Attributes:
        precision: ``float32``, ``bfloat16`` through autocast, or ``int8`` matrices.
        compiled: Whether ``torch.compile`` is used.
    """

    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    compiled: bool = False

    def __str__(self) -> str:
        return self.precision + (", compiled" if self.compiled else "")

    def autocast(self, device: str) -> AbstractContextManager[Any]:
        """The context to compute in."""
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


PLAIN = Mode()
ALL_MODES = (  # a precision before its compiled form
    PLAIN,
    Mode(precision="bfloat16"),
    Mode(compiled=True),
    Mode(precision="bfloat16", compiled=True),
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a side is prepared for.

    Attributes:
        device: ``cpu`` or ``cuda``.
        mode: How to compute.
        best: Use every setting that makes the side fast, not the one it ships with.
        quick: Take small shapes, to see that the row runs.
    """

    device: str = "cpu"
    mode: Mode = PLAIN
    best: bool = False
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One side, ready to be timed.

    Attributes:
        call: The work; called again and again.
        result: What the work computes, compared between the sides before any timing.
        samples: Samples in a call.
        note: Shapes and lengths, for the reader.
        finish: Called when the side is no longer needed.
    """

    call: Callable[[], object]
    result: Callable[[], Mapping[str, Tensor]]
    samples: int = 1
    note: str = ""
    finish: Callable[[], object] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A comparison with a peer.

    Attributes:
        name: Its name on the command line.
        what: The work in words, with shapes.
        peer: Name of the peer.
        prepare: ``(side, setting) -> Case``: the same weights and inputs for both sides. Must be picklable,
            because memory is measured in a process of its own for each side.
        unit: What a sample is.
        goal: Least wanted ratio of best against best.
        modes: What each side may choose its best from; empty leaves that comparison out.
        own_modes: What zoo alone may choose from besides.
        tolerance: Largest relative difference of the results at the same precision.
        best_tolerance: The same when either side does not compute in float32.
        has_floor: Whether the matmul rate bounds the work.
        devices: Where it can run.
    """

    name: str
    what: str
    peer: str
    prepare: Callable[[Side, Setting], Case]
    unit: str = "samples"
    goal: float | None = None
    modes: tuple[Mode, ...] = ALL_MODES
    own_modes: tuple[Mode, ...] = ()
    tolerance: float = 1e-4
    best_tolerance: float = 2e-2
    has_floor: bool = True
    devices: tuple[str, ...] = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A figure that must stay under a bound, with no peer.

    Attributes:
        name: Its name on the command line.
        what: What is measured, in words.
        limit: The bound.
        unit: ``s`` or ``%``.
        figure: Takes whether to be quick; returns the figure.
    """

    name: str
    what: str
    limit: float
    unit: str
    figure: Callable[[bool], float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured for a row, in one comparison.

    Attributes:
        row: Name of the row.
        what: The work.
        comparison: ``same precision``, ``best against best`` or ``limit``.
        ratio: Peer's time over zoo's, of the minima; for a limit the bound over the figure.
        goal: Least wanted ratio, if there is one.
        low: Smallest ratio of a single round.
        high: Largest ratio of a single round.
        peer: Name of the peer and its mode.
        zoo: Our mode.
        peer_seconds: Minimum of a call.
        zoo_seconds: Minimum of a call.
        rate: Our samples a second.
        unit: What a sample is.
        floor: Share of the floor that we reach: operations over the measured matmul rate, over our time.
        difference: Relative difference of the results.
        peer_memory: Peak of a process with the peer only, in MB.
        zoo_memory: Peak of a process with zoo only, in MB.
        note: Shapes and lengths.
        tried: Seconds of each mode that a side could choose from.
        figure: The smallest figure, where there is a bound and no peer.
        limit: The bound.
    """

    row: str
    what: str
    comparison: str
    ratio: float
    goal: float | None = None
    low: float | None = None
    high: float | None = None
    peer: str = ""
    zoo: str = ""
    peer_seconds: float | None = None
    zoo_seconds: float | None = None
    rate: float | None = None
    unit: str = ""
    floor: float | None = None
    difference: float | None = None
    peer_memory: float | None = None
    zoo_memory: float | None = None
    note: str = ""
    tried: Mapping[str, float] = field(default_factory=dict)
    figure: float | None = None
    limit: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None when the comparison has none."""
        return None if self.goal is None else self.ratio >= self.goal


def import_peer(module: str, *, package: str) -> Any:
    """Import a peer's module when its row runs.

    Raises:
        MissingPeer: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPeer(
            f"this row compares with {package}, which cannot be imported; `pip install {package}`"
        ) from error


def choose_rows(rows: Sequence[Row | Limit], names: Sequence[str]) -> list[Row | Limit]:
    """The rows of these names, all of them when no name is given.

    Raises:
        UserError: No such row.
    """
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(close)}?" if close else "`zoo bench --list` shows all"
            raise UserError(f"unknown row {name!r}; {hint}")
    return [known[name] for name in names] if names else list(rows)


def measure(
    row: Row,
    *,
    repeats: int = 5,
    warmup: int = 1,
    device: str = "cpu",
    quick: bool = False,
    memory: bool = True,
    progress: Callable[[str], object] = lambda line: None,
) -> list[Result]:
    """Measure a row in each of its comparisons.

    Args:
        row: What to compare.
        repeats: Timed rounds; each times the peer, then zoo.
        warmup: Rounds before them.
        device: ``cpu`` or ``cuda``.
        quick: Small shapes, one comparison and no memory: to see that the row runs.
        memory: Whether to measure the peak memory of each side.
        progress: Called with a line about what is being done.

    Raises:
        UserError: The device or the peer is missing.
        Disagreement: Peer and zoo do not compute the same.
    """
    if device not in row.devices:
        raise UserError(f"row {row.name} runs on {' and '.join(row.devices)} only, not on {device}")
    plain = Setting(device=device, quick=quick)
    options = {"repeats": repeats, "warmup": warmup, "memory": memory and not quick}
    progress(f"{row.name}: {SAME}")
    results = [compare(row, SAME, peer=plain, zoo=plain, **options)]  # type: ignore[arg-type]
    if row.modes and not quick:
        tried: dict[str, float] = {}
        chosen: dict[Side, Setting] = {}
        sides: tuple[Side, ...] = ("peer", "zoo")
        for side in sides:
            chosen[side] = fastest(row, side, device=device, tried=tried, progress=progress)
        progress(f"{row.name}: {BEST}")
        best = compare(row, BEST, **chosen, tried=tried, **options)  # type: ignore[arg-type]
        results.append(replace(best, floor=floor_of(results[0], best, chosen["zoo"])))
    return results


def floor_of(same: Result, best: Result, setting: Setting) -> float | None:
    """The share of the floor in another mode: compiled code cannot be counted, but does the same operations."""
    if same.floor is None or same.zoo_seconds is None or best.zoo_seconds is None:
        return None
    faster = rate_of(setting.mode.precision, setting.device) / rate_of(PLAIN.precision, setting.device)
    return same.floor * same.zoo_seconds / best.zoo_seconds / faster


def fastest(
    row: Row, side: Side, *, device: str, tried: dict[str, float], progress: Callable[[str], object]
) -> Setting:
    """The mode in which a side is quickest, by trying each."""
    times: dict[Mode, float] = {}
    for mode in row.modes + (row.own_modes if side == "zoo" else ()):
        plain = times.get(replace(mode, compiled=False), 0.0)
        if mode.compiled and plain > _HOPELESS * min(times.values(), default=plain):
            continue
        progress(f"{row.name}: {side} in {mode}")
        torch.compiler.reset()
        setting = Setting(device=device, mode=mode, best=True)
        case = row.prepare(side, setting)
        try:
            case.call()
            case.call()
            times[mode] = min(seconds(case.call, device=device) for _ in range(5))
        except Exception as error:  # no compiler, or a kernel that this machine lacks
            if not mode.compiled:
                raise
            progress(f"{row.name}: {side} cannot run {mode}: {str(error).splitlines()[0]}")
            continue
        finally:
            case.finish()
        tried[f"{side}: {mode}"] = times[mode]
    return Setting(device=device, mode=min(times, key=lambda mode: times[mode]), best=True)


def compare(
    row: Row,
    comparison: str,
    *,
    peer: Setting,
    zoo: Setting,
    repeats: int,
    warmup: int,
    memory: bool,
    tried: Mapping[str, float] | None = None,
) -> Result:
    """Prepare both sides, check that they agree, and time them in turns."""
    settings: dict[Side, Setting] = {"peer": peer, "zoo": zoo}
    torch.compiler.reset()
    cases = {side: row.prepare(side, setting) for side, setting in settings.items()}
    half = any(setting.mode.precision != "float32" for setting in settings.values())
    difference = agreement(row, cases["peer"], cases["zoo"], tolerance=row.best_tolerance if half else row.tolerance)
    operations = count_operations(cases["zoo"].call) if row.has_floor and not zoo.mode.compiled else 0.0
    rounds = in_turns(cases["peer"].call, cases["zoo"].call, repeats=repeats, warmup=warmup, device=zoo.device)
    for case in cases.values():
        case.finish()
    ratios = [theirs / ours for theirs, ours in rounds]
    theirs, ours = (min(times) for times in zip(*rounds, strict=True))
    floor = None
    if operations:
        floor = operations / rate_of(zoo.mode.precision, zoo.device) / ours
    samples, note = cases["zoo"].samples, cases["zoo"].note
    del cases
    peaks = {side: peak_of(row, side, setting) if memory else None for side, setting in settings.items()}
    return Result(
        row=row.name,
        what=row.what,
        comparison=comparison,
        ratio=theirs / ours,
        goal=row.goal if comparison == BEST or not row.modes else None,
        low=min(ratios),
        high=max(ratios),
        peer=f"{row.peer} ({peer.mode})",
        zoo=str(zoo.mode),
        peer_seconds=theirs,
        zoo_seconds=ours,
        rate=samples / ours,
        unit=row.unit,
        floor=floor,
        difference=difference,
        peer_memory=peaks["peer"],
        zoo_memory=peaks["zoo"],
        note=note,
        tried=dict(tried or {}),
    )


def agreement(row: Row, peer: Case, zoo: Case, *, tolerance: float) -> float:
    """Largest relative difference of the two sides' results.

    Raises:
        Disagreement: It is larger than the tolerance, not a number, or the results are of different things.
    """
    theirs, ours = peer.result(), zoo.result()
    if theirs.keys() != ours.keys() or any(theirs[key].shape != ours[key].shape for key in theirs):
        raise Disagreement(f"{row.name}: peer and zoo give different things, so nothing was timed")
    worst = 0.0
    for key, wanted in theirs.items():
        wanted, found = wanted.detach().double().cpu(), ours[key].detach().double().cpu()
        difference = float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))
        if not difference <= tolerance:
            raise Disagreement(
                f"{row.name}: {key} of peer and zoo differ by {difference:.2g} (allowed {tolerance:.2g}), "
                "so nothing was timed"
            )
        worst = max(worst, difference)
    return worst


def in_turns(
    peer: Callable[[], object], zoo: Callable[[], object], *, repeats: int, warmup: int, device: str = "cpu"
) -> list[tuple[float, float]]:
    """Time peer and zoo as A B A B; returns the seconds of a call of each, round by round."""
    for _ in range(warmup):
        peer()
        zoo()
    synchronise(device)
    calls = [(call, math.ceil(_SHORTEST / max(seconds(call, device=device), _SHORTEST / 1000))) for call in (peer, zoo)]
    rounds = []
    for _ in range(repeats):
        theirs, ours = (seconds(call, device=device, times=times) for call, times in calls)
        rounds.append((theirs, ours))
    return rounds


def count_operations(call: Callable[[], object]) -> float:
    """Floating-point operations of a call's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


@lru_cache
def rate_of(precision: str, device: str) -> float:
    """Measured matmul rate; see :func:`zoo.shared.machine.matmul_rate`."""
    return matmul_rate(getattr(torch, precision), device=device)


def peak_of(row: Row, side: Side, setting: Setting) -> float:
    """Peak memory in MB: of the GPU's allocator here, or of a fresh process that holds one side only."""
    if setting.device == "cuda":
        case = row.prepare(side, setting)
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            case.call()
        torch.cuda.synchronize()
        case.finish()
        return torch.cuda.max_memory_allocated() / 1e6
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report_peak, args=(row, side, setting, torch.get_num_threads(), sender))
    child.start()
    sender.close()
    while child.is_alive() and not receiver.poll(0.1):
        pass
    try:
        return float(receiver.recv()) if receiver.poll() else math.nan  # it was ended, most likely for want of memory
    except EOFError:
        return math.nan
    finally:
        child.join()


def _report_peak(row: Row, side: Side, setting: Setting, threads: int, sender: Any) -> None:
    torch.set_num_threads(threads)
    case = row.prepare(side, setting)
    forget_peak()
    for _ in range(2):
        case.call()
    sender.send(peak_memory())
    case.finish()


def measure_limit(row: Limit, *, repeats: int = 5, quick: bool = False) -> Result:
    """Take the smallest of several figures and hold it against the bound."""
    figures = [row.figure(quick) for _ in range(1 if quick else repeats)]
    found = min(figures)
    return Result(
        row=row.name,
        what=row.what,
        comparison="limit",
        ratio=row.limit / max(found, 1e-9),
        goal=1.0,
        unit=row.unit,
        figure=found,
        limit=row.limit,
        note=f"median {statistics.median(figures):.3g} {row.unit}, largest {max(figures):.3g} {row.unit}",
    )
