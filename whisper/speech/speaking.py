"""Speaking sentences with SVOX Pico (py-nanotts): what a worker process runs. No torch is imported here.

Differs from calling the engine in: the same sentence gives the same samples in every process, and silence before and
after is cut.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENGINE = "py-nanotts 0.1.1"

VERSION = 2
"""Of what this file makes of the engine's output; part of every cache's key."""

MARGIN_SECONDS = 0.05
"""Silence that stays before and after a sentence."""

_VOLUME = 0.4  # at the engine's own level the loudest samples of most clips are clipped
_MARGIN = 800  # samples
_QUIET = 200  # of 32,768


@dataclass(frozen=True)
class Speaker:
    """Who speaks.

    Attributes:
        voice: A voice of the engine: en-US, en-GB, de-DE, es-ES, fr-FR, it-IT.
        pitch: Fundamental frequency, times that of the voice.
        speed: Rate of speech, times that of the voice.
    """

    voice: str
    pitch: float = 1.0
    speed: float = 1.0


def begin_worker() -> None:
    """Set up a worker process: it leaves Ctrl-C to the command, and ends when the command is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clean_memory()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def clean_memory() -> None:
    """Let every large allocation of this process be fresh memory, which is all zeros.

    The engine reads memory that it has not written, so its samples depend in their last bits on what a buffer that
    is used again was used for. The C library uses a large buffer again once it has raised the size from which on it
    asks the system for pages; setting that size ends this. It costs time elsewhere, so it is for worker processes.
    """
    libc: Any = ctypes.CDLL(None)
    mmap_threshold = -3
    libc.mallopt(mmap_threshold, 128 * 1024)


def speak(jobs: Sequence[tuple[str, Speaker]]) -> list[NDArray[np.int16]]:
    """Speak texts: for each the samples ``(n,)`` at 16 kHz."""
    return [_speak(text, speaker) for text, speaker in jobs]


@cache
def _engine() -> Any:
    from py_nanotts import NanoTTS

    return NanoTTS()


def _speak(text: str, speaker: Speaker) -> NDArray[np.int16]:
    pcm = _engine().speak(text, voice=speaker.voice, pitch=speaker.pitch, speed=speaker.speed, volume=_VOLUME)
    return trim(np.frombuffer(pcm, dtype="<i2"))


def trim(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Cut the silence at both ends down to 50 ms."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > _QUIET)
    if not len(loud):
        return samples[:0]
    return samples[max(loud[0] - _MARGIN, 0) : loud[-1] + 1 + _MARGIN]
