"""DCGAN's sizes (arXiv:1511.06434) and the small ones of ours. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

Layout = Literal["paper", "torch", "imagenet"]
Ends = tuple[int, int, int]

_SMALLEST_BASE = 4  # side of the map that the generator starts from and the discriminator ends at, at least


class Layer(NamedTuple):
    """One convolution, or transposed convolution."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int

    @property
    def output_padding(self) -> int:
        """What a transposed convolution adds so that its output is ``stride`` times its input."""
        return self.stride - 1 if self.kernel % 2 and self.padding == self.kernel // 2 else 0


@dataclass(frozen=True, kw_only=True)
class DcganConfig:
    """Shapes of generator and discriminator.

    The layouts differ in kernels and in how the latent vector becomes a map:

    - ``paper``: a matrix to a 4x4 map, then 5x5 kernels with stride 2 (Figure 1); the discriminator ends in a matrix;
    - ``torch``: PyTorch's example: 4x4 kernels throughout, the first and the last one over the whole map;
    - ``imagenet``: the released 32x32 model: a matrix, then 3x3 kernels with strides 2 and 1 in turn.
    """

    image_size: int = 64
    """Side of the square images, in pixels; even."""
    channels: int = 3
    """Colours of an image: 3, or 1 for grey."""
    latent: int = 100
    """Numbers in a latent vector z."""
    prior: Literal["uniform", "normal"] = "uniform"
    """Distribution of z: uniform in [-1, 1] (the paper) or standard normal (PyTorch's example)."""
    layout: Layout = "paper"
    """Kernels and ends: ``paper``, ``torch`` or ``imagenet``."""
    width: int = 128
    """Channels at the highest resolution; they double with every halving of the side."""
    batch_norm: Literal["batch", "running", "none"] = "batch"
    """Statistics when not training: the batch's own (the paper), running averages, or no normalisation at all."""
    batch_norm_eps: float = 1e-5
    """Added to the variance; the paper's code has 1e-8."""
    generator_end: Ends | None = None
    """Kernel, stride and padding of the generator's last layer where it does not double the side."""
    discriminator_end: Ends | None = None
    """Kernel, stride and padding of the discriminator's last layer where it does not cover the whole map."""
    discriminator_width: int | None = None
    """The discriminator's channels at the highest resolution, where they are others than the generator's."""
    discriminator_stages: int | None = None
    """Halvings of the side in the discriminator; None: as many as the generator has doublings."""

    def __post_init__(self) -> None:
        for name in ("generator_end", "discriminator_end"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, least in (("image_size", 8), ("channels", 1), ("latent", 1), ("width", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.image_size % 2:
            raise ValueError(f"image_size must be even, as every stage doubles it; not {self.image_size}")
        if self.layout not in ("paper", "torch", "imagenet"):
            raise ValueError(f"layout must be paper, torch or imagenet, not {self.layout!r}")
        if self.layout != "torch" and (self.generator_end or self.discriminator_end):
            raise ValueError("generator_end and discriminator_end are for layout='torch', whose ends are convolutions")
        if self.prior not in ("uniform", "normal"):
            raise ValueError(f"prior must be uniform or normal, not {self.prior!r}")
        if self.batch_norm not in ("batch", "running", "none"):
            raise ValueError(f"batch_norm must be batch, running or none, not {self.batch_norm!r}")
        if self.discriminator_width is not None and self.discriminator_width < 1:
            raise ValueError(f"discriminator_width must be at least 1, not {self.discriminator_width}")
        if self.discriminator_stages is not None and self.discriminator_stages < 1:
            raise ValueError(f"discriminator_stages must be at least 1, not {self.discriminator_stages}")
        if self.discriminator_sides[-1] != 1:
            raise ValueError(
                f"the discriminator ends in a map of {self.discriminator_sides[-1]} pixels, not in one number; "
                "change discriminator_end or discriminator_stages"
            )

    def architecture(self) -> dict[str, object]:
        """What weights depend on, with defaults spelled out: two ways to say the same sizes are the same model."""
        ignored = {"prior", "batch_norm_eps", "generator_end", "discriminator_end", "discriminator_stages"}
        told: dict[str, object] = {key: value for key, value in asdict(self).items() if key not in ignored}
        told["discriminator_width"] = self.discriminator_width or self.width
        told["batch_norm"] = self.batch_norm != "none"
        side = self.discriminator_sides[-2]
        return told | {
            "generator_layers": [tuple(layer) for layer in self.generator_layers()],
            "discriminator_layers": [tuple(layer) for layer in self.discriminator_layers()],
            "discriminator_end": None if self.discriminator_end in (None, (side, 1, 0)) else self.discriminator_end,
        }

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.image_size, self.image_size

    @property
    def doublings(self) -> int:
        """Layers of the generator that double the side, its last one included if that does."""
        side, count = self._before_end, 0 if self.generator_end else 1
        if self.layout == "imagenet":
            side, count = self.image_size, 0
        while side % 2 == 0 and side >= 2 * _SMALLEST_BASE:
            side, count = side // 2, count + 1
        return count

    @property
    def _before_end(self) -> int:
        """Side of the map that the generator's last layer takes."""
        if self.generator_end is None:
            return self.image_size // 2
        kernel, stride, padding = self.generator_end
        return (self.image_size + 2 * padding - kernel) // stride + 1

    @property
    def base(self) -> int:
        """Side of the map that the latent vector becomes."""
        doublings = self.doublings - (0 if self.generator_end or self.layout == "imagenet" else 1)
        side = self.image_size if self.layout == "imagenet" else self._before_end
        return side >> doublings

    @property
    def base_channels(self) -> int:
        """Channels of the map that the latent vector becomes."""
        return self.width << (self.doublings if self.generator_end else self.doublings - 1)

    def generator_layers(self) -> list[Layer]:
        """The transposed convolutions after the first map."""
        kernel, padding = _KERNELS[self.layout]
        channels, layers = self.base_channels, list[Layer]()
        if self.layout == "imagenet":
            for stage in reversed(range(self.doublings)):
                out = self.width << stage >> 1 if stage else self.channels
                layers += [Layer(channels, channels, kernel, 2, padding), Layer(channels, out, kernel, 1, padding)]
                channels = out
            return layers
        for _ in range(self.doublings - (0 if self.generator_end else 1)):
            layers.append(Layer(channels, channels // 2, kernel, 2, padding))
            channels //= 2
        return [*layers, Layer(channels, self.channels, *(self.generator_end or (kernel, 2, padding)))]

    def discriminator_layers(self) -> list[Layer]:
        """The convolutions before the last layer, which makes one number of the map."""
        kernel, padding = _KERNELS[self.layout]
        inputs, layers = self.channels, list[Layer]()
        for stage in range(self.discriminator_stages or self.doublings):
            out = (self.discriminator_width or self.width) << stage
            if self.layout == "imagenet":
                layers.append(Layer(inputs, out, kernel, 1, padding))
                inputs = out
            layers.append(Layer(inputs, out, kernel, 2, padding))
            inputs = out
        return layers

    @property
    def discriminator_sides(self) -> list[int]:
        """Side of the map after each convolution, and of what the last layer makes of it, which must be 1."""
        side, sides = self.image_size, list[int]()
        for layer in self.discriminator_layers():
            side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            sides.append(side)
        end = 1
        if self.discriminator_end is not None:
            kernel, stride, padding = self.discriminator_end
            end = (side + 2 * padding - kernel) // stride + 1
        return [*sides, end]


_KERNELS: dict[str, tuple[int, int]] = {"paper": (5, 2), "torch": (4, 1), "imagenet": (3, 1)}

# Figure 1 and the authors' code; PyTorch's examples/dcgan; the authors' released 32x32 ImageNet model.
_PAPER_64 = DcganConfig(batch_norm_eps=1e-8)
_TORCH_64 = DcganConfig(layout="torch", width=64, prior="normal", batch_norm="running")
_IMAGENET_32 = DcganConfig(image_size=32, layout="imagenet", latent=256, batch_norm_eps=1e-8)

VARIANTS: dict[str, DcganConfig] = {
    "dcgan-64": _PAPER_64,
    "dcgan-64-torch": _TORCH_64,
    "dcgan-32": _IMAGENET_32,
    # Ours: the paper's layout on the 28x28 digits, a small one for two CPU cores, a tiny one for tests.
    "dcgan-28": DcganConfig(image_size=28, channels=1, width=64, batch_norm="running"),
    "dcgan-nano": DcganConfig(image_size=28, channels=1, width=32, layout="torch", batch_norm="running"),
    "dcgan-debug": DcganConfig(
        image_size=16, channels=3, latent=8, width=4, layout="torch", prior="normal", batch_norm="running"
    ),
}
