"""`zoo verify` as people type it. The fast form runs here on every family, as it must before every release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo
from toys import families
from zoo.cli import main
from zoo.registry import registry
from zoo.verify.checks import Effort, find_subjects, run_checks

pytestmark = [pytest.mark.timeout(1500), pytest.mark.xdist_group("processes")]


def test_everything_holds_in_the_fast_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "all", "--fast", "--json"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    checks = {verdict["check"] for verdict in found["verdicts"]}
    assert {"resume", "accumulation", "world-size", "convert", "faults"} <= checks
    for family in registry().families.values():
        assert any(verdict["subject"].startswith(family.name) for verdict in found["verdicts"])


@pytest.mark.slow
def test_five_kills_of_every_family(tmp_path: Path) -> None:
    subjects = find_subjects(registry().families)
    for verdicts in run_checks(["resume"], subjects, tmp_path, Effort(kills=5, tokens=1, seed=1)):
        assert not [verdict for verdict in verdicts if not verdict.passed]


def test_weights_are_converted_and_hashed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "weights")
    assert main(["verify", "convert", str(tmp_path / "weights")]) == 0
    out = capsys.readouterr().out
    assert "sha256" in out
    assert "hf:" in out


@pytest.fixture
def careless() -> Iterator[str]:
    known = registry()
    before = dict(known.families), dict(known.models)
    known.add_family(families.NAIVE)
    yield families.NAIVE.name
    known.families, known.models = before


def test_what_does_not_hold_is_said_and_gives_code_1(careless: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "decode", careless]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "0 of 1 hold" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "resume", "clop"], "did you mean clip"),
        (["verify", "convert", "nowhere"], "nowhere"),
        (["verify", "resume", "clip", "--kills", "0"], "--kills"),
        (["verify", "decode", "clip", "--keep", "FULL"], "not empty"),
        (["verify", "decode", "clip"], "nothing to check"),
    ],
)
def test_mistakes_give_one_line_and_code_2(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert main([str(tmp_path) if word == "FULL" else word for word in words]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert err[-1].startswith("zoo: ")
    assert says in err[-1]
