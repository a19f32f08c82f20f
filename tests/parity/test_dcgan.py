"""DCGAN's weights against networks that are written down here from the facts: PyTorch's example, its public variants
with other ends, and the authors' Theano lists, whose convolutions are computed by SciPy.
"""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from joblib.numpy_pickle_compat import NDArrayWrapper
from scipy.signal import convolve2d
from torch import Tensor, nn

import zoo
from zoo.shared.errors import UserError


def example_generator(nz: int, ngf: int, nc: int, end: tuple[int, int, int]) -> nn.Module:
    """The generator of PyTorch's ``examples/dcgan``; ``end`` is kernel, stride and padding of its last layer."""
    widths = [nz, 8 * ngf, 4 * ngf, 2 * ngf, ngf]
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(itertools.pairwise(widths)):
        stride, padding = (2, 1) if place else (1, 0)
        layers += [nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return Main([*layers, nn.ConvTranspose2d(ngf, nc, *end, bias=False), nn.Tanh()])


def example_discriminator(ndf: int, nc: int, stages: int, end: tuple[int, int, int]) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for stage in range(1, stages):
        before = ndf * 2 ** (stage - 1)
        layers += [nn.Conv2d(before, 2 * before, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * before), nn.LeakyReLU(0.2)]
    return Main([*layers, nn.Conv2d(ndf * 2 ** (stages - 1), 1, *end, bias=False)])


class Main(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.main = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def lived_in(network: nn.Module, example: Tensor) -> nn.Module:
    """Weights and running statistics as training would leave them: none of them at its start."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.2)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(example * (1 + torch.rand(1)))
    return network.eval()


VARIANTS = {
    "64 pixels, colour": (3, 64, (4, 2, 1), 4, (4, 1, 0)),
    "CIFAR-10": (3, 32, (1, 1, 0), 4, (2, 2, 0)),
    "MNIST": (1, 28, (1, 1, 2), 3, (4, 2, 1)),
}


@pytest.fixture(params=VARIANTS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, nn.Module, nn.Module, int]:
    torch.manual_seed(0)
    nc, side, generator_end, stages, discriminator_end = VARIANTS[request.param]
    generator = lived_in(example_generator(20, 6, nc, generator_end), torch.randn(8, 20, 1, 1))
    discriminator = lived_in(example_discriminator(5, nc, stages, discriminator_end), torch.randn(8, nc, side, side))
    torch.save(generator.state_dict(), tmp_path / "netG_epoch_24.pth")
    torch.save(discriminator.state_dict(), tmp_path / "netD_epoch_24.pth")
    return tmp_path, generator, discriminator, side


@torch.no_grad()
def same(model: Any, generator: nn.Module | None, discriminator: nn.Module | None) -> None:
    z = torch.randn(3, 20)
    if generator is not None:
        assert (model.generator(z) - generator(z[:, :, None, None])).abs().max() < 1e-5
    if discriminator is not None:
        images = torch.rand(3, *model.config.image_shape) * 2 - 1
        wanted = discriminator(images).flatten()
        assert (model.discriminator(images) - wanted).abs().max() < 1e-5 * wanted.abs().max().clamp_min(1)


def test_a_folder_of_the_example_comes_in_and_goes_out(example: Any, tmp_path: Path) -> None:
    folder, generator, discriminator, side = example
    model = zoo.load(folder) if side != 28 else load_grey(folder)
    assert model.config.image_size == side
    same(model, generator, discriminator)
    zoo.save_weights(model, tmp_path / "back", format="torch")
    for name, network in (("netG", generator), ("netD", discriminator)):
        state = torch.load(tmp_path / "back" / f"{name}.pth", weights_only=True)
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())
        network.load_state_dict(state, strict=True)


def load_grey(path: Path) -> Any:
    with pytest.warns(UserWarning, match="does not say the padding"):
        return zoo.load(path)


def test_our_folder_keeps_an_example_with_other_ends(example: Any, tmp_path: Path) -> None:
    folder, generator, discriminator, side = example
    model = zoo.load(folder) if side != 28 else load_grey(folder)
    zoo.save_weights(model, tmp_path / "ours")
    same(zoo.load(tmp_path / "ours"), generator, discriminator)
    (tmp_path / "ours" / "config.json").unlink()
    same(zoo.load(tmp_path / "ours" / "model.safetensors"), generator, discriminator)


@pytest.mark.parametrize("part", ["netG", "netD"])
@pytest.mark.filterwarnings("ignore:.*does not say the padding.*")
def test_one_file_alone_fills_its_half_and_says_so(example: Any, part: str) -> None:
    folder, generator, discriminator, side = example
    other = "discriminator" if part == "netG" else "generator"
    with pytest.warns(UserWarning, match=f"the {other} is untrained"):
        model = zoo.load(folder / f"{part}_epoch_24.pth")
    assert model.config.image_size == side
    same(model, generator if part == "netG" else None, discriminator if part == "netD" else None)


def test_the_newest_epoch_that_both_have_is_taken(example: Any) -> None:
    folder, generator, discriminator, side = example
    if side != 64:
        return
    for epoch, name in ((7, "netG"), (7, "netD"), (30, "netG")):
        state = torch.load(folder / f"{name}_epoch_24.pth", weights_only=True)
        torch.save({key: value + 1 for key, value in state.items()}, folder / f"{name}_epoch_{epoch}.pth")
    same(zoo.load(folder), generator, discriminator)


def test_files_of_2016_have_no_counters(example: Any) -> None:
    folder, generator, discriminator, side = example
    if side != 64:
        return
    for name in ("netG", "netD"):
        path = folder / f"{name}_epoch_24.pth"
        state = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in state.items() if "num_batches" not in key}, path)
    same(zoo.load(folder), generator, discriminator)


def test_a_strange_key_or_shape_is_named(example: Any) -> None:
    folder, _, _, side = example
    if side != 64:
        return
    path = folder / "netD_epoch_24.pth"
    state = torch.load(path, weights_only=True)
    state["main.3.weight"] = state["main.3.weight"][:-1]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"mis-shaped key \(netD.main.3.weight"):
        zoo.load(folder)


def theano_lists(kernel: int, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lists as the authors' code saves them, of tiny networks for 16x16 images: 5x5 kernels, or 3x3 ones."""
    width, nz, side = 2, 7, 4

    def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
        return [rng.normal(len(shape) == 1, 0.3, shape).astype(np.float32) for shape in shapes]

    if kernel == 5:
        units = 2 * width * side * side
        generator = [(nz, units), (units,), (units,), (4, 2, 5, 5), (2,), (2,), (2, 3, 5, 5)]
        discriminator = [(2, 3, 5, 5), (4, 2, 5, 5), (4,), (4,), (4 * side * side, 1)]
    else:
        units = 2 * width * side * side
        generator = [(nz, units), (units,), (units,)]
        generator += [(4, 4, 3, 3), (4,), (4,), (4, 2, 3, 3), (2,), (2,), (2, 2, 3, 3), (2,), (2,), (2, 3, 3, 3)]
        discriminator = [(2, 3, 3, 3), (2, 2, 3, 3), (2,), (2,), (4, 2, 3, 3), (4,), (4,), (4, 4, 3, 3), (4,), (4,)]
        discriminator += [(4 * side * side, 1)]
    return arrays(*generator), arrays(*discriminator)


def normalise(x: np.ndarray, gain: np.ndarray, shift: np.ndarray) -> np.ndarray:
    axes = (0,) if x.ndim == 2 else (0, 2, 3)
    shape = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-8) * gain.reshape(shape) + shift.reshape(shape)


def true_convolution(x: np.ndarray, kernels: np.ndarray, stride: int) -> np.ndarray:
    """Theano's ``conv2d``: kernels ``(out, in, k, k)`` are turned by 180 degrees; the border is half a kernel."""

    def one(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return sum(convolve2d(map_, k, mode="same") for map_, k in zip(image, kernel, strict=True))

    out = np.stack([np.stack([one(image, kernel) for kernel in kernels]) for image in x])
    return out[:, :, ::stride, ::stride]


def transposed(x: np.ndarray, kernels: np.ndarray, stride: int) -> np.ndarray:
    """The gradient of :func:`true_convolution` by its input, as a matrix product; kernels ``(in, out, k, k)``."""
    count, side = kernels.shape[1], x.shape[-1] * stride
    basis = np.eye(count * side * side).reshape(-1, count, side, side)
    forward = true_convolution(basis, kernels, stride).reshape(len(basis), -1)  # row: input pixel; column: output pixel
    return (x.reshape(len(x), -1) @ forward.T).reshape(len(x), count, side, side)


def run_lists(generator: list, discriminator: list, z: np.ndarray, strides: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Both networks as the authors' code runs them, in float64."""
    g = [array.astype(np.float64) for array in generator]
    h = np.maximum(normalise(z @ g[0], g[1], g[2]), 0).reshape(len(z), -1, 4, 4)
    for place, stride in enumerate(strides):
        h = transposed(h, g[3 + 3 * place], stride)
        if 4 + 3 * place < len(g):
            h = np.maximum(normalise(h, g[4 + 3 * place], g[5 + 3 * place]), 0)
    images = np.tanh(h)
    d = [array.astype(np.float64) for array in discriminator]
    h = true_convolution(images, d[0], strides[-1])
    h = np.where(h > 0, h, 0.2 * h)
    for place, stride in enumerate(reversed(strides[:-1])):
        h = normalise(true_convolution(h, d[1 + 3 * place], stride), d[2 + 3 * place], d[3 + 3 * place])
        h = np.where(h > 0, h, 0.2 * h)
    return images, (h.reshape(len(h), -1) @ d[-1]).ravel()


def as_of_2015(arrays: list[np.ndarray], path: Path) -> None:
    """joblib before 0.10: every array in a file of its own beside the list."""
    wrappers = []
    for number, array in enumerate(arrays, 1):
        name = f"{path.name}_{number:02d}.npy"
        np.save(path.with_name(name), array)
        wrappers.append(NDArrayWrapper(name, np.ndarray, True))
    path.write_bytes(pickle.dumps(wrappers, protocol=2))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kernel", [5, 3])
def test_the_authors_lists_come_in_and_go_out(kernel: int, old: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(kernel)
    lists = theano_lists(kernel, rng)
    strides = [2, 2] if kernel == 5 else [2, 1, 2, 1]
    for name, arrays in zip(("gen_params", "discrim_params"), lists, strict=True):
        path = tmp_path / f"30_{name}.jl"
        as_of_2015(arrays, path) if old else joblib.dump(arrays, path)
    model = zoo.load(tmp_path)
    assert model.config.layout == ("paper" if kernel == 5 else "imagenet")
    z = rng.uniform(-1, 1, (5, 7))
    images, logits = run_lists(*lists, z, strides)
    with torch.no_grad():
        ours = model.generator(torch.from_numpy(z).float())
        judged = model.discriminator(torch.from_numpy(images).float())
    assert np.abs(ours.numpy() - images).max() < 1e-4
    assert np.abs(judged.numpy() - logits).max() < 1e-4 * max(1, np.abs(logits).max())
    zoo.save_weights(model, tmp_path / "back", format="theano")
    for name, arrays in zip(("gen_params", "discrim_params"), lists, strict=True):
        back = joblib.load(tmp_path / "back" / f"{name}.jl")
        assert len(back) == len(arrays)
        assert all(np.array_equal(a, b) for a, b in zip(arrays, back, strict=True))


def test_one_list_alone(tmp_path: Path) -> None:
    joblib.dump(theano_lists(5, np.random.default_rng(0))[0], tmp_path / "gen_params.jl")
    with pytest.warns(UserWarning, match="the discriminator is untrained"):
        assert zoo.load(tmp_path / "gen_params.jl").config.image_size == 16


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("joblib ran this",))


def test_a_list_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gen_params.jl").write_bytes(pickle.dumps(["joblib", Evil()], protocol=2))
    with pytest.raises(UserError, match="refused"):
        zoo.load(tmp_path / "gen_params.jl")
    assert "ran this" not in capsys.readouterr().out


def test_a_list_that_breaks_off_is_named(tmp_path: Path) -> None:
    joblib.dump(theano_lists(5, np.random.default_rng(0))[0], tmp_path / "gen_params.jl")
    whole = (tmp_path / "gen_params.jl").read_bytes()
    (tmp_path / "gen_params.jl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        zoo.load(tmp_path / "gen_params.jl")


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no layout 'paper'"):
        zoo.save_weights(zoo.create_model("dcgan-28"), tmp_path / "a", format="torch")
    with pytest.raises(UserError, match="no running statistics"):
        zoo.save_weights(zoo.create_model("dcgan-28"), tmp_path / "b", format="theano")
    assert not list(tmp_path.iterdir())
