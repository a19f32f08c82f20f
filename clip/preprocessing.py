"""What CLIP sees of an image and of a text: the transforms that belong to its weights.

Shapes: B images, S image side, N texts, T tokens (the context).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.clip.configs import ClipConfig
from zoo.clip.tokenizer import VOCAB_SIZE, ClipTokenizer, Policy
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json

# OpenAI's channel statistics of WIT; all of its weights and most of open_clip's expect them.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# Beyond this ratio the ends, which the centre crop drops anyway, are cut before resizing: a picture of
# 1 x 50,000 pixels would need gigabytes otherwise.
_LONGEST_RATIO = 64


def resize_and_crop(image: Image.Image, side: int) -> Image.Image:
    """Scale the short side to ``side`` (bicubic) and cut the square in the middle, in the mode it has.

    Raises:
        UserError: The image has no pixels.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short == 0:
        raise UserError(f"image of {width} x {height} pixels has nothing to see")
    if long > _LONGEST_RATIO * short:
        spare = (long - _LONGEST_RATIO * short) // 2
        image = image.crop((spare, 0, width - spare, height) if width > height else (0, spare, width, height - spare))
        width, height = image.size
        long = max(width, height)
    scaled = int(side * long / short)
    size = (scaled, side) if width > height else (side, scaled)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return image.crop((left, top, left + side, top + side))


def _statistics(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3 or not all(isinstance(v, int | float) for v in values):
        raise UserError(f"{name} needs three numbers, one a channel, not {values!r}")
    if name == "std" and min(values) <= 0:
        raise UserError(f"std must be positive, not {values!r}")
    red, green, blue = (float(v) for v in values)
    return red, green, blue


class ClipPreprocessor:
    """Images and texts to the tensors that a CLIP model takes.

    Args:
        image_size: Side of the square that the model sees, in pixels.
        context: Tokens of a text, start and end included.
        policy: What happens to texts that are too long; see :class:`ClipTokenizer`.
        mean: Mean of each channel, subtracted.
        std: Standard deviation of each channel, divided by.
    """

    def __init__(
        self,
        *,
        image_size: int,
        context: int = 77,
        policy: Policy = "truncate",
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
            raise UserError(f"image_size={image_size!r}: it must be a whole number of pixels")
        self.image_size = image_size
        self.mean = _statistics("mean", mean)
        self.std = _statistics("std", std)
        self.tokenizer = ClipTokenizer(context=context, policy=policy)

    def __repr__(self) -> str:
        return f"ClipPreprocessor(image_size={self.image_size}, context={self.tokenizer.context})"

    def image(self, x: Image.Image | str | Path) -> Tensor:
        """Preprocess one image.

        A PIL image is taken as it is, in its mode and orientation, and gives exactly what open_clip's
        evaluation transform gives. A file is opened as a viewer shows it: turned upright by its EXIF tag and
        converted to 8-bit RGB *before* it is scaled. open_clip looks at no EXIF tag, scales palettes without
        smoothing and clips 16-bit greys.

        Args:
            x: A PIL image, or the path of an image file.

        Returns:
            ``(3, S, S)``, float32.

        Raises:
            UserError: The file is missing, damaged or no image.
        """
        if isinstance(x, str | Path):
            from zoo.shared.data.images import BadSample, open_image

            try:
                x = open_image(x)
            except BadSample as error:
                raise UserError(f"cannot use image {x}: {error}") from error
        elif not isinstance(x, Image.Image):
            raise UserError(f"an image must be a PIL image or a path, not {type(x).__name__}")
        pixels = np.array(resize_and_crop(x, self.image_size).convert("RGB"))
        scaled = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
        return scaled.sub_(torch.tensor(self.mean).view(3, 1, 1)).div_(torch.tensor(self.std).view(3, 1, 1))

    def images(self, xs: Iterable[Image.Image | str | Path]) -> Tensor:
        """Preprocess several images: ``(B, 3, S, S)``."""
        rows = [self.image(x) for x in xs]
        return torch.stack(rows) if rows else torch.empty(0, 3, self.image_size, self.image_size)

    def text(self, texts: str | Sequence[str]) -> Tensor:
        """Tokenize one text or N of them: ``(N, T)``."""
        return self.tokenizer(texts)

    @classmethod
    def for_model(cls, config: ClipConfig) -> ClipPreprocessor:
        """The preprocessing of a model that is known by its config only.

        Raises:
            UserError: The model has too few token embeddings for CLIP's vocabulary.
        """
        if config.vocab_size < VOCAB_SIZE:
            raise UserError(f"vocab_size={config.vocab_size}: CLIP's vocabulary has {VOCAB_SIZE} tokens")
        return cls(image_size=config.image_size, context=config.context)

    def save(self, folder: str | Path) -> None:
        """Write ``preprocessor_config.json``, as ``transformers`` reads it too, and the tokenizer's files."""
        settings = {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.image_size},
            "resample": int(Image.Resampling.BICUBIC),
            "do_center_crop": True,
            "crop_size": {"height": self.image_size, "width": self.image_size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        write_json(Path(folder) / "preprocessor_config.json", settings)
        self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: str | Path | None, config: ClipConfig) -> ClipPreprocessor:
        """Read the preprocessing that lies beside weights; what is not written down comes from ``config``.

        Args:
            folder: A folder of ours, of ``transformers`` or of open_clip. None: there is none, just a file.
            config: The model's sizes, which win over the files' ones.

        Raises:
            UserError: A file is damaged.
        """
        made = cls.for_model(config)
        if folder is None:
            return made
        mean, std = _stored_statistics(Path(folder))
        made.mean = _statistics("mean", mean)
        made.std = _statistics("std", std)
        made.tokenizer = ClipTokenizer(context=config.context, policy=ClipTokenizer.load(folder).policy)
        return made


def _stored_statistics(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std from whichever settings file a folder has."""
    ours, theirs = folder / "preprocessor_config.json", folder / "open_clip_config.json"
    settings: Any = {}
    if ours.exists():
        settings = read_json(ours)
        if not isinstance(settings, dict):
            raise UserError(f"{ours} does not hold settings")
        return settings.get("image_mean", MEAN), settings.get("image_std", STD)
    if theirs.exists():
        settings = read_json(theirs)
        settings = settings.get("preprocess_cfg", {}) if isinstance(settings, dict) else {}
        for name, value in (("resize_mode", "shortest"), ("interpolation", "bicubic")):
            if settings.get(name, value) != value:
                warnings.warn(f"{theirs} asks for {name}={settings[name]}; {value} is used", stacklevel=4)
    return settings.get("mean", MEAN), settings.get("std", STD)
