"""``zoo sample dcgan``: what it writes, and one clear line for every mistake."""

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
    folder = tmp_path_factory.mktemp("run") / "weights"
    zoo.save_weights(zoo.create_model("dcgan-debug", channels=1), folder)
    return str(folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def brightness(monkeypatch):
    """Stands for the classifier, whose training takes long: class 0 is the darkest sample, class 9 the brightest."""

    def classify(images):
        mean = images.mean((1, 2, 3))
        return None, -100 * (mean[:, None] - torch.linspace(-1, 1, 10)).abs()

    monkeypatch.setattr("zoo.dcgan.evaluation.classifier.trained_classifier", lambda *args, **kwargs: classify)


@pytest.fixture
def sampled(capsys, weights):
    """Run a command; returns what it says as JSON."""

    def run(*words: object):
        code = main(["sample", "dcgan", *map(str, words), "--weights", weights, "--device", "cpu", "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)

    return run


@pytest.fixture
def refused(capsys, weights):
    """Run a command that must fail; returns its one line."""

    def run(*words: object):
        code = main(["sample", "dcgan", *map(str, words), "--weights", weights, "--device", "cpu"])
        said = capsys.readouterr()
        lines = said.err.strip().splitlines()
        assert (code, said.out) == (2, "")
        assert len(lines) == 1, said.err
        assert lines[0].startswith("zoo: ")
        return lines[0]

    return run


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_grid(sampled, tmp_path, weights, capsys):
    assert sampled()["written"] == ["samples.png"]
    assert size("samples.png") == (8 * 50 + 2, 8 * 50 + 2)  # 64 images of 3 x 16 pixels, 2 between them
    sampled("grid", "--count", 6, "--out", "six.webp")
    assert size("six.webp") == (3 * 50 + 2, 2 * 50 + 2)
    main(["sample", "dcgan", "--weights", weights, "--out", "again.png"])
    assert capsys.readouterr().out == "wrote again.png\n"
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "samples.png").read_bytes()
    sampled("--seed", 1, "--out", "other.png")
    assert (tmp_path / "other.png").read_bytes() != (tmp_path / "samples.png").read_bytes()


@pytest.mark.parametrize("words", [("--each", "--out", "folder"), ("--out", "folder")])
def test_single_images(sampled, tmp_path, weights, words):
    assert sampled("--count", 3, *words)["images"] == 3
    files = sorted((tmp_path / "folder").iterdir())
    assert [file.name for file in files] == ["0000.png", "0001.png", "0002.png"]
    model = zoo.load(weights)
    expected = ((model.sample(3)[2, 0] + 1) * 127.5).round()
    with Image.open(files[2]) as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), expected.byte().numpy())


def test_latent_vectors_of_ones_own(sampled, tmp_path, weights):
    model = zoo.load(weights)
    np.save("z.npy", model.draw(5, seed=0).numpy())
    assert sampled("--z", "z.npy", "--out", "own")["images"] == 5
    sampled("--count", 5, "--out", "drawn")
    for number in range(5):
        own, drawn = (tmp_path / name / f"000{number}.png" for name in ("own", "drawn"))
        assert own.read_bytes() == drawn.read_bytes()


def test_walk(sampled):
    said = sampled("walk", "--points", 3, "--steps", 4, "--out", "deep/walk.png")
    assert said["written"] == ["deep/walk.png", "deep/walk.gif"]
    assert said["sharpness"] >= 1
    assert size("deep/walk.png") == (4 * 50 + 2, 3 * 50 + 2)


def test_arithmetic(sampled, brightness):
    words = ("7", "-", "one", "+", "0")
    said = sampled("arithmetic", *words, "--source", "digits", "--among", 50)
    assert [(term["sign"], term["name"]) for term in said["terms"]] == [(1, "seven"), (-1, "one"), (1, "zero")]
    assert all(len(set(term["samples"])) == 3 for term in said["terms"])
    assert size("arithmetic.png")[0] > 300
    numbered = sampled("arithmetic", "4,9 - 3, + 1,2,3", "--out", "numbered.png")  # asks for no data
    assert [term["samples"] for term in numbered["terms"]] == [[4, 9], [3], [1, 2, 3]]


