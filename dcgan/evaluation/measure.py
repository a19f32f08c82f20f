"""All figures of a generator at once, with those of held-out real images beside them as the floor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.dcgan.data import DcganDataModule
from zoo.dcgan.evaluation.classifier import Classifier, trained_classifier
from zoo.dcgan.evaluation.features import Choice, ClassifierFeatures, Seen, look, pick_network
from zoo.dcgan.evaluation.images import Labelled, read
from zoo.dcgan.evaluation.memorisation import NEIGHBOURS, Memorisation, Nearest, memorisation, nearest
from zoo.dcgan.evaluation.scores import Coverage, coverage, fid, inception_score, kid, precision_recall
from zoo.dcgan.model import DCGAN
from zoo.dcgan.pixels import to_bytes
from zoo.dcgan.sampling import ready
from zoo.shared.errors import UserError

LEAST = 8
"""Images of a kind that can be measured, at least."""

_TRAIN = 10_000  # training images that are compared with, and that the classifier learns from, at most


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured of one set of images, against training images.

    Attributes:
        images: How many.
        fid: Fréchet distance; 0 is best.
        kid: Kernel distance, mean over subsets; 0 is best.
        kid_std: Its standard deviation over subsets.
        precision: Share that could be real, from 0 to 1.
        recall: Share of the training images' variety, from 0 to 1.
        inception_score: From 1 to the number of classes; None where there is no classifier.
        coverage: What the data set's classifier is sure of; None where there is none.
    """

    images: int
    fid: float
    kid: float
    kid_std: float
    precision: float
    recall: float
    inception_score: float | None
    coverage: Coverage | None


class Kept(NamedTuple):
    """What pictures are drawn from: bytes ``(N, C, H, W)``, and how they relate."""

    generated: Tensor
    train: Tensor
    probabilities: Tensor | None
    """The classifier's, of generated images ``(N, K)``."""
    pixels: Nearest
    features: Nearest


@dataclass(frozen=True, kw_only=True)
class Results:
    """Figures, and all that one must know to compare them with others.

    Attributes:
        data: Name of the data set.
        classes: Names of its classes.
        network: Name of the feature network; the figures of two networks are not comparable.
        classifier: Name of the data set's classifier, None where there are no labels.
        accuracy: The classifier's, on held-out images, from 0 to 1; None where nothing is held out.
        train_images: How many the images are compared with.
        seed: Of the latent vectors.
        generated: Figures of generated images.
        real: The same of held-out images: the floor. None where nothing is held out.
        memorisation: Space (``pixels``, ``features``) to distances; None where nothing is held out.
        kept: What pictures are drawn from.
    """

    data: str
    classes: tuple[str, ...]
    network: str
    classifier: str | None
    accuracy: float | None
    train_images: int
    seed: int
    generated: Figures
    real: Figures | None
    memorisation: dict[str, Memorisation] | None
    kept: Kept

    def as_dict(self) -> dict[str, Any]:
        """Everything but the images, for JSON."""
        names = ("data", "classes", "network", "classifier", "accuracy", "train_images", "seed")
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        found |= {"generated": asdict(self.generated), "real": asdict(self.real) if self.real else None}
        near = self.memorisation
        spaces = None if near is None else {space: asdict(each) for space, each in near.items()}
        return {**found, "classes": list(self.classes), "memorisation": spaces}


