"""A small classifier trained on the data set itself: says what generated images show, and how surely.

Shapes: N images, C channels, H = W side of an image, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.dcgan.evaluation.images import Labelled
from zoo.dcgan.pixels import to_signed
from zoo.shared.data.samples import cache_folder
from zoo.shared.files import atomic_path

FEATURES = 128
"""Numbers of the penultimate layer."""

_WIDTHS = (16, 32, 64)
_STEPS, _BATCH = 1000, 64
_RATE, _DECAY, _DROPOUT = 4e-3, 1e-2, 0.3
_SHIFT = 1 / 14  # of the side, at most; 2 pixels of 28
_STRETCH = 0.1  # scale, rotation and shear, at most
_CONTRAST = 0.4  # that black rises and white falls by, at most, of 2 between them
_LARGEST = 40  # side that the first layer takes as it is


class Classifier(nn.Module):
    """Three convolutions with pooling, then two linear layers.

    Args:
        channels: Colours of an image.
        size: Side of the images.
        classes: How many.
    """

    def __init__(self, *, channels: int, size: int, classes: int) -> None:
        super().__init__()
        stride = 1
        while size > _LARGEST * stride:  # keeps the work bounded, whatever the size
            stride *= 2
        layers: list[nn.Module] = []
        kernel = 2 * stride + 1
        for outputs in _WIDTHS:
            pool = nn.AdaptiveMaxPool2d(3) if outputs == _WIDTHS[-1] else nn.MaxPool2d(2)
            convolution = nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, bias=False)
            layers += [convolution, pool, nn.BatchNorm2d(outputs), nn.ReLU()]
            channels, kernel, stride = outputs, 3, 1
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(9 * _WIDTHS[-1], FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, 128)`` and logits ``(N, K)`` of images ``(N, C, H, W)`` in [-1, 1]."""
        features = self.body(x)
        return features, self.head(F.dropout(features, _DROPOUT, self.training))

    @torch.no_grad()
    def accuracy(self, data: Labelled) -> float:
        """Share of right answers, from 0 to 1; NaN without images."""
        device = self.head.weight.device
        found = [self(to_signed(part.to(device)))[1].argmax(-1).cpu() for part in data.images.split(512)]
        return float((torch.cat(found) == data.labels).float().mean()) if len(data.labels) else float("nan")


def digest(*tensors: Tensor, settings: object = None) -> str:
    """Eight hexadecimal digits that stand for tensors and settings."""
    found = hashlib.blake2b(json.dumps(settings).encode(), digest_size=4)
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def trained_classifier(
    train: Labelled, *, classes: int, device: torch.device, progress: Callable[[str], object] = lambda line: None
) -> Classifier:
    """The classifier of these images, out of the cache where it was trained before.

    Args:
        train: Labelled training images; held-out ones must not be among them.
        classes: How many classes there are.
        device: Where to train and use it.
        progress: Called with a line before it is trained.
    """
    shape = {"channels": train.images.shape[1], "size": train.images.shape[-1], "classes": classes}
    code = hashlib.blake2b(Path(__file__).read_bytes()).hexdigest()
    key = digest(train.images, train.labels, settings=[shape, code])
    path = cache_folder() / "classifiers" / f"dcgan-{key}.safetensors"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model = Classifier(**shape).to(device)
        try:
            model.load_state_dict(load_file(path))
            return model.eval()
        except (OSError, SafetensorError, RuntimeError):  # not there, or damaged
            pass
        progress(f"training a classifier on {len(train.labels):,} images, to measure with (kept in the cache)")
        fit(model, train)
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, str(temporary))
    return model.eval()


def fit(model: Classifier, train: Labelled) -> None:
    """Train with AdamW and a single cycle of the rate, on images that are shifted and stretched a little."""
    device = model.to(memory_format=torch.channels_last).head.weight.device
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=0.2)
    order = torch.empty(0, dtype=torch.int64)
    model.train()
    for _ in range(_STEPS):
        while len(order) < _BATCH:
            order = torch.cat([order, torch.randperm(len(train.labels), generator=draw)])
        rows, order = order[:_BATCH], order[_BATCH:]
        images = augment(to_signed(train.images[rows].to(device)), draw).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(images)[1], train.labels[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()


def augment(images: Tensor, draw: torch.Generator) -> Tensor:
    """Shift, turn and stretch each image ``(N, C, H, W)`` by a little of its own, and lower its contrast.

    The border goes on outwards. Contrast, because generators miss the exact black and white long after they draw what
    people recognise, and a classifier that has seen no other black is thrown by it.
    """
    count = len(images)
    maps = torch.eye(2).repeat(count, 1, 1) + _STRETCH * (2 * torch.rand(count, 2, 2, generator=draw) - 1)
    shift = 2 * _SHIFT * (2 * torch.rand(count, 2, 1, generator=draw) - 1)  # the sides are 2 long
    theta = torch.cat([maps, shift], dim=2).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    low, high = (_CONTRAST * torch.rand(2, count, 1, 1, 1, generator=draw)).to(images.device)
    return moved * (1 - (low + high) / 2) + (low - high) / 2
