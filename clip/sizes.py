"""The sizes of a CLIP model, told by the shapes of its tensors."""

from __future__ import annotations

from math import isqrt
from typing import Any

from zoo.clip.configs import ClipConfig
from zoo.shared.convert.formats import Recognised
from zoo.shared.convert.rules import Shapes
from zoo.shared.errors import UserError

# Head widths that are not 64 although no shape says so: ViT-H/14 of open_clip has 16 heads on 1280.
_HEAD_WIDTHS = {1280: 80}


def _depth(shapes: Shapes, prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})


def _heads(width: int, tower: str) -> int:
    each = _HEAD_WIDTHS.get(width, 64)
    if width % each:
        raise UserError(
            f"the {tower} tower has width {width}: how many heads is not in the file; "
            "give a folder with its config, or load it into a model of known size"
        )
    return width // each


def _grid(tokens: int, what: str) -> int:
    side = isqrt(max(tokens - 1, 0))
    if side == 0 or side * side + 1 != tokens:
        raise UserError(f"{tokens} {what} make no square of patches and a class token; zoo has square images only")
    return side


def config_from_shapes(shapes: Shapes, *, activation: str) -> ClipConfig | None:
    """Infer every size from shapes under zoo's names; heads are width / 64, as in the paper.

    Args:
        shapes: Name to shape.
        activation: Shapes do not say it.

    Returns:
        The config; None if the shapes are not those of a CLIP model.

    Raises:
        UserError: They are, but of one that zoo does not have.
    """
    tokens, positions = shapes.get("text.tokens.weight", ()), shapes.get("text.positions", ())
    projection = shapes.get("text.projection", ())
    if len(tokens) != 2 or len(positions) != 2 or len(projection) != 2:
        return None
    common: dict[str, Any] = {
        "embed_dim": projection[1],
        "text_width": tokens[1],
        "text_depth": _depth(shapes, "text.transformer.blocks."),
        "context": positions[0],
        "vocab_size": tokens[0],
        "text_heads": _heads(tokens[1], "text"),
        "activation": activation,
    }
    patch, grid = shapes.get("vision.patch.weight", ()), shapes.get("vision.positions", ())
    first, pool = shapes.get("vision.stages.0.0.conv1.weight", ()), shapes.get("vision.pool.positions", ())
    if len(first) == 4 and len(pool) == 2:
        depths = tuple(_depth(shapes, f"vision.stages.{stage}.") for stage in range(4))
        return ClipConfig(
            vision="resnet",
            image_size=32 * _grid(pool[0], "positions of the attention pool"),
            vision_width=first[0],
            vision_depth=(depths[0], depths[1], depths[2], depths[3]),
            vision_heads=first[0] // 2,
            **common,
        )
    if len(patch) == 4 and len(grid) == 2:
        return ClipConfig(
            image_size=patch[2] * _grid(grid[0], "positions"),
            patch_size=patch[2],
            vision_width=patch[0],
            vision_depth=_depth(shapes, "vision.transformer.blocks."),
            vision_heads=_heads(patch[0], "image"),
            **common,
        )
    if any(key.startswith("vision.trunk.") for key in shapes):
        raise UserError("the image tower is a timm model whose name is not in the file; give a folder with its config")
    return None


def from_shapes(shapes: Shapes, activation: str, *, settled: bool) -> Recognised | None:
    """What a file without settings holds.

    Args:
        shapes: Name to shape, under zoo's names.
        activation: The one to assume.
        settled: The file's kind settles the activation, so nothing is assumed.
    """
    config = config_from_shapes(shapes, activation=activation)
    if config is None:
        return None
    assumed = {}
    other = "gelu" if activation == "quick_gelu" else "quick_gelu"
    if not settled:
        assumed["activation"] = (
            f"the file does not say its activation; {activation} is assumed (the other one is {other}), "
            "wrong results tell the mistake"
        )
    if config.vision == "vit" and config.vision_width in _HEAD_WIDTHS:
        assumed["vision_heads"] = (
            f"the file does not say how many heads the image tower has; {config.vision_heads} are assumed"
        )
    return Recognised(config=config, assumed=assumed)