def measure(
    model: DCGAN,
    datamodule: DcganDataModule,
    *,
    samples: int | None = None,
    seed: int = 0,
    features: Choice = "auto",
    progress: Callable[[str], object] = lambda line: None,
) -> Results:
    """Measure generated images.

    Args:
        model: Put into ``eval()`` mode, with fixed statistics.
        datamodule: The data that it was trained on, split as in training.
        samples: Images to generate; by default as many as are held out, so that the floor is of equal size, 1,000 at
            least and 2,000 at most.
        seed: Of the latent vectors.
        features: The feature network, see :func:`~zoo.dcgan.evaluation.features.pick_network`.
        progress: Called with a line before anything that takes long.

    Raises:
        UserError: Too few images, a feature network that is not to be had, or broken weights.
    """
    held_out = read(datamodule.held_out_items, limit=max(_TRAIN, samples or 0))
    if samples is None:
        samples = min(2000, max(1000, len(held_out.labels)))
    train = read(datamodule.train_items, limit=max(_TRAIN, samples))
    if samples < LEAST or len(train.labels) < LEAST:
        raise UserError(
            f"{samples} samples and {len(train.labels)} training images are too few to measure; {LEAST} are needed"
        )
    name, device = datamodule.images.name, next(model.parameters()).device
    classifier = _classifier(datamodule, train, device, progress)
    network = pick_network(features, classifier=classifier, data=name, channels=model.config.channels, device=device)
    images = ready(model).sample(samples, seed=seed)
    if not images.isfinite().all():
        raise UserError("the generator gives NaN or infinity; its weights are broken")
    images = to_bytes(images)
    sure = None if classifier is None else ClassifierFeatures(classifier, data=name)

    def see(pixels: Tensor) -> tuple[Seen, Tensor | None]:
        seen = look(network, pixels)
        if sure is None or network.name == sure.name:
            return seen, seen.probabilities if sure else None
        return seen, look(sure, pixels).probabilities

    total = len(train.labels) + samples + len(held_out.labels)
    progress(f"comparing {total:,} images by {network.name}")
    known = look(network, train.images)
    ours, probabilities = see(images)
    pixels, in_features = _nearest(images, train.images), nearest(ours.features, known.features)
    real, near, accuracy = None, None, None
    if len(held_out.labels) >= LEAST:
        theirs, theirs_probabilities = see(held_out.images)
        real = _figures(known, theirs, theirs_probabilities, seed=seed)
        near = {
            "pixels": memorisation(pixels, _nearest(held_out.images, train.images)),
            "features": memorisation(in_features, nearest(theirs.features, known.features)),
        }
        accuracy = None if classifier is None else classifier.accuracy(held_out.named)
        accuracy = None if accuracy is None or math.isnan(accuracy) else accuracy
    return Results(
        data=name,
        classes=datamodule.images.classes if classifier else (),
        network=network.name,
        classifier=sure.name if sure else None,
        accuracy=accuracy,
        train_images=len(train.labels),
        seed=seed,
        generated=_figures(known, ours, probabilities, seed=seed),
        real=real,
        memorisation=near,
        kept=Kept(images, train.images, probabilities, pixels, in_features),
    )


def _classifier(
    datamodule: DcganDataModule, train: Labelled, device: torch.device, progress: Callable[[str], object]
) -> Classifier | None:
    """The data set's classifier; None where it has fewer than two classes."""
    named = Labelled(train.images[:_TRAIN], train.labels[:_TRAIN]).named
    if not datamodule.images.classes or len(named.labels.unique()) < 2:
        return None
    return trained_classifier(named, classes=len(datamodule.images.classes), device=device, progress=progress)


def _nearest(images: Tensor, train: Tensor) -> Nearest:
    """In pixels, from 0 to 1."""
    return nearest(images.flatten(1) / 255, train.flatten(1) / 255, k=NEIGHBOURS)


def _figures(train: Seen, seen: Seen, probabilities: Tensor | None, *, seed: int) -> Figures:
    count = len(seen.features)
    mean, deviation = kid(train.features, seen.features, seed=seed)
    # Balls shrink as images become more, so that either side has equally many; any first ones are a random draw.
    precision, recall = precision_recall(train.features[:count], seen.features[: len(train.features)])
    classes = seen.probabilities if seen.probabilities is not None else probabilities
    return Figures(
        images=count,
        fid=fid(train.features, seen.features),
        kid=mean,
        kid_std=deviation,
        precision=precision,
        recall=recall,
        inception_score=None if classes is None else inception_score(classes),
        coverage=None if probabilities is None else coverage(probabilities),
    )
