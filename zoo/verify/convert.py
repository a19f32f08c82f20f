"""Weights go out to every format and come back with the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import zoo
from zoo.registry import FamilySpec, resolve
from zoo.shared.errors import UserError
from zoo.verify.compare import as_bytes, differences
from zoo.verify.verdicts import Verdict


def verify_formats(spec: FamilySpec, builds: Mapping[str, Callable[[], nn.Module]], folder: Path) -> Iterator[Verdict]:
    """Check models of which each format must hold one at least.

    Args:
        spec: The family.
        builds: What to call a model in the table, and what makes it.
        folder: Where the files go.
    """
    held: set[str] = set()
    for number, (name, build) in enumerate(builds.items()):
        for found in verify_convert(spec, name, build, folder / str(number)):
            if found.applies:
                held.add(found.what.partition(":")[0])
            yield found
    for format_name in spec.converters:
        if format_name not in held:
            yield verdict(spec.name, f"{format_name}: out and in", "holds none of the models above", False)


def verify_convert(spec: FamilySpec, name: str, build: Callable[[], nn.Module], folder: Path) -> Iterator[Verdict]:
    """Export a model to every format of its family, import it again, and compare tensors and outputs bit for bit.

    A format that has no place for the model does not count.

    Args:
        spec: The family.
        name: What to call it in the table.
        build: Makes the model, in evaluation mode.
        folder: Where the files go.
    """
    model = build()
    before = dict(model.state_dict())
    outputs = outputs_of(spec, model)
    for format_name in ("zoo", *spec.converters):
        path = folder / format_name
        if format_name != "zoo" and resolve(spec.converters[format_name]).single_file:
            path = path.with_suffix(".pt")
        try:
            zoo.save_weights(model, path, format=format_name)
        except UserError as error:
            yield Verdict(
                check="convert", subject=name, what=f"{format_name}: out and in", found=str(error), passed=False,
                applies=format_name == "zoo",
            )  # fmt: skip
            continue
        again = zoo.load(path)
        differing = list(differences(before, dict(again.state_dict())))
        text = f"{len(differing)} differ: {differing[0]}" if differing else f"{len(before)} equal, {digest(before)}"
        yield verdict(name, f"{format_name}: out and in, tensors bit for bit", text, not differing)
        if outputs:
            apart = list(differences(outputs, outputs_of(spec, again)))
            text = f"{', '.join(apart)} differ" if apart else f"{', '.join(outputs)} equal, {digest(outputs)}"
            yield verdict(name, f"{format_name}: the same outputs bit for bit", text, not apart)


def outputs_of(spec: FamilySpec, model: nn.Module) -> dict[str, Tensor]:
    """What the model computes on the family's inputs."""
    if spec.verify.outputs is None:
        return {}
    with torch.no_grad():
        return resolve(spec.verify.outputs)(model)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bits, shortened."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(as_bytes(tensor).numpy().tobytes())
    return f"sha256 {total.hexdigest()[:16]}"


def verdict(name: str, what: str, found: str, passed: bool) -> Verdict:
    """A verdict of this check."""
    return Verdict(check="convert", subject=name, what=what, found=found, passed=passed)
