"""Training a DCGAN: whose turn it is, what a step counts, what is resumed, and what happens when it collapses."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import Callback
from PIL import Image

import zoo
from zoo.cli import main
from zoo.dcgan.health import diversity, saturation
from zoo.dcgan.task import cross_entropy
from zoo.dcgan.watches import COLLAPSED, PATIENCE
from zoo.shared.errors import UserError

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "limit_val_batches": 1}


def train(out: Path, *, steps: int, callbacks: tuple[Callback, ...] = (), **settings: Any) -> Any:
    trainer = QUIET | {"max_steps": steps, "log_every_n_steps": 1} | settings.pop("trainer", {})
    return zoo.train(
        "dcgan", recipe="smoke", out=out, report=False, audit=False, callbacks=callbacks, trainer=trainer, **settings
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return zoo.load(folder / "weights").state_dict()


class Moves(Callback):
    """Which network every step has moved."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []

    def on_train_batch_start(self, trainer: Any, task: Any, *args: Any) -> None:
        self.before = {name: p.detach().clone() for name, p in task.model.named_parameters()}

    def on_train_batch_end(self, trainer: Any, task: Any, *args: Any) -> None:
        now = task.model.named_parameters()
        self.moved.append({name.split(".")[0] for name, p in now if not torch.equal(p, self.before[name])})
        self.before.clear()


def test_cross_entropy_is_the_binary_one() -> None:
    logits = torch.randn(50) * 10
    for real in (True, False):
        wanted = F.binary_cross_entropy_with_logits(logits, torch.full((50,), float(real)))
        assert torch.allclose(cross_entropy(logits, real=real), wanted, rtol=1e-5)


@pytest.mark.parametrize("alternation", ["both", "turns"])
def test_a_step_is_a_batch_whoever_moves(alternation: str, tmp_path: Path) -> None:
    moves = Moves()
    result = train(tmp_path / "run", steps=6, callbacks=(moves,), task={"alternation": alternation})
    both, g, d = {"generator", "discriminator"}, {"generator"}, {"discriminator"}
    assert moves.moved == ([both] * 6 if alternation == "both" else [g, d] * 3)
    assert [int(row["step"]) for row in rows(tmp_path / "run")] == list(range(6))
    assert result.metrics["steps"] == 6
    assert result.metrics["samples"] == 6 * 32


def test_a_step_is_the_one_of_pytorchs_example() -> None:
    """Two steps of both networks, beside the plain loop with three passes of the discriminator."""
    from zoo.dcgan.bench import prepare_train
    from zoo.shared.bench import Setting

    for best in (False, True):
        results = {side: prepare_train(side, Setting(best=best, quick=True), model="dcgan-nano", batch=16).result()
                   for side in ("peer", "zoo")}  # type: ignore[arg-type]  # fmt: skip
        for key, wanted in results["peer"].items():
            assert torch.allclose(results["zoo"][key], wanted, rtol=1e-4), key


@pytest.mark.parametrize("alternation", ["both", "turns"])
def test_resume_in_mid_epoch_gives_the_same_bits(alternation: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "task": {"alternation": alternation, "on_collapse": "rollback"}, "ema": 0.9, "data": {"flip": 0.5}
    }  # fmt: skip
    train(tmp_path / "whole", steps=13, **settings)
    train(tmp_path / "parts", steps=7, **settings)
    assert zoo.train("dcgan", resume=tmp_path / "parts", trainer={"max_steps": 13}).metrics["steps"] == 13
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert [r["train/loss"] for r in rows(tmp_path / "whole")] == [r["train/loss"] for r in rows(tmp_path / "parts")]


def test_batches_are_the_same_whatever_the_workers(tmp_path: Path) -> None:
    batches = []
    for workers in (0, 2):
        data = zoo.create_datamodule("dcgan-debug", source="shapes", batch_size=16, flip=0.5, workers=workers)
        batches.append(list(data.train_dataloader()))
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first["z"], second["z"])
        assert torch.equal(first["image"], second["image"])
    z = torch.cat([batch["z"] for batch in batches[0]])
    assert len(torch.unique(z[:, 0])) == len(z)


