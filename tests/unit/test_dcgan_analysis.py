"""What the paper does with a trained DCGAN, against numbers by hand and plain implementations."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.svm import LinearSVC
from torch import nn

from zoo.dcgan.analysis.arithmetic import NOISE, arithmetic, draw_arithmetic, turn, turn_vector
from zoo.dcgan.analysis.exemplars import Exemplars, Term, parse_expression
from zoo.dcgan.analysis.guided import compare_features, guided_gradients, last_responses, strongest_features
from zoo.dcgan.analysis.probing import (
    KINDS,
    PENALTIES,
    Split,
    discriminator_features,
    draw_curve,
    measure,
    probe,
    rotated,
    scaled,
)
from zoo.dcgan.analysis.walks import line, save_walk, sharpness, walk
from zoo.dcgan.analysis.windows import drop_maps, fit, inside, maps_of, positions, read_boxes, region, second_highest
from zoo.dcgan.configs import VARIANTS, DcganConfig
from zoo.dcgan.data import DcganDataModule
from zoo.dcgan.model import DCGAN, SLOPE
from zoo.dcgan.sampling import fixed_discriminator, images_of, read_latents, ready
from zoo.shared.errors import UserError

DEBUG = VARIANTS["dcgan-debug"]


@pytest.fixture
def model():
    return ready(DCGAN(DEBUG))


class Copy(nn.Module):
    """Stands for a model whose image is its latent vector of four numbers, so that results can be worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def generator(self, z, drop=None):
        return z.view(-1, 1, 2, 2)


# sampling


def test_an_image_does_not_depend_on_the_images_beside_it():
    torch.manual_seed(0)
    model = DCGAN(dataclasses.replace(DEBUG, batch_norm="batch")).eval()
    z = model.draw(8, seed=3)
    with torch.no_grad():
        assert not torch.allclose(model.generator(z)[:2], model.generator(z[:2]), atol=1e-3)  # the paper's way
    ready(model)
    torch.testing.assert_close(images_of(model, z)[:2], images_of(model, z[:2]))
    torch.testing.assert_close(images_of(model, z, batch=3), images_of(model, z))


