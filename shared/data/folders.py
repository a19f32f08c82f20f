"""Images in a folder: sub-folders as classes, side-car texts as captions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from zoo.shared.data.images import IMAGE_SUFFIXES, BadSample, open_image
from zoo.shared.data.pairs import PairSource
from zoo.shared.data.samples import Progress
from zoo.shared.errors import UserError


class ImageFolder:
    """The images below a folder. The classes are the sub-folders, unless these are numbered shards.

    Args:
        folder: The folder.

    Raises:
        UserError: There are no images.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.name = self.folder.name
        self.files = [path for path in _walk(self.folder) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not self.files:
            raise UserError(f"{folder} holds no images ({' '.join(IMAGE_SUFFIXES)})")
        groups = sorted({path.relative_to(self.folder).parts[0] for path in self.files if path.parent != self.folder})
        if all(group.isdigit() for group in groups):
            groups = []
        self._labels = {group: number for number, group in enumerate(groups)}
        self.classes = tuple(_words(group) for group in groups)

    def __len__(self) -> int:
        return len(self.files)

    def id(self, i: int) -> str:
        """Path below the folder."""
        return self.files[i].relative_to(self.folder).as_posix()

    def image(self, i: int) -> Image.Image:
        """The image."""
        return open_image(self.files[i])

    def concept(self, i: int) -> str:
        """The image itself."""
        return self.id(i)

    def label(self, i: int) -> int | None:
        """Number of the sub-folder."""
        return self._labels.get(self.files[i].relative_to(self.folder).parts[0])


class FolderSource(ImageFolder):
    """The images below a folder, with captions.

    A text file beside an image (``cat.jpg``, ``cat.txt``) holds its captions, one a line. Without any, the image's
    class is its caption; img2dataset's numbered shards are no classes.

    Args:
        folder: The folder.

    Raises:
        UserError: There are no images, or neither sub-folders nor texts.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        if not self.classes and not any(path.with_suffix(".txt").exists() for path in self.files):
            raise UserError(f"{folder} has no captions: put images into sub-folders by class, or a .txt beside each")

    def captions(self, i: int) -> Sequence[str]:
        """Lines of the text file beside the image, or its class."""
        try:
            text = self.files[i].with_suffix(".txt").read_text(encoding="utf-8")
        except FileNotFoundError:
            label = self.label(i)
            if label is None:
                raise BadSample("has no text file beside it and no class") from None
            return [self.classes[label], f"a photo of {self.classes[label]}"]
        except (OSError, UnicodeDecodeError) as error:
            raise BadSample(f"its text cannot be read: {error}") from error
        found = [line.strip() for line in text.splitlines() if line.strip()]
        if not found:
            raise BadSample("its text file is empty")
        return found

    def title(self, i: int) -> str:
        """The first caption."""
        return self.captions(i)[0]


def open_special(folder: Path, progress: Progress) -> PairSource | None:
    """Open a folder of tars (as img2dataset writes), or with a ``metadata`` table (as `datasets` reads); else None."""
    from zoo.shared.data.tables import TableSource
    from zoo.shared.data.tars import TarSource

    if any(folder.glob("*.tar")):
        return TarSource(str(folder / "*.tar"), progress=progress)
    for name in ("metadata.jsonl", "metadata.csv", "metadata.parquet"):
        if (folder / name).exists():
            return TableSource(folder / name)
    return None


def _walk(folder: Path) -> list[Path]:
    """Files below a folder in a stable order, hidden ones left out; links to folders are followed once."""
    found, visited = [], set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here) / name for name in sorted(files) if not name.startswith(".")]
    return found


def _words(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
