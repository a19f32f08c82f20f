"""Measuring generated images: scores worked out by hand, the classifier and its cache, memorisation, ``zoo eval``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

import zoo
from zoo.dcgan.configs import DcganConfig
from zoo.dcgan.data import DcganDataModule
from zoo.dcgan.eval_command import data_settings, evaluate
from zoo.dcgan.evaluation import classifier as classifiers
from zoo.dcgan.evaluation import features as networks
from zoo.dcgan.evaluation.images import Labelled, read
from zoo.dcgan.evaluation.measure import Results, measure
from zoo.dcgan.evaluation.memorisation import memorisation, nearest
from zoo.dcgan.evaluation.pictures import draw
from zoo.dcgan.evaluation.scores import coverage, fid, inception_score, kid, precision_recall, squared_mmd
from zoo.dcgan.evaluation.table import figures_of, notes
from zoo.dcgan.pixels import to_bytes
from zoo.shared.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(classifiers, "_STEPS", 60)


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


# scores


def test_fid_of_numbers() -> None:
    # Means 1 and 3, variances 2 and 8: (1 - 3)^2 + (sqrt 2 - sqrt 8)^2.
    assert fid(column(0, 2), column(1, 5)) == pytest.approx(4 + 2)
    assert fid(column(0, 2), column(2, 0)) == pytest.approx(0, abs=1e-12)


def test_kernel_distance_of_numbers() -> None:
    # (ab + 1)^3 over one pair each way, and over all four pairs: x = 0, 1 and y = 1, 2.
    within = 2 * (0 * 1 + 1) ** 3 / 2 + 2 * (1 * 2 + 1) ** 3 / 2
    between = (1 + 1 + 2**3 + 3**3) / 4
    assert float(squared_mmd(column(0, 1), column(1, 2))) == pytest.approx(within - 2 * between)


def test_kernel_distance_is_near_zero_for_the_same_distribution_and_repeats() -> None:
    x, y = torch.randn(400, 3), torch.randn(300, 3)
    mean, deviation = kid(x, y, seed=1)
    assert abs(mean) < deviation
    assert kid(x, y, seed=1) == (mean, deviation)
    assert kid(x, y + 1)[0] > 10 * abs(mean)


def test_precision_and_recall_of_numbers() -> None:
    real, fake = column(0, 1, 2, 3), column(0.4, 9, 9.1, 20)
    # k = 1: each real ball reaches 1 far and covers [-1, 4], where one of four generated numbers is; the generated
    # ones' balls reach 8.6, 0.1, 0.1 and 10.9 far, and the first covers everything real.
    assert precision_recall(real, fake, k=1) == (0.25, 1.0)
    assert precision_recall(fake, real, k=1) == (1.0, 0.25)


def test_inception_score_of_sure_and_of_equal_images() -> None:
    assert inception_score(torch.eye(5).repeat(3, 1)) == pytest.approx(5)
    assert inception_score(torch.eye(5)[:1].repeat(7, 1)) == pytest.approx(1)
    assert inception_score(torch.full((4, 5), 0.2)) == pytest.approx(1)
    # Half of the images are surely class 0, half are one or the other: the mean is (3/4, 1/4).
    half = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    divergence = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert inception_score(half) == pytest.approx(math.exp(divergence))


def test_coverage_counts_what_is_sure() -> None:
    seen = coverage(torch.tensor([[0.95, 0.05, 0], [0.02, 0.05, 0.93], [0.94, 0.05, 0.01], [0.2, 0.85, 0.05]]))
    assert (seen.confident, seen.histogram, seen.seen) == (0.75, [2, 0, 1], 2)


@pytest.mark.parametrize("score", [fid, kid, precision_recall])
def test_too_few_or_broken_features_are_told(score: Any) -> None:
    good = torch.randn(20, 3)
    with pytest.raises(UserError, match="too few"):
        score(good, good[:1])
    with pytest.raises(UserError, match="NaN or infinity"):
        score(good, torch.full((20, 3), float("nan")))


# memorisation


def test_copies_are_found_and_new_images_are_not() -> None:
    draw_from = torch.Generator().manual_seed(0)
    train, held_out, new = (torch.randn(count, 16, generator=draw_from) for count in (500, 400, 400))
    base = nearest(held_out, train)
    copies = memorisation(nearest(train[:300], train), base)
    assert (copies.generated, copies.ratio, copies.near) == (0, 0, 1)
    honest = memorisation(nearest(new, train), base)
    assert honest.ratio == pytest.approx(1, abs=0.05)
    assert honest.near < 0.05
    half = memorisation(nearest(torch.cat([train[:100] + 1e-3, new[:100]]), train), base)
    assert half.near == pytest.approx(0.5, abs=0.03)


def test_neighbours_come_nearest_first() -> None:
    found = nearest(column(0.9, 3.2), column(0, 1, 3, 7), k=3)
    assert found.rows.tolist() == [[1, 0, 2], [2, 1, 0]]
    torch.testing.assert_close(found.distances, torch.tensor([[0.1, 0.9, 2.1], [0.2, 2.2, 3.2]]))


# the classifier


def bars(count: int, *, size: int = 16, channels: int = 1) -> Labelled:
    """Upright and level bars at random places."""
    rng, labels = np.random.default_rng(0), torch.arange(count) % 2
    images = torch.zeros(count, channels, size, size, dtype=torch.uint8)
    for image, label, place in zip(images, labels, rng.integers(2, size - 4, count), strict=True):
        image[:, place : place + 2] = 250
        if label:
            image.copy_(image.mT.clone())
    return Labelled(images, labels)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (96, 3)])
def test_it_learns_at_any_size(size: int, channels: int) -> None:
    data = bars(120, size=size, channels=channels)
    model = classifiers.trained_classifier(Labelled(data.images[:80], data.labels[:80]), classes=2, device=CPU)
    assert model.accuracy(Labelled(data.images[80:], data.labels[80:])) > 0.9
    features, logits = model(data.images[:3].float())
    assert (features.shape, logits.shape) == ((3, classifiers.FEATURES), (3, 2))


def test_it_is_kept_until_the_data_changes(tmp_path: Path) -> None:
    told: list[str] = []

    def get(data: Labelled) -> dict[str, Tensor]:
        return classifiers.trained_classifier(data, classes=2, device=CPU, progress=told.append).state_dict()

    data = bars(40)
    state = torch.get_rng_state()
    first, again = get(data), get(data)
    assert torch.equal(state, torch.get_rng_state())  # a run's own draws are left alone
    assert len(told) == 1
    assert all(torch.equal(first[name], again[name]) for name in first)
    kept = list((tmp_path / "cache").rglob("*.safetensors"))
    assert len(kept) == 1
    kept[0].write_bytes(b"half a file")
    repeated = get(data)
    assert len(told) == 2
    assert all(torch.equal(first[name], repeated[name]) for name in first)  # seeded
    other = get(Labelled(data.images, 1 - data.labels))
    assert len(told) == 3
    assert not torch.equal(first["head.bias"], other["head.bias"])


def test_augmented_images_stay_in_range_and_move_little() -> None:
    images = bars(8).images.float().div(127.5).sub(1)
    moved = classifiers.augment(images, torch.Generator().manual_seed(0))
    assert moved.min() >= -1
    assert moved.max() <= 1
    assert 0 < (moved - images).abs().mean() < 0.5
    assert not torch.equal(moved, classifiers.augment(images, torch.Generator().manual_seed(1)))


# feature networks


class Stub(nn.Module):
    """Stands for torchmetrics' Inception: says what it was given."""

    def __init__(self, name: str, wanted: list[str]) -> None:
        super().__init__()
        assert (name, wanted) == ("inception-v3-compat", ["2048", "logits_unbiased"])

    def _torch_fidelity_forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        return x.float().mean((2, 3)), torch.zeros(len(x), 1008)


