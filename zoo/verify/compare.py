"""Two runs, bit by bit: everything that their checkpoints, weights and logs hold."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from zoo.shared.runs.checkpoints import found_checkpoints
from zoo.verify.verdicts import Verdict

# What a checkpoint holds, in words, and where: keys of the checkpoint, or callbacks by the name of their class.
PARTS: dict[str, tuple[str, ...]] = {
    "weights": ("state_dict",),
    "averaged weights": ("current_model_state", "averaging_state", "EMAWeightAveraging"),
    "optimiser state": ("optimizer_states",),
    "schedule": ("lr_schedulers",),
    "random state (Python, NumPy, torch)": ("RandomState",),
    "data position and progress": ("loops", "epoch"),
    "global step": ("global_step",),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of two runs, compared.

    Attributes:
        name: What it is, in words.
        size: How much was compared, in words.
        differing: Where they differ; empty when every bit is equal.
    """

    name: str
    size: str
    differing: list[str]


def same_runs(whole: Path, other: Path) -> list[Part]:
    """Compare the last checkpoints, the final weights and the logs of two finished runs."""
    one, two = (
        dict(parts(torch.load(found_checkpoints(run / "checkpoints")[0], weights_only=True))) for run in (whole, other)
    )
    one["final weights"], two["final weights"] = (
        load_file(run / "weights" / "model.safetensors") for run in (whole, other)
    )
    one["final figures"], two["final figures"] = (figures(run / "metrics.json") for run in (whole, other))
    one["logged metrics"], two["logged metrics"] = (logged(run / "metrics.csv") for run in (whole, other))
    return [
        Part(name=name, size=size(one.get(name)), differing=sorted(differences(one.get(name), two.get(name), name)))
        for name in {**one, **two}
    ]


def verdicts(check: str, subject: str, runs: list[list[Part]]) -> list[Verdict]:
    """One verdict for each part, over several runs that were compared with one."""
    found = []
    for name, group in {part.name: [p for run in runs for p in run if p.name == part.name] for part in runs[0]}.items():
        differing = [path for part in group for path in part.differing]
        text = f"{len(differing)} differ, such as {differing[0]}" if differing else f"{group[0].size} equal"
        found.append(Verdict(check=check, subject=subject, what=name, found=text, passed=not differing))
    return found


def parts(checkpoint: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The named parts of a checkpoint; what no name covers is the state of the task and of callbacks."""
    flat = {key: value for key, value in checkpoint.items() if key not in ("callbacks", "zoo")}
    flat |= {key.partition("{")[0]: value for key, value in checkpoint["callbacks"].items()}
    for what, keys in PARTS.items():
        found = {key: flat.pop(key) for key in keys if key in flat}
        if found:
            yield what, found
    flat["Throughput"] = {"samples": flat.pop("Throughput")["samples"]}  # the rest is clocks
    if flat:
        yield "state of the task and of callbacks", flat


def differences(one: Any, two: Any, at: str = "") -> Iterator[str]:
    """Paths at which two nested values differ in type, shape or bits; not-a-number equals itself."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        alike = one.dtype == two.dtype and one.shape == two.shape
        if not alike or not torch.equal(as_bytes(one), as_bytes(two)):
            yield at
    elif isinstance(one, dict) and isinstance(two, dict):
        for key in one.keys() | two.keys():
            if str(key).startswith("time/"):  # clocks
                continue
            if key not in one or key not in two:
                yield f"{at}.{key}"
            else:
                yield from differences(one[key], two[key], f"{at}.{key}")
    elif isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        for index, (a, b) in enumerate(zip(one, two, strict=True)):
            yield from differences(a, b, f"{at}[{index}]")
    elif type(one) is not type(two) or (one != two and not (one != one and two != two)):
        yield at


def as_bytes(x: Tensor) -> Tensor:
    """The bits of a tensor, so that -0.0 and 0.0 differ and a NaN equals itself."""
    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def size(value: Any) -> str:
    """How much there is to compare, in words."""
    tensors, values = _count(value)
    return " and ".join([f"{tensors} tensors"] * (tensors > 0) + [f"{values} values"] * (values > 0 or not tensors))


def _count(value: Any) -> tuple[int, int]:
    if isinstance(value, Tensor):
        return 1, 0
    if isinstance(value, (dict, list, tuple)):
        below = [_count(inner) for inner in (value.values() if isinstance(value, dict) else value)]
        return sum(t for t, _ in below), sum(n for _, n in below)
    return 0, int(value is not None)


def figures(path: Path) -> dict[str, Any]:
    """What ``metrics.json`` holds, without what depends on clock and machine."""
    machine = {
        "seconds", "training_seconds", "data_wait_fraction", "mfu", "peak_memory_gb", "hardware", "versions"
    }  # fmt: skip
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in machine}


def logged(path: Path) -> dict[tuple[int, str], str]:
    """Step and name to the logged text, without what depends on the clock."""
    with path.open(newline="") as file:
        return {
            (int(row["step"]), name): value
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and name != "step" and not name.startswith("time/")
        }
