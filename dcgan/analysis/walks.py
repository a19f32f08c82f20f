"""Walks through latent space (Figure 4): images along straight lines between random points.

Shapes: P points, S steps from one point to the next, Z numbers of a latent vector, C channels, H = W side of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.dcgan.model import DCGAN
from zoo.dcgan.pictures import grid, save_grid, save_loop
from zoo.dcgan.sampling import images_of
from zoo.shared.errors import UserError

_MILLISECONDS = 80  # a frame of the loop


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A closed walk.

    Attributes:
        frames: Images ``(P, S, C, H, W)`` in [-1, 1]; row p begins at point p, the last row leads back to the first.
        sharpness: The largest distance between successive frames over the mean distance. A sharp jump would be a sign
            of memorised images (Section 6.1).
    """

    frames: Tensor
    sharpness: float


def walk(model: DCGAN, points: Tensor, *, steps: int = 10) -> Walk:
    """Walk from point to point and back to the first.

    Args:
        model: As :func:`~zoo.dcgan.sampling.ready` leaves it.
        points: Latent vectors ``(P, Z)``; the paper has 9.
        steps: Frames from one point to the next, the first of them at the point.

    Raises:
        UserError: Fewer than two points, or no steps.
    """
    if len(points) < 2 or steps < 1:
        raise UserError(f"a walk needs at least 2 points and 1 step, not {len(points)} and {steps}")
    frames = images_of(model, line(points, steps).flatten(0, 1))
    return Walk(frames=frames.unflatten(0, (len(points), steps)), sharpness=sharpness(frames))


def line(points: Tensor, steps: int) -> Tensor:
    """Latent vectors ``(P, S, Z)`` along straight lines, closed to a loop."""
    share = torch.arange(steps, device=points.device) / steps
    return torch.lerp(points[:, None], points.roll(-1, 0)[:, None], share[None, :, None])


def sharpness(frames: Tensor) -> float:
    """Largest over mean Euclidean distance between successive frames ``(N, C, H, W)`` of a loop; 0 if none differ."""
    distances = (frames - frames.roll(-1, 0)).flatten(1).norm(dim=1)
    return float(distances.max() / distances.mean().clamp_min(1e-12))


def save_walk(found: Walk, path: Path) -> list[Path]:
    """Write the strip as a PNG, one leg a row, and beside it the loop as a GIF.

    Args:
        found: The walk.
        path: The PNG; the GIF has the same name with another ending.

    Returns:
        Both files.
    """
    frames = found.frames.flatten(0, 1)
    loop = [grid(frame[None]) for frame in frames]
    return [
        save_grid(frames, path, columns=found.frames.shape[1]),
        save_loop(loop, path.with_suffix(".gif"), milliseconds=_MILLISECONDS),
    ]
