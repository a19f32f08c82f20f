"""``zoo vintage`` and the vintage sources of ``zoo train gpt``: results, pictures, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import zoo
from zoo.cli import main
from zoo.gpt import sources
from zoo.gpt.tokenizer import GptTokenizer
from zoo.gpt.vintage import measures as vintage
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.documents import Document, write_documents
from zoo.shared.text.sentences import sentences


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two models of one shape with different random weights, and a tokenizer beside each."""
    tokenizer = GptTokenizer(train_byte_level_bpe([one.text for one in vintage.events()], 320))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(f"model-{seed}")
        zoo.save_weights(zoo.create_model("gpt-debug", context=128), folder)
        tokenizer.save(folder)
        found.append(str(folder))
    return found[0], found[1]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]):
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def refused(says):
    def run(*words: object) -> str:
        code, out, err = says(*words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    return run


def test_surprise_of_a_pair(says, folders: tuple[str, str], tmp_path: Path) -> None:
    first, twin = folders
    words = ["vintage", "surprise", "--weights", first, "--twin", twin, "--out", tmp_path / "out", "--device", "cpu"]
    code, out, _ = says(*words, "--json")
    found = json.loads(out)
    assert code == 0
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == found
    model, other, difference = (found["periods"][name] for name in ("model", "twin", "difference"))
    for one, two, less in zip(model, other, difference, strict=True):
        assert less["value"] == pytest.approx(one["value"] - two["value"])
    rise = found["rises"]["model"]
    assert rise["low"] < rise["value"] < rise["high"]
    assert rise["cutoff"] == 1930
    with Image.open(tmp_path / "out" / "surprise.png") as picture:
        assert picture.width > 800
    code, out, _ = says(*words)
    assert code == 0
    assert "1850-1859" in out
    assert "rise" in out


def test_a_model_is_no_different_from_itself(says, folders: tuple[str, str]) -> None:
    code, out, _ = says("vintage", "surprise", "--weights", folders[0], "--twin", folders[0], "--json", "--limit", 40)
    assert code == 0
    rise = json.loads(out)["rises"]["difference"]
    assert (rise["value"], rise["low"], rise["high"]) == (0, 0, 0)


def test_years_of_a_users_corpus(says, refused, folders: tuple[str, str], tmp_path: Path) -> None:
    dated = [Document(one.text, one.id, 1900 + place % 6) for place, one in enumerate(sentences(24, length=2))]
    write_documents(tmp_path / "dated.jsonl", dated)
    words = ["vintage", "years", "--weights", folders[0], "--data", tmp_path / "dated.jsonl"]
    code, out, _ = says(*words, "--cutoff", 1902, "--json", "--out", tmp_path / "out")
    found = json.loads(out)
    assert code == 0
    assert [(one["first"], one["last"], one["items"]) for one in found["periods"]["model"]] == [
        (year, year, 4) for year in range(1900, 1906)
    ]
    assert (tmp_path / "out" / "years.png").stat().st_size > 10_000
    assert "cutoff 1930 lies after every text" in refused(*words)
    assert "cutoff 1800 lies before every text" in refused(*words, "--cutoff", 1800)
    write_documents(tmp_path / "dated.jsonl", [Document("no year", "1")])
    assert "no document has a year" in refused(*words)


def test_knowledge_of_a_pair(says, folders: tuple[str, str], tmp_path: Path) -> None:
    words = ["vintage", "knowledge", "--weights", folders[0], "--twin", folders[1], "--shots", 0]
    code, out, _ = says(*words, "--json", "--out", tmp_path / "out")
    figures = json.loads(out)["figures"]
    assert code == 0
    assert list(figures) == ["all questions", "without those later than 1930"]
    for one in figures.values():
        assert one["gap"]["value"] == pytest.approx(one["twin"]["accuracy"] - one["model"]["accuracy"])
        assert one["model"]["low"] <= one["model"]["accuracy"] <= one["model"]["high"]
        assert one["chance"] == 0.25
    assert (tmp_path / "out" / "knowledge.png").stat().st_size > 10_000
    assert "chance" in says(*words)[1]


def test_code_needs_leave(says, refused, folders: tuple[str, str]) -> None:
    words = ["vintage", "code", "--weights", folders[0], "--shots", 0, "--samples", 2, "--limit", 3]
    assert "--execute" in refused(*words)
    code, out, _ = says(*words, "--execute", "--json")
    assert code == 0
    (figure,) = json.loads(out)["results"]["model"]["figures"]
    assert (figure["name"], figure["items"]) == ("pass@1", 3)
    assert "functions" in says(*words, "--execute")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["code", "--cutoff", "1900", "--execute"], "--cutoff means nothing to code"),
        (["surprise", "--execute"], "--execute means nothing to surprise"),
        (["surprise", "--data", "nowhere.tsv"], "no such file"),
        (["years"], "--data FILE"),
        (["years", "--data", "nowhere.jsonl"], "no such file"),
        (["knowledge", "--shots", "-1"], "must be at least 0"),
        (["tunes"], "invalid choice"),
    ],
)
def test_mistakes_are_told_in_one_line(refused, folders: tuple[str, str], words: list[str], message: str) -> None:
    assert message in refused("vintage", *words, "--weights", folders[0])


