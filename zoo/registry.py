"""Names of models and families. Imports no torch: a family is a record of names that are resolved when used."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from zoo.families import ENTRY_POINT_GROUP, FAMILIES
from zoo.shared.errors import UserError
from zoo.shared.watch import Watch
from zoo.verify.cases import VerifyCases


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A word of the command line that a family answers to.

    Attributes:
        target: Dotted path ``module:function`` of a function that takes the remaining words.
        help: One line for ``zoo --help``.
        shared: Several families have this verb, so it names the family first: ``zoo embed clip``.
    """

    target: str
    help: str
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Another thing that models of a family are trained for, such as fine-tuning. All paths are ``module:name``.

    A recipe chooses it with ``objective: NAME``; the fields replace those of :class:`FamilySpec`.

    Attributes:
        task: ``LightningModule`` class.
        datamodule: ``LightningDataModule`` class.
        audit: Runs before the first step.
        report: Runs after the last step.
        watches: What signals trouble.
    """

    task: str
    datamodule: str
    audit: str | None = None
    report: str | None = None
    watches: tuple[Watch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FamilySpec:
    """Everything the registry and the command line know of a family. All paths are ``module:name``.

    Attributes:
        name: The family's name, which is also its folder.
        title: The name as the paper writes it.
        paper: Citation with arXiv number or address.
        year: Year of the paper.
        config: The config dataclass.
        variants: Model name to config.
        parameter_counts: Exact learnable parameters of every variant, recounted by a test.
        aliases: Further names of models.
        default_model: The model that a bare family name builds.
        model: ``nn.Module`` class, built from a config.
        task: ``LightningModule`` class, built from a model and keyword settings.
        datamodule: ``LightningDataModule`` class.
        preprocessor: Class with ``for_model(config)``, ``load(folder)`` and ``save(folder)``.
        converters: Foreign format name to an object of :class:`zoo.shared.convert.formats.Converter`.
        weight_tags: Names that ``weights=`` takes for a model, to a reference that can be opened.
        recipes: Folder with the recipe files, as ``package:folder``.
        audit: Function ``(task, datamodule) -> list[Check]`` that runs before the first step.
        watches: What signals trouble while this family trains, beside :data:`zoo.shared.watch.COMMON`.
        report: Function ``(task, datamodule, folder) -> Report`` that runs after the last step.
        evaluate: Function behind ``zoo eval FAMILY``.
        bench: Function ``() -> list[Row]`` of the family's rows in ``zoo bench``.
        verify: How ``zoo verify`` trains the family small and what else it checks.
        verbs: Word to :class:`Verb`.
        data_verbs: Words of ``zoo data WORD FAMILY``, such as ``prepare``, to :class:`Verb`.
        shortcuts: Options of ``zoo train`` such as ``--on-collapse``, to the setting that each stands for.
        objectives: What else the models are trained for, by the name that recipes use.
    """

    name: str
    title: str
    paper: str
    year: int
    config: type
    variants: Mapping[str, Any]
    parameter_counts: Mapping[str, int]
    default_model: str
    model: str
    task: str
    datamodule: str
    preprocessor: str
    recipes: str
    converters: Mapping[str, str] = field(default_factory=dict)
    weight_tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    audit: str | None = None
    watches: tuple[Watch, ...] = ()
    report: str | None = None
    evaluate: str | None = None
    bench: str | None = None
    verify: VerifyCases = field(default_factory=VerifyCases)
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    data_verbs: Mapping[str, Verb] = field(default_factory=dict)
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    objectives: Mapping[str, Objective] = field(default_factory=dict)

    def trained_for(self, objective: str | None) -> FamilySpec:
        """The same family with the parts of another objective; None keeps its own.

        Raises:
            UserError: The family has no such objective.
        """
        if objective is None:
            return self
        if objective not in self.objectives:
            known = ", ".join(self.objectives) or "none but its own"
            raise UserError(f"{self.name} has no objective {objective!r}; it has {known}")
        parts = self.objectives[objective]
        return dataclasses.replace(self, **{f.name: getattr(parts, f.name) for f in dataclasses.fields(parts)})


def resolve(path: str) -> Any:
    """Import the object at ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


