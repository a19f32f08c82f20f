"""Sound from files, bytes, streams and arrays, as mono at 16 kHz.

soundfile decodes wav, flac, ogg, mp3, aiff and their like; PyAV (extra ``media``) everything else, the sound of
videos too. Files are decoded, averaged over their channels and resampled piece by piece, so memory does not grow
with their length, and what a piece becomes does not depend on where it was cut.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from zoo.shared.audio.containers import NotDecodable, container_blocks, container_seconds
from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.errors import UserError

Source = str | Path | bytes | BinaryIO

_QUALITY = "HQ"  # flat to 7.3 kHz, below -120 dB from 8.2 kHz on
_PIECE = 1 << 20  # samples of all channels together that are decoded at a time
_LOUDEST = 10.0  # times full scale: beyond are integers that somebody stored as floats
_RATES = (1_000, 1_000_000)
_IN_MEMORY = 1 << 26  # bytes of a pipe that are kept in memory before they go to a temporary file


def read_audio(source: Source) -> Tensor:
    """Decode a recording.

    Args:
        source: A path, the bytes of a file, or a binary file object, which may be a pipe such as ``sys.stdin.buffer``.

    Returns:
        ``(S,)`` float32 in [-1, 1]: mono at 16 kHz, channels averaged, what resampling overshoots cut.

    Raises:
        UserError: Missing, empty, not audio, without samples, with samples that are not numbers, or damaged.
    """
    return torch.cat(list(stream_audio(source)))


def stream_audio(source: Source, *, block_seconds: float = 30.0) -> Iterator[Tensor]:
    """Decode a recording in blocks; concatenated they equal :func:`read_audio`.

    Args:
        source: As for :func:`read_audio`.
        block_seconds: Length of a block.

    Yields:
        ``(block,)`` float32, the last one shorter.

    Raises:
        UserError: As for :func:`read_audio`; what is wrong late in a file is found late.
    """
    size = round(block_seconds * SAMPLE_RATE)
    if size < 1:
        raise ValueError(f"block_seconds must be at least one sample, not {block_seconds}")
    name = _name(source)
    with _opened(source) as file:
        yield from _blocks(_resampled(_decoded(file, name), name), size)


def duration(source: Source) -> float:
    """Length of a recording in seconds, from its header where that says it; a pipe is used up.

    Raises:
        UserError: As for :func:`read_audio`.
    """
    name = _name(source)
    with _opened(source) as file:
        try:
            with soundfile.SoundFile(file) as opened:
                return float(opened.frames / opened.samplerate)
        except (soundfile.LibsndfileError, TypeError):
            file.seek(0)
        with _explained(name):
            return container_seconds(file)


def from_array(samples: Tensor | np.ndarray, *, rate: int = SAMPLE_RATE) -> Tensor:
    """The same from samples in memory.

    Args:
        samples: ``(S,)`` or ``(channels, S)``: floats in [-1, 1], or integers, whose type says their full scale
            (unsigned bytes lie around 128, as in wav files).
        rate: Samples a second.

    Returns:
        ``(S,)`` float32 in [-1, 1] at 16 kHz.

    Raises:
        UserError: No samples, samples that are not numbers, or a shape that looks transposed.
    """
    array = samples.detach().cpu() if isinstance(samples, Tensor) else samples
    if isinstance(array, Tensor):
        array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] > 64):
        raise UserError(f"samples must be (samples,) or (channels, samples), not {tuple(array.shape)}; transpose them")
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif np.issubdtype(array.dtype, np.signedinteger):
        array = array.astype(np.float64) / -float(np.iinfo(array.dtype).min)
    elif not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"samples of type {array.dtype} are no audio; pass floats in [-1, 1] or signed integers")
    mono = array.astype(np.float32) if array.ndim == 1 else array.mean(0, dtype=np.float32)
    return torch.from_numpy(np.concatenate(list(_resampled(iter([(mono, rate)]), "the array"))))


def _name(source: Source) -> str:
    if isinstance(source, str | Path):
        return str(source)
    named = getattr(source, "name", None)
    return named if isinstance(named, str) else "the audio"


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    """A file object that can be read at any place; closed afterwards if it was opened here."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if not isinstance(source, str | Path):
        if source.seekable():
            yield source
            return
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, prefix="zoo-audio-") as kept:
            copyfileobj(source, kept, 1 << 20)
            kept.seek(0)
            yield kept  # type: ignore[misc]  # a binary file in all but its class
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below, where errors are not of opening it
    except FileNotFoundError as error:
        raise UserError(f"no such file: {source}") from error
    except IsADirectoryError as error:
        raise UserError(f"{source} is a folder; name the audio files in it") from error
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror or error}") from error
    with file:
        yield file


def _decoded(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces ``(n,)`` of float32, channels averaged, with the sample rate of the file."""
    start = file.tell()
    if not file.read(1):
        raise UserError(f"{name} is empty")
    file.seek(start)
    try:
        # By object, not by path, so that the name's ending decides nothing.
        opened = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: called .raw, which would need its format named
        file.seek(start)
        with _explained(name):
            yield from container_blocks(file)
        return
    with opened, _explained(name):
        size = max(1, _PIECE // opened.channels)
        while len(piece := opened.read(size, dtype="float32", always_2d=True)):
            yield (piece[:, 0] if opened.channels == 1 else piece.mean(1)), opened.samplerate


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what decoders raise into one line."""
    try:
        yield
    except NotDecodable as error:
        raise UserError(f"{name} {error}") from error
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{name} is damaged: {error}; repair or leave it out") from error


def _resampled(pieces: Iterator[tuple[np.ndarray, int]], name: str) -> Iterator[np.ndarray]:
    """The pieces at 16 kHz, checked, resampled as if they were one."""
    stream: Any = None
    rate, done, held = SAMPLE_RATE, 0, np.empty(0, np.float32)
    for piece, rate in pieces:
        _check(piece, rate=rate, done=done, name=name)
        done += len(piece)
        if rate == SAMPLE_RATE:
            yield piece.clip(-1, 1)
            continue
        stream = stream or soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality=_QUALITY)
        # One piece behind, because the resampler wants to know which one is the last.
        if len(held):
            yield stream.resample_chunk(held).clip(-1, 1)
        held = piece
    if not done:
        raise UserError(f"{name} holds no samples")
    if len(held):
        yield stream.resample_chunk(held, last=True).clip(-1, 1)


def _check(piece: np.ndarray, *, rate: int, done: int, name: str) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(f"{name} says {rate} samples a second, which no recording has; its header is wrong")
    low, high = (float(piece.min()), float(piece.max())) if len(piece) else (0.0, 0.0)
    if not np.isfinite(low + high):
        second = (done + int(np.argmin(np.isfinite(piece)))) / rate
        raise UserError(f"{name} has samples that are not numbers, the first at {second:.2f} s; repair or leave it out")
    if max(-low, high) > _LOUDEST:
        raise UserError(
            f"{name} has samples up to {max(-low, high):.4g} where full scale is 1; divide them by their full scale"
        )


def _blocks(pieces: Iterator[np.ndarray], size: int) -> Iterator[Tensor]:
    """Cut or join pieces into blocks of one size."""
    kept: list[np.ndarray] = []
    length = 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length >= size:
            joined = np.concatenate(kept)
            for start in range(0, length - size + 1, size):
                yield torch.from_numpy(joined[start : start + size].copy())
            kept, length = [joined[length // size * size :]], length % size
    if length:
        yield torch.from_numpy(np.concatenate(kept))
