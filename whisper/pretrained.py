"""The real weights that a sample pack carries: Whisper tiny.en."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from zoo.shared.data.samples import cache_folder, get_pack, open_pack

PACK = "whisper-tiny.en"


def tiny_en(*, progress: Callable[[str], object] = lambda line: None) -> Path:
    """The folder of tiny.en in CTranslate2's format, fetched and unpacked into the cache at the first call.

    Args:
        progress: Called with lines about what is being fetched.

    Raises:
        UserError: The pack cannot be fetched, or is not what it was.
    """
    pack = get_pack(PACK)
    folder = cache_folder() / f"{PACK}-{pack.version}"
    if folder.is_dir():
        return folder
    reader = open_pack(PACK, progress=progress)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{PACK}.") as temporary:
        unpacked = Path(temporary) / "weights"
        unpacked.mkdir()
        for name in reader.names():
            if name.startswith(pack.files):
                (unpacked / Path(name).name).write_bytes(reader.read(name))
        try:
            unpacked.replace(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return folder