def test_the_same_figures_among_the_other_benchmarks(says, folders: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "events.tsv").write_text("1900\tA bridge is opened.\n1950\tA dam is built.\n", encoding="utf-8")
    words = ["eval", "gpt", "--weights", folders[0], "--json"]
    code, out, _ = says(*words, "--benchmark", "surprise", "--data", tmp_path / "events.tsv")
    assert code == 0
    figures = json.loads(out)["benchmarks"]["surprise"]["figures"]
    assert [one["name"] for one in figures] == ["1900-1909", "1950-1959"]
    code, out, _ = says(*words, "--benchmark", "knowledge", "--shots", 0)
    assert code == 0
    assert len(json.loads(out)["benchmarks"]["knowledge"]["figures"]) == 2


def test_an_unknown_source_is_told(refused) -> None:
    assert "did you mean webster-1913" in refused("train", "gpt-debug", "--data.source", "webster1913")
    assert "did you mean film-reviews" in refused("train", "gpt-debug", "--data.paired", "film-review+sentences")


def test_the_pair_has_one_tokenizer_and_both_held_out_sets(
    says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sources.SOURCES, "old", (f"{__name__}:_old", "old texts"))
    monkeypatch.setitem(sources.SOURCES, "new", (f"{__name__}:_new", "new texts"))
    recipe = yaml.safe_load((Path(sources.__file__).parent / "recipes" / "vintage.yaml").read_text())
    recipe |= {"name": "gpt-debug", "checkpoint_every": 10}
    recipe["trainer"] |= {"max_steps": 4, "val_check_interval": 2, "limit_val_batches": 1, "log_every_n_steps": 2}
    recipe["data"] |= {"source": "old", "paired": "old+new", "cutoff": 1900}
    recipe["compare"]["modern"]["data"]["source"] = "new"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, out, _ = says("train", "gpt", "--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert code == 0
    assert "bits per byte of old texts" in out
    runs = [tmp_path / "run", tmp_path / "run" / "compare" / "modern"]
    assert len({(run / "weights" / "tokenizer.json").read_bytes() for run in runs}) == 1
    measured = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert measured[0]["tokens"] == measured[1]["tokens"]
    figures = [one["figures"] for one in measured]
    for found in figures:
        assert {"bits_per_byte/old", "bits_per_byte/new"} <= set(found)
    assert figures[0]["bits_per_byte/old"] != figures[1]["bits_per_byte/old"]


def _old() -> sources.Split:
    found = [Document(one.text, one.id, 1850) for one in sentences(120)]
    return found[:100], found[100:]


def _new() -> sources.Split:
    found = [Document(one.text.replace("horse", "rocket"), one.id, 2000) for one in sentences(120, seed=1)]
    return found[:100], found[100:]
