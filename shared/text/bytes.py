"""Bytes as printable characters, as GPT-2 spells its tokens; CLIP and Talkie do the same."""

from __future__ import annotations

from functools import lru_cache


@lru_cache
def byte_alphabet() -> tuple[str, ...]:
    """One printable character for each of the 256 bytes: Latin-1 where printable, else U+0100 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(spare)) for byte in range(256))


@lru_cache
def _byte_of() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_alphabet())}


def spell(data: bytes) -> str:
    """Write bytes in the alphabet, one character for each byte."""
    alphabet = byte_alphabet()
    return "".join([alphabet[byte] for byte in data])


def unspell(spelled: str) -> bytes:
    """Turn characters of the alphabet back into bytes; the inverse of :func:`spell`.

    Raises:
        KeyError: A character is not of the alphabet.
    """
    byte_of = _byte_of()
    return bytes([byte_of[character] for character in spelled])
