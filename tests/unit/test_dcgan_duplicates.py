"""Near-duplicates by semantic hashing: planted copies of real digits, plain implementations, numbers by hand."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from zoo.dcgan import data_commands
from zoo.dcgan.configs import VARIANTS
from zoo.dcgan.data import DcganDataModule
from zoo.dcgan.data_commands import dedupe
from zoo.dcgan.hash_groups import bits_apart, first_alike, idle_bits
from zoo.dcgan.near_duplicates import Autoencoder, hashes, pixels_apart, read_small, standardised, train
from zoo.shared.data.digits import ArraySource, mnist_5k
from zoo.shared.data.shapes import ShapeSource
from zoo.shared.errors import UserError


def quiet(what, done, total):
    pass


def small_of(source, path, workers=0):
    return read_small(source, path / "small.npy", max_bad_fraction=0.01, workers=workers, progress=quiet)


# groups of bits


def greedy(bits, distance):
    """Every image against all that are kept, one after the other."""
    kept, leaders = [], []
    for i, row in enumerate(bits):
        near = [k for k in kept if int((bits[k] != row).sum()) <= distance]
        leaders.append(near[0] if near else i)
        kept += [] if near else [i]
    return leaders


@pytest.mark.parametrize("count", [12, 128])
@pytest.mark.parametrize("distance", [0, 1, 2, 5])
def test_groups_are_those_of_comparing_everything(count, distance):
    rng = np.random.default_rng(distance)
    bits = rng.random((150, count)) < 0.4
    copies = bits[rng.integers(0, 150, 250)].copy()
    for row in copies:
        row[rng.integers(0, count, rng.integers(0, 5))] ^= True
    bits = np.concatenate([bits, copies])[rng.permutation(400)]
    found = first_alike(np.packbits(bits, axis=1), distance=distance, progress=quiet)
    assert found.tolist() == greedy(bits, distance)
    assert 10 < (found != np.arange(400)).sum() < 400


def test_likeness_is_not_handed_on():
    """0 and 1 are alike, 1 and 2 are alike, 0 and 2 are not: 2 stays, as 1 is gone."""
    codes = np.packbits(np.array([[0] * 16, [1, 1] + [0] * 14, [1, 1, 1, 1] + [0] * 12]), axis=1)
    leaders = first_alike(codes, distance=2, progress=quiet)
    assert leaders.tolist() == [0, 0, 2]
    assert bits_apart(codes, leaders).tolist() == [0, 2, 0]
    assert bits_apart(codes, np.array([0, 0, 0])).tolist() == [0, 2, 4]


def test_idle_bits():
    codes = np.packbits(np.array([[1, 0, 1, 0, 0, 1, 1, 1, 1, 0], [1, 0, 0, 1, 0, 1, 1, 1, 0, 0]]), axis=1)
    assert idle_bits(codes, 10) == 7  # of ten: all but the third, the fourth and the ninth


def test_pixels_apart():
    small = np.full((3, 3072), 100, dtype=np.uint8)
    small[1, :1536] = 90  # half of the pixels by 10: the root of 50
    small[2] += 3
    assert pixels_apart(small, np.array([0, 0, 2])) == pytest.approx([0, 50**0.5, 0])
    assert pixels_apart(small, np.array([0, 0, 0])) == pytest.approx([0, 50**0.5, 3])


# the autoencoder


def test_the_papers_sizes():
    model = Autoencoder(torch.zeros(3072))
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert shapes == [(128, 3072), (128,), (3072, 128), (3072,)]
    images = torch.randn(5, 3072)
    assert model.code(images).shape == (5, 128)
    assert model.code(images).min() == 0
    assert not torch.equal(model(images), model(images))  # noise and dropout
    model.eval()
    assert torch.equal(model(images), model(images))


def test_brightness_and_contrast_do_not_count():
    image = np.random.default_rng(0).integers(0, 100, 3072).astype(np.uint8)
    first, second, flat = standardised(np.stack([image, 2 * image + 20, np.full(3072, 7, np.uint8)]))
    assert torch.allclose(first, second, atol=1e-5)
    assert first.mean().item() == pytest.approx(0, abs=1e-6)
    assert first.std(correction=0).item() == pytest.approx(1)
    assert flat.abs().max() < 1e-5


def test_learning_is_repeatable_and_leaves_the_random_state_alone(tmp_path):
    small, _, _ = small_of(ShapeSource(size=32), tmp_path)
    before = torch.get_rng_state()
    models = [train(small, bits=24, epochs=3, seed=seed, device="cpu", progress=quiet) for seed in (5, 5, 6)]
    assert torch.equal(before, torch.get_rng_state())
    a, b, c = (hashes(model, small, device="cpu", progress=quiet) for model, _ in models)
    assert a.shape == (192, 3)
    assert (a == b).all()
    assert (a != c).any()
    assert models[0][1]["batches"] == 6  # 192 images are two batches
    bits = models[0][0].code(standardised(small)) > 0
    assert np.array_equal(np.unpackbits(a, axis=1).astype(bool), bits.numpy())


def test_images_are_centre_crops_in_a_mapped_file(tmp_path):
    wide = np.zeros((2, 64, 128), dtype=np.uint8)
    wide[:, :, 32:96] = 200  # the middle square
    wide[1, :, 32:64] = 100
    small, numbers, bad = small_of(ArraySource("wide", wide, np.zeros(2, np.int64), ("one",)), tmp_path)
    assert isinstance(small, np.memmap)
    assert small.dtype == np.uint8
    assert numbers.tolist() == [0, 1]
    assert bad == {}
    assert (small[0].reshape(3, 32, 32)[:, 4:28, 4:28] == 200).all()  # the edges blur with what was cut off
    assert (small[1].reshape(3, 32, 32)[:, :, 4:12] == 100).all()


def test_worker_processes_read_the_same(tmp_path):
    here, there = (small_of(ShapeSource(size=48), tmp_path, workers=workers)[0].copy() for workers in (0, 2))
    assert (here == there).all()


# planted copies


def again(image, kind, rng):
    """A near-duplicate of a grey image."""
    if kind == "jpeg":
        data = io.BytesIO()
        image.save(data, "JPEG", quality=90)
        return Image.open(data)
    if kind == "resized":
        return image.resize((42, 42), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).astype(float)
    if kind == "darker":
        pixels = 0.85 * pixels
    elif kind == "noisy":
        pixels = pixels + rng.normal(0, 2, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


KINDS = ("same", "jpeg", "noisy", "darker", "resized")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """500 digits, and copies of the first 150 of them, 30 of each kind, after them."""
    folder, digits, rng = tmp_path_factory.mktemp("planted"), mnist_5k(), np.random.default_rng(0)
    chosen = rng.permutation(5000)[:500]
    for place, number in enumerate(chosen):
        digits.image(int(number)).save(folder / f"a{place:03}.png")
    for place in range(150):
        kind = KINDS[place % 5]
        again(digits.image(int(chosen[place])), kind, rng).save(folder / f"b{place:03}_{kind}.png")
    return folder


@pytest.mark.parametrize(
    ("distance", "recall"),
    [
        (0, {"same": 1, "jpeg": 0.45, "noisy": 0.45, "darker": 0.3, "resized": 0.25}),
        (2, {"same": 1, "jpeg": 0.9, "noisy": 0.9, "darker": 0.9, "resized": 0.75}),
    ],
)
def test_planted_copies_are_found(planted, tmp_path, capsys, distance, recall):
    out = tmp_path / "out"
    assert dedupe([str(planted), "--out", str(out), "--distance", str(distance), "--epochs", "80", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    kept = (out / "kept.txt").read_text().splitlines()
    assert len(kept) + len(dropped) == report["looked_at"] == 650
    assert {pair["image"] for pair in dropped}.isdisjoint(kept)
    assert {pair["duplicate_of"] for pair in dropped} <= set(kept)
    assert all(pair["bits_apart"] <= distance for pair in dropped)

    right = [pair for pair in dropped if pair["image"][0] == "b" and pair["image"][1:4] == pair["duplicate_of"][1:4]]
    assert len(dropped) - len(right) <= 0.01 * len(dropped)  # the paper: fewer than 1 in 100
    for kind, least in recall.items():
        assert sum(pair["image"].endswith(f"_{kind}.png") for pair in right) / 30 >= least, kind

    # Not ours: the nearest original in pixels is the one that each copy is said to be of.
    names = sorted(path.name for path in planted.glob("a*"))
    enlarge = [np.asarray(Image.open(planted / name).resize((32, 32))).ravel() for name in names]
    search = NearestNeighbors(n_neighbors=1).fit(enlarge)
    for pair in dropped:
        pixels = np.asarray(Image.open(planted / pair["image"]).resize((32, 32))).ravel()
        assert names[search.kneighbors([pixels])[1][0, 0]] == pair["duplicate_of"]
    with Image.open(out / "doubtful.png") as sheet:
        # Rows of five pairs of 64 pixels with 2 between, 28 of text above and 14 of white below; 12 rows at most.
        rows = min(12, -(-len(dropped) // 5))
        assert sheet.size == (10 * 66 + 2, rows * (68 + 28 + 14) - 14)
    assert not (out / "small.npy").exists()


# the command


@pytest.fixture
def folder(tmp_path):
    """Ten images in two classes; 1 is a copy of 0, and so is one in the other class."""
    rng = np.random.default_rng(0)
    for place in range(10):
        path = tmp_path / "in" / ("cat" if place < 5 else "dog") / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    for copy in ("cat/1.png", "dog/9.png"):
        (tmp_path / "in" / copy).write_bytes((tmp_path / "in/cat/0.png").read_bytes())
    return tmp_path / "in"


def test_a_clean_folder_to_train_on(folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    assert dedupe([str(folder), "--out", str(out), "--copy", "--epochs", "2"]) == 0
    said = capsys.readouterr().out
    assert "kept 8 of 10 images; 2 (20.0 %)" in said
    assert f"--data.source {out / 'images'}" in said
    files = sorted(path.relative_to(out / "images").as_posix() for path in (out / "images").rglob("*.png"))
    assert files == sorted((out / "kept.txt").read_text().splitlines())
    assert files == [f"cat/{n}.png" for n in (0, 2, 3, 4)] + [f"dog/{n}.png" for n in (5, 6, 7, 8)]
    assert (out / "images/cat/0.png").stat().st_ino == (folder / "cat/0.png").stat().st_ino  # a link takes no room
    assert [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()] == [
        {"image": f"{name}.png", "duplicate_of": "cat/0.png", "bits_apart": 0, "pixels_apart": 0.0}
        for name in ("cat/1", "dog/9")
    ]
    data = DcganDataModule(config=VARIANTS["dcgan-debug"], source=str(out / "images"), held_out=0.0)
    data.setup("fit")
    assert len(data.train_items) == 8
    assert data.images.classes == ("cat", "dog")


def test_files_are_copied_where_links_cannot_be(folder, tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    out = tmp_path / "out"
    dedupe([str(folder), "--out", str(out), "--copy", "--epochs", "1"])
    assert (out / "images/cat/0.png").read_bytes() == (folder / "cat/0.png").read_bytes()
    assert json.loads((out / "report.json").read_text())["copied"] == 8


def test_other_sources_become_files_by_class(tmp_path, capsys):
    out = tmp_path / "out"
    dedupe(["shapes", "--out", str(out), "--copy", "--epochs", "3", "--json"])
    report = json.loads(capsys.readouterr().out)
    data = DcganDataModule(config=VARIANTS["dcgan-debug"], source=str(out / "images"), held_out=0.0)
    data.setup("fit")
    assert len(data.train_items) == report["kept"]
    assert data.images.classes == ("a bar", "a circle", "a square", "a triangle")


def test_what_cannot_be_read_is_named_and_counted(folder, tmp_path, capsys):
    (folder / "cat/broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    dedupe([str(folder), "--out", str(out), "--epochs", "1"])
    assert (
        "left out: 1 that cannot be read\n  cat/broken.png: not an image that Pillow knows\n" in capsys.readouterr().out
    )
    report = json.loads((out / "report.json").read_text())
    assert report["unreadable"] == {"cat/broken.png": "not an image that Pillow knows"}
    assert report["looked_at"] == 10


def test_images_of_one_colour_are_one(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for place in range(5):
        Image.new("RGB", (50, 40), "black").save(tmp_path / "in" / f"{place}.png")
    dedupe([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--epochs", "1"])
    said = capsys.readouterr().out
    assert "kept 1 of 5 images" in said
    assert "128 of 128 bits are the same in all images" in said


def test_nothing_is_left_when_it_fails(folder, tmp_path, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.dcgan.duplicate_files.draw_sheets", fail)
    with pytest.raises(KeyboardInterrupt):
        dedupe([str(folder), "--out", str(tmp_path / "out"), "--epochs", "1"])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere", "--out", "new"], "there are no images at 'nowhere'"),
        (["in", "--out", "full"], "--out full is not empty"),
        (["in", "--out", "full/file"], "--out full/file is a file"),
        (["in", "--out", "in/cat/new"], "lies in the folder that is read"),
        (["in/alone", "--out", "new"], "in/alone holds a single image"),
        (["in", "--out", "new", "--bits", "7"], "--bits 7: fewer than 8"),
        (["in", "--out", "new", "--distance", "-1"], "--distance -1: choose from 0 to less than --bits 128"),
        (["in", "--out", "new", "--distance", "128"], "--distance 128: choose"),
        (["in", "--out", "new", "--epochs", "0"], "--epochs 0: at least one"),
        (["in", "--out", "new", "--workers", "-1"], "--workers -1: choose 0 or more"),
        (["in", "--out", "new", "--max-bad-fraction", "2"], "--max-bad-fraction 2: choose from 0 to 1"),
        (["broken", "--out", "new"], "only 1 of 5 images can be read: 0.png not an image"),
        (["broken", "--out", "new", "--max-bad-fraction", "0"], "1 of the first 1 images cannot be read"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    (folder / "alone").mkdir()
    (folder / "alone/0.png").write_bytes((folder / "cat/0.png").read_bytes())
    (tmp_path / "broken").mkdir()
    for place in range(4):
        (tmp_path / f"broken/{place}.png").write_bytes(b"no image")
    (tmp_path / "broken/4.png").write_bytes((folder / "cat/0.png").read_bytes())
    with pytest.raises(UserError) as caught:
        dedupe(words)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_too_small(folder, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(data_commands.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(UserError, match=r"10 reduced images take 0.0 GB"):
        dedupe([str(folder), "--out", str(tmp_path / "out")])
