"""CLIP's words on the command line: what they write, and one clear line for every mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.cli import main


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "clip"
    zoo.save_weights(zoo.create_model("clip-debug"), folder)
    return str(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / kind).mkdir()
        for number in range(10):
            colour = rng.integers(0, 256, 3) if number % 2 else (200, 30, 30) if kind == "cat" else (30, 30, 200)
            image = Image.new("RGB", (40 + number, 36), tuple(int(v) for v in colour))
            image.paste("white", (number, number, 2 * number + 4, 3 * number + 4))
            image.save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def zoo_says(capsys):
    """Run a command; returns exit code, standard output and standard error."""

    def run(*words: object):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def refused(zoo_says):
    """Run a command that must fail; returns its one line."""

    def run(*words: object):
        code, out, err = zoo_says(*words)
        lines = err.strip().splitlines()
        assert code == 2
        assert out == ""
        assert lines[-1].startswith("zoo: ")
        assert len([line for line in lines if not line.startswith("zoo: using")]) == 1, err
        return lines[-1]

    return run


# classify


def test_classify(zoo_says, pictures, weights):
    words = ("classify", pictures / "cat", pictures / "dog" / "1.png", "--labels", "a cat, a dog,, a [b]tree, a cat")
    code, out, _ = zoo_says(*words, "--weights", weights, "--json", "--device", "cpu")
    results = json.loads(out)
    assert code == 0
    assert len(results) == 11
    assert {entry["label"] for entry in results[0]["labels"]} == {"a cat", "a dog", "a [b]tree"}
    assert sum(entry["probability"] for entry in results[0]["labels"]) == pytest.approx(1, abs=1e-5)
    model, preprocessor = zoo.load(weights), zoo.create_preprocessor(weights)
    from zoo.clip import classify

    expected = classify(model, preprocessor, [results[-1]["image"]], ["a cat", "a dog", "a [b]tree"]).max()
    assert results[-1]["labels"][0]["probability"] == pytest.approx(float(expected), abs=1e-6)
    code, out, _ = zoo_says(*words, "--weights", weights, "--top", 2, "--template", "{}", "--template", "one {}")
    assert code == 0
    assert "a [b]tree" in out or "a cat" in out
    assert "%" in out


def test_classify_a_pattern(zoo_says, pictures, weights):
    words = ("classify", f"{pictures}/*/[0-3].png", "--labels", "x,y", "--weights", weights, "--json")
    assert len(json.loads(zoo_says(*words)[1])) == 8


def test_a_bad_file_in_a_folder_is_skipped_but_a_named_one_is_refused(zoo_says, refused, tmp_path, weights):
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("RGB", (9, 9)).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"nothing")
    code, out, err = zoo_says("classify", folder, "--labels", "x", "--weights", weights, "--json")
    assert code == 0
    assert len(json.loads(out)) == 1
    assert "bad.png" in err
    assert "bad.png" in refused("classify", folder / "bad.png", "--labels", "x", "--weights", weights)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--labels", ""], "--labels is empty"),
        (["--labels", " , ,"], "--labels is empty"),
        ([], "--labels"),
        (["--labels", "x", "--top", "0"], "at least one"),
        (["--labels", "x", "--top", "many"], "--top"),
        (["--labels", "x", "--template", "no place"], "no place"),
        (["--labels", "x", "--device", "toaster"], "toaster"),
        (["--labels", "x", "--weights", "missing-folder"], "missing-folder"),
        (["--labels", "x", "--colour"], "--colour"),
    ],
)
def test_classify_mistakes(refused, pictures, weights, words, match):
    if "--weights" not in words:
        words = [*words, "--weights", weights]
    assert match in refused("classify", pictures / "cat" / "0.png", *words)


@pytest.mark.parametrize("image", ["missing.png", "nothing/*.png"])
def test_classify_missing_images(refused, weights, image):
    assert image in refused("classify", image, "--labels", "x", "--weights", weights)


def test_classify_empty_folder(refused, tmp_path, weights):
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused("classify", tmp_path / "empty", "--labels", "x", "--weights", weights)


def test_no_weights_anywhere(refused, pictures):
    assert "zoo train clip" in refused("classify", pictures / "cat" / "0.png", "--labels", "x")


def test_newest_run_is_used_and_named(zoo_says, pictures, tmp_path):
    run = tmp_path / "runs" / "clip-debug" / "2026-01-01-000000"
    zoo.save_weights(zoo.create_model("clip-debug"), run / "weights")
    (run / "metrics.json").write_text('{"family": "clip"}')
    code, out, err = zoo_says("classify", pictures / "cat" / "0.png", "--labels", "x", "--json")
    assert code == 0
    assert json.loads(out)[0]["labels"][0] == {"label": "x", "probability": 1.0}
    assert "using" in err
    assert "2026-01-01-000000" in err


def test_weights_of_another_family(refused, pictures, weights, monkeypatch):
    import zoo.weights

    monkeypatch.setattr(zoo.weights, "load", lambda path: torch.nn.Linear(2, 2))
    line = refused("classify", pictures / "cat" / "0.png", "--labels", "x", "--weights", weights)
    assert "not CLIP" in line


# search


def test_search(zoo_says, pictures, weights, tmp_path):
    words = ("search", pictures, "a red thing", "--weights", weights, "--top", 3)
    code, out, err = zoo_says(*words, "--out", tmp_path / "hits.png")
    assert code == 0
    assert "20 files embedded" in out
    with Image.open(tmp_path / "hits.png") as sheet:
        assert sheet.width > 500
    code, out, err = zoo_says(*words)
    assert "0 of 20 files embedded now" in out
    hits = json.loads(zoo_says(*words, "--json")[1])
    assert len(hits) == 3
    assert hits[0]["score"] >= hits[1]["score"]
    assert not err.strip()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["missing", "x"], "no such folder"),
        (["EMPTY", "x"], "holds no images"),
        (["PICTURES", "  "], "query is empty"),
        (["PICTURES", "x", "--top", "0"], "at least one"),
        (["PICTURES", "x", "--out", "hits.txt"], "choose a name that ends in"),
        (["PICTURES", "x", "--out", "FILE/hits.png"], "FILE"),
        (["PICTURES"], "QUERY"),
    ],
)
def test_search_mistakes(refused, pictures, weights, tmp_path, words, match):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("")
    words = [str(pictures) if word == "PICTURES" else word for word in words]
    assert match in refused("search", *words, "--weights", weights)


# embed


def test_embed_images_and_texts(zoo_says, pictures, weights, tmp_path):
    from safetensors import safe_open

    code, out, _ = zoo_says("embed", "clip", "--images", pictures, "--out", "a/b.npz", "--weights", weights)
    assert code == 0
    assert "20 embeddings of size 16" in out
    with np.load(tmp_path / "a" / "b.npz") as stored:
        assert stored["embeddings"].shape == (20, 16)
        assert np.allclose(np.linalg.norm(stored["embeddings"], axis=1), 1, atol=1e-5)
        assert stored["names"][0].endswith("0.png")

    (tmp_path / "texts.txt").write_text("a cat\n\na dog\n")
    code, out, _ = zoo_says(
        "embed", "clip", "--texts", "texts.txt", "--out", "t.safetensors", "--weights", weights, "--json"
    )
    assert json.loads(out)["count"] == 2
    with safe_open("t.safetensors", "pt") as stored:
        assert json.loads(stored.metadata()["names"]) == ["a cat", "a dog"]
        from_file = stored.get_tensor("embeddings")
    zoo_says("embed", "clip", "--texts", "a cat", "a dog", "--out", "u.npz", "--weights", weights)
    with np.load("u.npz") as stored:
        assert np.array_equal(stored["embeddings"], from_file.numpy())


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--out", "x.npz"], "--images"),
        (["--texts", "a", "--images", "b", "--out", "x.npz"], "not allowed"),
        (["--texts", "a"], "--out"),
        (["--texts", "a", "--out", "x.csv"], ".npz"),
        (["--texts", " ", "--out", "x.npz"], "empty"),
        (["--texts", "blank.txt", "--out", "x.npz"], "holds no text"),
        (["--texts", "bytes.txt", "--out", "x.npz"], "cannot read"),
        (["--images", "missing.png", "--out", "x.npz"], "missing.png"),
        (["--texts", "a", "--out", "blank.txt/x.npz"], "blank.txt"),
    ],
)
def test_embed_mistakes(refused, weights, tmp_path, words, match):
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert match in refused("embed", "clip", *words, "--weights", weights)


# eval


def test_eval_all_on_a_folder(zoo_says, pictures, weights, tmp_path):
    words = ("eval", "clip", "--weights", weights, "--source", pictures, "--data.held_out", 0.4)
    code, out, _ = zoo_says(*words, "--json", "--out", tmp_path / "out")
    results = json.loads(out)
    assert code == 0
    assert list(results) == ["weights", "data", "zero-shot", "retrieval", "linear-probe", "corruption"]
    assert results["zero-shot"]["classes"] == 2
    assert results["zero-shot"]["images"] + results["linear-probe"]["train_images"] == 20
    assert results["corruption"]["cosine"]["blur"][0] == pytest.approx(1, abs=1e-5)
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == results
    assert (tmp_path / "out" / "corruption.png").stat().st_size > 10_000
    code, out, _ = zoo_says(*words, "--benchmark", "retrieval", "--limit", 5)
    assert "text to image r5" in out
    assert "linear-probe" not in out


def test_eval_without_labels(zoo_says, refused, weights, tmp_path):
    (tmp_path / "plain").mkdir()
    for number in range(8):
        Image.new("RGB", (40, 40), (number * 20, 0, 0)).save(tmp_path / "plain" / f"{number}.png")
        (tmp_path / "plain" / f"{number}.txt").write_text(f"red number {number}")
    words = ("eval", "clip", "--weights", weights, "--source", tmp_path / "plain", "--data.held_out=0.5")
    code, out, _ = zoo_says(*words, "--json")
    assert code == 0
    assert list(json.loads(out)) == ["weights", "data", "retrieval", "corruption"]
    code, _, err = zoo_says(*words, "--benchmark", "zero-shot")
    assert code == 2
    assert "has no labels" in err


def test_eval_splits_as_the_run_did(zoo_says, pictures, tmp_path):
    run = tmp_path / "runs" / "clip-debug" / "a"
    zoo.save_weights(zoo.create_model("clip-debug"), run / "weights")
    (run / "config.yaml").write_text(f"seed: 5\ndata: {{source: '{pictures}', held_out: 0.25}}\n")
    words = ("eval", "clip", "--weights", run / "weights", "--json", "--benchmark", "retrieval")
    from zoo.clip.data import ClipDataModule

    config = zoo.get_config("clip-debug")
    for extra, held_out in (((), 0.25), (("--data.held_out", 0.5), 0.5)):
        data = ClipDataModule(config=config, source=str(pictures), seed=5, held_out=held_out)
        result = json.loads(zoo_says(*words, *extra)[1])["retrieval"]
        assert result["images"] == len(data.held_out_source)
        assert result["text_to_image_r1"] <= 1


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--benchmark", "imagenet"], "zero-shot"),
        (["--data.sauce", "x"], "sauce"),
        (["--data.source"], "needs a value"),
        (["--data.config", "x"], "the weights decide"),
        (["--sauce", "x"], "--sauce"),
        (["--limit", "1"], "two samples"),
        (["--source", "missing-folder"], "missing-folder"),
    ],
)
def test_eval_mistakes(refused, weights, words, match):
    assert match in refused("eval", "clip", *words, "--weights", weights)
