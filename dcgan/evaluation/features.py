"""Networks whose features images are compared by, each with a name: figures of two networks are never comparable.

Shapes: N images, C channels, H = W side of an image, D features, K classes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.dcgan.evaluation.classifier import Classifier, digest
from zoo.dcgan.pixels import to_signed
from zoo.shared.errors import UserError

Choice = Literal["auto", "quick", "inception", "classifier", "random"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

_BATCH = 256
_RANDOM_WIDTHS = (32, 64, 128)


class Seen(NamedTuple):
    """What a network makes of N images."""

    features: Tensor
    """``(N, D)``, float32, on the CPU."""
    probabilities: Tensor | None
    """Of its classes ``(N, K)``, where it has some."""


class FeatureNetwork(Protocol):
    """Compares images by features."""

    name: str
    """What it is, exactly enough that equal names mean comparable figures."""
    device: torch.device

    def look(self, images: Tensor) -> Seen:
        """Features, on the network's device, of bytes ``(N, C, H, W)``, which may be elsewhere."""


@torch.no_grad()
def look(network: FeatureNetwork, images: Tensor) -> Seen:
    """Features of any number of images, in batches.

    Args:
        network: Makes them.
        images: Bytes ``(N, C, H, W)``.
    """
    parts = [network.look(part.to(network.device)) for part in images.split(_BATCH)]
    probabilities = [part.probabilities.cpu() for part in parts if part.probabilities is not None]
    return Seen(
        torch.cat([part.features.float().cpu() for part in parts]), torch.cat(probabilities) if probabilities else None
    )


class ClassifierFeatures:
    """The penultimate layer of a classifier that was trained on the data set.

    Args:
        classifier: In ``eval()`` mode.
        data: Name of the data set.
    """

    def __init__(self, classifier: Classifier, *, data: str) -> None:
        self.classifier = classifier
        self.device = classifier.head.weight.device
        self.name = f"classifier trained on {data} ({digest(*classifier.state_dict().values())})"

    def look(self, images: Tensor) -> Seen:
        """Features ``(N, 128)`` and probabilities."""
        features, logits = self.classifier(to_signed(images))
        return Seen(features, logits.softmax(-1))


class RandomFeatures:
    """Means over the image of what convolutions with fixed random weights find, at three scales.

    For data without labels where Inception is not at hand. It sees colours, edges and textures, and knows nothing of
    what images show; its FID tells far-off from near, not good from better.

    Args:
        channels: Colours of an image.
        device: Where to run.
    """

    def __init__(self, *, channels: int, device: torch.device) -> None:
        self.device = device
        draw = torch.Generator().manual_seed(0)
        inputs, weights = channels, []
        for outputs in _RANDOM_WIDTHS:
            weight = torch.randn(outputs, inputs, 3, 3, generator=draw) * (2 / (9 * inputs)) ** 0.5
            weights.append(weight.to(device))
            inputs = outputs
        self.weights = weights
        self.name = f"random convolutions ({digest(*weights)})"

    def look(self, images: Tensor) -> Seen:
        """Features ``(N, 224)``."""
        x, found = to_signed(images), []
        for weight in self.weights:
            x = F.relu(F.conv2d(x, weight, padding=1))
            found.append(x.mean((2, 3)))
            x = F.avg_pool2d(x, 2)
        return Seen(torch.cat(found, dim=1), None)


class Inception:
    """Inception-v3 as TensorFlow's FID has it (Heusel et al. 2017), from torch-fidelity through torchmetrics.

    Args:
        device: Where to run.

    Raises:
        UserError: Its package or its weights are not to be had.
    """

    def __init__(self, *, device: torch.device) -> None:
        if not inception_package():
            raise UserError(
                "--features inception needs the package torch-fidelity: pip install torch-fidelity; "
                "or use --features classifier"
            )
        from torchmetrics.image.fid import NoTrainInceptionV3

        try:
            net: nn.Module = NoTrainInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
        except Exception as error:  # urllib, OSError, a damaged file: whatever the download ends in
            raise UserError(
                f"Inception's weights cannot be loaded ({str(error).splitlines()[0]}); put torch-fidelity's file at "
                f"{inception_weights()}, or use --features classifier"
            ) from error
        self.net = net.to(device)
        self.device = device
        self.name = "Inception-v3 (torch-fidelity, 2048 features)"

    def look(self, images: Tensor) -> Seen:
        """Features ``(N, 2048)`` and probabilities of ImageNet's classes."""
        colour = images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1)
        features, logits = self.net._torch_fidelity_forward(colour)  # type: ignore[operator]
        return Seen(features, logits.softmax(-1))


def inception_package() -> bool:
    """Whether torch-fidelity is installed."""
    return importlib.util.find_spec("torch_fidelity") is not None


def inception_weights() -> Path:
    """Where torch-fidelity, which must be installed, keeps Inception's weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[1]


def pick_network(
    choice: Choice, *, classifier: Classifier | None, data: str, channels: int, device: torch.device
) -> FeatureNetwork:
    """The network to compare images by.

    Args:
        choice: ``auto`` takes Inception where package and weights are at hand (minutes on a processor), otherwise
            what ``quick`` does: the classifier, or where there is none random convolutions.
        classifier: Of the data set; None where it has no labels.
        data: Name of the data set.
        channels: Colours of an image.
        device: Where to run.

    Raises:
        UserError: It is not to be had.
    """
    if choice not in CHOICES:
        raise UserError(f"--features must be one of {', '.join(CHOICES)}, not {choice!r}")
    if choice == "inception" or (choice == "auto" and inception_package() and inception_weights().is_file()):
        return Inception(device=device)
    if choice == "classifier" and classifier is None:
        raise UserError(f"--features classifier: {data} has no labels to train one on; use --features random")
    if choice == "random" or classifier is None:
        return RandomFeatures(channels=channels, device=device)
    return ClassifierFeatures(classifier, data=data)