def pick(choice: networks.Choice, **settings: Any) -> networks.FeatureNetwork:
    return networks.pick_network(
        choice, **{"classifier": None, "data": "toys", "channels": 1, "device": CPU, **settings}
    )


def test_inception_takes_grey_images_as_colour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(networks, "inception_package", lambda: True)
    monkeypatch.setattr(networks, "inception_weights", lambda: tmp_path / "weights.pth")
    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Stub)
    assert "random" in pick("auto").name  # the weights are not there
    (tmp_path / "weights.pth").touch()
    assert "random" in pick("quick").name
    network = pick("auto")
    assert "Inception" in network.name
    seen = networks.look(network, torch.full((300, 1, 8, 8), 9, dtype=torch.uint8))
    assert torch.equal(seen.features, torch.full((300, 3), 9.0))
    assert seen.probabilities is not None
    assert seen.probabilities.shape == (300, 1008)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "inception_package", lambda: False)
    with pytest.raises(UserError, match="pip install torch-fidelity"):
        pick("inception")

    def broken(*_: object) -> None:
        raise OSError("no network\nwhatever")

    monkeypatch.setattr(networks, "inception_package", lambda: True)
    monkeypatch.setattr(networks, "inception_weights", lambda: Path("there"))
    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", broken)
    with pytest.raises(UserError, match=r"cannot be loaded \(no network\); put .* there"):
        pick("inception")
    with pytest.raises(UserError, match="toys has no labels"):
        pick("classifier")
    with pytest.raises(UserError, match="auto, quick"):
        pick("vgg")


