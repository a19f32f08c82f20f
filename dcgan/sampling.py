"""Images from trained weights: the same latent vector gives the same image, whatever is drawn beside it.

Shapes: N images, Z numbers of a latent vector, C channels, H = W side of an image.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.dcgan.model import DCGAN, Discriminator, estimate_statistics
from zoo.shared.errors import UserError
from zoo.shared.files import read_json

_BATCHES, _BATCH = 8, 128  # that statistics are estimated on


def ready(model: DCGAN, *, seed: int = 0) -> DCGAN:
    """Put a model into ``eval()`` mode, with fixed statistics in its generator.

    A model with ``batch_norm="batch"`` normalises by the statistics of the batch, so that an image depends on the
    images beside it. Its statistics are estimated on 8 batches of 128 latent vectors and kept from then on.

    Args:
        model: Changed in place.
        seed: Chooses the latent vectors of the estimate.

    Returns:
        The model.
    """
    model.eval()
    if model.config.batch_norm == "batch":
        estimate_statistics(model.generator, model.draw(_BATCHES * _BATCH, seed=seed).split(_BATCH))
    return model


def fixed_discriminator(model: DCGAN, images: Tensor) -> Discriminator:
    """A copy of the discriminator, in ``eval()`` mode, whose statistics are those of real images.

    The authors' code fixes them so before it takes features: as the mean over the training set's batches.

    Args:
        model: Stays as it is.
        images: Real images ``(N, C, H, W)`` in [-1, 1], at least one batch of 128, or fewer in one batch.
    """
    network = copy.deepcopy(model.discriminator).eval()
    batches = [batch for batch in images.split(_BATCH) if len(batch) == _BATCH] or [images]
    place = next(network.parameters()).device
    estimate_statistics(network, (batch.to(place) for batch in batches))
    return network


@torch.no_grad()
def images_of(model: DCGAN, z: Tensor, batch: int = 128, drop: dict[int, Tensor] | None = None) -> Tensor:
    """Images ``(N, C, H, W)`` in [-1, 1] of latent vectors ``(N, Z)``, on the CPU.

    Args:
        model: As :func:`ready` leaves it.
        z: The latent vectors.
        batch: Images made at once.
        drop: Maps to switch off, as :meth:`~zoo.dcgan.model.Generator.forward` takes them.
    """
    place = next(model.parameters()).device
    return torch.cat([model.generator(part.to(place), drop).cpu() for part in z.split(batch)])


def read_latents(path: str | Path, *, latent: int) -> Tensor:
    """Latent vectors ``(N, Z)`` from a file: ``.npy``, or ``.json`` with a list of lists.

    Args:
        path: The file; a single vector is a batch of one.
        latent: Numbers Z of the model's latent vectors.

    Raises:
        UserError: It cannot be read, or holds something else.
    """
    path = Path(path).expanduser()
    try:
        found = np.asarray(read_json(path) if path.suffix.lower() == ".json" else np.load(path, allow_pickle=False))
        z = torch.from_numpy(found.astype(np.float32))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} holds no numbers; give a .npy or .json file of shape (N, {latent})") from error
    z = z[None] if z.dim() == 1 else z
    if z.dim() != 2 or z.shape[1] != latent or not len(z):
        raise UserError(f"{path} has shape {tuple(found.shape)}; the model's latent vectors are (N, {latent})")
    if not bool(z.isfinite().all()):
        raise UserError(f"{path} holds NaN or infinity; latent vectors are finite numbers")
    return z
