"""What the discriminator has learnt without labels (Section 5): a linear SVM on its features, with few labels.

Every convolution's activations are max-pooled to 4x4 and concatenated (28,672 numbers for ``dcgan-32``). The same SVM
on raw pixels and on the features of the same network untrained shows what the training was good for.

Features are centred and divided by one number, so that their mean squared length is 1 and a penalty means the same for
all three kinds; their proportions stay as the network gives them, as in the authors' code.

Shapes: N images, D features, C channels, H = W side of an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.dcgan.analysis.guided import untrained
from zoo.dcgan.model import DCGAN, Discriminator
from zoo.dcgan.sampling import fixed_discriminator
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path

POOLED = 4
"""Side that every map is pooled to."""
PENALTIES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""C of the SVM, as scikit-learn counts it: the authors' 1, 2 and 5 of two decades and the next 1, for features of mean
squared length 1. (Theirs, 1e-4 to 1e-2, are for features as they come.)"""
_CHOOSING = 3  # draws that C is chosen on
_VALIDATION = 0.25  # share of the training images that C is chosen on; no labels are drawn from them
KINDS = ("discriminator", "untrained", "pixels")
"""What the SVM is given."""


@torch.no_grad()
def discriminator_features(discriminator: Discriminator, images: Tensor, *, batch: int = 256) -> Tensor:
    """Every convolution's activations, max-pooled to 4x4, of images ``(N, C, H, W)``: ``(N, D)`` on the CPU.

    Maps of a side below 4 stay as they are.

    Args:
        discriminator: In ``eval()`` mode with fixed statistics.
        images: In [-1, 1].
        batch: Images computed at once.
    """
    place = next(discriminator.parameters()).device
    rows = []
    for part in images.split(batch):
        maps = discriminator.activations(part.to(place))
        pooled = [F.adaptive_max_pool2d(x, POOLED) if x.shape[-1] > POOLED else x for x in maps]
        rows.append(torch.cat([x.flatten(1) for x in pooled], 1).cpu())
    return torch.cat(rows)


def scaled(train: Tensor, test: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both ``(N, D)`` centred and divided by one number, which are taken from ``train``: mean squared length 1."""
    mean = train.mean(0)
    length = (train - mean).square().sum(1).mean().sqrt().clamp_min(1e-12)
    return ((train - mean) / length).numpy(), ((test - mean) / length).numpy()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which training images a draw of labels comes from.

    Attributes:
        pool: Indices that labels are drawn from.
        validation: Indices that C is chosen on.
        labels: Classes of all training images.
    """

    pool: np.ndarray
    validation: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, *, seed: int) -> Split:
        """Set a quarter of the images of every class aside for choosing C."""
        draw = np.random.default_rng(seed)
        pool, validation = list[np.ndarray](), list[np.ndarray]()
        for name in np.unique(labels):
            members = draw.permutation(np.flatnonzero(labels == name))
            count = max(1, round(_VALIDATION * len(members)))
            validation.append(members[:count])
            pool.append(members[count:])
        return cls(pool=np.concatenate(pool), validation=np.concatenate(validation), labels=labels)

    def draw(self, count: int, *, seed: int) -> np.ndarray:
        """Indices of ``count`` labelled images, as many of each class.

        Raises:
            UserError: Not a multiple of the classes, or more than there are.
        """
        classes, sizes = np.unique(self.labels[self.pool], return_counts=True)
        each, rest = divmod(count, len(classes))
        if rest or not each or each > sizes.min():
            raise UserError(
                f"{count} labels cannot be drawn: choose a multiple of the {len(classes)} classes, "
                f"at most {sizes.min() * len(classes)}"
            )
        rng = np.random.default_rng((seed, count))
        return np.concatenate(
            [rng.choice(self.pool[self.labels[self.pool] == name], each, replace=False) for name in classes]
        )


