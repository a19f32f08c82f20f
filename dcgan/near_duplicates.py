"""Near-duplicate images by semantic hashing (DCGAN, arXiv:1511.06434, Section 4.1.1).

The paper fits a 3072-128-3072 denoising autoencoder with dropout and ReLUs to 32x32 downsampled centre crops and
thresholds the code's ReLUs to bits. Images of equal bits are near-duplicates: of about 3 million bedrooms it removed
some 275,000, less than 1 in 100 of them wrongly.

What the paper does not say, and is ours, measured on MNIST, emoji and crops of photographs with planted copies:

- Each image has its own mean taken off and is divided by its own deviation, so that lighter and darker copies have
  the same bits; images of a single grey are then alike, whatever that grey is.
- The mean of all images is taken off. Without it more than 100 of 128 units never fire for images on plain
  backgrounds, and four in ten different digits share their bits.
- The noise is Gaussian, 0.6 deviations; a fifth of the code is dropped.
- Training is at least 2,500 batches of 128, with Adam and a single cycle of the rate. A longer training drops fewer
  different images.

Equal bits miss about half of the copies that differ by compression, size, brightness or a little noise; most of these
differ in at most 2 bits. A copy that is shifted or cropped has other bits.

Shapes: N images, B bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from zoo.dcgan.configs import DcganConfig
from zoo.dcgan.hash_groups import Bytes, Progress, parts
from zoo.dcgan.pixels import fit, to_signed
from zoo.shared.data.image_sources import ImageSource
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError

BITS = 128
"""Units of the code (the paper)."""
SIDE = 32
"""Side of the images that are hashed, in pixels (the paper)."""
BATCHES = 2500
"""Batches that are trained on at least."""

_BATCH, _RATE = 128, 1e-3
_NOISE, _DROPOUT = 0.6, 0.2
_LEAST_DEVIATION = 0.1  # of pixels in [-1, 1]; what is flatter is not made to stand out
_VALUES = 3 * SIDE * SIDE
_ENOUGH = 1000  # the share of bad images is taken of at least so many, as in training


class Autoencoder(nn.Module):
    """A hidden layer of ReLUs between 3072 values and themselves.

    Args:
        mean: Mean of the training images ``(3072,)``.
        bits: Units of the hidden layer.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, *, bits: int = BITS) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.encoder = nn.Linear(_VALUES, bits)
        self.decoder = nn.Linear(bits, _VALUES)

    def code(self, images: Tensor) -> Tensor:
        """Activations ``(N, B)`` of standardised images ``(N, 3072)``."""
        return F.relu(self.encoder(images - self.mean))

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructions ``(N, 3072)``; in training of noisy images, with a part of the code dropped."""
        if self.training:
            images = images + _NOISE * torch.randn_like(images)
        return self.decoder(F.dropout(self.code(images), _DROPOUT, self.training)) + self.mean


def read_small(
    source: ImageSource, path: Path, *, max_bad_fraction: float, workers: int, progress: Progress
) -> tuple[Bytes, NDArray[np.int64], dict[str, str]]:
    """Reduce all images to 32x32 centre crops in a file that is mapped into memory.

    Args:
        source: The images.
        path: The file; takes 3 KiB an image.
        max_bad_fraction: Share of images that may be unreadable.
        workers: Processes that read; 0 reads in this one.
        progress: Told of every image.

    Returns:
        The crops ``(N, 3072)`` of the images that can be read, their numbers in the source ``(N,)``, and the ids of
        the others with the reason.

    Raises:
        UserError: Too many cannot be read, or fewer than two can.
    """
    total = len(source)
    small = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(total, _VALUES))
    numbers = np.empty(total, dtype=np.int64)
    bad: dict[str, str] = {}
    count = 0
    loader = DataLoader(
        _Small(source), batch_size=64, num_workers=workers, collate_fn=list, worker_init_fn=_ignore_interrupts
    )
    for number, found in enumerate(item for batch in loader for item in batch):
        if isinstance(found, str):
            bad[source.id(number)] = found
        else:
            small[count], numbers[count] = found, number
            count += 1
        if len(bad) > max_bad_fraction * max(total, _ENOUGH):
            raise UserError(
                f"{len(bad)} of the first {number + 1} images cannot be read, more than --max-bad-fraction "
                f"{max_bad_fraction:g} allows: {_example(bad)}; mend or remove them, or raise the limit"
            )
        progress("reading", number + 1, total)
    if count < 2:
        raise UserError(f"only {count} of {total} images can be read: {_example(bad)}; there is nothing to compare")
    return small[:count], numbers[:count], bad


def train(
    small: Bytes, *, bits: int, epochs: int | None, seed: int, device: str, progress: Progress
) -> tuple[Autoencoder, dict[str, Any]]:
    """Fit an autoencoder to images.

    Args:
        small: The images ``(N, 3072)``.
        bits: Units of the code.
        epochs: Passes over the images; None: as many as make :data:`BATCHES` batches.
        seed: Of weights, order, noise and dropout.
        device: Where to train.
        progress: Told of every batch.

    Returns:
        The autoencoder in ``eval()`` mode, and figures: epochs, batches, and the squared error of the last batches
        as a share of the variance.
    """
    batches = math.ceil(len(small) / _BATCH)
    epochs = epochs or math.ceil(BATCHES / batches)
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        mean, variance = _moments(small)
        model = Autoencoder(mean, bits=bits).to(device).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * batches, pct_start=0.1)
        errors: list[Tensor] = []
        for number, rows in enumerate(_orders(len(small), epochs=epochs, seed=seed), 1):
            images = standardised(small[rows], device)
            loss = F.mse_loss(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            errors = [*errors[-49:], loss.detach()]
            progress("learning", number, epochs * batches)
    error = float(torch.stack(errors).mean()) / max(variance, 1e-12)
    return model.eval(), {"epochs": epochs, "batches": epochs * batches, "error": error}


@torch.no_grad()
def hashes(model: Autoencoder, small: Bytes, *, device: str, progress: Progress) -> Bytes:
    """The bits of images ``(N, 3072)``: which units of the code are above 0, eight to a byte ``(N, ceil(B / 8))``."""
    found = []
    for part in parts(len(small)):
        found.append(np.packbits((model.code(standardised(small[part], device)) > 0).cpu().numpy(), axis=1))
        progress("hashing", part.stop, len(small))
    return np.concatenate(found)


def pixels_apart(small: Bytes, leaders: NDArray[np.int64]) -> NDArray[np.float64]:
    """Root mean square difference of each image's pixels from those of the one that stands for it ``(N,)``, of 255."""
    found = np.zeros(len(small))
    dropped = np.flatnonzero(leaders != np.arange(len(small)))
    for part in parts(len(dropped)):
        rows = dropped[part]
        difference = small[rows].astype(np.float32) - small[leaders[rows]]
        found[rows] = np.sqrt(np.square(difference).mean(1))
    return found


