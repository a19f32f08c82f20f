"""DCGAN (arXiv:1511.06434). Differs from the paper in nothing but that running statistics are always kept, too.

Shapes: B images, Z numbers of a latent vector, C channels, H = W side of an image.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.dcgan.configs import DcganConfig

SLOPE = 0.2
"""Of the discriminator's leaky ReLU (Section 4)."""


class BatchNorm(_BatchNorm):
    """Batch normalisation of ``(B, C, ...)`` with any number of further axes.

    Args:
        features: Channels C.
        eps: Added to the variance.
        running: Use running averages when not training; otherwise the batch's own statistics, as the paper's code
            does. They are kept in either case.
    """

    def __init__(self, features: int, *, eps: float, running: bool) -> None:
        super().__init__(features, eps=eps)
        self.running = running

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, scale and shift."""
        if self.training or self.running:
            return super().forward(x)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)

    def _check_input_dim(self, x: Tensor) -> None:
        """Vectors and maps alike."""


def _norm(config: DcganConfig, features: int) -> nn.Module:
    if config.batch_norm == "none":
        return nn.Identity()
    return BatchNorm(features, eps=config.batch_norm_eps, running=config.batch_norm == "running")


class Generator(nn.Module):
    """Latent vectors to images: a first map, then transposed convolutions that double its side.

    Args:
        config: The sizes.
    """

    def __init__(self, config: DcganConfig) -> None:
        super().__init__()
        self.config = config
        channels, base = config.base_channels, config.base
        layers = config.generator_layers()
        if config.layout == "torch":
            self.project: nn.Module = nn.ConvTranspose2d(config.latent, channels, base, bias=False)
            self.project_norm = _norm(config, channels)
        else:
            self.project = nn.Linear(config.latent, channels * base * base, bias=False)
            self.project_norm = _norm(config, channels * base * base)  # every unit by itself, as in the authors' code
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(
                layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding, layer.output_padding, bias=False
            )
            for layer in layers
        )
        self.norms = nn.ModuleList(_norm(config, layer.outputs) for layer in layers[:-1])

    def forward(self, z: Tensor, drop: dict[int, Tensor] | None = None) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] for latent vectors ``(B, Z)``.

        Args:
            z: The latent vectors.
            drop: Maps to switch off: layer to a mask ``(channels,)`` of the maps that stay, which multiplies the
                layer's activations (Section 6.3.1). Layer 0 is the first map.

        Raises:
            ValueError: ``z`` is no batch of vectors of the model's size.
        """
        if z.dim() != 2 or z.shape[1] != self.config.latent:
            raise ValueError(f"z must be (B, {self.config.latent}), not {tuple(z.shape)}")
        if self.config.layout == "torch":
            x = F.relu(self.project_norm(self.project(z[:, :, None, None])))
        else:
            x = F.relu(self.project_norm(self.project(z)))
            x = x.view(len(z), -1, self.config.base, self.config.base)
        x = x.contiguous(memory_format=torch.channels_last)  # as convolutions like maps best
        for number, layer in enumerate(self.layers):
            if drop and number in drop:
                x = x * drop[number][None, :, None, None]
            x = layer(x)
            if number < len(self.norms):
                x = F.relu(self.norms[number](x))
        return torch.tanh(x)


class Discriminator(nn.Module):
    """Images to one logit each: convolutions that halve the side, then one over what is left.

    Args:
        config: The sizes.
    """

    def __init__(self, config: DcganConfig) -> None:
        super().__init__()
        self.config = config
        layers = config.discriminator_layers()
        self.layers = nn.ModuleList(
            nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding, bias=False)
            for layer in layers
        )
        self.norms = nn.ModuleList(
            _norm(config, layer.outputs) if number else nn.Identity() for number, layer in enumerate(layers)
        )
        channels, side = layers[-1].outputs, config.discriminator_sides[-2]
        if config.layout == "torch":
            self.head: nn.Module = nn.Conv2d(channels, 1, *(config.discriminator_end or (side, 1, 0)), bias=False)
        else:
            self.head = nn.Linear(channels * side * side, 1, bias=False)

    def activations(self, x: Tensor) -> list[Tensor]:
        """What every convolution gives after normalisation and leaky ReLU: ``(B, channels, side, side)`` each.

        Args:
            x: Images ``(B, C, H, W)`` in [-1, 1].

        Raises:
            ValueError: The images are of another size.
        """
        if x.dim() != 4 or tuple(x.shape[1:]) != self.config.image_shape:
            wanted = ", ".join(map(str, self.config.image_shape))
            raise ValueError(f"images must be (B, {wanted}), not {tuple(x.shape)}")
        x, found = x.contiguous(memory_format=torch.channels_last), []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), SLOPE)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B,)`` of images ``(B, C, H, W)`` in [-1, 1] being real."""
        last = self.activations(x)[-1]
        return self.head(last if self.config.layout == "torch" else last.flatten(1)).flatten()


class DCGAN(nn.Module):
    """Both networks.

    Args:
        config: The sizes.
    """

    def __init__(self, config: DcganConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)
        self.apply(_initialise)

    def forward(self, z: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] for latent vectors ``(B, Z)``."""
        return self.generator(z)

    def draw(self, count: int, *, seed: int) -> Tensor:
        """Latent vectors ``(count, Z)`` from the prior; vector i of a seed is the same for every count and device."""
        rng, shape = np.random.default_rng(seed), (count, self.config.latent)
        z = rng.uniform(-1, 1, shape) if self.config.prior == "uniform" else rng.standard_normal(shape)
        return torch.from_numpy(z).to(next(self.parameters()))

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 0, batch: int = 128) -> Tensor:
        """Images ``(count, C, H, W)`` in [-1, 1]; the model must be in ``eval()`` mode for images that repeat."""
        return torch.cat([self.generator(z) for z in self.draw(count, seed=seed).split(batch)])


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for weights, N(1, 0.02) for gains, no shifts (Section 4 and the authors' code)."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, BatchNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running statistics to the mean over batches of the batches' own, and use them from now on.

    The authors' code fixes statistics so before it takes features of single images. With the statistics of a batch, an
    image depends on the images beside it.

    Args:
        network: A generator, with batches of latent vectors, or a discriminator, with batches of images.
        batches: What it takes.
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    training, momenta = network.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    network.train()
    for batch in batches:
        network(batch)
    network.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running = True
