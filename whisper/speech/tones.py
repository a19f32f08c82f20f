"""Numbers that are dialled on a telephone: speech that needs no synthesiser, for tests and the smoke recipe.

Each digit is its pair of tones (ITU-T Q.23), and the text is the number in words.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.whisper.speech.records import ArraySound, Segment, Utterance

_ROWS, _COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PLACES = {0: (3, 1), **{digit: ((digit - 1) // 3, (digit - 1) % 3) for digit in range(1, 10)}}
_DIGIT = 0.18  # seconds, a third of them silent


@dataclass(frozen=True, kw_only=True)
class DialledNumbers:
    """As many numbers as wanted, each a function of the seed and its place.

    Attributes:
        count: How many.
        seed: Chooses them.
        held_out: Whether they are of those that are not trained on, a tenth of all numbers.
        longest: Digits at most.
    """

    count: int
    seed: int
    held_out: bool = False
    longest: int = 4
    name: str = "dialled numbers"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Utterance:
        """Number ``i``; every tenth is silence."""
        if not 0 <= i < self.count:
            raise IndexError(i)
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, i], dtype=np.uint64)))
        while True:
            digits = rng.integers(10, size=int(rng.integers(1, self.longest + 1))).tolist()
            text = " ".join(_WORDS[digit] for digit in digits)
            if (zlib.crc32(text.encode()) % 10 == 0) == self.held_out:
                break
        silent = i % 10 == 9
        sound = np.concatenate([_tones(digit) for digit in digits])
        samples = (0.3 * sound * (not silent) + 1e-3 * rng.standard_normal(len(sound))).astype(np.float32)
        if silent:
            return Utterance(id=f"silence {i}", sound=ArraySound(samples), text="", language=None, no_speech=True)
        segments = (Segment(0.0, len(digits) * _DIGIT, text),)
        return Utterance(id=f"number {i}", sound=ArraySound(samples), text=text, language="en", segments=segments)


def _tones(digit: int) -> np.ndarray:
    row, column = _PLACES[digit]
    time = np.arange(round(_DIGIT * SAMPLE_RATE)) / SAMPLE_RATE
    tones = np.sin(2 * np.pi * _ROWS[row] * time) + np.sin(2 * np.pi * _COLUMNS[column] * time)
    return 0.5 * tones * (time < _DIGIT * 2 / 3)
