"""Arithmetic on latent vectors that stand for concepts (Figures 7 and 8).

The vector of a single sample is unstable; the mean over three exemplars is not (Section 6.3.2).

Shapes: N samples, Z numbers of a latent vector, C channels, H = W side of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from zoo.dcgan.analysis.exemplars import Term, mean_of
from zoo.dcgan.model import DCGAN
from zoo.dcgan.pictures import beside, grid, stacked, titled
from zoo.dcgan.sampling import images_of

NOISE = 0.25
"""Reach of the uniform noise that is added to a result for its neighbours (Figure 7)."""


def combine(values: Tensor, terms: Sequence[Term]) -> Tensor:
    """The signed sum of the terms' means over ``values (N, ...)``: latent vectors, or images."""
    return torch.stack([term.sign * mean_of(values, term.samples) for term in terms]).sum(0)


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What an expression gives; images in [-1, 1].

    Attributes:
        exemplars: For each term its samples ``(E, C, H, W)``.
        means: For each term the image of its mean latent vector ``(C, H, W)``.
        results: ``(9, C, H, W)``: the result in the middle, at 4, and eight neighbours.
        pixel_means: For each term the mean of its images ``(C, H, W)``.
        pixels: The same expression on the images themselves ``(C, H, W)``.
    """

    exemplars: list[Tensor]
    means: Tensor
    results: Tensor
    pixel_means: Tensor
    pixels: Tensor


def arithmetic(model: DCGAN, z: Tensor, terms: Sequence[Term], *, seed: int = 0) -> Arithmetic:
    """Add and subtract concepts.

    Args:
        model: As :func:`~zoo.dcgan.sampling.ready` leaves it.
        z: Latent vectors ``(N, Z)`` of the samples that the terms number.
        terms: The expression.
        seed: Chooses the neighbours' noise.
    """
    used = sorted({number for term in terms for number in term.samples})
    images = dict(zip(used, images_of(model, z[used]), strict=True))
    exemplars = [torch.stack([images[number] for number in term.samples]) for term in terms]
    pixel_means = torch.stack([mean_of(shown, range(len(shown))) for shown in exemplars])
    noise = torch.empty(9, z.shape[1]).uniform_(-NOISE, NOISE, generator=torch.Generator().manual_seed(seed))
    noise[4] = 0
    signs = torch.tensor([term.sign for term in terms])
    return Arithmetic(
        exemplars=exemplars,
        means=images_of(model, torch.stack([mean_of(z, term.samples) for term in terms])),
        results=images_of(model, combine(z, terms) + noise.to(z.device)),
        pixel_means=pixel_means,
        pixels=torch.einsum("t,tchw->chw", signs.float(), pixel_means).clamp(-1, 1),
    )


def draw_arithmetic(found: Arithmetic, terms: Sequence[Term]) -> Image.Image:
    """Above: exemplars of each term, the image of their mean, and the result. Below: the same in pixels."""
    columns, pixels = list[Image.Image | str](), list[Image.Image | str]()
    for place, term in enumerate(terms):
        if place or term.sign < 0:
            columns.append("+" if term.sign > 0 else "-")
            pixels.append(columns[-1])
        shown = grid(found.exemplars[place], columns=1)
        columns.append(titled(stacked(shown, grid(found.means[place : place + 1])), term.name))
        pixels.append(grid(found.pixel_means[place : place + 1]))
    columns += ["=", titled(grid(found.results, columns=3), "result and neighbours")]
    pixels += ["=", grid(found.pixels[None])]
    above = titled(beside(*columns), "latent vectors: exemplars, below them their mean")
    return stacked(above, titled(beside(*pixels), "the same with pixels"))


def turn_vector(z: Tensor, start: Sequence[int], end: Sequence[int]) -> Tensor:
    """The direction ``(Z,)`` from the mean of some samples to the mean of others; the paper has four of each."""
    return mean_of(z, end) - mean_of(z, start)


def turn(model: DCGAN, z: Tensor, vector: Tensor, *, steps: int = 9) -> Tensor:
    """Samples with steps along a direction added to them (Figure 8).

    Args:
        model: As :func:`~zoo.dcgan.sampling.ready` leaves it.
        z: Latent vectors ``(N, Z)`` of the samples to change.
        vector: The direction ``(Z,)``.
        steps: Images of a sample, from minus one to plus one times the direction.

    Returns:
        Images ``(N, steps, C, H, W)`` in [-1, 1]; an odd number of steps has the sample itself in the middle.
    """
    shares = torch.linspace(-1, 1, steps, device=z.device)
    moved = z[:, None] + shares[None, :, None] * vector
    return images_of(model, moved.flatten(0, 1)).unflatten(0, (len(z), steps))
