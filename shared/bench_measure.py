"""Speed beside a peer: both sides in one process on the same inputs, checked to agree first, then timed in turns.

Machines are noisy, so what counts is the ratio of the two minima; the ratios of the single rounds say how far to
trust it.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo.shared.bench import BEST, PLAIN, SAME, Case, Disagreement, Limit, Mode, Result, Row, Setting, Side
from zoo.shared.errors import UserError
from zoo.shared.machine import forget_peak, matmul_rate, peak_memory, seconds, synchronise

_HOPELESS = 2.5  # a precision that loses by more is not compiled as well, which takes minutes
_SHORTEST = 0.02  # seconds; quicker calls are timed several at a time


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
