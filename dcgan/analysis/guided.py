"""What features of the discriminator look at (Figure 5): guided backpropagation of their strongest responses.

Guided backpropagation (Springenberg et al. 2014, arXiv:1412.6806) lets a gradient through a rectifier only where the
rectifier's input and the gradient itself are positive. Of the discriminator's leaky rectifiers the leak counts as
shut: where the input is negative nothing passes, instead of a fifth.

Shapes: N images, F features, E examples of a feature, C channels, H = W side of an image, S side of the last map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zoo.dcgan.model import DCGAN, SLOPE, Discriminator
from zoo.dcgan.pictures import beside, grid, titled
from zoo.dcgan.sampling import fixed_discriminator
from zoo.shared.errors import UserError


class GuidedLeakyReLU(torch.autograd.Function):
    """The discriminator's leaky ReLU with the backward pass of guided backpropagation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Leaky ReLU."""
        ctx.save_for_backward(x)
        return F.leaky_relu(x, SLOPE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient where it and the input are positive; zero elsewhere."""
        (x,) = ctx.saved_tensors
        return gradients[0] * ((x > 0) & (gradients[0] > 0))


def last_responses(discriminator: Discriminator, images: Tensor) -> Tensor:
    """What the last convolution gives after normalisation ``(N, F, S, S)``, to be differentiated in the guided way."""
    x = images
    for number, (layer, norm) in enumerate(zip(discriminator.layers, discriminator.norms, strict=True)):
        x = norm(layer(GuidedLeakyReLU.apply(x) if number else x))
    return x


@dataclass(frozen=True, kw_only=True)
class Features:
    """What features of the last convolution respond to most.

    Attributes:
        images: The images of the strongest responses ``(F, E, C, H, W)``.
        gradients: Guided gradient of each response with respect to its image, the same shape.
        responses: The responses ``(F, E)``.
    """

    images: Tensor
    gradients: Tensor
    responses: Tensor


def strongest_features(
    discriminator: Discriminator, images: Tensor, *, features: int = 6, examples: int = 4, batch: int = 256
) -> Features:
    """Guided backpropagation of the maximal axis-aligned responses: of single features, one position each.

    Args:
        discriminator: In ``eval()`` mode with fixed statistics.
        images: Real images ``(N, C, H, W)`` in [-1, 1] to look for responses in.
        features: The first so many features of the last convolution.
        examples: Images of each feature, the strongest response first.
        batch: Images computed at once.

    Raises:
        UserError: There are fewer features or images.
    """
    there = discriminator.config.discriminator_layers()[-1].outputs
    if not 1 <= features <= there:
        raise UserError(f"{features} features: the last convolution has {there}; choose from 1 to {there}")
    if not 1 <= examples <= len(images):
        raise UserError(f"{examples} examples of {len(images)} images; choose from 1 to {len(images)}")
    place = next(discriminator.parameters()).device
    with torch.no_grad():
        strongest = torch.cat(
            [
                last_responses(discriminator, part.to(place))[:, :features].flatten(2).amax(2).cpu()
                for part in images.split(batch)
            ]
        )
    responses, chosen = strongest.topk(examples, dim=0)
    shown = images[chosen.T.flatten()]
    numbers = torch.arange(features).repeat_interleave(examples)
    shape = (features, examples)
    return Features(
        images=shown.unflatten(0, shape),
        gradients=guided_gradients(discriminator, shown, numbers).unflatten(0, shape),
        responses=responses.T,
    )


def guided_gradients(discriminator: Discriminator, images: Tensor, features: Tensor) -> Tensor:
    """Guided gradients ``(N, C, H, W)`` of the largest response of one feature for each image.

    Args:
        discriminator: In ``eval()`` mode with fixed statistics.
        images: ``(N, C, H, W)`` in [-1, 1].
        features: Number of the feature for each image ``(N,)``.
    """
    place = next(discriminator.parameters()).device
    x = images.detach().to(place).requires_grad_(True)
    maps = last_responses(discriminator, x)[torch.arange(len(x), device=place), features.to(place)]
    (gradient,) = torch.autograd.grad(maps.flatten(1).amax(1).sum(), x)
    return gradient.cpu()


def compare_features(
    model: DCGAN, images: Tensor, *, features: int = 6, examples: int = 4, seed: int = 0
) -> list[Features]:
    """The same for random filters, which are an untrained model's, and for the trained ones.

    Args:
        model: The trained model.
        images: Real images ``(N, C, H, W)`` in [-1, 1]; the statistics of both networks are fixed on them.
        features: Features shown.
        examples: Images of each.
        seed: Chooses the random filters.
    """
    return [
        strongest_features(fixed_discriminator(network, images), images, features=features, examples=examples)
        for network in (untrained(model, seed=seed), model)
    ]


def untrained(model: DCGAN, *, seed: int) -> DCGAN:
    """A model of the same sizes with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DCGAN(model.config).to(next(model.parameters()).device)


def draw_features(found: list[Features]) -> Image.Image:
    """Random filters on the left, trained ones on the right; one feature a row, each image before its gradient."""
    blocks = []
    for features, title in zip(found, ("random filters", "trained filters"), strict=True):
        largest = features.gradients.abs().flatten(2).amax(2).clamp_min(1e-12)[..., None, None, None]
        pairs = torch.stack([features.images, features.gradients / largest], 2)
        blocks.append(titled(grid(pairs.flatten(0, 2), columns=2 * pairs.shape[1]), title))
    return beside(*blocks)
