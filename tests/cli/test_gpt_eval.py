"""``zoo eval gpt``: what it writes for every benchmark, and one clear line for every mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.gpt.evaluation.command import BENCHMARKS
from zoo.gpt.evaluation.exam import Exam
from zoo.gpt.tokenizer import GptTokenizer
from zoo.shared.text import plays
from zoo.shared.text.bpe_training import train_byte_level_bpe

TEXT = "The old man walked to the harbour and looked for his boat. The boat was gone, and the harbour was empty. "
CBT = "".join(f"{i} The man saw it .\n" for i in range(1, 21)) + "21 The XXXXX 's hat .\tcat\t\tcat|dog|sun\n\n"
FILES: dict[str, Any] = {
    "lambada": '{"text": "The man walked to the harbour"}\n{"text": "The boat was gone and the harbour was empty"}\n',
    "cbt": CBT * 2,
    "winograd": json.dumps(
        [
            {
                "text": "Bob told Tom that he won.",
                "pronoun": "he",
                "pronoun_loc": 18,
                "options": ["Bob", "Tom"],
                "label": 0,
            }
        ]
        * 2
    ),
    "choices": '{"context": "Is it a boat?", "choices": ["False", "True"], "answer": 1}\n'
    '{"context": "Is it a man?", "choices": ["False", "True"], "answer": "False"}\n',
    "summarisation": '{"article": "A man walked. A boat sank. It was old. He left.", "highlights": "A boat sank."}\n',
    "translation": "the boat\tle bateau\nthe man\tl'homme\nthe harbour\tle port\n",
    "coqa": json.dumps(
        {
            "data": [
                {
                    "story": "The man has a boat.",
                    "questions": [{"input_text": "What has he?"}],
                    "answers": [{"input_text": "a boat"}],
                }
            ]
        }
    ),
    "natural-questions": "".join(
        json.dumps(
            {
                "question_text": f"who has boat {i}",
                "document_text": f"The man {i} has it",
                "annotations": [{"short_answers": [{"start_token": 0, "end_token": 3}], "yes_no_answer": "NONE"}],
            }
        )
        + "\n"
        for i in range(4)
    ),
    "perplexity": "The man , who was old , walked .\nHe had a well @-@ built boat .\n",
    "bits-per-byte": TEXT,
    "words": "harbour\nempty\nwalked\nlooked\n",
    "years": '{"text": "The man walked.", "year": 1900}\n{"text": "The boat sank.", "year": 1950}\n',
}
FREE = ("arithmetic", "heuristics", "surprise", "knowledge")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "gpt"
    tokenizer = train_byte_level_bpe([TEXT * 2], 300)
    model = zoo.create_model("gpt-debug", vocab_size=300, context=192)
    return str(zoo.save_weights(model, folder, preprocessor=GptTokenizer(tokenizer)))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    paths = {name: tmp_path / (f"{name}.jsonl" if name == "years" else name) for name in FILES}  # read by its ending
    for name, content in FILES.items():
        paths[name].write_text(content, encoding="utf-8")
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], weights: str) -> Any:
    """Run ``zoo eval gpt``; returns exit code, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main(["eval", "gpt", "--weights", weights, "--device", "cpu", *map(str, words)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def test_every_benchmark_has_its_case() -> None:
    assert {*FILES, *FREE} == set(BENCHMARKS)


@pytest.mark.parametrize("name", [*FILES, *FREE])
def test_a_benchmark(name: str, evaluate: Any, files: dict[str, str], tmp_path: Path) -> None:
    data = ["--data", files[name]] if name in files else []
    shots = ["--shots", 1] if "shots" in BENCHMARKS[name].uses else []
    code, out, _ = evaluate("--benchmark", name, *data, *shots, "--limit", 3, "--json", "--out", tmp_path / "out")
    assert code == 0
    found = json.loads(out)
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == found
    (result,) = found["benchmarks"].values()
    assert result["figures"]
    for figure in result["figures"]:
        assert figure["value"] >= (-1 if figure["metric"] == "Matthews" else 0)
        assert figure["items"] > 0
        assert (figure["chance"] is None) == (figure["chance_is"] is None)
        if shots:
            assert figure["shots"] == 1
    named = result["protocol"]
    assert named["benchmark"] == name
    assert len(named["sha256"]) == 64
    assert len(named["tokenizer"]["fingerprint"]) == 16
    assert "template" in named
    assert "scoring" in named
    assert "detokenizer" in named
    assert result["data"]


def test_the_table(evaluate: Any, files: dict[str, str]) -> None:
    code, out, err = evaluate("--benchmark", "cbt", "--data", files["cbt"])
    assert code == 0
    assert "CBT: 2 gaps" in err
    _, found, _ = evaluate("--benchmark", "cbt", "--data", files["cbt"], "--json")
    result = json.loads(found)["benchmarks"]["cbt"]
    assert result["protocol"]["id"] in out
    assert "33.3 %" in out  # one of three candidates
    assert "±" in out
    assert "from cbt; chance: any candidate; 6 texts were cut to fit the context" in out


def test_without_a_benchmark(evaluate: Any, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, held_out = plays.split()
    short = [replace(play, text=play.text[:3000]) for play in held_out]
    monkeypatch.setattr(plays, "split", lambda: (known, short))
    code, out, _ = evaluate("--limit", 2, "--shots", 1, "--json")
    assert code == 0
    found = json.loads(out)["benchmarks"]
    assert list(found) == ["bits-per-byte", "arithmetic"]
    assert found["bits-per-byte"]["data"]["texts"] == ["king-john", "macbeth", "the-tempest", "twelfth-night"]
    assert found["bits-per-byte"]["figures"][0]["items"] == sum(len(play.text.encode()) for play in short)
    assert len(found["arithmetic"]["figures"]) == 10

    tokenizer, small = zoo.create_preprocessor(weights), zoo.create_model("gpt-debug", vocab_size=300, context=40)
    words = ["--weights", zoo.save_weights(small, tmp_path / "short", preprocessor=tokenizer), "--limit", 2, "--json"]
    code, out, _ = evaluate(*words)
    assert code == 0
    assert {figure["shots"] for figure in json.loads(out)["benchmarks"]["arithmetic"]["figures"]} == {0}
    code, _, err = evaluate(*words, "--shots", 1)
    assert code == 2
    assert "--shots 1: not even one demonstration fits" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--benchmark", "sat"], "unknown benchmark 'sat'; there are bits-per-byte, arithmetic, words, lambada"),
        (["--benchmark", "lambada"], "lambada needs its published file"),
        (["--benchmark", "lambada", "--data", "nowhere.jsonl"], "--data nowhere.jsonl: no such file"),
        (["--benchmark", "arithmetic", "--data", "x"], "makes its own items"),
        (["--benchmark", "heuristics", "--data", "x"], "--data x: no such folder; heuristics need a folder with CoLA"),
        (["--benchmark", "heuristics", "--data", "."], "holds none of CoLA/dev.tsv, SST-2/dev.tsv, RACE/dev"),
        (["--benchmark", "heuristics", "--run", "x"], "--run brings its own weights"),
        (["--benchmark", "arithmetic", "--run", "x"], "--run means nothing to arithmetic"),
        (["--run", "x"], "--run is for --benchmark heuristics"),
        (["--benchmark", "cbt", "--shots", "3", "--data", "x"], "--shots means nothing to cbt"),
        (["--benchmark", "perplexity", "--data", "x", "--detokenizer", "moses"], "there are none, wikitext, ptb"),
        (["--data", "x"], "say which benchmark"),
        (["--limit", "0"], "--limit 0: it must be at least 1"),
        (["--benchmark", "words", "--shots", "-1"], "--shots -1: it must be at least 0"),
        (["--benchmarks"], "--help"),
    ],
)
def test_mistakes(words: list[str], says: str, evaluate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = evaluate(*words)
    assert code == 2
    assert not out
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("perplexity", "bits-per-byte")])
def test_a_file_in_another_format(name: str, evaluate: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text("some words that are no benchmark at all\n", encoding="utf-8")
    code, _, err = evaluate("--benchmark", name, "--data", path)
    assert code == 2
    assert err.startswith(f"zoo: {path}")
    assert err.count("\n") == 1


def test_a_file_that_is_no_text(evaluate: Any, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"\x89PNG\xff\xfe")
    code, _, err = evaluate("--benchmark", "perplexity", "--data", path)
    assert code == 2
    assert "is not UTF-8 text (byte 0)" in err


def test_demonstrations_that_do_not_fit(weights: str, evaluate: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_text("".join(f"{'boat ' * 60}{i}\tbateau\n" for i in range(3)), encoding="utf-8")
    code, _, err = evaluate("--benchmark", "translation", "--data", path, "--shots", 2)
    assert code == 2
    assert "not even one demonstration fits" in err


def test_the_published_sets_of_the_heuristics(evaluate: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    for place, text in (
        ("CoLA/dev.tsv", "x\t1\t\tThe man walked.\nx\t0\t*\tWalked the man the.\n" * 4),
        ("SST-2/dev.tsv", "sentence\tlabel\na fine boat\t1\nan empty boat\t0\na gone man\t0\n"),
        ("RACE/dev/high/1.txt", json.dumps({"article": "The man walked. " * 60, "questions": ["Who walked?"],
                                            "options": [["man", "boat", "dog", "cat"]], "answers": ["A"]})),
    ):  # fmt: skip
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(text, encoding="utf-8")
    code, out, _ = evaluate("--benchmark", "heuristics", "--data", folder, "--json")
    assert code == 0
    result = json.loads(out)["benchmarks"]["heuristics"]
    assert {figure["name"]: figure["items"] for figure in result["figures"]} == {
        "acceptability": 8, "sentiment": 3, "reading": 1,
    }  # fmt: skip
    assert {figure["name"]: figure["chance"] for figure in result["figures"]} == {
        "acceptability": 0, "sentiment": pytest.approx(2 / 3), "reading": 0.25,
    }  # fmt: skip
    assert result["data"]["sets"]["sentiment"]["used"] == 3


def test_lines_end_where_the_format_says(evaluate: Any, tmp_path: Path) -> None:
    """A line separator of Unicode may stand inside a JSON text, and is no end of a line."""
    path = tmp_path / "lambada"
    path.write_text('{"text": "The man\u2028walked to\u0085the harbour"}\r\n{"text": "The boat was gone"}\n', "utf-8")
    code, out, _ = evaluate("--benchmark", "lambada", "--data", path, "--json")
    assert code == 0
    assert json.loads(out)["benchmarks"]["lambada"]["data"]["items"] == 2


def test_a_number_without_bounds_is_null(evaluate: Any, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("0123456789" * 300, encoding="utf-8")
    code, out, _ = evaluate("--benchmark", "perplexity", "--data", path, "--json", "--out", tmp_path / "out")
    assert code == 0
    assert "Infinity" not in out + (tmp_path / "out" / "figures.json").read_text()
    result = json.loads(out)["benchmarks"]["perplexity"]
    assert result["figures"][0]["value"] is None
    assert "value of word (perplexity)" in result["notes"]["unbounded"]


def test_no_more_problems_than_there_are(weights: str) -> None:
    from zoo.gpt.evaluation import arithmetic

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "COUNT", 3)
        patch.setattr(arithmetic, "TASKS", {"2D+": ("+", 2)})
        tokenizer = zoo.create_preprocessor(weights)
        result = arithmetic.arithmetic(Exam(model=zoo.load(weights), tokenizer=tokenizer, limit=99, shots=1))
    assert (result.data["items"], result.data["used"], result.figures[0].items) == (3, 3, 3)
