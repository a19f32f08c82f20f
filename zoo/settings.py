"""Settings of a training run: a recipe, typed overrides, and the two merged."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning import Trainer

from zoo.registry import FamilySpec, canonical, family_of, get_config, normalise, registry, resolve
from zoo.shared.errors import UserError

SECTIONS = ("model", "task", "data", "trainer")
# The run folder, the logs and the order of the data are ours.
OWNED = {"callbacks", "logger", "plugins", "default_root_dir", "use_distributed_sampler", "barebones"}


def recipe_names(spec: FamilySpec) -> list[str]:
    """Names of a family's recipes."""
    return sorted(p.name.removesuffix(".yaml") for p in _recipe_folder(spec).iterdir() if p.name.endswith(".yaml"))


def _recipe_folder(spec: FamilySpec) -> Any:
    package, _, folder = spec.recipes.partition(":")
    return importlib.resources.files(package) / folder


def read_recipe(spec: FamilySpec, recipe: str | Path) -> dict[str, Any]:
    """Read a recipe by name, or a file.

    Raises:
        UserError: There is no such recipe, or it is not YAML with known sections.
    """
    name = str(recipe)
    if name in recipe_names(spec):
        text = (_recipe_folder(spec) / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise UserError(
            f"{spec.name} has no recipe {name!r}, and there is no such file; recipes: {', '.join(recipe_names(spec))}"
        )
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"recipe {name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"recipe {name} must be a mapping of settings")
    return settings


def build_parser(spec: FamilySpec, name: str, recipe: dict[str, Any]) -> ArgumentParser:
    """The parser of ``zoo train NAME``, from the signatures of config, task, data module and Trainer.

    Args:
        spec: The family.
        name: The model to train.
        recipe: Settings that become the defaults.
    """
    parser = ArgumentParser(prog=f"zoo train {name}", exit_on_error=False, description=f"Train {name}. {spec.paper}")
    parser.add_argument("--config", action="config", help="a YAML file with settings of the same form")
    parser.add_argument("--out", type=str | None, default=None, help="folder of the run; default runs/MODEL/DATE-TIME")
    parser.add_argument(
        "--weights", type=str | None, default=None, help="start from these weights, or from the `newest` run"
    )
    parser.add_argument("--objective", type=str | None, default=None, help="what is trained for; a recipe says it")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order, augmentation and dropout")
    parser.add_argument("--audit", type=bool, default=True, help="check loss and data before the first step")
    parser.add_argument("--report", type=bool, default=True, help="measure held-out data and draw when training ends")
    parser.add_argument("--ema", type=float, default=0.0, help="decay of averaged weights; 0 keeps none")
    parser.add_argument(
        "--noise_scale", type=int, default=0, help="steps between measurements of the gradient noise scale; 0: never"
    )
    parser.add_argument("--compile", type=bool, default=False, help="compile the model's blocks")
    parser.add_argument("--checkpoint_every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--keep_checkpoints", type=int, default=2, help="how many of the newest stay; 0: all of them")
    parser.add_argument(
        "--max_skipped_steps", type=int, default=10, help="steps in a row without a finite gradient that stop the run"
    )
    parser.add_argument(
        "--compare", type=dict[str, Any], default={}, help="further runs: label to the settings that differ"
    )
    parser.add_class_arguments(spec.config, "model", instantiate=False)
    parser.add_class_arguments(resolve(spec.task), "task", skip={"model"}, instantiate=False)
    parser.add_class_arguments(resolve(spec.datamodule), "data", skip={"config", "seed"}, instantiate=False)
    parser.add_class_arguments(Trainer, "trainer", skip=OWNED, instantiate=False)

    defaults = {f"model.{k}": v for k, v in _plain(get_config(name)).items()}
    parser.set_defaults(defaults)
    settings = {k: v for k, v in recipe.items() if k != "name"}
    if canonical(recipe.get("name", spec.default_model)) != canonical(name):
        settings.pop("model", None)  # sizes of the recipe's own model
    try:
        parser.set_defaults(flatten(settings))
    except (KeyError, ArgumentError, ValueError, TypeError) as error:
        raise UserError(f"recipe: {one_line(error)}") from error
    return parser


def _plain(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Sections to dotted names: ``{"data": {"workers": 2}}`` to ``{"data.workers": 2}``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if key in SECTIONS and isinstance(value, dict):
            flat |= {f"{key}.{inner}": v for inner, v in value.items()}
        else:
            flat[key] = value
    return flat


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over each other, section by section; later ones win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            merged[key] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def one_line(error: BaseException) -> str:
    """The message of an error without its line breaks."""
    return " ".join(str(error).split())


def parse_words(parser: ArgumentParser, words: list[str]) -> dict[str, Any]:
    """Parse the words of a command line into plain settings.

    Raises:
        UserError: An unknown or ill-typed setting.
    """
    try:
        with redirect_stderr(StringIO()):
            return to_plain(parser.parse_args(words))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"{one_line(error)} (see {parser.prog} --help)") from error


def parse_overrides(parser: ArgumentParser, overrides: dict[str, Any]) -> dict[str, Any]:
    """Parse nested or dotted overrides from Python into plain settings.

    Raises:
        UserError: An unknown or ill-typed setting.
    """
    try:
        with redirect_stderr(StringIO()):
            flat = Namespace()
            for key, value in flatten(overrides).items():
                flat[key] = value
            return to_plain(parser.parse_object(flat))
    except (ArgumentError, KeyError, TypeError, ValueError) as error:
        raise UserError(one_line(error)) from error


def to_plain(parsed: Namespace) -> dict[str, Any]:
    """Nested dicts of what YAML can hold."""
    settings = _without_types(parsed.as_dict())
    settings.pop("config", None)
    return settings


def _without_types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_types(inner) for key, inner in value.items() if key != "__path__"}
    if isinstance(value, (list, tuple)):
        return [_without_types(inner) for inner in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def choose(name_or_family: str, recipe: str | Path) -> tuple[str, FamilySpec, dict[str, Any]]:
    """The model to train, its family with the recipe's objective, and the recipe's settings.

    A bare family name takes the recipe's model.
    """
    spec = family_of(name_or_family)
    settings = read_recipe(spec, recipe)
    spec = spec.trained_for(settings.get("objective"))
    name = name_or_family
    if normalise(name_or_family) in registry().families:
        name = settings.get("name", spec.default_model)
    return canonical(name), spec, settings