def test_ready_leaves_running_averages_alone():
    model = DCGAN(DEBUG)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ready(model)
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_discriminators_statistics_are_those_of_the_images_and_the_model_stays(model):
    images = torch.randn(300, *DEBUG.image_shape)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = fixed_discriminator(model, images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        maps = model.discriminator.layers[1](F.leaky_relu(model.discriminator.layers[0](images[:256]), 0.2))
    expected = maps.view(2, 128, *maps.shape[1:]).mean((1, 3, 4)).mean(0)  # two whole batches; the rest is left out
    torch.testing.assert_close(network.norms[1].running_mean, expected)
    assert not network.training


def test_latent_vectors_from_files(tmp_path):
    z = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "z.npy", z)
    (tmp_path / "z.json").write_text(json.dumps(z.tolist()))
    (tmp_path / "one.json").write_text("[1, 2, 3]")
    for name in ("z.npy", "z.json"):
        assert torch.equal(read_latents(tmp_path / name, latent=3), torch.from_numpy(z).float())
    assert torch.equal(read_latents(tmp_path / "one.json", latent=3), torch.tensor([[1.0, 2, 3]]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("z.json", "[[1, 2], [3, 4]]", r"has shape \(2, 2\); the model's latent vectors are \(N, 3\)"),
        ("z.json", "[]", r"has shape \(0,\)"),
        ("z.json", '[["a", 2, 3]]', "holds no numbers"),
        ("z.json", "[[1, 2], [3]]", "holds no numbers"),
        ("z.json", '{"a": 1}', "holds no numbers"),
        ("z.json", "[[NaN, 2, 3]]", "NaN"),
        ("z.json", "[[", "as JSON"),
        ("z.npy", "hello", "holds no numbers"),
        ("missing.npy", None, "No such file"),
    ],
)
def test_files_that_hold_no_latent_vectors(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        read_latents(tmp_path / name, latent=3)


# walks


def test_a_walk_goes_straight_from_point_to_point_and_back():
    points = torch.tensor([[0.0, 0], [4, 0], [4, 8]])
    expected = [[[0, 0], [1, 0], [2, 0], [3, 0]], [[4, 0], [4, 2], [4, 4], [4, 6]], [[4, 8], [3, 6], [2, 4], [1, 2]]]
    assert torch.equal(line(points, 4), torch.tensor(expected).float())


def test_sharpness_by_hand():
    steps = torch.tensor([0.0, 1, 3]).view(3, 1, 1, 1)  # distances 1, 2 and, back to the start, 3
    assert sharpness(steps) == pytest.approx(1.5)
    assert sharpness(torch.ones(4, 1, 2, 2)) == 0
    jump = torch.tensor([0.0] * 10 + [1.0] * 10).view(20, 1, 1, 1)
    assert sharpness(jump) == pytest.approx(10)  # twice 1, else nothing: the mean is 0.1


def test_walk_writes_a_strip_and_an_endless_loop(model, tmp_path):
    found = walk(model, model.draw(3, seed=0), steps=4)
    assert found.frames.shape == (3, 4, *DEBUG.image_shape)
    torch.testing.assert_close(found.frames[:, 0], model.sample(3, seed=0))
    strip, loop = save_walk(found, tmp_path / "walk.png")
    with Image.open(strip) as picture:
        width, height = picture.size
    assert width > height  # four steps a row, three rows
    with Image.open(loop) as picture:
        assert picture.n_frames == 12
        assert picture.info["loop"] == 0
    with pytest.raises(UserError, match="at least 2 points"):
        walk(model, model.draw(1, seed=0))


# arithmetic


def test_expressions():
    assert parse_expression("7 - 1 + 0") == [(1, "7"), (-1, "1"), (1, "0")]
    assert parse_expression(" 12,40,7 -  3,9 ") == [(1, "12,40,7"), (-1, "3,9")]
    assert parse_expression("- t-shirt + ankle boot") == [(-1, "t-shirt"), (1, "ankle boot")]
    for wrong in ("", "7 -", "7 - + 1", "+"):
        with pytest.raises(UserError, match="lacks a term"):
            parse_expression(wrong)


def test_exemplars_by_number_and_by_class():
    table = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.95, 0.05]])
    picker = Exemplars(4, lambda: (table, ("cat", "Dog")))
    assert picker.pick("2,0", exemplars=3) == ("2,0", (2, 0))
    assert picker.pick("3,", exemplars=3) == ("3", (3,))
    assert picker.pick("cat", exemplars=2) == ("cat", (3, 0))
    assert picker.pick("dog", exemplars=1) == picker.pick("1", exemplars=1) == ("Dog", (1,))
    for word, said in (
        ("4,1", "no sample 4"),
        ("-1,", "no sample -1"),
        ("a,b", "no list"),
        ("dug", "did you mean dog"),
    ):
        with pytest.raises(UserError, match=said):
            picker.pick(word, exemplars=1)
    with pytest.raises(UserError, match="raise --among"):
        picker.pick("cat", exemplars=5)


def test_the_classifier_is_asked_only_for_classes_and_once():
    asked = []
    picker = Exemplars(3, lambda: (asked.append(1), (torch.eye(3), ("a", "b", "c")))[1])
    picker.terms("0,1 - 2,", exemplars=1)
    assert asked == []
    assert [term.samples for term in picker.terms("a - c + b", exemplars=1)] == [(0,), (2,), (1,)]
    assert asked == [1]


def test_arithmetic_by_hand():
    z = torch.tensor([[0.0, 0, 0, 0], [0.4, 0, 0, 0.2], [0.2, 0.2, 0, 0], [0, 0, 0.8, 0], [0, 0, 0.4, -0.8]])
    terms = [Term(sign=1, name="a", samples=(0, 1)), Term(sign=-1, name="b", samples=(2,)),
             Term(sign=1, name="c", samples=(3, 4))]  # fmt: skip
    found = arithmetic(Copy(), z, terms)
    expected = torch.tensor([[0.0, -0.2], [0.6, -0.3]])  # (0.2, 0, 0, 0.1) - (0.2, 0.2, 0, 0) + (0, 0, 0.6, -0.4)
    torch.testing.assert_close(found.results[4, 0], expected)
    torch.testing.assert_close(found.pixels[0], expected)  # where images are latent vectors, both ways are one
    torch.testing.assert_close(found.means[0, 0], torch.tensor([[0.2, 0], [0, 0.1]]))
    noise = (found.results[:, 0] - expected).abs()
    assert noise[4].max() == 0
    others = torch.cat([noise[:4], noise[5:]])
    assert others.min() > 0
    assert 0.8 * NOISE < others.max() <= NOISE
    far = arithmetic(Copy(), 3 * z, terms)
    assert far.pixels.max() == 1  # clipped to what can be shown
    assert draw_arithmetic(found, terms).width > draw_arithmetic(found, terms).height / 2


