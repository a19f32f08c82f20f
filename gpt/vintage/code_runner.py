"""Running a program that nobody has read, in a process of its own.

What it protects from: endless loops (processor time, and time by the clock), memory, large files, core dumps, many
open files, a changed working directory or environment (it runs in an empty folder that is deleted, with an empty
environment, in Python's isolated mode, without site packages), and processes that it leaves behind in its group.

What it does not protect from: the program has the rights of the user who runs it. It can read and delete that user's
files by their full paths, use the network, and start processes in a group of their own. Whoever must not risk that runs
the whole command in a container or virtual machine without a network and without files that matter.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from zoo.shared.errors import UserError

MEMORY = 512 << 20  # bytes of address space
FILE = 1 << 20  # bytes of a file that it writes

# Runs in the child. The word that means success goes to a copy of its standard output that the program is not told of:
# neither leaving early with exit code 0 nor printing something passes.
_CHILD = """
import os, resource, sys
path, word, seconds, memory, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
del sys.argv[1:]
for name, limit in (("CPU", seconds), ("AS", memory), ("FSIZE", size), ("CORE", 0), ("NOFILE", 64)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
told = os.dup(1)
nothing = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(nothing, number)
with open(path, encoding="utf-8") as opened:
    source = opened.read()
try:
    exec(compile(source, "program", "exec"), {"__name__": "program"})
except AssertionError:
    os.write(told, b"wrong")
except SyntaxError:
    os.write(told, b"syntax")
except MemoryError:
    os.write(told, b"memory")
except BaseException:
    os.write(told, b"error")
else:
    os.write(told, word.encode())
os._exit(0)
"""

_NAMES = {b"wrong": "wrong", b"syntax": "syntax error", b"memory": "out of memory", b"error": "error"}


def run_program(source: str, *, seconds: float = 3.0, memory: int = MEMORY) -> str:
    """Run a program to its end.

    Args:
        source: Python; it raises where it is wrong.
        seconds: That it may take by the clock; its processor time is limited to the next whole second.
        memory: Bytes of address space.

    Returns:
        ``passed``, ``wrong`` (an assertion failed), ``syntax error``, ``out of memory``, ``error``, ``timeout``, or
        ``ended`` where the process ended before the program did.

    Raises:
        UserError: This system cannot limit a process.
    """
    if os.name != "posix":
        raise UserError("programs are only run where a process can be limited, on Linux and macOS")
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="zoo-program-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "program.py"
        path.write_text(source, encoding="utf-8", errors="replace")
        work = Path(folder) / "work"
        work.mkdir()
        limits = [str(int(seconds) + 1), str(memory), str(FILE)]
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD, str(path), word, *limits],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=work,
            env={},
            start_new_session=True,
        )
        assert child.stdout is not None
        try:
            child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            told = _told(child.stdout)
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):  # processor time: the soft limit and the hard one
        return "timeout"
    return "passed" if told.startswith(word.encode()) else _NAMES.get(told, "ended")


def _told(pipe: IO[bytes]) -> bytes:
    """What is in a pipe by now: a process that left its group may hold it open for ever."""
    with pipe:
        os.set_blocking(pipe.fileno(), False)
        try:
            return os.read(pipe.fileno(), 64)
        except BlockingIOError:
            return b""
