"""The checks of `zoo verify` on toys: they hold for every kind of training, and they fail where something is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from toys import families
from zoo.registry import FamilySpec, registry
from zoo.verify.accumulation import verify_accumulation
from zoo.verify.children import Crew
from zoo.verify.compare import differences
from zoo.verify.decode import agreement, verify_decode
from zoo.verify.faults import Drills
from zoo.verify.resume import verify_resume
from zoo.verify.setup import Setup
from zoo.verify.tape import distance
from zoo.verify.verdicts import Verdict, within
from zoo.verify.world_size import verify_world_size

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("processes")]

ALL = [families.LANGUAGE, families.MASKED, families.SPEECH, families.RECURRENT, families.ADVERSARIAL]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Toys are families for the time of a test."""
    known = registry()
    before = dict(known.families), dict(known.models)
    for spec in vars(families).values():
        if isinstance(spec, FamilySpec):
            known.add_family(spec)
    yield
    known.families, known.models = before


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(3) as crew:
        yield crew


def setup(spec: FamilySpec, folder: Path) -> Setup:
    return Setup(spec=spec, model=spec.default_model, folder=folder, settings={})


def failed(verdicts: Iterable[Verdict]) -> list[str]:
    found = list(verdicts)
    assert found
    for verdict in found:
        print(verdict)
    return [f"{verdict.what}: {verdict.found}" for verdict in found if not verdict.passed]


def name(spec: FamilySpec) -> str:
    return spec.name


@pytest.mark.parametrize("spec", [families.LANGUAGE, families.RECURRENT, families.ADVERSARIAL], ids=name)
def test_a_killed_run_goes_on_with_the_same_bits(spec: FamilySpec, tmp_path: Path, crew: Crew) -> None:
    """Accumulation, workers, dropout, averaged weights; a carried state; two optimisers."""
    assert not failed(verify_resume(setup(spec, tmp_path), crew, kills=1, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("spec", ALL, ids=name)
def test_five_killed_runs_go_on_with_the_same_bits(spec: FamilySpec, tmp_path: Path, crew: Crew) -> None:
    assert not failed(verify_resume(setup(spec, tmp_path), crew, kills=5, seed=1))


def test_a_state_that_is_not_saved_is_noticed(tmp_path: Path, crew: Crew) -> None:
    spec = families.FORGETFUL
    found = failed(verify_resume(setup(spec, tmp_path), crew, kills=1, seed=3))
    assert any(line.startswith("weights") for line in found)
    assert any(line.startswith("logged metrics") for line in found)


def test_random_numbers_that_start_anew_are_noticed(tmp_path: Path, crew: Crew) -> None:
    spec = families.RESEEDED
    found = failed(verify_resume(setup(spec, tmp_path), crew, kills=1, seed=3))
    assert any(line.startswith("random state") for line in found)


def test_a_loader_built_too_early_is_noticed(tmp_path: Path, crew: Crew) -> None:
    """Reading the trainer's estimate of its steps builds the loader before the run knows where it stands."""
    spec = families.ESTIMATING
    found = failed(verify_resume(setup(spec, tmp_path), crew, kills=1, seed=3))
    assert any(line.startswith("weights") for line in found)


@pytest.mark.parametrize("spec", [s for s in ALL if s is not families.RECURRENT], ids=name)
def test_pieces_have_the_gradients_of_the_batch(spec: FamilySpec, tmp_path: Path) -> None:
    assert not failed(verify_accumulation(setup(spec, tmp_path)))


def test_a_mean_of_means_is_noticed(tmp_path: Path) -> None:
    spec = families.NAIVE
    found = failed(verify_accumulation(setup(spec, tmp_path)))
    assert len(found) == 6


@pytest.mark.parametrize("spec", [families.LANGUAGE], ids=name)
def test_processes_train_as_one_does(spec: FamilySpec, tmp_path: Path, crew: Crew) -> None:
    assert not failed(verify_world_size(setup(spec, tmp_path), crew))


@pytest.mark.slow
@pytest.mark.parametrize("spec", [families.MASKED, families.SPEECH, families.ADVERSARIAL], ids=name)
def test_processes_train_as_one_does_whatever_the_loss(spec: FamilySpec, tmp_path: Path, crew: Crew) -> None:
    assert not failed(verify_world_size(setup(spec, tmp_path), crew))


def test_a_mean_of_the_processes_means_is_noticed(tmp_path: Path, crew: Crew) -> None:
    spec = families.NAIVE
    assert failed(verify_world_size(setup(spec, tmp_path), crew))


def test_every_fault_has_its_outcome_with_two_optimisers(tmp_path: Path, crew: Crew) -> None:
    spec = families.ADVERSARIAL
    assert not failed(Drills(setup(spec, tmp_path), crew))


def test_all_ways_of_decoding_agree() -> None:
    spec = families.LANGUAGE
    assert not failed(verify_decode(spec, spec.default_model, tokens=6))


def test_padding_that_is_attended_to_is_noticed() -> None:
    spec = families.NAIVE
    assert failed(verify_decode(spec, spec.default_model, tokens=6))


def test_agreement_says_where_tokens_part() -> None:
    assert agreement("m", "w", [[1, 2], [3, 4]], [[1, 2], [3, 4]]).passed
    found = agreement("m", "w", [[1, 2], [3, 4]], [[1, 2], [3, 5]])
    assert not found.passed
    assert "prompt 1 from token 1" in found.found
    assert not agreement("m", "w", [[1, 2]], []).passed
    assert not agreement("m", "w", [[1, 2]], [[1]]).passed


def test_differences_see_single_bits_types_and_missing_keys() -> None:
    zero = torch.zeros(2)
    assert not list(differences({"a": zero, "b": float("nan")}, {"a": zero.clone(), "b": float("nan")}))
    assert list(differences(zero, -zero)) == [""]
    assert list(differences(torch.tensor(float("nan")), torch.tensor(float("nan")))) == []
    assert list(differences(zero, zero.double()))
    assert list(differences({"a": 1}, {"a": 1.0})) == [".a"]
    assert list(differences({"a": 1}, {})) == [".a"]
    assert list(differences([1, 2], [1, 3])) == ["[1]"]


def test_distance_is_relative_and_refuses_other_names() -> None:
    one = {"a": torch.ones(4), "b": torch.full((4,), 1e-30)}
    assert distance(one, one) == 0
    assert distance(one, {**one, "a": torch.ones(4) * 1.01}) == pytest.approx(0.01, rel=1e-3)
    assert distance(one, {**one, "b": torch.zeros(4)}) < 1e-20  # nothing but rounding
    for name in one:  # not-a-number is not passed over, wherever it stands
        wrong = distance(one, {**one, name: torch.full((4,), float("nan"))})
        assert not within("c", "s", "w", value=wrong, limit=1.0).passed
    assert not within("c", "s", "w", value=distance(one, {"a": one["a"]}), limit=1.0).passed
