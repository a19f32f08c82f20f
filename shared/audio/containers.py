"""Sound out of what soundfile does not read (m4a, mp4, webm, aac, videos), through PyAV, the extra ``media``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

_FRAMES = 256  # decoder frames that make a piece


class NotDecodable(Exception):
    """Not audio, or not without another package; the message goes after the file's name."""


def container_blocks(file: BinaryIO) -> Iterator[tuple[np.ndarray, int]]:
    """Decode the first sound track.

    Args:
        file: Positioned at the start.

    Yields:
        A piece ``(n,)`` of float32 averaged over the channels, and the sample rate.

    Raises:
        NotDecodable: No audio, or PyAV is not installed.
    """
    av = _import_av()
    with _sound(av, file) as (container, stream):
        kept: list[np.ndarray] = []
        rate = 0
        planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        for frame in _frames(av, container, stream):
            for converted in planar.resample(frame):
                kept.append(converted.to_ndarray().mean(0, dtype=np.float32))
                rate = converted.sample_rate
            if len(kept) == _FRAMES:
                yield np.concatenate(kept), rate
                kept = []
        if kept:
            yield np.concatenate(kept), rate


def container_seconds(file: BinaryIO) -> float:
    """Length of the first sound track in seconds; decoded when the file does not say it.

    Raises:
        NotDecodable: As :func:`container_blocks`.
    """
    av = _import_av()
    with _sound(av, file) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return sum(frame.samples / frame.sample_rate for frame in _frames(av, container, stream))


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise NotDecodable(
            "is not wav, flac, ogg, mp3 or aiff; for m4a, mp4, webm, aac and others `pip install 'paper-zoo[media]'`"
        ) from error
    return av


@contextmanager
def _sound(av: Any, file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """The container and its first sound track."""
    try:
        container = av.open(file, mode="r", metadata_errors="ignore")
    except (av.FFmpegError, ValueError) as error:
        raise NotDecodable("is not audio that can be decoded; convert it to wav, flac or mp3") from error
    with container:
        if not container.streams.audio:
            raise NotDecodable("has no sound in it")
        yield container, container.streams.audio[0]


def _frames(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        raise NotDecodable(f"is damaged: {error.strerror}; repair or leave it out") from error
