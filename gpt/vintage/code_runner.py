"""Running a program that nobody has read, in a process of its own.

What it protects from: endless loops (processor time, and time by the clock), memory, large files, core dumps, many
open files, a changed working directory or environment (it runs in an empty folder that is deleted, with an empty
environment, in Python's isolated mode, without site packages), and further processes and threads: it can start none,
except as the superuser, whom that limit does not bind; then those that stay in its group end with it.

What it does not protect from: the program has the rights of the user who runs it. It can read and delete that user's
files by their full paths, use the network and, as the superuser, start processes in a group of their own. It shares its
process with the lines that judge it, so one that looks for them among Python's stack frames can claim to have passed.
Whoever must not risk that runs the whole command in a container or virtual machine without a network and without files
that matter.
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

# Runs in the child. The word that means success comes by standard input, stays in a function, and goes to a copy of
# standard output that the program is not told of: neither leaving early with exit code 0 nor printing something passes,
# and neither the module nor the command line holds the word.
_CHILD = """
import os, resource, sys

def judge():
    path, seconds, memory, size = sys.argv[1], *map(int, sys.argv[2:])
    del sys.argv[1:]
    word = os.read(0, 64)
    limits = (("CPU", seconds), ("AS", memory), ("FSIZE", size), ("CORE", 0), ("NOFILE", 64), ("NPROC", 0))
    for name, limit in limits:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
    told = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    with open(path, encoding="utf-8") as opened:
        source = opened.read()
    write, leave = os.write, os._exit
    try:
        exec(compile(source, "program", "exec"), {"__name__": "program"})
    except AssertionError:
        write(told, b"wrong")
    except SyntaxError:
        write(told, b"syntax")
    except MemoryError:
        write(told, b"memory")
    except BaseException:
        write(told, b"error")
    else:
        write(told, word)
    leave(0)

judge()
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
    word = secrets.token_hex(16).encode()
    with tempfile.TemporaryDirectory(prefix="zoo-program-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "program.py"
        path.write_text(source, encoding="utf-8", errors="replace")
        work = Path(folder) / "work"
        work.mkdir()
        limits = [str(int(seconds) + 1), str(memory), str(FILE)]
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD, str(path), *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=work,
            env={},
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError), child.stdin as entry:  # it may be gone already
            entry.write(word)
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
    return "passed" if told.startswith(word) else _NAMES.get(told, "ended")


def _told(pipe: IO[bytes]) -> bytes:
    """What is in a pipe by now: a process that left its group may hold it open for ever."""
    with pipe:
        os.set_blocking(pipe.fileno(), False)
        try:
            return os.read(pipe.fileno(), 64)
        except BlockingIOError:
            return b""
