"""Opening images without captions by what the user wrote: a name, one of torchvision's sets, or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from zoo.shared.data.samples import Progress
from zoo.shared.errors import UserError

TORCHVISION = "torchvision:"


@runtime_checkable
class ImageSource(Protocol):
    """Images that can be read at random, in worker processes too."""

    name: str
    """What it is, for people."""
    classes: tuple[str, ...]
    """Names of the classes in words; empty when there are no labels."""

    def __len__(self) -> int: ...

    def id(self, i: int) -> str:
        """What a person recognises sample ``i`` by."""

    def image(self, i: int) -> Image.Image:
        """The image, of any size and mode. Raises :class:`~zoo.shared.data.images.BadSample`."""

    def concept(self, i: int) -> str:
        """What it shows; samples of equal concept are on the same side of every split."""

    def label(self, i: int) -> int | None:
        """Class of the sample, or None."""
        ...


def open_images(
    source: str, *, size: int, root: str | Path | None = None, progress: Progress = lambda line: None
) -> ImageSource:
    """Open images.

    Args:
        source: ``mnist``, ``digits``, ``emoji``, ``shapes``, ``torchvision:NAME`` or a folder.
        size: Side at which drawn sources draw.
        root: Where a set of torchvision has its files.
        progress: Called with a line when something takes time.

    Raises:
        UserError: Nothing that is known stands there.
    """
    if source == "mnist":
        from zoo.shared.data.digits import mnist_5k

        return mnist_5k(progress)
    if source == "digits":
        from zoo.shared.data.digits import small_digits

        return small_digits()
    if source == "emoji":
        from zoo.shared.data.emoji import EmojiSource

        return EmojiSource(size=size, progress=progress)
    if source == "shapes":
        from zoo.shared.data.shapes import ShapeSource

        return ShapeSource(size=size)
    if source.startswith(TORCHVISION):
        from zoo.shared.data.torchvision_sets import TorchvisionSource

        return TorchvisionSource(source.removeprefix(TORCHVISION), root)
    where = Path(source).expanduser()
    if where.is_dir():
        from zoo.shared.data.folders import ImageFolder

        return ImageFolder(where)
    raise UserError(
        f"there are no images at {source!r}; give a folder, mnist, digits, emoji, shapes, "
        "or torchvision:NAME such as torchvision:CIFAR10"
    )