def test_turning_by_hand():
    z = torch.tensor([[0.0, 0, 0, 0], [2, 0, 0, 0], [0, 4, 0, 0], [0, 4, 0, 2]])
    vector = turn_vector(z, [0, 1], [2, 3])
    assert vector.tolist() == [-1, 4, 0, 1]
    rows = turn(Copy(), z[:2], vector, steps=3)
    assert rows.shape == (2, 3, 1, 2, 2)
    assert torch.equal(rows[:, 1].flatten(1), z[:2])
    assert torch.equal(rows[1, 0].flatten(), z[1] - vector)
    assert torch.equal(rows[1, 2].flatten(), z[1] + vector)


# guided backpropagation


def hooked(discriminator, images, features):
    """The same by another way: layers of a plain net whose rectifiers have hooks on the backward pass."""
    layers = []
    for number, (layer, norm) in enumerate(zip(discriminator.layers, discriminator.norms, strict=True)):
        layers += [nn.LeakyReLU(SLOPE), layer, norm] if number else [layer, norm]
    net, inputs = nn.Sequential(*layers), {}

    def keep(module, args, out):
        inputs[module] = args[0]

    def shut(module, gradient_in, gradient_out):
        return (torch.where(inputs[module] > 0, gradient_out[0].clamp_min(0), torch.zeros(())),)

    for module in net:
        if isinstance(module, nn.LeakyReLU):
            module.register_forward_hook(keep)
            module.register_full_backward_hook(shut)
    found = []
    for image, feature in zip(images, features, strict=True):
        x = image[None].clone().requires_grad_(True)
        net(x)[0, feature].max().backward()
        found.append(x.grad[0])
    return torch.stack(found)


@pytest.mark.parametrize("layout", ["torch", "paper", "imagenet"])
def test_guided_gradients_are_those_of_hooks(layout):
    torch.manual_seed(1)
    model = DCGAN(DcganConfig(image_size=32, width=6, layout=layout))
    images = torch.rand(5, 3, 32, 32) * 2 - 1
    network = fixed_discriminator(model, images)
    features = torch.tensor([0, 3, 1, 3, 5])
    mine = guided_gradients(network, images, features)
    theirs = hooked(network, images, features)
    torch.testing.assert_close(mine, theirs)
    assert mine.abs().max() > 1e-3
    x = images.requires_grad_(True)
    plain = torch.zeros(())
    for row, feature in enumerate(features.tolist()):
        out = network.activations(x[row : row + 1])[-1][0, feature].max()
        plain = plain + torch.where(out > 0, out, out / SLOPE)
    assert (torch.autograd.grad(plain, x)[0] - mine).abs().max() > 1e-3  # an ordinary gradient is something else


def test_responses_are_the_discriminators_own(model):
    images = torch.rand(4, *DEBUG.image_shape)
    torch.testing.assert_close(
        F.leaky_relu(last_responses(model.discriminator, images), SLOPE), model.discriminator.activations(images)[-1]
    )


def test_the_strongest_images_come_first(model):
    images = torch.rand(20, *DEBUG.image_shape) * 2 - 1
    found = strongest_features(model.discriminator, images, features=3, examples=2, batch=7)
    with torch.no_grad():
        best = last_responses(model.discriminator, images).amax((2, 3))
    for feature in range(3):
        order = best[:, feature].argsort(descending=True)[:2]
        assert torch.equal(found.images[feature], images[order])
        torch.testing.assert_close(found.responses[feature], best[order, feature])
    assert found.gradients.shape == (3, 2, *DEBUG.image_shape)
    both = compare_features(model, images, features=2, examples=3, seed=1)
    assert not torch.equal(both[0].responses, both[1].responses)
    with pytest.raises(UserError, match="has 8"):
        strongest_features(model.discriminator, images, features=9)
    with pytest.raises(UserError, match="21 examples of 20"):
        strongest_features(model.discriminator, images, examples=21)


# dropping maps


def test_cells_inside_boxes_by_hand():
    # Cells of a 4x4 map of an 8x8 image have their middles at 1, 3, 5 and 7.
    found = inside([(0, 0, 3.5, 2)], 4, 8)
    assert found.astype(int).tolist() == [[1, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]
    assert inside(region("bottom", 2, 8)[1], 4, 8).sum(1).tolist() == [0, 0, 4, 4]
    assert inside(region("middle", 1, 8)[0], 4, 8).astype(int).tolist() == [
        [0] * 4,
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0] * 4,
    ]


