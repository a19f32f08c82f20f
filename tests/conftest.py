"""Shared fixtures. Tests run on CPU with few threads, so that two workers do not fight over two cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import setuptools  # noqa: F401 - before anything takes Python's own distutils, whose place it has for PyTorch's compiler
import torch


@pytest.fixture(autouse=True)
def _few_threads_and_fixed_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def free_port() -> int:
    """A local port that nothing listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
