"""What a compressor without any model of language makes of a text."""

from __future__ import annotations

import lzma


def primed_bits_per_byte(known: bytes, text: bytes) -> float:
    """Bits per byte of ``text`` when xz has read ``known`` before: the growth of the compressed size.

    The dictionary holds all of both.

    Args:
        known: The training text.
        text: The held-out text.
    """
    size = 1 << max(16, (len(known) + len(text)).bit_length())
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": min(size, 1 << 30)}]

    def packed(data: bytes) -> int:
        return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))

    return 8 * (packed(known + text) - packed(known)) / len(text)