def test_the_prior_is_the_models() -> None:
    for name, deviation in (("dcgan-nano", 3**-0.5), ("dcgan-64-torch", 1.0)):
        model = zoo.create_model(name, latent=999, width=4)
        assert abs(float(model.draw(20, seed=1).std()) - deviation) < 0.02
        assert all(torch.equal(model.draw(20, seed=1)[:n], model.draw(n, seed=1)) for n in (1, 3, 7))


def test_health_of_images_by_hand() -> None:
    real = torch.zeros(4, 1, 2, 2)
    real[:2] = 1.0  # distances: 2 for four pairs of six, 0 for two
    fake = real.clone()
    assert float(diversity(fake, real)) == pytest.approx(1.0)
    assert float(diversity(0.5 * fake, real)) == pytest.approx(0.5)
    assert float(diversity(torch.ones_like(real), real)) == 0.0
    assert float(saturation(torch.ones_like(real), real)) == pytest.approx(0.5)


class Collapse(Callback):
    """Breaks the generator once: it makes one image only, whatever z."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.healthy: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer: Any, task: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self.at or self.healthy:
            return
        self.healthy = {key: value.clone() for key, value in task.model.state_dict().items()}
        with torch.no_grad():
            task.model.generator.layers[-1].weight.zero_()
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = 0.0  # it stays so until somebody does something


HEALTHY = {"on_collapse": "rollback", "lr": 0.02}  # quick enough for so small a model


def diversities(folder: Path) -> list[float]:
    return [float(row["health/diversity"]) for row in rows(folder)]


def test_a_collapse_is_rolled_back_with_half_the_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="zoo"):
        train(tmp_path / "run", steps=170, callbacks=(Collapse(at=150),), task=HEALTHY)
    found = diversities(tmp_path / "run")
    assert min(found[145:150]) > COLLAPSED
    assert max(found[150 : 150 + PATIENCE]) < COLLAPSED
    assert min(found[150 + PATIENCE :]) > COLLAPSED, found
    lines = [record.getMessage() for record in caplog.records if "has collapsed" in record.getMessage()]
    assert len(lines) == 1
    assert "back to step 150 with rates 0.01, 0.01" in lines[0]


def test_a_collapse_stops_the_run_that_asked_for_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the generator has collapsed"):
        train(tmp_path / "run", steps=170, callbacks=(Collapse(at=150),), task=HEALTHY | {"on_collapse": "stop"})


def test_a_collapse_raises_an_alarm_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = HEALTHY | {"on_collapse": "warn"}
    with caplog.at_level(logging.WARNING, logger="zoo"):
        result = train(tmp_path / "run", steps=170, callbacks=(Collapse(at=150),), task=settings)
    assert any("mode collapse" in record.getMessage() for record in caplog.records)
    assert result.metrics["watches"][f"health/diversity < {COLLAPSED:g}"] == 1


def test_a_real_collapse_is_noticed(tmp_path: Path) -> None:
    """No tricks: at a rate far too high the generator comes to make one image only."""
    with pytest.raises(UserError, match=r"collapsed \(diversity 0\.[01]\d of the real images'\)"):
        train(tmp_path / "run", steps=150, task={"on_collapse": "stop", "lr": 0.5, "discriminator_lr": 0.002})


def picture(path: Path, size: tuple[int, int], seed: int, mode: str = "RGB") -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def tried(folder: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    quick = ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--data.batch_size", "8"]
    out = ["--out", str(folder.parent / "run"), "--report", "false", "--data.held_out", "0"]
    code = main(["train", "dcgan", "--recipe", "smoke", "--data.source", str(folder), *quick, *out, *words])
    return code, capsys.readouterr().err


def test_images_smaller_than_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(16):
        picture(tmp_path / "images" / f"{i}.png", (10, 12), i)
    code, told = tried(tmp_path / "images", capsys=capsys)
    assert code == 2
    assert "10 x 12 pixels, smaller than the model's 16" in told
    assert "--data.enlarge true" in told
    assert tried(tmp_path / "images", "--data.enlarge", "true", "--out", str(tmp_path / "b"), capsys=capsys)[0] == 0


def test_mixed_sizes_and_modes_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, mode in enumerate(("RGB", "L", "RGBA", "P", "CMYK", "1", "LA", "I;16") * 2):
        path = tmp_path / "images" / f"{i}.{'jpg' if mode == 'CMYK' else 'png'}"
        if mode == "I;16":
            Image.fromarray(np.random.default_rng(i).integers(0, 65536, (20, 30), dtype=np.uint16)).save(path)
        else:
            picture(path, (16 + 3 * i, 40 - i), i, mode)
    assert tried(tmp_path / "images", capsys=capsys)[0] == 0
    data = zoo.create_datamodule("dcgan-debug", source=str(tmp_path / "images"), batch_size=16, held_out=0.0)
    batch = data.peek(16)
    assert batch["image"].shape == (16, 3, 16, 16)
    assert -1 <= batch["image"].min() < -0.5 < 0.5 < batch["image"].max() <= 1


def test_one_image_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "images" / "0.png", (20, 20), 0)
    for number, (words, wanted) in enumerate(
        (
            ([], "images differ: found 1 distinct of 1"),
            (["--audit", "false"], "1 training samples, fewer than one batch of 8"),
        )
    ):
        code, told = tried(tmp_path / "images", *words, "--out", str(tmp_path / str(number)), capsys=capsys)
        assert code == 2
        assert wanted in told


def test_black_images_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for i in range(16):
        Image.new("RGB", (20, 20)).save(tmp_path / "images" / f"{i}.png")
    code, told = tried(tmp_path / "images", capsys=capsys)
    assert code == 2
    assert "images show something" in told


def test_latent_vectors_of_the_wrong_size() -> None:
    with pytest.raises(ValueError, match=r"z must be \(B, 8\), not \(4, 9\)"):
        zoo.create_model("dcgan-debug").generator(torch.zeros(4, 9))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data.source", "nowhere"], "there are no images at 'nowhere'"),
        (["--data.source", "torchvision:Nothing"], "torchvision has no set 'Nothing'"),
        (["--model.channels", "4"], "1 or 3 colours, the model has 4"),
        (["--model.image_size", "17"], "image_size must be even"),
        (["--task.lr", "-1"], "--task.lr must be above 0"),
        (["--on-collapse", "pray"], "task.on_collapse"),
        (["--on-collapse=pray"], "task.on_collapse"),
        (["--task.micro_batches", "3"], "cannot be cut into 3 equal micro-batches"),
    ],
)
def test_mistakes_are_one_line(words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ["--recipe", "smoke", "--trainer.accelerator", "cpu", "--out", str(tmp_path / "run")]
    assert main(["train", "dcgan", *fixed, *words]) == 2
    last = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert any(told in line for line in last), last


@pytest.mark.parametrize("size", [8, 12, 16, 28, 32, 48, 64, 96, 128])
@pytest.mark.parametrize("layout", ["paper", "torch", "imagenet"])
def test_any_size_and_number_of_colours(size: int, layout: str) -> None:
    model = zoo.create_model("dcgan-debug", image_size=size, layout=layout, channels=1)
    images = model.generator(model.draw(2, seed=0))
    assert images.shape == (2, 1, size, size)
    assert model.discriminator(images).shape == (2,)


def test_sets_of_torchvision_are_read_from_their_own_files(tmp_path: Path) -> None:
    """CIFAR-10's and SVHN's file formats, written here; nothing is downloaded."""
    import pickle

    from scipy.io import savemat

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"data_batch_{n}" for n in range(1, 6)]
    for name in names:
        content = {"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [0, 1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    from torchvision.datasets import CIFAR10, SVHN

    checks = {"train_list": [[name, None] for name in names], "test_list": [], "meta": {**CIFAR10.meta, "md5": None}}
    savemat(
        tmp_path / "train_32x32.mat",
        {"X": rng.integers(0, 256, (32, 32, 3, 6), dtype=np.uint8), "y": np.arange(6)[:, None] + 1},
    )
    with pytest.MonkeyPatch.context() as patch:
        for key, value in checks.items():
            patch.setattr(CIFAR10, key, value)
        patch.setitem(SVHN.split_list, "train", ["", "train_32x32.mat", None])
        for name, count in (("cifar10", 20), ("svhn", 6)):
            data = zoo.create_datamodule(
                "dcgan-32", source=f"torchvision:{name}", root=str(tmp_path), batch_size=4, held_out=0.0
            )
            assert len(data.train_items) == count
            assert data.peek(4)["image"].shape == (4, 3, 32, 32)
            labels = set(data.train_items.tensor()[1].tolist())
            assert labels == (set(range(4)) if count == 20 else set(range(1, 7)))  # SVHN calls the zero 10
