"""What one does with a trained CLIP: zero-shot classifiers, retrieval, folders, probes, corruption."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import zoo
from zoo.clip.corruption import CORRUPTIONS, corruption_curve, draw_corruption
from zoo.clip.probing import linear_probe, probe_features
from zoo.clip.retrieval import Hit, embed_folder, retrieval_recall, search, weights_key
from zoo.clip.sheet import contact_sheet
from zoo.clip.zero_shot import (
    classify,
    embed_images,
    embed_texts,
    imagenet_names,
    imagenet_templates,
    top_k_accuracy,
    zero_shot_accuracy,
    zero_shot_classifier,
)
from zoo.shared.errors import UserError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return zoo.create_model("clip-debug")


@pytest.fixture(scope="module")
def preprocessor():
    return zoo.create_preprocessor("clip-debug")


def picture(seed: int, size: tuple[int, int] = (40, 36)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))


# zero-shot


def test_ensembling_equals_a_naive_loop(model, preprocessor):
    names, templates = ["cat", "a {brace}", "tree"], ["a photo of a {}.", "{}", "two {} and {}"]
    columns = []
    for name in names:
        vectors = []
        for template in templates:
            with torch.no_grad():
                vector = model.eval().encode_text(preprocessor.text(template.replace("{}", name)))[0]
            vectors.append(vector / vector.norm())
        mean = torch.stack(vectors).mean(dim=0)
        columns.append(mean / mean.norm())
    for batch_size in (1, 4, 256):
        weights = zero_shot_classifier(model, preprocessor, names, templates, batch_size=batch_size)
        torch.testing.assert_close(weights, torch.stack(columns, dim=1), atol=1e-6, rtol=0)
    by_tokenizer = zero_shot_classifier(model, preprocessor.tokenizer, names, templates)
    assert by_tokenizer.equal(weights)


def test_classify(model, preprocessor):
    images = [picture(i) for i in range(5)]
    probabilities = classify(model, preprocessor, images, ["cat", "dog", "tree"], batch_size=2)
    logits, _ = model(
        preprocessor.images(images), preprocessor.text([f"a photo of a {x}." for x in ("cat", "dog", "tree")])
    )
    torch.testing.assert_close(probabilities, logits.detach().softmax(dim=-1), atol=1e-5, rtol=0)


def test_mode_is_put_back(model, preprocessor):
    for training in (True, False):
        model.train(training)
        embed_texts(model, preprocessor, ["x"])
        assert model.training is training


@pytest.mark.parametrize(
    ("names", "templates", "match"),
    [
        ([], ["{}"], "labels are empty"),
        ([" "], ["{}"], "labels are empty"),
        (["a"], [], "templates"),
        (["a"], ["x"], "no {}"),
    ],
)
def test_classifier_of_nothing(model, preprocessor, names, templates, match):
    with pytest.raises(UserError, match=match):
        zero_shot_classifier(model, preprocessor, names, templates)


def test_accuracy_counts():
    scores = torch.tensor([[3.0, 2, 1], [3.0, 2, 1], [3.0, 2, 1], [1.0, 1, 1]])
    labels = torch.tensor([0, 1, 2, 0])
    assert top_k_accuracy(scores, labels, ks=(1, 2, 3)) == {"top1": 0.5, "top2": 0.75, "top3": 1.0}
    assert top_k_accuracy(torch.zeros(4, 4), torch.arange(4), ks=(1,)) == {"top1": 0.25}  # chance


def test_accuracy_of_loader_equals_whole(model, preprocessor):
    x, y = preprocessor.images([picture(i) for i in range(6)]), torch.arange(6) % 3
    names = ["cat", "dog", "tree"]
    whole = zero_shot_accuracy(model, preprocessor, (x, y), names, ks=(1, 2))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    assert zero_shot_accuracy(model, preprocessor, loader, names, ks=(1, 2)) == whole


def test_imagenet():
    names, templates = imagenet_names(), imagenet_templates()
    assert (len(names), names[0], names[-1]) == (1000, "tench", "toilet paper")
    assert len(templates) == 80
    assert all(template.count("{}") == 1 for template in templates)


# retrieval


def test_recall_on_known_matrices():
    eye = torch.eye(12)
    assert set(retrieval_recall(eye, eye).values()) == {1.0}
    shifted = retrieval_recall(eye, eye.roll(1, 0))
    assert shifted["image_to_text_r1"] == 0.0
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.2, 1.0]])
    # Text 1 belongs to image 1 but is nearer to image 0.
    recall = retrieval_recall(images, texts, image_of_text=torch.tensor([0, 1, 1]), ks=(1, 2))
    assert recall == pytest.approx(
        {"image_to_text_r1": 1.0, "image_to_text_r2": 1.0, "text_to_image_r1": 2 / 3, "text_to_image_r2": 1.0}
    )


def test_recall_equals_a_naive_loop_and_chunks_equal_the_whole():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(40, 8, generator=generator), torch.randn(90, 8, generator=generator)
    owner = torch.randint(0, 35, (90,), generator=generator)  # images 35 to 39 have no text
    scores = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    expected = {}
    for k in (1, 5, 10):
        hits = [
            any(owner[j] == i for j in scores[i].argsort(descending=True)[:k].tolist())
            for i in range(40)
            if (owner == i).any()
        ]
        expected[f"image_to_text_r{k}"] = sum(hits) / len(hits)
        found = [owner[j] in scores[:, j].argsort(descending=True)[:k] for j in range(90)]
        expected[f"text_to_image_r{k}"] = sum(found) / 90
    for chunk in (None, 1, 7, 1000):
        assert retrieval_recall(images, texts, image_of_text=owner, chunk=chunk) == pytest.approx(expected)


def test_collapsed_embeddings_recall_nothing():
    ones = torch.ones(20, 4)
    assert set(retrieval_recall(ones, ones, ks=(1, 5)).values()) == {0.0}


def test_recall_of_misfits():
    with pytest.raises(UserError, match="say which belong together"):
        retrieval_recall(torch.eye(3), torch.eye(3)[:2])
    with pytest.raises(UserError, match="outside"):
        retrieval_recall(torch.eye(3), torch.eye(3), image_of_text=torch.tensor([0, 1, 3]))


# folders


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    (place / "sub").mkdir(parents=True)
    for name, seed in (("a.png", 0), ("b.jpg", 1), ("sub/c.webp", 2)):
        picture(seed).save(place / name)
    (place / "bad.png").write_bytes(b"no picture")
    (place / "note.txt").write_text("no picture either")
    return place


def test_only_what_changed_is_embedded_again(model, preprocessor, folder, tmp_path):
    def index():
        return embed_folder(model, preprocessor, folder, cache=tmp_path / "cache", batch_size=2)

    first = index()
    assert [path.name for path in first.paths] == ["a.png", "b.jpg", "c.webp"]
    assert list(first.skipped) == [folder / "bad.png"]
    assert first.embedded == 4
    expected = embed_images(model, preprocessor, first.paths)
    torch.testing.assert_close(first.embeddings, expected, atol=1e-6, rtol=0)

    second = index()
    assert second.embedded == 0
    assert second.embeddings.equal(first.embeddings)
    assert list(second.skipped) == [folder / "bad.png"]

    picture(9).save(folder / "a.png")
    os.utime(folder / "a.png", ns=(0, 1))
    picture(3).save(folder / "new.png")
    (folder / "b.jpg").unlink()
    third = index()
    assert third.embedded == 2
    assert [path.name for path in third.paths] == ["a.png", "new.png", "c.webp"]
    assert not third.embeddings[0].equal(first.embeddings[0])
    assert third.embeddings[2].equal(first.embeddings[2])

    for store in (tmp_path / "cache").iterdir():
        store.write_bytes(b"damaged")
    assert index().embedded == 4


def test_other_weights_are_another_index(model, preprocessor, folder, tmp_path):
    key = weights_key(model, preprocessor)
    torch.manual_seed(1)
    other = zoo.create_model("clip-debug")
    assert weights_key(other, preprocessor) != key == weights_key(model, preprocessor)
    for built in (model, other):
        assert embed_folder(built, preprocessor, folder, cache=tmp_path / "cache").embedded == 4


def test_what_is_done_is_kept_when_interrupted(model, preprocessor, folder, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_folder(model, preprocessor, folder, cache=tmp_path / "cache", batch_size=2, progress=stop)
    assert embed_folder(model, preprocessor, folder, cache=tmp_path / "cache").embedded == 2


def test_search_and_sheet(model, preprocessor, folder, tmp_path):
    index = embed_folder(model, preprocessor, folder, cache=tmp_path / "cache")
    hits = search(model, preprocessor, index, "a red bicycle", top=10)
    assert len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    expected = classify(model, preprocessor, [hits[0].path], ["x"], ["{}"])
    assert expected.item() == 1.0
    hits.append(Hit(path=folder / "gone.png", score=-0.5))
    for name in ("sheet.png", "sheet.jpg", "deep/er/sheet.webp"):
        contact_sheet(hits, tmp_path / name, title="a red bicycle " * 20, subtitle="日本 кошка")
        with Image.open(tmp_path / name) as drawn:
            assert drawn.width > 700
    with pytest.raises(UserError, match="query is empty"):
        search(model, preprocessor, index, " ")
    with pytest.raises(UserError, match="choose a name"):
        contact_sheet(hits, tmp_path / "sheet.txt", title="x")


def test_folder_without_images(model, preprocessor, tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        embed_folder(model, preprocessor, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        embed_folder(model, preprocessor, tmp_path / "missing")


# probes


def blobs(count: int, seed: int, *, spread: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    centres = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 3
    noise = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return centres[labels] + spread * noise, labels


def test_probe_finds_a_separable_problem():
    result = linear_probe(blobs(90, 1), blobs(30, 2), blobs(60, 3))
    assert result.accuracy == 1.0
    cs = [c for c, _ in result.sweep]
    assert cs == sorted(cs)
    assert (cs[0], cs[-1]) == pytest.approx((1e-6, 1e6))
    assert result.best_c in cs


def test_probe_sweeps_to_an_eighth_of_a_decade():
    result = linear_probe(blobs(60, 1, spread=2.0), blobs(60, 2, spread=2.0), blobs(60, 3, spread=2.0))
    exponents = np.log10([c for c, _ in result.sweep])
    assert np.diff(exponents).min() == pytest.approx(1 / 8)
    assert result.validation_accuracy == max(accuracy for _, accuracy in result.sweep)


def test_probe_refuses_what_it_cannot_use():
    x, y = blobs(9, 1)
    with pytest.raises(UserError, match="two classes"):
        linear_probe((x, y * 0), (x, y), (x, y))
    with pytest.raises(UserError, match="NaN"):
        linear_probe((x / 0, y), (x, y), (x, y))
    with pytest.raises(UserError, match="validation"):
        linear_probe((x, y), (x[:0], y[:0]), (x, y))


def test_probe_reads_the_state_before_the_projection(model, preprocessor):
    x = preprocessor.images([picture(i) for i in range(3)])
    features = probe_features(model, preprocessor, x)
    assert features.shape == (3, model.config.vision_width)
    torch.testing.assert_close(
        F.normalize(features @ model.vision.projection.detach(), dim=-1), embed_images(model, preprocessor, x)
    )


# corruption


def test_corruption_keeps_size_and_grows():
    image = Image.new("RGB", (48, 32), "white")
    image.paste("navy", (10, 8, 30, 24))
    for name, corrupt in CORRUPTIONS.items():
        errors = []
        for strength in (0.2, 0.6, 1.0):
            damaged = corrupt(image, strength, 7)
            assert (damaged.size, damaged.mode) == (image.size, "RGB")
            assert np.array_equal(damaged, corrupt(image, strength, 7)), name
            errors.append(np.abs(np.asarray(damaged, float) - np.asarray(image, float)).mean())
        assert errors == sorted(errors), name
        assert errors[0] > 0, name


def test_corruption_curve_and_picture(model, preprocessor, tmp_path):
    images = [picture(i) for i in range(3)]
    classifier = zero_shot_classifier(model, preprocessor, ["cat", "dog"])
    curve = corruption_curve(
        model, preprocessor, images, labels=torch.tensor([0, 1, 0]), classifier=classifier, strengths=(0, 0.5, 1)
    )
    assert curve.count == 3
    for kind in CORRUPTIONS:
        assert curve.cosine[kind][0] == pytest.approx(1.0, abs=1e-5)
        assert curve.cosine[kind][1] < 1.0
        assert len(curve.accuracy[kind]) == 3
    draw_corruption(curve, tmp_path / "with.png", example=images[0])
    plain = corruption_curve(model, preprocessor, images, strengths=(0, 1))
    assert plain.accuracy is None
    draw_corruption(plain, tmp_path / "without.png")
    with Image.open(tmp_path / "with.png") as first, Image.open(tmp_path / "without.png") as second:
        assert first.height > second.height
    with pytest.raises(UserError, match="both labels and a classifier"):
        corruption_curve(model, preprocessor, images, labels=torch.tensor([0, 1, 0]))
