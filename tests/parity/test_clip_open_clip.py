"""CLIP against open_clip: ViT, ResNet and timm towers, folders, files and TorchScript archives."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

import zoo
from zoo.shared.errors import UserError

# TorchScript is deprecated in torch 2.14, and OpenAI's archives are TorchScript all the same.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning",
    "ignore::torch.jit.TracerWarning",  # the references ask for sizes while they are traced
)

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3}
TINY_VIT = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "head_width": 64, "patch_size": 8},
    "text_cfg": TEXT,
}
TINY_RESNET = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [2, 1, 1, 1], "width": 16, "head_width": 64, "patch_size": None},
    "text_cfg": TEXT,
}
TINY_TIMM = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 64, "timm_model_name": "resnet10t", "timm_model_pretrained": False, "timm_pool": "",
        "timm_proj": "linear",
    },
    "text_cfg": TEXT,
}  # fmt: skip


def reference(config: dict, *, custom_text: bool = False) -> nn.Module:
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model = kind(**{key: value for key, value in config.items() if key != "custom_text"}).eval()
    perturb(model)
    return model


def perturb(model: nn.Module) -> None:
    """Give every parameter and running statistic values of its own, so that a swapped pair is seen."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name == "logit_scale" or not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.3 * noise.abs())
            elif name.endswith(("bn3.weight", "downsample.1.weight")):
                tensor.copy_(0.3 + 0.05 * noise)  # the residual stream of a deep ResNet stays near one
            else:
                tensor += (0.1 if tensor.dim() == 1 else 0.01) * noise
        for name, buffer in model.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer += 5


