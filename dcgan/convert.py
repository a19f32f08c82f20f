"""DCGAN's weights from and to PyTorch's example (``netG.pth``, ``netD.pth``) and the authors' Theano lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.dcgan.configs import DcganConfig
from zoo.dcgan.sizes import from_lists, from_states, from_zoo
from zoo.shared.convert.formats import Converter, Recognised, save_pickle, sync
from zoo.shared.convert.rules import TRANSPOSE, Rule, RuleTable, Shapes, Transform
from zoo.shared.convert.source import ARRAY, Source
from zoo.shared.errors import UserError

GENERATOR, DISCRIMINATOR = "netG.", "netD."
LISTED_GENERATOR, LISTED_DISCRIMINATOR = "gen_params.", "discrim_params."

_COUNTER = "num_batches_tracked"
# Theano's convolution turns kernels by 180 degrees, PyTorch's does not.
_FLIP = Transform(forward=lambda t: t.flip(-1, -2), back=lambda t: t.flip(-1, -2))


def _zeros(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape)


def _no_steps(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def _parts(state: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes by part, where the names begin with one."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in state.items():
        part, _, rest = key.partition(".")
        parts.setdefault(f"{part}.", {})[rest] = shape
    return parts


class TorchConverter(Converter):
    """State dicts of PyTorch's ``examples/dcgan`` and of what has grown out of it with other ends."""

    name = "torch"
    library = "pytorch"

    def recognise(self, source: Source) -> Recognised | None:
        """A folder with both networks, or a file with one of them: the keys are ``main.N.*``."""
        if source.kind != "pickle":
            return None
        if not source.parts:
            if not all(key.startswith("main.") for key in source.shapes):
                return None
            normed = "main.1.weight" in source.shapes  # the discriminator's first layer is not normalised
            part = GENERATOR if normed else DISCRIMINATOR
            return from_states(source.shapes if normed else None, None if normed else source.shapes, part=part)
        parts = _parts(source.shapes)
        if set(parts) != {GENERATOR, DISCRIMINATOR}:
            return None
        return from_states(parts[GENERATOR], parts[DISCRIMINATOR], part=None)

    def infer(self, shapes: Shapes) -> Recognised | None:
        """From shapes under zoo's names."""
        return from_zoo(shapes)

    def table(self, config: DcganConfig) -> RuleTable:
        """The example numbers all layers of a network, also those without weights."""
        if config.layout != "torch":
            raise UserError(f"PyTorch's example has no layout {config.layout!r}; use `--to theano` or `--to zoo`")
        rules = []

        def norm(foreign: str, ours: str) -> None:
            if config.batch_norm == "none":
                return
            rules.append(Rule(f"{foreign}.{{p:weight|bias|running_mean|running_var}}", f"{ours}.{{p}}"))
            rules.append(Rule(f"{foreign}.{_COUNTER}", f"{ours}.{_COUNTER}", fill=_no_steps))

        main, ours = f"{GENERATOR}main", "generator"
        rules.append(Rule(f"{main}.0.weight", f"{ours}.project.weight"))
        norm(f"{main}.1", f"{ours}.project_norm")
        layers = len(config.generator_layers())
        for number in range(layers):
            rules.append(Rule(f"{main}.{3 + 3 * number}.weight", f"{ours}.layers.{number}.weight"))
            if number + 1 < layers:
                norm(f"{main}.{4 + 3 * number}", f"{ours}.norms.{number}")
        main, ours = f"{DISCRIMINATOR}main", "discriminator"
        layers = len(config.discriminator_layers())
        for number in range(layers):
            place = max(0, 3 * number - 1)
            rules.append(Rule(f"{main}.{place}.weight", f"{ours}.layers.{number}.weight"))
            if number:
                norm(f"{main}.{place + 1}", f"{ours}.norms.{number}")
        rules.append(Rule(f"{main}.{3 * layers - 1}.weight", f"{ours}.head.weight"))
        return RuleTable(rules=rules)

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write ``netG.pth`` and ``netD.pth``."""
        config = _config(model)
        if config.batch_norm == "none":
            raise UserError("PyTorch's example is batch-normalised, this model is not; use `--to zoo`")
        state = self.foreign_state(model)
        for part in (GENERATOR, DISCRIMINATOR):
            tensors = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
            save_pickle(folder / f"{part}pth", tensors)
        return folder / f"{GENERATOR}pth"


class TheanoConverter(Converter):
    """The authors' lists of arrays: kernel, gain, shift, kernel, gain, shift, ... and the last kernel.

    They hold no running statistics: a batch is normalised by its own.
    """

    name = "theano"
    library = "theano"

    def recognise(self, source: Source) -> Recognised | None:
        """A folder with both lists, or one of them: the generator's begins with a matrix."""
        if source.kind != "joblib":
            return None
        if not source.parts:
            listed = len(source.shapes[f"{ARRAY}0"]) == 2
            part = LISTED_GENERATOR if listed else LISTED_DISCRIMINATOR
            return from_lists(source.shapes if listed else None, None if listed else source.shapes, part=part)
        parts = _parts(source.shapes)
        if set(parts) != {LISTED_GENERATOR, LISTED_DISCRIMINATOR}:
            return None
        return from_lists(parts[LISTED_GENERATOR], parts[LISTED_DISCRIMINATOR], part=None)

    def infer(self, shapes: Shapes) -> Recognised | None:
        """From shapes under zoo's names, which the other format does."""
        return None

    def table(self, config: DcganConfig) -> RuleTable:
        """Matrices are transposed and kernels turned by 180 degrees."""
        if config.layout == "torch" or config.batch_norm == "none":
            raise UserError("the authors' lists have matrices at their ends and batch normalisation; use `--to torch`")
        rules = []

        def norm(part: str, place: int, ours: str) -> None:
            rules.append(Rule(f"{part}{ARRAY}{place}", f"{ours}.weight"))
            rules.append(Rule(f"{part}{ARRAY}{place + 1}", f"{ours}.bias"))
            rules.append(Rule(f"{part}{ours}.mean", f"{ours}.running_mean", fill=_zeros))
            rules.append(Rule(f"{part}{ours}.variance", f"{ours}.running_var", fill=torch.ones))
            rules.append(Rule(f"{part}{ours}.count", f"{ours}.{_COUNTER}", fill=_no_steps))

        part, ours = LISTED_GENERATOR, "generator"
        rules.append(Rule(f"{part}{ARRAY}0", f"{ours}.project.weight", transform=TRANSPOSE))
        norm(part, 1, f"{ours}.project_norm")
        layers = len(config.generator_layers())
        for number in range(layers):
            rules.append(Rule(f"{part}{ARRAY}{3 + 3 * number}", f"{ours}.layers.{number}.weight", transform=_FLIP))
            if number + 1 < layers:
                norm(part, 4 + 3 * number, f"{ours}.norms.{number}")
        part, ours = LISTED_DISCRIMINATOR, "discriminator"
        layers = len(config.discriminator_layers())
        for number in range(layers):
            place = max(0, 3 * number - 2)
            rules.append(Rule(f"{part}{ARRAY}{place}", f"{ours}.layers.{number}.weight", transform=_FLIP))
            if number:
                norm(part, place + 1, f"{ours}.norms.{number}")
        rules.append(Rule(f"{part}{ARRAY}{3 * layers - 2}", f"{ours}.head.weight", transform=TRANSPOSE))
        return RuleTable(rules=rules)

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write ``gen_params.jl`` and ``discrim_params.jl``."""
        import joblib

        if _config(model).batch_norm != "batch":
            raise UserError(
                "the authors' lists keep no running statistics, which this model uses; use `--to zoo`, or train with "
                "--model.batch_norm batch"
            )
        state = self.foreign_state(model)
        for part in (LISTED_GENERATOR, LISTED_DISCRIMINATOR):
            start = f"{part}{ARRAY}"
            arrays = {int(key.removeprefix(start)): value for key, value in state.items() if key.startswith(start)}
            joblib.dump([arrays[number].float().numpy() for number in range(len(arrays))], folder / f"{part}jl")
            sync(folder / f"{part}jl")
        return folder / f"{LISTED_GENERATOR}jl"


def _config(model: nn.Module) -> DcganConfig:
    config = model.config
    assert isinstance(config, DcganConfig)
    return config


TORCH, THEANO = TorchConverter(), TheanoConverter()