def test_the_surest_samples_stand_for_a_class(sampled, brightness, weights):
    said = sampled(
        "turn", "zero", "9", "--source", "digits", "--among", 40, "--exemplars", 2, "--count", 3, "--steps", 5
    )
    mean = zoo.load(weights).sample(40).mean((1, 2, 3))
    logits = -100 * (mean[:, None] - torch.linspace(-1, 1, 10)).abs()
    assert said["start"]["samples"] == logits.softmax(1)[:, 0].topk(2).indices.tolist()
    assert size("turn.png") == (5 * 50 + 2, 3 * 50 + 2)


def test_features(sampled):
    said = sampled("features", "--source", "digits", "--count", 2, "--examples", 3)
    assert [len(row) for row in said["responses"]["trained"]] == [3, 3]
    assert size("features.png")[0] > 600


def test_drop(sampled):
    said = sampled("drop", "--boxes", "top", "--count", 30)
    assert 0 <= said["maps"] <= said["of"] == 4
    assert 0 <= said["accuracy"] <= 1
    with open("boxes.json", "w") as file:
        json.dump([{"index": 2, "box": [0, 0, 9, 9]}], file)
    assert sampled("drop", "--boxes", "boxes.json", "--layer", 0, "--out", "b.png")["of"] == 8
    assert size("b.png") == size("drop.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--count", 0), "'0' is no number from 1 to 100,000"),
        (("--count", "many"), "'many' is no number"),
        (("--count", 10**9), "no number from 1 to"),
        (("wlak",), "did you mean walk?"),
        (("paint",), "there are grid, walk"),
        (("--out", "a.mp4"), "ends in .png"),
        (("--each", "--out", "a.png"), "single images go into a folder"),
        (("walk", "--out", "."), "ends in .png"),
        (("walk", "--points", 1), "at least 2 points"),
        (("--z", "none.npy"), "cannot read none.npy"),
        (("--z", "wrong.json"), "wrong.json has shape (2, 3); the model's latent vectors are (N, 8)"),
        (("arithmetic", "7", "-"), "lacks a term"),
        (("arithmetic", "7 - 1 + 0"), "does not say what it was trained on"),
        (("arithmetic", "7 - 1", "--source", "shapes", "--among", 2), "3 exemplars are more than the 2 samples"),
        (("arithmetic", "7,8 - 1000,"), "no sample 1000; they are numbered from 0 to 999"),
        (("turn", "ate", "1", "--source", "digits"), "no class 'ate'"),
        (("features",), "name it, such as --source mnist"),
        (("features", "--source", "nowhere"), "no images at 'nowhere'"),
        (("features", "--source", "digits", "--count", 9), "the last convolution has 8"),
        (("drop",), "--boxes"),
        (("drop", "--boxes", "inside"), "no such file; give a JSON file, or one of top"),
        (("drop", "--boxes", "top", "--layer", 7), "no layer 7"),
    ],
)
def test_mistakes(refused, brightness, tmp_path, words, said):
    (tmp_path / "wrong.json").write_text("[[1, 2, 3], [4, 5, 6]]")
    assert said in refused(*words)
    assert not list(tmp_path.glob("*.png"))


def test_without_weights(capsys, tmp_path):
    assert main(["sample", "dcgan"]) == 2
    assert "dcgan" in capsys.readouterr().err
    assert main(["sample", "dcgan", "--weights", str(tmp_path / "none")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "none" in lines[0]


def test_weights_of_another_family(capsys, tmp_path):
    zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "other")
    assert main(["sample", "dcgan", "--weights", str(tmp_path / "other")]) == 2
    assert "not DCGAN; choose other --weights" in capsys.readouterr().err