def test_the_papers_layer():
    for name, channels in (("dcgan-64", 256), ("dcgan-nano", 32)):
        with torch.device("meta"):
            generator = DCGAN(VARIANTS[name]).generator
        assert generator.layers[second_highest(generator)].in_channels == channels


def test_the_fit_finds_the_map_that_marks_the_boxes():
    draw = torch.Generator().manual_seed(0)
    maps = torch.rand(30, 5, 4, 4, generator=draw)
    boxes = [[(0.0, 0.0, 4.0, 8.0)]] * 30  # the left half
    maps[:, 2, :, :2] += 1  # more there
    maps[:, 4, :, :2] -= 1  # less there
    features, labels, groups = positions(maps, boxes, 8, seed=0)
    assert features.shape == (30 * 16, 5)
    assert labels.mean() == 0.5
    assert np.array_equal(np.bincount(groups), np.full(30, 16))
    weights, accuracy = fit(features, labels, groups)
    assert weights.argmax() == 2
    assert weights.argmin() == 4
    assert accuracy > 0.95
    noise, _ = fit(np.random.default_rng(0).normal(size=(480, 5)), labels, groups)
    assert np.abs(noise).max() < np.abs(weights).max() / 5
    assert fit(features[:16], labels[:16], groups[:16])[1] is None
    for boxes in ([[(0, 0, 8, 8)]], [[(0, 0, 0.5, 0.5)]]):
        with pytest.raises(UserError, match="hold no position"):
            positions(maps[:1], boxes, 8, seed=0)


def test_planted_maps_are_dropped(model):
    z = model.draw(40, seed=0)
    z[:, 0] = 1
    with torch.no_grad():
        weight = model.generator.project.weight
        weight[0, :, :2] = -5  # every map is dark above but the first, which is bright there and nowhere else
        weight[0, :, 2:] = 5
        weight[0, 0] *= -1
    torch.testing.assert_close(maps_of(model, z, 0)[:, 0, :2], torch.full((40, 2, 4), 5.0), atol=0.5, rtol=0)
    found = drop_maps(model, z, region("top", 40, 16), layer=0)
    assert (found.maps, found.of, found.accuracy) == (1, 8, 1.0)
    keep = torch.ones(8)
    keep[0] = 0
    with torch.no_grad():
        torch.testing.assert_close(found.after, model.generator(z, {0: keep}))
        torch.testing.assert_close(found.before, model.generator(z))
    assert found.inside[0] > 3 * found.outside[0]
    with pytest.raises(UserError, match="no layer 2"):
        drop_maps(model, z, region("top", 40, 16), layer=2)


