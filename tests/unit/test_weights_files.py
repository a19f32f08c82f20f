"""Weights on disk: zoo's own folders, damaged and hostile files, interrupted writes."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.cli import main
from zoo.shared.convert.source import open_source
from zoo.shared.convert.torchscript import read_torchscript
from zoo.shared.errors import UserError
from zoo.weights import identify, load_into


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.save_weights(zoo.create_model("clip-debug"), tmp_path_factory.mktemp("weights") / "w")


def test_round_trip(tmp_path: Path) -> None:
    model = zoo.create_model("clip-debug", activation="gelu", dropout=0.1)
    out = zoo.save_weights(model, tmp_path / "deep" / "w", card="# mine\n")
    again = zoo.load(out)
    assert again.config == model.config
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    settings = json.loads((out / "config.json").read_text())
    assert (settings["format"], settings["family"], settings["model"]) == ("zoo", "clip", None)
    assert (out / "README.md").read_text() == "# mine\n"
    assert {"tokenizer.json", "preprocessor_config.json"} <= {p.name for p in out.iterdir()}
    assert (out / "model.safetensors").stat().st_mode & 0o044 == 0o044 & ~current_umask()
    assert [p.name for p in out.parent.iterdir()] == ["w"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_registered_name_and_replacing(folder: Path, tmp_path: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["model"] == "clip-debug"
    out = tmp_path / "w"
    out.mkdir()
    first, second = zoo.create_model("clip-debug"), zoo.create_model("clip-debug")
    zoo.save_weights(first, out)
    zoo.save_weights(second, out)
    assert torch.equal(zoo.load(out).text.positions, second.text.positions)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_the_file_alone_is_enough(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "any.name"
    moved.write_bytes((folder / "model.safetensors").read_bytes())
    assert zoo.load(moved).config == zoo.load(folder).config == zoo.load(folder / "model.safetensors").config


def test_half_precision_is_widened_unless_asked(tmp_path: Path) -> None:
    model = zoo.create_model("clip-debug").to(torch.float16)
    zoo.save_weights(model, tmp_path / "w")
    assert load_file(tmp_path / "w" / "model.safetensors")["text.positions"].dtype == torch.float16
    assert zoo.load(tmp_path / "w").text.positions.dtype == torch.float32
    kept = zoo.load(tmp_path / "w", dtype=torch.float16)
    assert torch.equal(kept.text.positions, model.text.positions)


def test_load_into_checks_sizes_but_not_training_settings(folder: Path) -> None:
    config = zoo.get_config("clip-debug", dropout=0.3, checkpointing=True)
    model = load_into("clip", config, folder)
    assert model.config.dropout == 0.3
    with pytest.raises(UserError, match=r"vision_width is 32, not 64; activation is 'quick_gelu', not 'gelu'"):
        zoo.create_model("clip-debug", weights=folder, activation="gelu", vision_width=64)


def test_foreign_family(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "w"
    other.mkdir()
    settings = json.loads((folder / "config.json").read_text())
    (other / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (other / "config.json").write_text(json.dumps({**settings, "family": "opera"}))
    with pytest.raises(UserError, match="'opera', which is not installed"):
        zoo.load(other)
    (other / "config.json").write_text(json.dumps({**settings, "config": {**settings["config"], "new": 1}}))
    with pytest.raises(UserError, match=r"does not know \(new\).*upgrade"):
        zoo.load(other)
    save_file({"some.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"no model that zoo knows.*some\.weight"):
        zoo.load(tmp_path / "x.safetensors")


def test_model_of_no_family(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model of a registered family"):
        zoo.save_weights(torch.nn.Linear(2, 2), tmp_path / "w")
    with pytest.raises(UserError, match="choose zoo or hf, openai, open_clip"):
        zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "w", "onnx")


def test_every_wrong_key_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["logit_scale"]
    state["strange"] = torch.ones(1)
    state["text.positions"] = torch.ones(3, 32)
    broken = tmp_path / "w"
    broken.mkdir()
    save_file(state, broken / "model.safetensors")
    (broken / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(UserError) as caught:
        zoo.load(broken)
    for part in ("(logit_scale)", "(strange)", "(text.positions is (3, 32), must be (77, 32))"):
        assert part in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch " + os.environ["ZOO_TEST_MARK"],)


def archive(path: Path, content: bytes, *, torchscript: bool) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", content)
        file.writestr("x/version", "3\n")
        if torchscript:
            file.writestr("x/constants.pkl", pickle.dumps(()))
    return path


@pytest.mark.parametrize("kind", ["legacy", "zip", "torchscript"])
def test_pickles_that_run_code_are_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "it_ran"
    monkeypatch.setenv("ZOO_TEST_MARK", str(mark))
    content = pickle.dumps({"state_dict": Evil()}, protocol=2)
    path = tmp_path / "weights.pt"
    if kind == "legacy":
        torch.save({"state_dict": Evil()}, path, _use_new_zipfile_serialization=False)
    elif kind == "zip":
        torch.save({"state_dict": Evil()}, path)
    else:
        archive(path, content, torchscript=True)
    with pytest.raises(UserError, match="refused") as caught:
        zoo.load(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "load"), ("builtins", "eval"), ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("collections", "namedtuple"), ("torch.jit._pickle", "_"), ("zoo.weights", "load"),
        ("torch", "FloatStorage.from_file"), ("posix", "system"),
    ],
)  # fmt: skip
def test_archives_ask_for_nothing_but_tensors(module: str, name: str, tmp_path: Path) -> None:
    content = f"c{module}\n{name}\n.".encode()
    with pytest.raises(UserError, match="refused"):
        read_torchscript(archive(tmp_path / "a.pt", content, torchscript=True))


class TinyModule(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        self.scale = torch.nn.Parameter(torch.randn(()))
        self.register_buffer("view", torch.arange(12.0).reshape(3, 4)[:, 1:3])
        self.sizes = torch.jit.Attribute([1, 2], list[int])  # lists are pickled through a function
        self.shared = self.inner[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.scale + self.view.sum() + self.sizes[0]


# TorchScript is deprecated in torch 2.14, and OpenAI's archives are TorchScript all the same.
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_torchscript_is_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    module = TinyModule().to(dtype)
    torch.jit.script(module).save(tmp_path / "m.pt")
    state, read = module.state_dict(), read_torchscript(tmp_path / "m.pt")
    assert read.keys() == state.keys()
    for key in state:
        assert read[key].dtype == state[key].dtype
        assert torch.equal(read[key], state[key]), key


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_damaged_archives(tmp_path: Path) -> None:
    torch.jit.script(TinyModule()).save(tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.pt") as file:
        entries = {name: file.read(name) for name in file.namelist()}
    short = next(name for name in entries if "/data/" in name)
    root = next(name for name in entries if name.endswith("/data.pkl"))
    for name, content in ((short, b""), (short, b"x" * 1000), (root, entries[root][:-20]), (root, b"\x80\x02N.")):
        with zipfile.ZipFile(tmp_path / "bad.pt", "w") as file:
            for entry, original in entries.items():
                file.writestr(entry, content if entry == name else original)
        with pytest.raises(UserError):
            open_source(tmp_path / "bad.pt").tensors  # noqa: B018


def test_truncated_and_senseless_files(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    torch.save({"a": torch.ones(100)}, tmp_path / "whole.pt")
    pickled = (tmp_path / "whole.pt").read_bytes()
    torch.save({"a": torch.ones(100)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    legacy = (tmp_path / "old.pt").read_bytes()
    cases = {
        "empty": b"", "text": b"hello, world, this is a text\n", "pointer": b"version https://git-lfs.github.com/spec",
        "header": whole[:100], "tensors": whole[:-100], "zip": pickled[:-100], "legacy": legacy[:-100],
        "pickle": b"\x80\x02garbage", "number": pickle.dumps(7),
    }  # fmt: skip
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            zoo.load(path)
        assert "\n" not in str(caught.value), name
        assert str(path) in str(caught.value), name
        assert main(["convert", str(path), str(tmp_path / "out"), "--to", "hf"]) == 2
    assert not (tmp_path / "out").exists()


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights at"):
        identify(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no weights"):
        identify(tmp_path)
    with pytest.raises(UserError, match="write hf:owner/name"):
        identify("hf:name-only")


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match="cannot fetch hf:a/b: no route; check") as caught:
        identify("hf:a/b")
    assert "\n" not in str(caught.value)


def test_hub_fetches_one_format_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def give(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert identify("hf:a/b@v1").family == "clip"
    assert asked[0] == ("a/b", "v1", ["*.json", "*.txt"])
    assert asked[1][2] == ["model.safetensors", "model-*-of-*.safetensors"]
    assert len(asked) == 2


def test_other_files_are_never_overwritten(tmp_path: Path) -> None:
    model = zoo.create_model("clip-debug")
    zoo.save_weights(model, tmp_path / "w")
    (tmp_path / "w" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"other files \(notes.txt\)"):
        zoo.save_weights(model, tmp_path / "w")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        zoo.save_weights(model, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(UserError, match="cannot write"):
        zoo.save_weights(model, tmp_path / "file" / "w")


def test_a_failed_write_leaves_the_old_weights(tmp_path: Path) -> None:
    model = zoo.create_model("clip-debug")
    zoo.save_weights(model, tmp_path / "w")

    class Broken:
        def save(self, folder: Path) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "w", preprocessor=Broken())
    assert [p.name for p in tmp_path.iterdir()] == ["w"]
    assert torch.equal(zoo.load(tmp_path / "w").text.positions, model.text.positions)


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    script = """
        import sys, time, zoo

        class Slow:
            def save(self, folder):
                (folder / "tokenizer.json").write_text("{")
                sys.stdout.write("half\\n")
                sys.stdout.flush()
                time.sleep(60)

        zoo.save_weights(zoo.create_model("clip-debug"), sys.argv[1], preprocessor=Slow())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "w")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    time.sleep(0.1)
    assert not (tmp_path / "w").exists()
    zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "w")
    zoo.load(tmp_path / "w")


def test_training_checkpoint_of_lightning(tmp_path: Path) -> None:
    model = zoo.create_model("clip-debug", vision_width=64, vision_heads=1, text_width=64, text_heads=1)
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    state["loss.buffer"] = torch.ones(1)
    torch.save({"pytorch-lightning_version": "2.6.6", "epoch": 1, "state_dict": state}, tmp_path / "00000010.ckpt")
    with pytest.warns(UserWarning, match="quick_gelu is assumed"):
        again = zoo.load(tmp_path / "00000010.ckpt")
    assert again.config == model.config
    assert torch.equal(again.logit_scale, model.logit_scale)
