"""What the machine at hand can do: its name, its matmul rate, its bandwidth, the memory of a process."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Name of the processor (and of the GPU if it is the device), cores and threads."""
    info: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device == "cuda":
        info["gpu"] = torch.cuda.get_device_name()
    return info


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of packages; a missing one is left out."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def synchronise(device: str) -> None:
    """Wait for the GPU's queue; nothing on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], *, device: str = "cpu", times: int = 1) -> float:
    """Wall time of one call, as the mean over ``times`` calls in a row."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        call()
    synchronise(device)
    return (time.perf_counter() - began) / times


def matmul_rate(dtype: torch.dtype, *, device: str = "cpu", repeats: int = 5) -> float:
    """Best measured floating-point operations a second of a matrix product, over square and tall shapes."""
    big = 8192 if device == "cuda" else 1536
    best = 0.0
    own = torch.Generator(device).manual_seed(0)  # a run that measures draws the same numbers as one that does not
    for rows, inner, columns in ((big, big, big), (2 * big, big // 2, big)):
        a = torch.randn(rows, inner, dtype=dtype, device=device, generator=own)
        b = torch.randn(columns, inner, dtype=dtype, device=device, generator=own)

        def product(a: torch.Tensor = a, b: torch.Tensor = b) -> object:
            return torch.nn.functional.linear(a, b)

        product()
        spent = min(seconds(product, device=device) for _ in range(repeats))
        best = max(best, 2.0 * rows * inner * columns / spent)
    return best


def bandwidth(*, device: str = "cpu", repeats: int = 5) -> float:
    """Measured bytes a second of a large copy: bytes read and bytes written."""
    source = torch.ones(2**27, device=device)  # 512 MiB, larger than the caches
    target = torch.empty_like(source)
    target.copy_(source)
    spent = min(seconds(lambda: target.copy_(source), device=device) for _ in range(repeats))
    return 2.0 * source.nbytes / spent


def forget_peak() -> None:
    """Give freed memory back and let the process's peak start from here."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then of the whole process
        return


def peak_memory() -> float:
    """Largest resident memory of this process since :func:`forget_peak`, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 1e6