def test_boxes_from_a_file(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(
        '[{"index": 3, "box": [0, 1, 4, 5]}, {"index": 3, "box": [8, 8, 16, 16]}, {"index": 0, "box": [0, 0, 1, 1]}]'
    )
    assert read_boxes(path, count=4, side=16) == {3: [(0, 1, 4, 5), (8, 8, 16, 16)], 0: [(0, 0, 1, 1)]}
    for text, said in (
        ("{}", "must be a list"),
        ("[]", "must be a list"),
        ('[{"index": 3}]', "is none"),
        ('[{"index": 3, "box": [1, 2, 3]}]', "is none"),
        ("[7]", "is none"),
        ('[{"index": 4, "box": [0, 0, 1, 1]}]', "no sample 4"),
        ('[{"index": 0, "box": [0, 0, 17, 1]}]', "not inside"),
        ('[{"index": 0, "box": [3, 0, 2, 1]}]', "not inside"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            read_boxes(path, count=4, side=16)


# probing


def test_features_have_the_papers_size_and_are_maxima_of_blocks():
    model = DCGAN(VARIANTS["dcgan-32"]).eval()
    images = torch.rand(2, 3, 32, 32)
    found = discriminator_features(model.discriminator, images)
    assert found.shape == (2, 28_672)
    with torch.no_grad():
        first = model.discriminator.activations(images)[0].numpy()  # 32x32: blocks of 8x8
    blocks = first.reshape(2, 128, 4, 8, 4, 8).max((3, 5)).reshape(2, -1)
    assert np.array_equal(found[:, : 128 * 16].numpy(), blocks)


def test_scaling_is_by_one_number():
    train = torch.randn(500, 6) * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 7
    first, second = scaled(train, train[:3])
    assert np.square(first).sum(1).mean() == pytest.approx(1, rel=1e-4)
    assert np.allclose(first[:3], second)
    assert first.std(0)[5] / first.std(0)[0] == pytest.approx(6, rel=0.2)  # proportions stay


def test_the_rotation_changes_no_decision():
    draw = np.random.default_rng(0)
    x, test, y = draw.normal(size=(40, 300)), draw.normal(size=(200, 300)), np.arange(40) % 4
    x += 0.3 * np.eye(4, 300)[y] * 10
    inputs, checked = rotated(x, test)
    assert inputs.shape == (40, 40)
    plain, mine = (LinearSVC(C=0.5, dual=True, tol=1e-8, max_iter=100_000).fit(a, y) for a in (x, inputs))
    assert np.allclose(plain.decision_function(test), mine.decision_function(checked), atol=1e-4)
    few = rotated(x[:, :10], test[:, :10])
    assert few[0] is not None
    assert few[0].shape == (40, 10)


def test_labels_are_drawn_evenly_and_apart_from_the_validation_images():
    labels = np.repeat(np.arange(5), 40)
    split = Split.of(labels, seed=0)
    assert len(split.validation) == 50
    assert not set(split.pool) & set(split.validation)
    drawn = split.draw(20, seed=1)
    assert np.array_equal(np.bincount(labels[drawn]), [4] * 5)
    assert len(set(drawn)) == 20
    assert set(drawn) <= set(split.pool)
    assert not np.array_equal(drawn, split.draw(20, seed=2))
    for count in (0, 7, 155):
        with pytest.raises(UserError, match="multiple of the 5 classes, at most 150"):
            split.draw(count, seed=0)


def test_measure_is_the_plain_procedure():
    draw = np.random.default_rng(0)
    labels = np.arange(240) % 3
    train = draw.normal(size=(240, 50)) / 7 + 0.2 * np.eye(3, 50)[labels]
    answers = np.arange(90) % 3
    test = draw.normal(size=(90, 50)) / 7 + 0.2 * np.eye(3, 50)[answers]
    split = Split.of(labels, seed=0)
    drawn = [split.draw(12, seed=number) for number in range(4)]
    scores, penalty = measure(train, test, answers, split, drawn)

    def accuracy(rows, c, x, y):
        return LinearSVC(C=c, dual=True, random_state=0).fit(train[rows], labels[rows]).score(x, y)

    tuned = [
        np.mean([accuracy(rows, c, train[split.validation], labels[split.validation]) for rows in drawn[:3]])
        for c in PENALTIES
    ]
    assert penalty == PENALTIES[int(np.argmax(tuned))]
    assert scores == pytest.approx([accuracy(rows, penalty, test, answers) for rows in drawn], abs=0.012)


@pytest.fixture(scope="module")
def digits():
    config = DcganConfig(image_size=16, channels=1, width=4, latent=8, layout="torch", batch_norm="running")
    data = DcganDataModule(config=config, source="digits", enlarge=True)
    data.setup("fit")
    return data


def test_probe_on_small_digits(digits, tmp_path):
    torch.manual_seed(1)  # not the seed of the untrained network
    model = DCGAN(digits.config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = probe(model, digits, labels=(20, 100), draws=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert result["features"] == {"discriminator": 16 * (4 + 8), "untrained": 16 * (4 + 8), "pixels": 256}
    assert result["labels"] == [20, 100]
    for kind in KINDS:
        few, many = result["accuracy"][kind]
        assert 0.3 < few < many < 1
        assert all(value > 0 for value in result["std"][kind])
    assert result["accuracy"]["discriminator"] != result["accuracy"]["untrained"]
    assert result["accuracy"]["pixels"][1] > 0.8  # these digits are easy
    with Image.open(draw_curve(result, tmp_path / "curve.png")) as picture:
        assert picture.width > 300
    assert probe(model, digits, labels=(20,), draws=1)["std"]["pixels"] == [0.0]


def test_probes_that_cannot_be(digits):
    model = DCGAN(digits.config)
    with pytest.raises(UserError, match="multiple of the 10 classes"):
        probe(model, digits, labels=(15,))
    with pytest.raises(UserError, match="at least one draw"):
        probe(model, digits, draws=0)
    with pytest.raises(UserError, match="nothing is held out"):
        probe(model, SimpleNamespace(held_out_items=None))
    unlabelled = SimpleNamespace(tensor=lambda: (torch.zeros(4, *digits.config.image_shape), torch.full((4,), -1)))
    with pytest.raises(UserError, match="no labels of at least two classes"):
        probe(model, SimpleNamespace(held_out_items=unlabelled, train_items=unlabelled, source="folder"))