def probe(
    model: DCGAN,
    datamodule: Any,
    *,
    labels: Sequence[int] = (10, 20, 50, 100, 200, 500, 1000),
    draws: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Held-out accuracy of a linear SVM on few labels: discriminator's features, the untrained network's, pixels.

    C is chosen for every kind and number of labels by the mean accuracy over 3 draws on a quarter of the training
    images that no labels are drawn from (the authors have 10,000 images for that).

    Args:
        model: The trained model; stays as it is.
        datamodule: A set-up :class:`~zoo.dcgan.data.DcganDataModule` with labels and held-out images.
        labels: Numbers of labels, each a multiple of the classes.
        draws: Draws of labels to average over.
        seed: Chooses the draws and the untrained network's weights.

    Returns:
        ``labels``, ``draws``, ``classes``, ``test_images``; ``features``: kind to their number D; ``accuracy``, ``std``
        (over draws, n - 1) and ``C``: kind to a list, one entry for each number of labels.

    Raises:
        UserError: No labels, nothing held out, or too few images for the labels asked for.
    """
    if draws < 1 or not labels:
        raise UserError("a probe needs at least one draw and one number of labels")
    if datamodule.held_out_items is None:
        raise UserError("nothing is held out to measure on; set --data.held_out, such as 0.2")
    (x, y), (x_test, y_test) = datamodule.train_items.tensor(), datamodule.held_out_items.tensor()
    if not len(x) or not len(x_test) or min(int(y.min()), int(y_test.min())) < 0 or len(y.unique()) < 2:
        raise UserError(f"{datamodule.source} has no labels of at least two classes; probe on a source that has them")
    split = Split.of(y.numpy(), seed=seed)
    drawn = {count: [split.draw(count, seed=seed + number) for number in range(draws)] for count in labels}
    result: dict[str, Any] = {
        "labels": list(labels),
        "draws": draws,
        "classes": len(y.unique()),
        "test_images": len(y_test),
        "features": {},
        "accuracy": {},
        "std": {},
        "C": {},
    }
    networks = {"discriminator": model, "untrained": untrained(model, seed=seed)}
    for kind in KINDS:
        if kind == "pixels":
            both = x.flatten(1), x_test.flatten(1)
        else:
            network = fixed_discriminator(networks[kind], x)
            both = discriminator_features(network, x), discriminator_features(network, x_test)
        train, test = scaled(*both)
        rows = [measure(train, test, y_test.numpy(), split, drawn[count]) for count in labels]
        result["features"][kind] = train.shape[1]
        result["accuracy"][kind] = [float(np.mean(scores)) for scores, _ in rows]
        result["std"][kind] = [float(np.std(scores, ddof=min(1, draws - 1))) for scores, _ in rows]
        result["C"][kind] = [penalty for _, penalty in rows]
    return result


def measure(
    train: np.ndarray, test: np.ndarray, answers: np.ndarray, split: Split, drawn: Sequence[np.ndarray]
) -> tuple[list[float], float]:
    """Accuracy on the test images for every draw of labels, and the C that was chosen."""
    tuned = np.zeros(len(PENALTIES))
    for chosen in drawn[:_CHOOSING]:
        inputs, checked = rotated(train[chosen], train[split.validation])
        for place, penalty in enumerate(PENALTIES):
            found = _svm(inputs, split.labels[chosen], penalty).predict(checked)
            tuned[place] += (found == split.labels[split.validation]).mean()
    penalty = PENALTIES[int(tuned.argmax())]
    scores = []
    for chosen in drawn:
        inputs, checked = rotated(train[chosen], test)
        scores.append(float((_svm(inputs, split.labels[chosen], penalty).predict(checked) == answers).mean()))
    return scores, penalty


def rotated(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in an orthonormal basis of the few training vectors' span.

    An SVM's weights lie in that span, so its decisions are the same, and it has no more features than labels.
    """
    if train.shape[1] <= train.shape[0]:
        return train, test
    basis, _ = np.linalg.qr(train.T)
    return train @ basis, test @ basis


def _svm(x: np.ndarray, y: np.ndarray, penalty: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # with large C the last digits take long
        return LinearSVC(C=penalty, dual=True, random_state=0).fit(x, y)


def draw_curve(result: dict[str, Any], path: Path) -> Path:
    """Draw accuracy against the number of labels, with the standard deviation over draws.

    Args:
        result: From :func:`probe`.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    looks = {"discriminator": ("#3a6ea5", "-"), "untrained": ("#77777c", "--"), "pixels": ("#c8553d", ":")}
    names = {"discriminator": "discriminator's features", "untrained": "same network, untrained", "pixels": "pixels"}
    for kind in KINDS:
        colour, style = looks[kind]
        axis.errorbar(
            result["labels"],
            [100 * value for value in result["accuracy"][kind]],
            [100 * value for value in result["std"][kind]],
            label=names[kind],
            color=colour,
            linestyle=style,
            marker="o",
            markersize=4,
            capsize=3,
        )
    axis.set(
        xscale="log",
        xlabel="labels",
        ylabel=f"accuracy on {result['test_images']:,} held-out images, %",
        title=f"Linear SVM, mean and standard deviation of {result['draws']} draws",
    )
    axis.set_xticks(result["labels"], [f"{count:,}" for count in result["labels"]])
    axis.minorticks_off()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e4e4e0")
    axis.legend(frameon=False, loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path