def sample(image_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.zeros(4, 77, dtype=torch.int64)
    for row, length in enumerate((77, 2, 9, 40)):
        tokens[row, :length] = torch.randint(1, 49406, (length,), generator=generator)
        tokens[row, 0], tokens[row, length - 1] = 49406, 49407
    return torch.randn(2, 3, image_size, image_size, generator=generator), tokens


def assert_equal(ours: nn.Module, theirs: nn.Module, image_size: int) -> None:
    x, tokens = sample(image_size)
    with torch.inference_mode():
        torch.testing.assert_close(ours.encode_image(x), theirs.encode_image(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-5, rtol=1e-5)
        logits = theirs.get_logits(x, tokens)[0] if hasattr(theirs, "get_logits") else None
        if logits is not None:
            torch.testing.assert_close(ours(x, tokens)[0], logits, atol=1e-4, rtol=1e-5)


def assert_same_state(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def write(folder: Path, model: nn.Module, config: dict, *, binary: bool = False) -> Path:
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    if binary:
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    else:
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("config", [TINY_VIT, TINY_RESNET, TINY_TIMM], ids=["vit", "resnet", "timm"])
def test_there_and_back(config: dict, quick: bool, tmp_path: Path) -> None:
    there_and_back({**config, "quick_gelu": quick}, tmp_path, binary=quick)


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_there_and_back_at_real_size(name: str, tmp_path: Path) -> None:
    there_and_back(open_clip.get_model_config(name), tmp_path)


def there_and_back(config: dict, tmp_path: Path, *, binary: bool = False) -> None:
    theirs = reference(config)
    size = config["vision_cfg"]["image_size"]
    ours = zoo.load(write(tmp_path / "in", theirs, config, binary=binary))
    assert ours.config.activation == ("quick_gelu" if config["quick_gelu"] else "gelu")
    assert_equal(ours, theirs, size)
    zoo.save_weights(ours, tmp_path / "out", "open_clip")
    again, _ = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'out'}")
    again.eval()
    assert_same_state(again.state_dict(), theirs.state_dict())
    assert_equal(ours, again, size)


@pytest.mark.parametrize("config", [TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
def test_custom_text(config: dict, tmp_path: Path) -> None:
    theirs = reference(config, custom_text=True)
    assert "text.positional_embedding" in theirs.state_dict()
    ours = zoo.load(write(tmp_path / "in", theirs, {**config, "custom_text": True}))
    assert_equal(ours, theirs, config["vision_cfg"]["image_size"])


@pytest.mark.parametrize("config", [TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
def test_openai_file_there_and_back(config: dict, tmp_path: Path) -> None:
    from open_clip.model import build_model_from_openai_state_dict

    config = {**config, "quick_gelu": True}
    theirs = reference(config)
    ours = zoo.load(write(tmp_path / "in", theirs, config))
    zoo.save_weights(ours, tmp_path / "model.pt", "openai")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    again = build_model_from_openai_state_dict(state, cast_dtype=torch.float32).float()
    halved = {key: value.half().float() for key, value in theirs.state_dict().items() if key in again.state_dict()}
    close = {key: value for key, value in again.state_dict().items() if value.is_floating_point()}
    for key, value in close.items():  # its builder rounds the matrices to half precision
        assert torch.equal(value, halved[key]) or torch.equal(value, theirs.state_dict()[key]), key
    reread = zoo.load(tmp_path / "model.pt")
    assert_same_state(reread.state_dict(), ours.state_dict())
    assert reread.config == ours.config


@pytest.mark.parametrize("config", [TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
def test_torchscript_archive(config: dict, tmp_path: Path) -> None:
    theirs = reference({**config, "quick_gelu": True})
    size = config["vision_cfg"]["image_size"]
    for name in ("input_resolution", "context_length", "vocab_size"):
        if hasattr(theirs, name):
            delattr(theirs, name)
        theirs.register_buffer(name, torch.tensor(77))
    traced = torch.jit.trace(theirs, sample(size), check_trace=False)
    traced.save(tmp_path / "some.name")
    ours = zoo.load(tmp_path / "some.name")
    assert ours.config.activation == "quick_gelu"
    assert_equal(ours, theirs, size)
    half = torch.jit.trace(theirs, sample(size), check_trace=False).half()
    half.save(tmp_path / "half.pt")
    ours = zoo.load(tmp_path / "half.pt")
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    for key, value in zoo.load(tmp_path / "half.pt", dtype=torch.float16).state_dict().items():
        assert torch.equal(value.float(), ours.state_dict()[key].float()), key


def test_training_checkpoint_with_prefixes(tmp_path: Path) -> None:
    theirs = reference(TINY_VIT)
    state = {f"module._orig_mod.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"epoch": 3, "name": "x", "state_dict": state, "optimizer": {"a": [1]}}, tmp_path / "epoch_3.pt")
    with pytest.warns(UserWarning, match="gelu is assumed"):
        ours = zoo.load(tmp_path / "epoch_3.pt")
    assert_equal(ours, theirs, 32)
    quick = zoo.load(tmp_path / "epoch_3.pt", overrides={"activation": "quick_gelu"})
    assert quick.config.activation == "quick_gelu"


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_cfg", "attentional_pool", True), ("vision_cfg", "ls_init_value", 0.1), ("text_cfg", "mlp_ratio", 2.0),
        ("text_cfg", "hf_model_name", "roberta-base"), ("text_cfg", "no_causal_mask", True),
    ],
)  # fmt: skip
def test_variants_are_refused(part: str, key: str, value: object, tmp_path: Path) -> None:
    config = {**TINY_VIT, part: {**TINY_VIT[part], key: value}}
    with pytest.raises(UserError, match=f"does not have.*{key}"):
        zoo.load(write(tmp_path / "in", reference(TINY_VIT), config))


def test_other_pooling_of_a_timm_tower_is_refused(tmp_path: Path) -> None:
    config = {**TINY_TIMM, "vision_cfg": {**TINY_TIMM["vision_cfg"], "timm_pool": "max"}}
    with pytest.raises(UserError, match="timm_pool='max'"):
        zoo.load(write(tmp_path / "in", reference(TINY_TIMM), config))


def test_siglip_is_refused(tmp_path: Path) -> None:
    theirs = reference({**TINY_VIT, "init_logit_bias": -10.0})
    with pytest.raises(UserError, match="SigLIP"):
        zoo.load(write(tmp_path / "in", theirs, TINY_VIT))
