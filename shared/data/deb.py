"""Sample packs from Debian: fetched by apt without installing anything, read as the archives they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.shared.data.packs import Pack

_MAGIC = b"!<arch>\n"
_HEADER = 60
_PATIENCE = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]


class DebReader:
    """A Debian package: an ``ar`` archive that holds a tar of the files. It is unpacked in memory when first read.

    Args:
        path: The package file.
        name: The pack's name, for messages.

    Raises:
        UserError: The file is no Debian package.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.path = path
        self.name = name
        with path.open("rb") as opened:
            if opened.read(len(_MAGIC)) != _MAGIC:
                raise UserError(f"{path} is no Debian package")

    def names(self) -> list[str]:
        """Paths inside the package, without a slash in front."""
        return list(self._members)

    def read(self, path: str) -> bytes:
        """Contents of one file of the package.

        Raises:
            UserError: The package has no such file.
        """
        member = self._members.get(path)
        opened = None if member is None else self._tar.extractfile(member)
        if opened is None:
            raise UserError(f"pack {self.name} has no file {path}")
        return opened.read()

    @cached_property
    def _tar(self) -> tarfile.TarFile:
        for name, contents in ar_members(self.path.read_bytes()):
            if name.startswith("data.tar"):
                return tarfile.open(fileobj=io.BytesIO(decompress(name, contents)), mode="r:")
        raise UserError(f"{self.path} is a Debian package without files")

    @cached_property
    def _members(self) -> dict[str, tarfile.TarInfo]:
        return {info.name.removeprefix("./"): info for info in self._tar if info.isfile() or info.islnk()}

    def close(self) -> None:
        """Forget the unpacked files."""
        for key in ("_tar", "_members"):
            self.__dict__.pop(key, None)

    def __enter__(self) -> DebReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def ar_members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the members of an ``ar`` archive."""
    at = len(_MAGIC)
    while at + _HEADER <= len(archive):
        header = archive[at : at + _HEADER]
        size = int(header[48:58])
        yield header[:16].decode("ascii").strip().rstrip("/"), archive[at + _HEADER : at + _HEADER + size]
        at += _HEADER + size + size % 2  # members begin at even places


def decompress(name: str, contents: bytes) -> bytes:
    """Undo the compression that the end of a member's name tells.

    Raises:
        UserError: It is one that this Python cannot undo.
    """
    ways: dict[str, Callable[[bytes], bytes]] = {
        "tar": bytes,
        "xz": lzma.decompress,
        "gz": gzip.decompress,
        "bz2": bz2.decompress,
        "zst": _unzstd,
    }
    ending = name.rpartition(".")[2]
    if ending not in ways:
        raise UserError(f"{name}: unknown compression")
    return ways[ending](contents)


def _unzstd(contents: bytes) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise UserError("this pack is compressed with zstd: pip install zstandard") from error
    return zstandard.ZstdDecompressor().decompressobj().decompress(contents)


def deb_pattern(pack: Pack) -> str:
    """What apt calls the pack's file."""
    return f"{pack.package}_{pack.version.replace(':', '%3a')}_*.deb"


def deb_download(pack: Pack, folder: Path) -> None:
    """Let apt put the package into ``folder``, by the machine's package lists, or by fresh ones where they are stale.

    Nothing is installed, the machine's lists stay as they are, and no root is needed.
    """
    if shutil.which("apt-get") is None:
        raise RuntimeError("this machine has no apt-get, with which Debian's packages are fetched")
    lists, cache = folder / "lists", folder / "cache"
    own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    wanted = f"{pack.package}={pack.version}"
    if _apt(["download", wanted], folder) is None:
        return
    for made in (lists / "partial", cache / "archives" / "partial"):
        made.mkdir(parents=True)
    error = _apt([*own, "update"], folder) or _apt([*own, "download", wanted], folder)
    for made in (lists, cache):
        shutil.rmtree(made, ignore_errors=True)
    if error:
        raise RuntimeError(error)


def _apt(words: list[str], folder: Path) -> str | None:
    """Run apt-get in ``folder``; what it failed of, or None."""
    # Unsandboxed: as root it would otherwise warn that its own user may not write to the folder.
    command = ["apt-get", "-q", *_PATIENCE, "-o", "APT::Sandbox::User=root", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if not done.returncode:
        return None
    errors = [line.removeprefix("E: ") for line in done.stderr.splitlines() if line.startswith("E: ")]
    return (errors or ["apt-get failed without a message"])[0]
