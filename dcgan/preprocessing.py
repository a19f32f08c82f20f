"""What DCGAN sees of an image: the transform that belongs to its weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from zoo.dcgan.configs import DcganConfig
from zoo.dcgan.pixels import fit, to_signed
from zoo.shared.data.images import BadSample, open_image
from zoo.shared.errors import UserError
from zoo.shared.files import write_json


class DcganPreprocessor:
    """Images to the tensors that a discriminator takes: the middle square, in the model's colours, in [-1, 1].

    Args:
        config: Shapes of the model.
    """

    def __init__(self, config: DcganConfig) -> None:
        self.config = config

    def image(self, x: Image.Image | str | Path) -> Tensor:
        """Preprocess one image: ``(C, S, S)`` in [-1, 1]. Images that are smaller than S are enlarged.

        Raises:
            UserError: The file is missing, damaged or no image.
        """
        try:
            opened = open_image(x) if isinstance(x, str | Path) else x
            return to_signed(torch.from_numpy(fit(opened, config=self.config, enlarge=True).copy()))
        except BadSample as error:
            raise UserError(f"cannot use image {x}: {error}") from error

    def images(self, xs: Iterable[Image.Image | str | Path]) -> Tensor:
        """Preprocess several images: ``(B, C, S, S)``."""
        rows = [self.image(x) for x in xs]
        return torch.stack(rows) if rows else torch.empty(0, *self.config.image_shape)

    @classmethod
    def for_model(cls, config: DcganConfig) -> DcganPreprocessor:
        """The preprocessing of a model."""
        return cls(config)

    @classmethod
    def load(cls, folder: str | Path | None, config: DcganConfig) -> DcganPreprocessor:
        """The preprocessing beside weights, which the model's sizes decide."""
        return cls(config)

    def save(self, folder: str | Path) -> None:
        """Write ``preprocessor_config.json``, for people and other programs."""
        settings = {"image_size": self.config.image_size, "channels": self.config.channels, "mean": 0.5, "std": 0.5}
        write_json(Path(folder) / "preprocessor_config.json", settings)