def test_names_tell_networks_apart() -> None:
    torch.manual_seed(1)
    one, two = (classifiers.Classifier(channels=1, size=8, classes=2).eval() for _ in range(2))
    names = {pick("classifier", classifier=each).name for each in (one, two, one)}
    assert len(names) == 2
    assert all(name.startswith("classifier trained on toys (") for name in names)
    assert pick("random").name == pick("random").name != pick("random", channels=3).name


# all together


@pytest.fixture(scope="module")
def data() -> DcganDataModule:
    module = DcganDataModule(config=zoo.get_config("dcgan-debug"), source="shapes")
    module.setup("fit")
    return module


class Copier(nn.Module):
    """A generator that knows its training images by heart."""

    def __init__(self, images: Tensor, config: DcganConfig) -> None:
        super().__init__()
        self.config = config
        self.images = nn.Parameter(images.float() / 127.5 - 1)

    def sample(self, count: int, *, seed: int = 0) -> Tensor:
        return self.images[:count].detach()


def test_an_untrained_generator_is_far_off_and_the_held_out_images_are_near(data: DcganDataModule) -> None:
    results = measure(zoo.create_model("dcgan-debug"), data, samples=60, seed=3, features="quick")
    real = results.real
    assert real is not None
    assert results.memorisation is not None
    assert results.generated.fid > 10 * real.fid
    assert results.generated.kid > real.kid
    assert real.recall > 0.8 > 0.1 > results.generated.recall
    assert (results.generated.images, real.images, results.train_images) == (60, 40, 152)
    assert results.memorisation["pixels"].near == 0
    assert results.network == results.classifier
    assert results.accuracy is not None
    assert json.loads(json.dumps(results.as_dict()))["generated"]["coverage"]["histogram"]
    again = measure(zoo.create_model("dcgan-debug"), data, samples=60, seed=3, features="quick")
    assert again.network == results.network


def test_a_generator_that_copies_is_found_out(data: DcganDataModule) -> None:
    train = read(data.train_items, limit=100)
    model: Any = Copier(train.images, data.config)
    results = measure(model, data, samples=50, features="random")
    assert results.memorisation is not None
    assert all(space.near == 1 and space.ratio < 1e-3 for space in results.memorisation.values())
    assert results.generated.precision == 1
    assert "random" in results.network
    assert results.generated.coverage is not None  # the classifier counts, even where another network compares


def folder_of_noise(folder: Path, count: int = 30) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_images_without_labels_and_without_held_out_ones(tmp_path: Path) -> None:
    source = str(folder_of_noise(tmp_path / "noise"))
    module = DcganDataModule(config=zoo.get_config("dcgan-debug"), source=source, held_out=0.0)
    module.setup("fit")
    results = measure(zoo.create_model("dcgan-debug"), module, samples=20, features="quick")
    assert results.real is results.memorisation is results.classifier is results.accuracy is None
    assert results.generated.coverage is results.generated.inception_score is None
    assert "random" in results.network
    assert [path.name for path in draw(results, tmp_path / "out")] == ["memorisation.png"]


