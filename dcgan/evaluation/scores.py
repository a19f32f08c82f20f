"""How far apart two sets of images are, and how much a classifier makes of one.

Shapes: N and M images, D features, K classes. Features are float; everything is computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.shared.errors import UserError

SURE = 0.9
"""Probability above which the classifier is sure of a class."""

_ROWS = 1024  # rows of a distance matrix at a time


def fid(x: Tensor, y: Tensor) -> float:
    """Fréchet distance between Gaussians that fit two sets (Heusel et al. 2017, eq. 6): 0 for equal ones.

    It has a positive bias that falls with the number of images, so compare only figures of equal numbers.

    Args:
        x: Features ``(N, D)``.
        y: Features ``(M, D)``.
    """
    x, y = _at_least(2, x), _at_least(2, y)
    cov_x, cov_y = torch.cov(x.T).view(x.shape[1], -1), torch.cov(y.T).view(x.shape[1], -1)
    # Tr (A B)^1/2 = Tr (A^1/2 B A^1/2)^1/2, whose eigenvalues are real even where covariances are singular.
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp_min(0).sqrt().sum()
    distance = (x.mean(0) - y.mean(0)).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross
    return max(0.0, float(distance))


def kid(x: Tensor, y: Tensor, *, subsets: int = 50, size: int = 500, seed: int = 0) -> tuple[float, float]:
    """Kernel distance with the cubic kernel (Binkowski et al. 2018, Section 4): unbiased, so it may be below 0.

    Args:
        x: Features ``(N, D)``.
        y: Features ``(M, D)``.
        subsets: How often to draw.
        size: Images drawn of either set, at most half of the smaller one, so that subsets differ.
        seed: Draws them.

    Returns:
        Mean and standard deviation over the subsets.
    """
    x, y = _at_least(4, x), _at_least(4, y)
    size, draw = min(size, len(x) // 2, len(y) // 2), torch.Generator().manual_seed(seed)
    found = []
    for _ in range(subsets):
        a, b = (z[torch.randperm(len(z), generator=draw)[:size]] for z in (x, y))
        found.append(squared_mmd(a, b))
    values = torch.stack(found)
    return float(values.mean()), float(values.std(correction=0))


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of two sets ``(N, D)`` of equal size under ``(x.y / D + 1)^3``."""
    count = len(x)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    within = sum(k.sum() - k.diagonal().sum() for k in (kernel(x, x), kernel(y, y)))
    return within / (count * (count - 1)) - 2 * kernel(x, y).mean()


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, Section 2, k = 3); read them together.

    A generator whose images are all alike, and like nothing, may have a precision near 1, inside the wide ball of a
    single odd real image; its recall is then near 0.

    Args:
        real: Features ``(N, D)``.
        fake: Features ``(M, D)``.
        k: The ball around an image reaches to its k-th nearest neighbour of its own set.

    Returns:
        Share of generated images inside the ball of some real one (how many look real), and of real images inside
        that of some generated one (how much of the variety there is).
    """
    real, fake = _at_least(k + 1, real), _at_least(k + 1, fake)
    return _covered(fake, real, _radii(real, k)), _covered(real, fake, _radii(fake, k))


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of each to its k-th nearest neighbour; it is its own 0-th."""
    return torch.cat([torch.cdist(part, x).kthvalue(k + 1).values for part in x.split(_ROWS)])


def _covered(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    inside = [(torch.cdist(part, centres) <= radii).any(1) for part in points.split(_ROWS)]
    return float(torch.cat(inside).double().mean())


def inception_score(probabilities: Tensor) -> float:
    """Exponential of the mean divergence of an image's classes from those of all (Salimans et al. 2016).

    Args:
        probabilities: ``(N, K)``.

    Returns:
        From 1, where all images are alike or doubtful, to K, where each is sure and all classes come equally often.
    """
    p = _at_least(1, probabilities)
    divergence = (torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0, keepdim=True))).sum(1)
    return float(divergence.mean().exp())


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a classifier sees in images.

    Attributes:
        confident: Share of images of which it is surer than 0.9 what they show.
        histogram: How many of these show each class.
        seen: Classes that at least one of them shows.
    """

    confident: float
    histogram: list[int]
    seen: int


def coverage(probabilities: Tensor) -> Coverage:
    """Count sure images ``(N, K)`` by class."""
    surest, classes = probabilities.max(1)
    counts = classes[surest > SURE].bincount(minlength=probabilities.shape[1])
    return Coverage(
        confident=float((surest > SURE).double().mean()),
        histogram=counts.tolist(),
        seen=int((counts > 0).sum()),
    )


def _at_least(count: int, x: Tensor) -> Tensor:
    if len(x) < count:
        raise UserError(f"{len(x)} images are too few to compare; at least {count} are needed of each kind")
    if not x.isfinite().all():
        raise UserError("features hold NaN or infinity; the weights are broken")
    return x.double()
