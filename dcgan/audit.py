"""What DCGAN's first batch and first losses must look like."""

from __future__ import annotations

import math
from typing import Any

import torch

from zoo.shared.audit import Check


@torch.no_grad()
def audit(task: Any, datamodule: Any) -> list[Check]:
    """Look at one batch of at most 64 images.

    Args:
        task: The :class:`~zoo.dcgan.task.DcganTask` that will be trained.
        datamodule: A set-up :class:`~zoo.dcgan.data.DcganDataModule`.
    """
    batch, weight = datamodule.peek(64), next(task.model.parameters())
    image, z, config = batch["image"].to(weight), batch["z"].to(weight), task.model.config
    checks = [shapes(image, z, config), values(image), distinct(image), latent(z, config.prior)]
    if not all(check.passed for check in checks):
        return checks
    state = {key: tensor.clone() for key, tensor in task.model.state_dict().items()}
    _, discriminator, generator = task.loss({"image": image, "z": z})
    task.model.load_state_dict(state)  # the running statistics have moved
    checks += [first_loss("discriminator", discriminator, 2), first_loss("generator", generator, 1)]
    return checks


def first_loss(name: str, loss: torch.Tensor, terms: int) -> Check:
    """An untrained discriminator tells nothing apart: ln 2 for each term. A trained one is anywhere below."""
    value, chance = float(loss), terms * math.log(2)
    return Check(
        name=f"{name}'s first loss",
        found=f"{value:.3f}",
        expected=f"{terms} ln 2 = {chance:.3f} within {terms} untrained, finite otherwise",
        passed=math.isfinite(value) and (value < chance + terms or terms == 1),
    )


def shapes(image: torch.Tensor, z: torch.Tensor, config: Any) -> Check:
    """Images and latent vectors are of the model's size."""
    return Check(
        name="shapes",
        found=f"image {tuple(image.shape)}, z {tuple(z.shape)}",
        expected=f"image (B, {', '.join(map(str, config.image_shape))}), z (B, {config.latent})",
        passed=tuple(image.shape[1:]) == config.image_shape and tuple(z.shape[1:]) == (config.latent,),
    )


def values(image: torch.Tensor) -> Check:
    """Pixels are in [-1, 1], as the tanh's, and the images show something."""
    low, high = float(image.min()), float(image.max())
    flat = int((image.flatten(1).std(-1) < 1e-3).sum())
    return Check(
        name="images show something",
        found=f"values from {low:.2f} to {high:.2f}, {flat} of {len(image)} of one colour",
        expected="from -1 to 1, fewer than half of one colour",
        passed=bool(image.isfinite().all()) and low >= -1 and high <= 1 and flat * 2 < len(image),
    )


def distinct(image: torch.Tensor) -> Check:
    """Not the same image again and again: a GAN that has one image to learn collapses onto it."""
    count = len(torch.unique(image.flatten(1), dim=0))
    return Check(
        name="images differ",
        found=f"{count} distinct of {len(image)}",
        expected="more than half, and more than 1",
        passed=count * 2 > len(image) and count > 1,
    )


def latent(z: torch.Tensor, prior: str) -> Check:
    """Latent vectors are drawn from the prior."""
    deviation, wanted = float(z.std()), 3**-0.5 if prior == "uniform" else 1.0
    error = 5 * wanted / math.sqrt(2 * z.numel())
    return Check(
        name="latent vectors",
        found=f"standard deviation {deviation:.3f}",
        expected=f"{wanted:.3f} within {error:.3f} ({prior})",
        passed=abs(deviation - wanted) < error,
    )
