"""Building models, tasks, data modules and preprocessors by name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.registry import canonical, family_of, get_config, get_family, is_model, normalise, registry, resolve
from zoo.shared.errors import UserError


def build_model(family: str, config: Any) -> nn.Module:
    """Build the model of a family from its config.

    Raises:
        UserError: The config's values do not fit together.
    """
    try:
        return resolve(get_family(family).model)(config)
    except ValueError as error:
        raise UserError(f"{family}: {error}") from error


def create_model(
    name: str,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a model by name.

    Args:
        name: A registered model, or a family for its default model.
        weights: A folder, a file, ``hf:owner/name`` or a tag known for this model; None for random weights.
        device: Where to put it.
        dtype: Type of its parameters.
        **overrides: Fields of the family's config.

    Returns:
        The model; in ``eval()`` mode when ``weights`` are given.

    Raises:
        UserError: Unknown name or field, or weights that do not fit.
    """
    spec, config = family_of(name), get_config(name, **overrides)
    if weights is None:
        return build_model(spec.name, config).to(device=device, dtype=dtype)
    from zoo.weights import load_into

    reference = spec.weight_tags.get(canonical(name), {}).get(str(weights), weights)
    model = load_into(spec.name, config, reference)
    return model.to(device=device, dtype=dtype).eval()


def count_parameters(name: str) -> int:
    """Exact number of learnable parameters, counted on the meta device."""
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name).parameters())


def checked(target: Any, label: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return ``overrides`` if ``target`` takes every one of them.

    Raises:
        UserError: It does not take one.
    """
    known = [p for p in inspect.signature(target).parameters if p not in ("self", "model")]
    for key in overrides:
        if key not in known:
            raise UserError(f"{label} has no setting {key!r}; it has {', '.join(known)}")
    return overrides


def create_task(name: str, weights: str | Path | None = None, **overrides: Any) -> Any:
    """Build the LightningModule that trains a model.

    Args:
        name: A registered model or family.
        weights: As for :func:`create_model`.
        **overrides: Settings of the task.
    """
    task = resolve(family_of(name).task)
    settings = checked(task.__init__, f"the task of {name}", overrides)
    return task(create_model(name, weights).train(), **settings)


def create_datamodule(name_or_family: str, **overrides: Any) -> Any:
    """Build the LightningDataModule of a family, shaped for one of its models.

    Args:
        name_or_family: A registered model or family.
        **overrides: Settings of the data module.
    """
    target = resolve(family_of(name_or_family).datamodule)
    settings = checked(target.__init__, f"the data of {name_or_family}", overrides)
    return target(config=get_config(name_or_family), **{k: v for k, v in settings.items() if k != "config"})


def create_preprocessor(name_or_path: str | Path) -> Any:
    """The tokenizer and transforms that belong to a model name, or to a folder of weights.

    Raises:
        UserError: Neither a model nor a folder of weights.
    """
    name = str(name_or_path)
    if not Path(name).exists() and (is_model(name) or normalise(name) in registry().families):
        return resolve(family_of(name).preprocessor).for_model(get_config(name))
    from zoo.weights import identify

    found = identify(name)
    preprocessor = resolve(get_family(found.family).preprocessor)
    return preprocessor.load(found.source.folder, found.config)
