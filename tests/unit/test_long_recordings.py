"""Memory stays flat however long a recording is."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from zoo.shared.audio.log_mel import LogMel
from zoo.shared.audio.long_form import LongLogMel

torch.set_num_threads(1)
block = 0.1 * torch.randn(30 * 16_000)
hours = int(sys.argv[1])
mel = LongLogMel((block for _ in range(120 * hours)), log_mel=LogMel())
assert mel.frames == 360_000 * hours
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak(hours: int) -> float:
    """Most memory of a process that computes the features of so many hours, in MB."""
    words = [sys.executable, "-c", PROGRAM, str(hours)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.timeout(180)
def test_ten_hours_take_no_more_memory_than_one() -> None:
    assert peak(10) < peak(1) + 30  # ten hours of features are 1,150 MB
