"""Which checks run on what, and what a check that breaks is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

import zoo
from zoo.registry import FamilySpec, family_of, is_model, normalise, registry
from zoo.settings import choose
from zoo.verify.accumulation import verify_accumulation
from zoo.verify.cases import Settings
from zoo.verify.children import Crew
from zoo.verify.convert import verify_convert, verify_formats
from zoo.verify.decode import verify_decode
from zoo.verify.faults import Drills
from zoo.verify.resume import verify_resume
from zoo.verify.setup import Setup
from zoo.verify.verdicts import Verdict, broke
from zoo.verify.world_size import verify_world_size
from zoo.weights import identify

_PROCESSES = 3


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is done.

    Attributes:
        kills: Killed runs of each model.
        tokens: Tokens to decode for each prompt.
        processes: Numbers of processes that train together on what is not a family's plain loss.
        seed: Chooses the moments of the kills.
    """

    kills: int
    tokens: int
    processes: tuple[int, ...] = (2, 3)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to check.

    Attributes:
        spec: Its family.
        model: Its name; of weights, where they are.
        weights: Weights to convert; None builds the model anew.
    """

    spec: FamilySpec
    model: str
    weights: str | None = None

    def builds(self) -> dict[str, Callable[[], nn.Module]]:
        """What makes the models to convert, with the same weights each time, by a name that says their sizes."""

        def build(settings: Settings) -> nn.Module:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return zoo.create_model(self.model, **settings).eval()

        cases = self.spec.verify.convert.items()
        return {f"{self.model} {name}".strip(): partial(build, settings) for name, settings in cases}


def find_subjects(targets: Iterable[str]) -> list[Subject]:
    """What the words of a command line mean: families (the model of their small recipe), models, weights."""
    subjects = []
    for target in targets:
        if normalise(target) in registry().families or is_model(target):
            spec = family_of(target)
            name, _, _ = choose(target, spec.verify.recipe)
            subjects.append(Subject(spec=spec, model=name))
        else:
            found = identify(target)
            subjects.append(Subject(spec=registry().families[found.family], model=target, weights=target))
    return subjects


def run_checks(
    checks: Sequence[str],
    subjects: Sequence[Subject],
    folder: Path,
    effort: Effort,
    begin: Callable[[str, str], object] = lambda check, model: None,
) -> Iterator[Iterable[Verdict]]:
    """Run every check on every model, with one set of processes for all that train together.

    Args:
        checks: Names of checks.
        subjects: Models.
        folder: Where the runs go.
        effort: How much is done.
        begin: Called with check and model before each.
    """
    with Crew(_PROCESSES) as crew:
        for check in checks:
            for number, subject in enumerate(subjects):
                begin(check, subject.model)
                here = folder / check / f"{number}-{Path(subject.model).name}"
                setup = Setup(spec=subject.spec, model=subject.model, folder=here, settings={})
                yield guarded(check, subject, crew, verify(check, subject, setup, effort, crew))


def verify(check: str, subject: Subject, setup: Setup, effort: Effort, crew: Crew) -> Iterable[Verdict]:
    """One check of one model."""
    if check == "resume":
        return verify_resume(setup, crew, kills=effort.kills, seed=effort.seed)
    if check == "accumulation":
        return verify_accumulation(setup)
    if check == "world-size":
        return verify_world_size(setup, crew, further=effort.processes)
    if check == "decode":
        return verify_decode(setup.spec, setup.model, tokens=effort.tokens)
    if check == "convert":
        if subject.weights:
            return verify_convert(setup.spec, setup.model, partial(zoo.load, subject.weights), setup.folder)
        return verify_formats(setup.spec, subject.builds(), setup.folder)
    return Drills(setup, crew)


def guarded(check: str, subject: Subject, crew: Crew, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """The verdicts, and a failed one when the check breaks."""
    try:
        yield from verdicts
    except Exception as error:
        crew.restart()
        yield broke(check, subject.model, "the check comes to its end", error)
