"""Sizes of the Whisper models. Imports no torch.

Sources: Radford et al. 2022, arXiv:2212.04356, Table 1; the released models for large-v2, large-v3 and turbo, and for
the heads that follow the words.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

TOKENIZERS = ("english", "multilingual", "bpe")
SAMPLE_RATE = 16_000
"""Samples a second that every model hears."""
FRAME_SECONDS = 0.02
"""What one state of the encoder stands for: two frames of the spectrogram."""

Heads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """Shape of an encoder of sound and a decoder of text."""

    mels: int = 80
    """Bands of the spectrogram: 80, from large-v3 on 128."""
    audio_context: int = 1500
    """States of the encoder: 50 for each second, 1,500 are 30 seconds."""
    text_context: int = 448
    """Longest text in tokens, its prompt included."""
    width: int = 384
    """Width of both residual streams."""
    heads: int = 6
    """Attention heads of a block."""
    audio_depth: int = 4
    """Blocks of the encoder."""
    text_depth: int = 4
    """Blocks of the decoder."""
    vocab_size: int = 51865
    """Rows of the token embedding."""
    tokenizer: str = "multilingual"
    """``english``: that of the ``.en`` models. ``multilingual``. ``bpe``: one that is trained with the model."""
    alignment_heads: Heads | None = None
    """Block and head of the decoder's attention to sound that follow the words best; None: all of its upper half."""
    dropout: float = 0.0
    """Dropout on residual branches and attention weights; the paper used none."""
    stochastic_depth: float = 0.0
    """Chance that a sample skips a residual branch in training; large-v2 used 0.1."""
    checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS:
            raise ValueError(f"tokenizer {self.tokenizer!r} is unknown; use {', '.join(TOKENIZERS)}")
        for name in ("mels", "audio_context", "width", "heads", "audio_depth", "text_depth", "vocab_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.text_context < 8:
            raise ValueError(f"text_context must be at least 8, not {self.text_context}: a prompt alone takes four")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width % 2:
            raise ValueError(f"width must be even for sines and cosines, not {self.width}")
        if self.alignment_heads is not None:  # lists in files
            heads: Any = tuple((int(block), int(head)) for block, head in self.alignment_heads)
            for block, head in heads:
                if not (0 <= block < self.text_depth and 0 <= head < self.heads):
                    raise ValueError(f"alignment_heads: there is no head {head} in a block {block}")
            object.__setattr__(self, "alignment_heads", heads)

    @property
    def window_seconds(self) -> float:
        """Seconds of sound that the model hears at once."""
        return self.audio_context * FRAME_SECONDS

    @property
    def window_samples(self) -> int:
        """Samples of sound that the model hears at once."""
        return round(self.window_seconds * SAMPLE_RATE)

    def architecture(self) -> dict[str, Any]:
        """The fields that weights depend on."""
        passing = ("dropout", "stochastic_depth", "checkpointing")
        return {name: value for name, value in asdict(self).items() if name not in passing}


def _heads(text: str) -> Heads:
    return tuple((int(block), int(head)) for block, head in (pair.split(",") for pair in text.split()))


_TINY = WhisperConfig()
_BASE = WhisperConfig(width=512, heads=8, audio_depth=6, text_depth=6)
_SMALL = WhisperConfig(width=768, heads=12, audio_depth=12, text_depth=12)
_MEDIUM = WhisperConfig(width=1024, heads=16, audio_depth=24, text_depth=24)
_LARGE = WhisperConfig(width=1280, heads=20, audio_depth=32, text_depth=32)
_LARGE_V3 = replace(_LARGE, mels=128, vocab_size=51866)
_ENGLISH: dict[str, Any] = {"vocab_size": 51864, "tokenizer": "english"}

VARIANTS: dict[str, WhisperConfig] = {
    "whisper-tiny": replace(_TINY, alignment_heads=_heads("2,2 3,0 3,2 3,3 3,4 3,5")),
    "whisper-tiny.en": replace(_TINY, **_ENGLISH, alignment_heads=_heads("1,0 2,0 2,5 3,0 3,1 3,2 3,3 3,4")),
    "whisper-base": replace(_BASE, alignment_heads=_heads("3,1 4,2 4,3 4,7 5,1 5,2 5,4 5,6")),
    "whisper-base.en": replace(_BASE, **_ENGLISH, alignment_heads=_heads("3,3 4,7 5,1 5,5 5,7")),
    "whisper-small": replace(_SMALL, alignment_heads=_heads("5,3 5,9 8,0 8,4 8,7 8,8 9,0 9,7 9,9 10,5")),
    "whisper-small.en": replace(
        _SMALL,
        **_ENGLISH,
        alignment_heads=_heads("6,6 7,0 7,3 7,8 8,2 8,5 8,7 9,0 9,4 9,8 9,10 10,0 10,1 10,2 10,3 10,6 10,11 11,2 11,4"),
    ),
    "whisper-medium": replace(_MEDIUM, alignment_heads=_heads("13,15 15,4 15,15 16,1 20,0 23,4")),
    "whisper-medium.en": replace(
        _MEDIUM,
        **_ENGLISH,
        alignment_heads=_heads(
            "11,4 14,1 14,12 14,14 15,4 16,0 16,4 16,9 17,12 17,14 18,7 18,10 18,15 20,0 20,3 20,9 20,14 21,12"
        ),
    ),
    "whisper-large-v1": replace(_LARGE, alignment_heads=_heads("9,19 11,2 11,4 11,17 22,7 22,11 22,17 23,2 23,15")),
    "whisper-large-v2": replace(
        _LARGE,
        alignment_heads=_heads(
            "10,12 13,17 16,11 16,12 16,13 17,15 17,16 18,4 18,11 18,19 19,11 21,2 21,3 22,3 22,9 22,12 23,5 23,7 "
            "23,13 25,5 26,1 26,12 27,15"
        ),
    ),
    "whisper-large-v3": replace(
        _LARGE_V3, alignment_heads=_heads("7,0 10,17 12,18 13,12 16,1 17,14 19,11 21,4 24,1 25,6")
    ),
    "whisper-turbo": replace(_LARGE_V3, text_depth=4, alignment_heads=_heads("2,4 2,11 3,3 3,6 3,11 3,14")),
    "whisper-debug": WhisperConfig(
        mels=80,
        audio_context=50,
        text_context=32,
        width=32,
        heads=2,
        audio_depth=2,
        text_depth=2,
        vocab_size=340,
        tokenizer="bpe",
    ),
    "whisper-nano": WhisperConfig(
        mels=80,
        audio_context=200,
        text_context=64,
        width=128,
        heads=2,
        audio_depth=3,
        text_depth=2,
        vocab_size=768,
        tokenizer="bpe",
    ),
}
