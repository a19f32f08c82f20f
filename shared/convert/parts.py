"""Weights that lie in a folder as one file for each part of the model, such as ``netG_epoch_24.pth``, ``netD_…``."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from zoo.shared.errors import UserError

_ENDINGS = ("pth", "pt", "bin", "jl")
_EPOCH = re.compile(r"[-_]?(?:epoch|step|iter)?[-_]?(\d+)[-_]?", re.IGNORECASE)


def part_files(folder: Path) -> dict[str, Path]:
    """Name of a part, such as ``netG``, to its file; of several epochs, the newest one that all parts have.

    Args:
        folder: The folder.

    Returns:
        Empty when the folder has not two parts.

    Raises:
        UserError: No epoch has all parts.
    """
    files: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(path for ending in _ENDINGS for path in folder.glob(f"*.{ending}")):
        number = _EPOCH.search(path.stem)
        files[_EPOCH.sub("", path.stem)][int(number[1]) if number else -1] = path
    if len(files) < 2:
        return {}
    common = set.intersection(*(set(epochs) for epochs in files.values()))
    if not common:
        raise UserError(f"{folder} holds {' and '.join(sorted(files))} of different epochs; keep one of each")
    return {part: epochs[max(common)] for part, epochs in sorted(files.items())}
