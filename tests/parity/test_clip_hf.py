"""CLIP against transformers.CLIPModel: import, equal embeddings, export, equal again, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

import zoo
from zoo.cli import main
from zoo.shared.errors import UserError

TINY = {
    "embed": 24,
    "text": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    "vision": {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8,
    },
}  # fmt: skip
VIT_B_32 = {
    "embed": 512,
    "text": {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8},
    "vision": {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224, "patch_size": 32,
    },
}  # fmt: skip


def reference(sizes: dict, act: str = "quick_gelu") -> nn.Module:
    config = transformers.CLIPConfig(
        projection_dim=sizes["embed"],
        text_config={
            **sizes["text"], "intermediate_size": 4 * sizes["text"]["hidden_size"], "hidden_act": act,
            "projection_dim": sizes["embed"], "vocab_size": 49408, "max_position_embeddings": 77,
        },
        vision_config={
            **sizes["vision"], "intermediate_size": 4 * sizes["vision"]["hidden_size"], "hidden_act": act,
            "projection_dim": sizes["embed"],
        },
    )  # fmt: skip
    model = transformers.CLIPModel(config).eval()
    perturb(model)
    return model


def perturb(model: nn.Module) -> None:
    """Give every parameter values of its own, so that a swapped pair is seen."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                noise = torch.randn(parameter.shape, generator=generator)
                parameter += (0.3 if parameter.dim() == 1 else 0.02) * noise


def sample(image_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.zeros(4, 77, dtype=torch.int64)
    for row, length in enumerate((77, 2, 9, 40)):
        tokens[row, :length] = torch.randint(1, 49406, (length,), generator=generator)
        tokens[row, 0], tokens[row, length - 1] = 49406, 49407
    return torch.randn(3, 3, image_size, image_size, generator=generator), tokens


def outputs(model: nn.Module, x: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both projected embeddings of a transformers model, through its documented path of hidden states."""
    image = model.visual_projection(model.vision_model(pixel_values=x).pooler_output)
    text = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
    return image, text


def assert_equal(ours: nn.Module, theirs: nn.Module, image_size: int) -> None:
    x, tokens = sample(image_size)
    with torch.inference_mode():
        image, text = outputs(theirs, x, tokens)
        mine = ours.encode_image(x), ours.encode_text(tokens)
        torch.testing.assert_close(mine[0], image, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mine[1], text, atol=1e-5, rtol=1e-5)
        logits = theirs(input_ids=tokens, pixel_values=x).logits_per_image
        torch.testing.assert_close(ours(x, tokens)[0], logits, atol=1e-4, rtol=1e-5)


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    here, there = a.state_dict(), b.state_dict()
    assert here.keys() == there.keys()
    for key in here:
        assert torch.equal(here[key], there[key]), key


@pytest.mark.parametrize(("sizes", "act"), [(TINY, "quick_gelu"), (TINY, "gelu"), (VIT_B_32, "quick_gelu")])
def test_there_and_back(sizes: dict, act: str, tmp_path: Path) -> None:
    theirs = reference(sizes, act)
    theirs.save_pretrained(tmp_path / "in")
    ours = zoo.load(tmp_path / "in")
    assert ours.config.activation == act
    assert not ours.training
    assert_equal(ours, theirs, sizes["vision"]["image_size"])
    zoo.save_weights(ours, tmp_path / "out", "hf")
    again = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    assert_same_state(again, theirs)
    assert_equal(ours, again, sizes["vision"]["image_size"])


def test_the_export_is_ready_for_the_processor(tmp_path: Path) -> None:
    from PIL import Image

    model = zoo.create_model("clip-debug").eval()
    zoo.save_weights(model, tmp_path / "out", "hf")
    processor = transformers.CLIPProcessor.from_pretrained(tmp_path / "out")
    image = Image.effect_noise((50, 40), 60).convert("RGB")
    texts = ["a photo of a cat", "two   Dogs, 3 birds!"]
    theirs = processor(text=texts, images=image, padding="max_length", return_tensors="pt")
    ours = zoo.create_preprocessor(tmp_path / "out")
    tokens = ours.text(texts)
    real = theirs["attention_mask"].bool()
    assert torch.equal(theirs["input_ids"][real], tokens[real])
    torch.testing.assert_close(theirs["pixel_values"], ours.images([image]), atol=2e-2, rtol=0)
    reader = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    with torch.inference_mode():
        scores = reader(input_ids=theirs["input_ids"], pixel_values=ours.images([image])).logits_per_image
        torch.testing.assert_close(model(ours.images([image]), tokens)[0], scores, atol=1e-4, rtol=1e-5)


def test_old_buffers_shards_and_pickles(tmp_path: Path) -> None:
    theirs = reference(TINY)
    theirs.config.save_pretrained(tmp_path / "old")
    state = {
        **theirs.state_dict(),
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    torch.save(state, tmp_path / "old" / "pytorch_model.bin")
    assert_equal(zoo.load(tmp_path / "old"), theirs, 32)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert_equal(zoo.load(tmp_path / "shards"), theirs, 32)
    next((tmp_path / "shards").glob("*-00001-of-*.safetensors")).unlink()
    with pytest.raises(UserError, match="lacks 1 of"):
        zoo.load(tmp_path / "shards")


@pytest.mark.parametrize(
    ("tower", "setting", "value"),
    [
        ("text_config", "hidden_act", "relu"),
        ("text_config", "hidden_act", "gelu"),  # the two towers differ
        ("vision_config", "layer_norm_eps", 1e-6),
        ("vision_config", "intermediate_size", 100),
        ("text_config", "eos_token_id", 7),
    ],
)
def test_what_zoo_does_not_have_is_refused(tower: str, setting: str, value: object, tmp_path: Path) -> None:
    reference(TINY).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings[tower][setting] = value
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="does not have"):
        zoo.load(tmp_path)


def test_resnets_have_no_place_in_this_format(tmp_path: Path) -> None:
    model = zoo.create_model("clip-debug", vision="resnet", vision_width=8, vision_depth=(1, 1, 1, 1), vision_heads=4)
    with pytest.raises(UserError, match="--to open_clip"):
        zoo.save_weights(model, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()


def test_convert_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference(TINY).save_pretrained(tmp_path / "in")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "zoo"]) == 0
    told = capsys.readouterr().out
    assert "bit for bit equal" in told
    assert "sha256" in told
    assert main(["convert", str(tmp_path / "out"), str(tmp_path / "x"), "--to", "onnx"]) == 2
    assert "choose zoo or hf" in capsys.readouterr().err


def test_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import huggingface_hub

    calls = []
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda name, **_: calls.append(("make", name)))
    monkeypatch.setattr(
        huggingface_hub,
        "upload_folder",
        lambda **given: calls.append(("upload", given["repo_id"], given["folder_path"])),
    )
    zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "in")
    words = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "hf", "--push"]
    assert main([*words, "hf:me/mine"]) == 0
    assert calls == [("make", "me/mine"), ("upload", "me/mine", tmp_path / "out")]
    assert main([*words, "me"]) == 2
    assert "hf:owner/name" in capsys.readouterr().err
