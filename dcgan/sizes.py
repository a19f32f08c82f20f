"""The sizes of a DCGAN, told by the shapes of its tensors."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from typing import Any

from zoo.dcgan.configs import DcganConfig
from zoo.shared.convert.formats import Recognised
from zoo.shared.convert.rules import Shapes
from zoo.shared.convert.source import ARRAY
from zoo.shared.errors import UserError

_GREY_28 = "its last kernel is 1x1, which does not say the padding: 2 was assumed, for images of 28x28"


def _kernels(shapes: Shapes) -> list[tuple[int, ...]]:
    """Shapes of the kernels of a network of PyTorch's example, in order."""
    found = {int(key.split(".")[1]): shape for key, shape in shapes.items() if len(shape) == 4}
    return [found[number] for number in sorted(found)]


def from_states(generator: Shapes | None, discriminator: Shapes | None, *, part: str | None) -> Recognised:
    """Sizes from the state dicts of PyTorch's example, of which one may be missing.

    Args:
        generator: Name to shape of the generator's tensors.
        discriminator: The same of the discriminator's.
        part: See :class:`~zoo.shared.convert.formats.Recognised`.

    Raises:
        UserError: It is no such network.
    """
    told: dict[str, Any] = {"layout": "torch", "prior": "normal", "batch_norm": "running"}
    assumed: dict[str, str] = {}
    if generator is not None:
        _generator(generator, told, assumed)
    if discriminator is not None:
        kernels = _kernels(discriminator)
        if len(kernels) < 2 or kernels[-1][0] != 1:
            raise UserError("the discriminator has no last convolution that makes one number")
        stages, end = len(kernels) - 1, kernels[-1][2]
        told |= {"discriminator_stages": stages, "discriminator_width": kernels[0][0], "channels": kernels[0][1]}
        if generator is None:
            told["image_size"] = _image_of(stages, end, told["channels"])
            told["width"] = told.pop("discriminator_width")
        if end != _halved(told["image_size"], stages):
            told["discriminator_end"] = (end, 2, 1)
    return Recognised(config=_config(told), assumed=assumed, part=part)


def _generator(shapes: Shapes, told: dict[str, Any], assumed: dict[str, str]) -> None:
    kernels = _kernels(shapes)
    if len(kernels) < 2:
        raise UserError("the generator has fewer than two transposed convolutions")
    last = kernels[-1][2]
    told |= {"latent": kernels[0][0], "width": kernels[-1][0], "channels": kernels[-1][1]}
    side = kernels[0][2] << (len(kernels) - 2)
    if last == 4:
        told["image_size"] = 2 * side
    elif last == 1 and told["channels"] == 1 and side == 32:
        told |= {"image_size": 28, "generator_end": (1, 1, 2)}
        assumed["generator_end"] = _GREY_28
    elif last % 2:
        told |= {"image_size": side, "generator_end": (last, 1, last // 2)}
    else:
        raise UserError(f"the generator's last kernel is {last}x{last}; zoo knows 4x4 and odd ones")


def _image_of(stages: int, end: int, channels: int) -> int:
    """Side of the images of a discriminator alone, whose last layer covers the whole map."""
    return 28 if (stages, end, channels) == (3, 4, 1) else end << stages


def _halved(side: int, stages: int) -> int:
    for _ in range(stages):
        side = (side - 2) // 2 + 1
    return side


def from_lists(generator: Shapes | None, discriminator: Shapes | None, *, part: str | None) -> Recognised:
    """Sizes from the authors' lists of arrays, of which one may be missing.

    Args:
        generator: ``array.N`` to shape.
        discriminator: The same.
        part: See :class:`~zoo.shared.convert.formats.Recognised`.

    Raises:
        UserError: They are no such lists.
    """
    told: dict[str, Any] = {"prior": "uniform", "batch_norm": "batch", "batch_norm_eps": 1e-8}
    if discriminator is not None:
        count = len(discriminator)
        first, head = discriminator[f"{ARRAY}0"], discriminator[f"{ARRAY}{count - 1}"]
        layers = (count - 2) // 3 + 1
        last = discriminator[f"{ARRAY}{max(0, count - 4)}"]
        if len(first) != 4 or len(head) != 2 or (count - 2) % 3:
            raise UserError("the discriminator's list is not: kernel, (kernel, gain, shift) ..., matrix")
        told |= {"layout": _layout(first[2]), "channels": first[1], "discriminator_width": first[0]}
        halvings = layers // 2 if told["layout"] == "imagenet" else layers
        told["image_size"] = isqrt(head[0] // last[0]) << halvings
    if generator is not None:
        count = len(generator)
        kernels = [shape for shape in generator.values() if len(shape) == 4]
        if count % 3 != 1 or not kernels or len(generator[f"{ARRAY}0"]) != 2:
            raise UserError("the generator's list is not: (matrix, gain, shift), (kernel, gain, shift) ..., kernel")
        latent, units = generator[f"{ARRAY}0"]
        told |= {"layout": _layout(kernels[0][2]), "latent": latent, "channels": kernels[-1][1]}
        told["width"] = kernels[-1][0]
        doublings = len(kernels) // 2 if told["layout"] == "imagenet" else len(kernels)
        told["image_size"] = isqrt(units // kernels[0][0]) << doublings
    else:
        told["width"] = told.pop("discriminator_width")
    return Recognised(config=_config(told), part=part)


def _layout(kernel: int) -> str:
    if kernel not in (3, 5):
        raise UserError(f"the lists have kernels of {kernel}x{kernel}; the authors' models have 5x5 or 3x3 ones")
    return "paper" if kernel == 5 else "imagenet"


def from_zoo(shapes: Shapes) -> Recognised | None:
    """Sizes from zoo's own names, for a file that has lost its settings; None if it is of another family."""
    if "generator.project.weight" not in shapes or "discriminator.head.weight" not in shapes:
        return None
    project, normed = shapes["generator.project.weight"], "generator.project_norm.weight" in shapes
    layers = {name: _ours(shapes, name) for name in ("generator", "discriminator")}
    if len(project) == 4:
        generator = {f"main.{n}.weight": shape for n, shape in enumerate([project, *layers["generator"]])}
        head = shapes["discriminator.head.weight"]
        discriminator = {f"main.{n}.weight": shape for n, shape in enumerate([*layers["discriminator"], head])}
        found = from_states(generator, discriminator, part=None)
        return found if normed else replace(found, config=replace(found.config, batch_norm="none"))
    kernels = layers["generator"]
    doublings = len(kernels) // 2 if kernels[0][2] == 3 else len(kernels)
    told = {
        "layout": _layout(kernels[0][2]),
        "latent": project[1],
        "channels": kernels[-1][1],
        "width": kernels[-1][0],
        "discriminator_width": layers["discriminator"][0][0],
        "image_size": isqrt(project[0] // kernels[0][0]) << doublings,
        "batch_norm": "running" if normed else "none",
    }
    return Recognised(config=_config(told))


def _ours(shapes: Shapes, network: str) -> list[tuple[int, ...]]:
    return [shapes[key] for number in range(99) if (key := f"{network}.layers.{number}.weight") in shapes]


def _config(told: dict[str, Any]) -> DcganConfig:
    if told.get("discriminator_width") == told["width"]:
        told.pop("discriminator_width")
    try:
        config = DcganConfig(**told)
        if config.discriminator_stages == config.doublings:
            told.pop("discriminator_stages")
            config = DcganConfig(**told)
    except ValueError as error:
        raise UserError(f"the sizes make no DCGAN: {error}") from error
    return config