class _Small(Dataset[Any]):
    """Images as 32x32 centre crops, or the reason why they cannot be read."""

    def __init__(self, source: ImageSource) -> None:
        self.source, self.config = source, DcganConfig(image_size=SIDE, channels=3)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Bytes | str:
        try:
            return fit(self.source.image(i), config=self.config, enlarge=True).reshape(-1)
        except BadSample as error:
            return str(error)


def _ignore_interrupts(worker: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the workers


def _example(bad: dict[str, str]) -> str:
    return "; ".join(f"{name} {reason}" for name, reason in list(bad.items())[:1])


def standardised(small: Bytes, device: str = "cpu") -> Tensor:
    """Images ``(N, 3072)`` as floats, each of mean 0 and, unless it is flat, of deviation 1."""
    images = to_signed(torch.from_numpy(np.array(small)).to(device))
    images = images - images.mean(1, keepdim=True)
    return images / images.std(1, correction=0, keepdim=True).clamp_min(_LEAST_DEVIATION)


def _moments(small: Bytes) -> tuple[Tensor, float]:
    """Mean of standardised images ``(3072,)``, and the mean variance of their values."""
    total, square = torch.zeros(_VALUES, dtype=torch.float64), 0.0
    for part in parts(len(small)):
        images = standardised(small[part]).double()
        total, square = total + images.sum(0), square + float(images.square().sum())
    mean = total / len(small)
    return mean.float(), square / small.size - float(mean.square().mean())


def _orders(count: int, *, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of each batch, in another order every epoch; those of a batch rise, as files are read best."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count, _BATCH):
            yield np.sort(order[start : start + _BATCH])
