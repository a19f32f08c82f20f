"""CLIP's image preprocessing against open_clip's and transformers'."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.clip.configs import VARIANTS
from zoo.clip.preprocessing import MEAN, STD, ClipPreprocessor, resize_and_crop
from zoo.shared.errors import UserError

SIZES = [(1, 1), (3, 7), (32, 32), (31, 33), (33, 32), (50, 201), (640, 33), (100, 64), (32, 64), (4, 200)]
MODES = ["RGB", "L", "P", "RGBA", "LA", "PA", "1", "CMYK", "I;16", "I", "F", "YCbCr", "HSV", "LAB", "RGBX"]
SIDE = 32


@pytest.fixture(scope="module")
def reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # open_clip's imports, timm among them, warn of their own deprecations
        from open_clip.transform import image_transform
    return image_transform(SIDE, is_train=False)


@pytest.fixture
def preprocessor():
    return ClipPreprocessor(image_size=SIDE)


def picture(mode: str, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(0)
    width, height = size
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (height, width)).astype(np.uint16))
    if mode == "I":
        return Image.fromarray(rng.integers(0, 300, (height, width)).astype(np.int32))
    if mode == "F":
        return Image.fromarray(rng.uniform(0, 255, (height, width)).astype(np.float32))
    colour = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    if mode in ("P", "PA"):
        return colour.quantize(64).convert(mode)
    if mode in ("1", "HSV"):
        return colour.convert(mode)
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, size, rng.integers(0, 256, width * height * bands).astype(np.uint8).tobytes())


@pytest.mark.parametrize("mode", MODES)
def test_equals_open_clip(reference, preprocessor, mode):
    for size in SIZES:
        image = picture(mode, size)
        assert image.mode == mode
        ours = preprocessor.image(image)
        assert ours.shape == (3, SIDE, SIDE)
        assert ours.dtype == torch.float32
        assert torch.equal(ours, reference(image)), size


def test_real_size(reference):
    from open_clip.transform import image_transform

    for size in ((500, 375), (224, 224), (257, 1000)):
        image = picture("RGB", size)
        assert torch.equal(ClipPreprocessor(image_size=224).image(image), image_transform(224, is_train=False)(image))


def test_file_equals_image(tmp_path, preprocessor):
    for mode in ("RGB", "L"):
        picture(mode, (50, 41)).save(tmp_path / "x.png")
        assert torch.equal(preprocessor.image(tmp_path / "x.png"), preprocessor.image(picture(mode, (50, 41))))


def test_file_is_turned_upright_but_an_image_is_not(tmp_path, preprocessor, reference):
    image = Image.new("RGB", (40, 40), "white")
    image.paste("black", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    assert torch.equal(preprocessor.image(path), preprocessor.image(image.rotate(180)))
    with Image.open(path) as opened:
        assert torch.equal(preprocessor.image(opened), reference(opened))


def test_16_bit_file_keeps_its_greys(tmp_path, preprocessor):
    Image.fromarray(np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)).save(tmp_path / "deep.png")
    assert float(preprocessor.image(tmp_path / "deep.png").std()) > 0.5


def test_bad_files(tmp_path, preprocessor):
    with pytest.raises(UserError, match="missing"):
        preprocessor.image(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="text"):
        preprocessor.image(str(tmp_path / "text.png"))
    picture("RGB", (200, 200)).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="half"):
        preprocessor.image(tmp_path / "half.jpg")
    with pytest.raises(UserError, match="PIL image or a path"):
        preprocessor.image(np.zeros((3, 3)))
    with pytest.raises(UserError, match="nothing to see"):
        preprocessor.image(Image.new("RGB", (0, 5)))


def test_extreme_shape_is_cheap():
    strip = Image.new("L", (100_000, 1))
    strip.paste(255, (50_000, 0, 100_000, 1))
    square = np.asarray(resize_and_crop(strip, 32))
    assert square.shape == (32, 32)
    assert square[0, 0] < 20  # black ends and white begins in the middle, as it does in the strip
    assert square[0, -1] > 235


def test_batches_and_texts(preprocessor):
    images = [picture("RGB", (40, 50)), picture("L", (64, 32))]
    assert preprocessor.images(images).shape == (2, 3, SIDE, SIDE)
    assert preprocessor.images([]).shape == (0, 3, SIDE, SIDE)
    assert preprocessor.text("a cat").shape == (1, 77)
    assert torch.equal(pickle.loads(pickle.dumps(preprocessor)).image(images[0]), preprocessor.image(images[0]))


def test_save_and_load(tmp_path):
    config = VARIANTS["clip-debug"]
    made = ClipPreprocessor(image_size=32, policy="error", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    made.save(tmp_path)
    loaded = ClipPreprocessor.load(tmp_path, config)
    assert (loaded.mean, loaded.std, loaded.image_size) == (made.mean, made.std, 32)
    assert (loaded.tokenizer.policy, loaded.tokenizer.context) == ("error", 77)
    assert ClipPreprocessor.load(None, config).mean == MEAN


def test_load_of_open_clip_settings(tmp_path):
    settings = {"preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.4, 0.4, 0.4]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    assert ClipPreprocessor.load(tmp_path, VARIANTS["clip-debug"]).std == (0.4, 0.4, 0.4)
    (tmp_path / "preprocessor_config.json").write_text('{"image_std": [0, 1, 1]}')
    with pytest.raises(UserError, match="std must be positive"):
        ClipPreprocessor.load(tmp_path, VARIANTS["clip-debug"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of transformers' own imports
def test_transformers_reads_the_files(tmp_path):
    from transformers import CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    ours = ClipPreprocessor(image_size=32)
    ours.save(tmp_path)
    image, text = picture("RGB", (60, 45)), "A photo of a cat's toy, 2024"
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(theirs, ours.image(image), atol=1e-6)
    ids = CLIPTokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    assert ours.text(text)[0, : len(ids)].tolist() == ids


def test_constants_and_arguments():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    assert (MEAN, STD) == (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    with pytest.raises(UserError, match="three numbers"):
        ClipPreprocessor(image_size=32, mean=(0.5,))
    with pytest.raises(UserError, match="image_size"):
        ClipPreprocessor(image_size=0)