class Registry:
    """Families by name and models by name. A duplicate of either raises."""

    def __init__(self) -> None:
        self.families: dict[str, FamilySpec] = {}
        self.models: dict[str, tuple[str, Any]] = {}
        self.counts: dict[str, int] = {}
        self.aliases: dict[str, str] = {}

    def add_family(self, spec: FamilySpec) -> None:
        """Register a family with all its variants, or none of them."""
        if spec.name in self.families:
            raise ValueError(f"family {spec.name!r} is registered already")
        taken = [n for n in (*spec.variants, *spec.aliases) if normalise(n) in self.models or n in self.aliases]
        if taken:
            raise ValueError(f"{', '.join(taken)}: registered already; family {spec.name!r} was not added")
        self.families[spec.name] = spec
        for name, config in spec.variants.items():
            self.add_model(name, spec.name, config, parameters=spec.parameter_counts.get(name))
        self.aliases.update(spec.aliases)

    def add_model(self, name: str, family: str, config: Any, *, parameters: int | None = None) -> None:
        """Register one more model of a registered family."""
        if family not in self.families:
            raise ValueError(f"unknown family {family!r}; register it first" + self.near(family))
        key = normalise(name)
        if key in self.models or key in self.aliases:
            raise ValueError(f"model {key!r} is registered already")
        if not isinstance(config, self.families[family].config):
            raise ValueError(f"config of {key!r} must be a {self.families[family].config.__name__}")
        self.models[key] = (family, config)
        if parameters is not None:
            self.counts[key] = parameters

    def near(self, name: str) -> str:
        """Say which names are close to ``name``, or nothing."""
        known = [*self.models, *self.families, *self.aliases]
        close = difflib.get_close_matches(normalise(name), known, n=3, cutoff=0.4)
        return f"; did you mean {' or '.join(close)}?" if close else "; `zoo list` shows all"


def normalise(name: str) -> str:
    """Lower case with hyphens; underscores are accepted."""
    return name.strip().lower().replace("_", "-")


@cache
def registry() -> Registry:
    """The one registry, filled from ``zoo.families`` and the entry points on first use."""
    filled = Registry()
    for path in FAMILIES:
        filled.add_family(resolve(path))
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            spec = point.load()
        except Exception as error:
            raise UserError(f"family {point.name!r} of another package cannot be loaded: {error}") from error
        filled.add_family(spec)
    return filled


def register_family(spec: FamilySpec) -> None:
    """Add a family of one's own. Raises ``ValueError`` on a duplicate."""
    registry().add_family(spec)


def register_model(name: str, family: str, config: Any) -> None:
    """Add a model of one's own to a family. Raises ``ValueError`` on a duplicate."""
    registry().add_model(name, family, config)


def list_models(pattern: str = "*", family: str | None = None) -> list[str]:
    """Names of the registered models, sorted.

    Args:
        pattern: Shell-style pattern that a name must match.
        family: Only models of this family.

    Raises:
        UserError: The family is unknown.
    """
    if family is not None:
        get_family(family)
    wanted = normalise(pattern)
    return sorted(
        name for name, (of, _) in registry().models.items() if fnmatch.fnmatch(name, wanted) and family in (None, of)
    )


def canonical(name: str) -> str:
    """The registered name behind a model's or family's name.

    Raises:
        UserError: No such model; the message names close ones.
    """
    reg, key = registry(), normalise(name)
    key = reg.aliases.get(key, key)
    if key in reg.models:
        return key
    if key in reg.families:
        return reg.families[key].default_model
    raise UserError(f"unknown model {name!r}" + reg.near(name))


def is_model(name: str) -> bool:
    """Whether a model is registered under ``name``."""
    return normalise(name) in registry().models or normalise(name) in registry().aliases


def get_family(name: str) -> FamilySpec:
    """The record of a family, by the family's name.

    Raises:
        UserError: No such family.
    """
    key = normalise(name)
    if key not in registry().families:
        known = ", ".join(sorted(registry().families))
        raise UserError(f"unknown family {name!r}; the families are: {known}")
    return registry().families[key]


def family_of(name: str) -> FamilySpec:
    """The record of the family that a model (or family) name belongs to."""
    return registry().families[registry().models[canonical(name)][0]]


def get_config(name: str, **overrides: Any) -> Any:
    """The config of a model, with fields replaced.

    Raises:
        UserError: Unknown model or field, or values that do not fit together.
    """
    config = registry().models[canonical(name)][1]
    known = [f.name for f in dataclasses.fields(config)]
    for key in overrides:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known)}"
            raise UserError(f"{name} has no setting {key!r}{hint}")
    try:
        return dataclasses.replace(config, **overrides)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def model_info(name: str) -> dict[str, Any]:
    """Family, paper, year, exact parameter count, weight formats and config of a model."""
    key, spec = canonical(name), family_of(name)
    config = get_config(key)
    count = registry().counts.get(key)
    if count is None:  # a model that somebody registered without saying its size: count it on meta
        from zoo.factory import count_parameters

        count = count_parameters(key)
    return {
        "name": key,
        "family": spec.name,
        "paper": spec.paper,
        "year": spec.year,
        "parameters": count,
        "formats": ["zoo", *spec.converters],
        "weights": sorted(spec.weight_tags.get(key, {})),
        "config": dataclasses.asdict(config),
    }
