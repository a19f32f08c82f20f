"""Images and latent vectors for DCGAN: bytes from the workers, scaled to [-1, 1] on the accelerator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.dcgan.configs import DcganConfig
from zoo.dcgan.pixels import fit, to_signed
from zoo.shared.data.datamodule import Item, KeyedDataModule, KeyedDataset, collate, log
from zoo.shared.data.image_sources import ImageSource, open_images
from zoo.shared.data.images import BadSample
from zoo.shared.data.order import GlobalBatchSampler
from zoo.shared.data.pairs import split_by_concept
from zoo.shared.errors import UserError


class DcganDataModule(KeyedDataModule):
    """Images to train a DCGAN on, each with the latent vector of the image that is generated beside it.

    A batch has ``image`` (B, C, H, W) floats in [-1, 1] (bytes before ``on_after_batch_transfer``), ``z`` (B, Z)
    float32 drawn from the model's prior, ``label`` (B,) int64 (-1 where there is none), ``index`` (B,) and ``bad``
    (B,). The latent vectors belong to the samples, so that they are the same whatever the workers and processes.

    Args:
        config: Shapes of the model: image size, channels, latent vectors.
        source: ``mnist`` (5,000 digits), ``digits`` (scikit-learn's), ``emoji``, ``shapes`` (drawn on the spot, for
            tests), ``torchvision:NAME`` or a folder of images.
        root: Where a set of torchvision has its files, or is to be downloaded to.
        batch_size: Images in a batch of all processes together.
        workers: Processes that read samples; 0 reads in the main process.
        seed: Chooses order, latent vectors, mirroring and the split.
        held_out: Share of the images that is held out for scoring.
        flip: Chance of mirroring a training image; the paper does not.
        enlarge: Take images that are smaller than the model's, too, and enlarge them.
        max_bad_fraction: The run stops when a larger share of the images cannot be used.

    Attributes:
        images: All images, once they are opened.
    """

    def __init__(
        self,
        *,
        config: DcganConfig,
        source: str = "mnist",
        root: str | None = None,
        batch_size: int = 128,
        workers: int = 0,
        seed: int = 0,
        held_out: float = 0.2,
        flip: float = 0.0,
        enlarge: bool = False,
        max_bad_fraction: float = 0.01,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed, max_bad_fraction=max_bad_fraction)
        if not 0 <= held_out < 1:
            raise UserError(f"held_out must be at least 0 and below 1, not {held_out}")
        if not 0 <= flip <= 1:
            raise UserError(f"flip must be from 0 to 1, not {flip}")
        if config.channels not in (1, 3):
            raise UserError(f"images have 1 or 3 colours, the model has {config.channels}; use --model.channels 1 or 3")
        self.config = config
        self.source = source
        self.root = root
        self.held_out = held_out
        self.flip = flip
        self.enlarge = enlarge

    def open(self) -> tuple[ImageItems, ImageItems | None]:
        """Open the source and split it."""
        self.images = open_images(self.source, size=self.config.image_size, root=self.root, progress=log.info)
        train, held_out = split_by_concept(self.images, held_out=self.held_out, seed=self.seed)
        trained = ImageItems(self.images, train, config=self.config, enlarge=self.enlarge, flip=self.flip)
        scored = ImageItems(self.images, held_out, config=self.config, enlarge=self.enlarge, flip=0.0)
        return trained, scored if held_out else None

    @property
    def train_items(self) -> ImageItems:
        """The images to train on."""
        return self.readers[0]  # type: ignore[return-value]

    @property
    def held_out_items(self) -> ImageItems | None:
        """The images to score on; None when nothing is held out."""
        return self.readers[1]  # type: ignore[return-value]

    def peek(self, count: int) -> Item:
        """The first samples of the first training batch, as the model gets them, without starting workers."""
        reader = self.readers[0]
        size = min(self.batch_size, len(reader))
        sampler = GlobalBatchSampler(len(reader), batch_size=size, seed=self.seed)
        dataset = KeyedDataset(reader, seed=self.seed)
        batch = collate([dataset[key] for key in next(iter(sampler))[:count]])
        self._watch(batch, 0.0)
        return self.on_after_batch_transfer(batch, 0)

    def on_after_batch_transfer(self, batch: Item, dataloader_idx: int) -> Item:
        """Scale bytes to [-1, 1] where the batch now is."""
        # The trainer has put floats, such as z, into its precision, but not bytes.
        return {**batch, "image": to_signed(batch["image"], batch["z"].dtype)}


class ImageItems:
    """Prepares images for a batch; see :class:`DcganDataModule`.

    Args:
        source: The images.
        indices: Which of them, in this order.
        config: Shapes of the model.
        enlarge: Take images that are smaller than the model's, too.
        flip: Chance of mirroring.
    """

    def __init__(
        self, source: ImageSource, indices: list[int], *, config: DcganConfig, enlarge: bool, flip: float
    ) -> None:
        self.source = source
        self.indices = indices
        self.config = config
        self.enlarge = enlarge
        self.flip = flip

    def __len__(self) -> int:
        return len(self.indices)

    def id(self, index: int) -> str:
        """What a person recognises the sample by."""
        return self.source.id(self.indices[index])

    def label(self, index: int) -> int | None:
        """Class of the sample, or None."""
        return self.source.label(self.indices[index])

    def pixels(self, index: int) -> np.ndarray:
        """The image as the model's bytes ``(C, H, W)``. Raises :class:`BadSample`."""
        return fit(self.source.image(self.indices[index]), config=self.config, enlarge=self.enlarge)

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """Bytes ``(C, H, W)``, latent vector ``(Z,)`` and label."""
        mirror, label = rng.random(), self.label(index)
        z = rng.uniform(-1, 1, self.config.latent) if self.config.prior == "uniform" else rng.normal(
            size=self.config.latent
        )  # fmt: skip
        pixels = self.pixels(index)
        if mirror < self.flip:
            pixels = pixels[:, :, ::-1]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels)),
            "z": torch.from_numpy(z.astype(np.float32)),
            "label": -1 if label is None else label,
        }

    def tensor(self, indices: Any = None) -> tuple[Tensor, Tensor]:
        """Images ``(N, C, H, W)`` in [-1, 1] and labels ``(N,)``; those that cannot be read are left out.

        Args:
            indices: Which; all by default.
        """
        found, labels = [], []
        for index in range(len(self)) if indices is None else indices:
            try:
                found.append(torch.from_numpy(self.pixels(index)))
            except BadSample:
                continue
            label = self.label(index)
            labels.append(-1 if label is None else label)
        images = torch.stack(found) if found else torch.empty(0, *self.config.image_shape, dtype=torch.uint8)
        return to_signed(images), torch.tensor(labels)