def test_statistics_of_the_batch_do_not_leak_into_the_figures(data: DcganDataModule) -> None:
    model = zoo.create_model("dcgan-debug", batch_norm="batch")
    results: Results = measure(model, data, samples=20, features="random")
    alone = model.generator(model.draw(20, seed=0)[:1])[0].detach()
    torch.testing.assert_close(results.kept.generated[0], to_bytes(alone), rtol=0, atol=1)  # one shade of 256
    assert not model.generator.norms[0].training


def test_broken_weights_are_told(data: DcganDataModule) -> None:
    model = zoo.create_model("dcgan-debug")
    torch.nn.init.constant_(model.generator.layers[-1].weight, float("nan"))
    with pytest.raises(UserError, match="weights are broken"):
        measure(model, data, samples=20, features="random")


def test_a_row_says_what_real_images_get_and_by_which_network(data: DcganDataModule) -> None:
    results = measure(zoo.create_model("dcgan-debug"), data, samples=60, features="quick")
    assert results.real is not None
    figures = {figure.key: figure for figure in figures_of(results)}
    assert {"confident", "classes_seen", "fid", "kid", "precision", "recall", "near_pixels"} < set(figures)
    assert figures["fid"].value == results.generated.fid
    assert f"real images: {results.real.fid:.4g}; by {results.network}" in figures["fid"].name
    assert figures["confident"].percent
    told = notes(results)
    assert f"{results.accuracy:.1%}" in told[1]
    assert "FID falls with more images" in told[2]  # 60 generated beside 40 real ones


# the command


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, as training leaves it."""
    folder = tmp_path / "run"
    zoo.save_weights(zoo.create_model("dcgan-debug"), folder / "weights")
    settings = {"seed": 4, "data": {"source": "shapes", "held_out": 0.3, "batch_size": 12, "workers": 2, "flip": 0.5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_the_command_measures_a_run_on_its_own_split(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--weights", str(run / "weights"), "--samples", "40", "--device", "cpu", "--features", "quick"]
    assert evaluate([*words, "--out", str(out), "--json"]) == 0
    given = json.loads(capsys.readouterr().out)
    assert given == json.loads((out / "figures.json").read_text())
    assert given["real"]["images"] == round(0.3 * 48) * 4  # of 48 shapes of each of four classes
    assert {path.name for path in out.iterdir()} == {"figures.json", "memorisation.png", "classes.png"}
    assert given["pictures"] == [str(out / "memorisation.png"), str(out / "classes.png")]
    assert evaluate(words) == 0
    shown = capsys.readouterr().out
    assert given["network"] in shown
    assert "not comparable" in shown
    assert f"{given['generated']['fid']:.4g}" in shown
    assert "generated (40)" in shown
    assert "held out (56)" in shown


def test_the_run_settles_the_data_unless_other_data_is_named(run: Path) -> None:
    config = zoo.get_config("dcgan-debug")
    weights = str(run / "weights")
    assert data_settings(weights, config, source=None, root=None, seed=9) == {
        "source": "shapes",
        "seed": 4,
        "held_out": 0.3,
    }
    assert data_settings(weights, config, source="emoji", root="there", seed=9) == {
        "source": "emoji",
        "seed": 4,
        "held_out": 0.3,
        "root": "there",
    }
    (run / "config.yaml").unlink()
    with pytest.raises(UserError, match="--source"):
        data_settings(weights, config, source=None, root=None, seed=None)
    digits = data_settings(weights, zoo.get_config("dcgan-nano"), source=None, root=None, seed=9)
    assert digits == {"source": "mnist", "seed": 9}


def test_wrong_words_are_told(run: Path, tmp_path: Path) -> None:
    weights = str(run / "weights")
    with pytest.raises(UserError, match="--samples 7: at least 8"):
        evaluate(["--weights", weights, "--samples", "7"])
    with pytest.raises(UserError, match="invalid choice: 'vgg'"):
        evaluate(["--weights", weights, "--features", "vgg"])
    zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "clip")
    with pytest.raises(UserError, match="holds a CLIP, not DCGAN"):
        evaluate(["--weights", str(tmp_path / "clip")])
    few = str(folder_of_noise(tmp_path / "few", 6))
    with pytest.raises(UserError, match="too few to measure"):
        evaluate(["--weights", weights, "--source", few, "--device", "cpu"])
