"""What a run hears of Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from zoo.shared.errors import Terminated, UserError
from zoo.shared.runs.signals import Signals, stop


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    heard = Signals()
    heard.on_train_start(None, None)
    yield heard
    heard.teardown(None, None, "fit")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_is_heard_and_stops_nothing_yet(signals: Signals) -> None:
    assert signals.agree() == 0
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.agree() == signal.SIGINT
    assert not isinstance(stop(signals.heard), Terminated)


def test_a_second_sigterm_says_nothing_new(signals: Signals) -> None:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert signals.agree() == signal.SIGTERM
    assert isinstance(stop(signals.heard), Terminated)


def test_a_second_ctrl_c_stops_at_once(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # a key that bounces
    time.sleep(1.1)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_trouble_is_said(signals: Signals) -> None:
    with pytest.raises(UserError, match="the data is bad"):
        signals.agree("the data is bad")


STUCK = """
import ctypes
from zoo.shared.runs import signals
signals._PATIENCE = 0.5
heard = signals.Signals()
heard.on_train_start(None, None)
library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
library.pthread_mutex_init(mutex, None)
library.pthread_mutex_lock(mutex)
print("stuck", flush=True)
library.pthread_mutex_lock(mutex)  # for ever, and no Python handler runs
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a lock of the C library that signals do not interrupt")
def test_a_process_that_is_stuck_ends_in_time() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 143
