"""Sizes of the GPT models. Imports no torch.

Sources: GPT-1, Section 4.1; GPT-2, Table 2; GPT-3, Table 2.1; Talkie, its released code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

LAYOUTS = ("gpt1", "gpt2", "talkie")


@dataclass(frozen=True, kw_only=True)
class GptConfig:
    """Shape of a decoder-only language model."""

    layout: str = "gpt2"
    """``gpt1``: norm after each residual sum, none at the end. ``gpt2``: norm before each sublayer and at the end.
    ``talkie``: rotary positions, parameter-free RMS norm, SwiGLU, gains, an untied output matrix."""
    vocab_size: int = 50257
    """Rows of the token embedding; may exceed what the tokenizer uses."""
    context: int = 1024
    """Longest text in tokens."""
    width: int = 768
    """Width of the residual stream."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 12
    """Attention heads of a block."""
    window: int | None = None
    """Every second block sees only so many last tokens (GPT-3, Section 2.1: "alternating dense and locally banded");
    None: all blocks see everything."""
    tokenizer: str = "gpt2"
    """``gpt1``, ``gpt2``, ``talkie``, ``talkie-chat``, or ``bpe`` for one that is trained with the model."""
    dropout: float = 0.0
    """Dropout on embeddings, residual branches and attention weights (GPT-1, Section 4.1: 0.1); in Talkie's layout on
    residual branches only."""
    checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    classes: int = 0
    """Outputs of the head of a fine-tuned model (GPT-1, Section 3.2): its classes, or 1 where answers are scored one by
    one; 0 where there is no head."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r} is unknown; use {', '.join(LAYOUTS)}")
        for name in ("vocab_size", "context", "width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.context < 2:
            raise ValueError("context must be at least 2: a token and the next one")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.layout == "talkie" and self.width // self.heads % 2:
            raise ValueError(f"rotary positions need an even number of channels, not {self.width // self.heads}")
        if self.classes < 0:
            raise ValueError(f"classes must be 0 or more, not {self.classes}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1, not {self.window}")

    @property
    def hidden(self) -> int:
        """Units of the feed-forward part: 4 times the width, or 8/3 in steps of 128 where it is gated."""
        return max(1, round(8 / 3 * self.width / 128)) * 128 if self.layout == "talkie" else 4 * self.width

    def architecture(self) -> dict[str, object]:
        """The fields that weights depend on: neither what only matters while training nor the tokenizer."""
        ignored = {"dropout", "checkpointing", "tokenizer"}
        return {key: value for key, value in asdict(self).items() if key not in ignored}


_GPT1 = GptConfig(layout="gpt1", vocab_size=40478, context=512, tokenizer="gpt1", dropout=0.1)
_GPT2 = GptConfig()
_TALKIE = GptConfig(
    layout="talkie", vocab_size=65536, context=4096, width=5120, depth=40, heads=40, tokenizer="talkie"
)  # fmt: skip


def _gpt3(width: int, depth: int, heads: int) -> GptConfig:
    # The width of the band was not published; 256 is ours.
    return replace(_GPT2, context=2048, width=width, depth=depth, heads=heads, window=256)


VARIANTS: dict[str, GptConfig] = {
    "gpt1": _GPT1,
    "gpt2": _GPT2,
    "gpt2-medium": replace(_GPT2, width=1024, depth=24, heads=16),
    "gpt2-large": replace(_GPT2, width=1280, depth=36, heads=20),
    "gpt2-xl": replace(_GPT2, width=1600, depth=48, heads=25),
    "gpt3-125m": _gpt3(768, 12, 12),
    "gpt3-350m": _gpt3(1024, 24, 16),
    "gpt3-760m": _gpt3(1536, 24, 16),
    "gpt3-1.3b": _gpt3(2048, 24, 16),  # the table's 24 heads of 128 do not make 2048
    "gpt3-2.7b": _gpt3(2560, 32, 32),
    "gpt3-6.7b": _gpt3(4096, 32, 32),
    "gpt3-13b": _gpt3(5120, 40, 40),  # the table's 5140 is not 40 heads of 128
    "gpt3-175b": _gpt3(12288, 96, 96),
    "talkie-13b": _TALKIE,
    "talkie-13b-chat": replace(_TALKIE, vocab_size=65540, tokenizer="talkie-chat"),
    # Ours: for tests, and for the default run on two CPU cores.
    "gpt-debug": GptConfig(vocab_size=320, context=32, width=32, depth=2, heads=2, tokenizer="bpe"),
    "gpt-nano": GptConfig(vocab_size=2048, context=256, width=128, depth=4, heads=2, tokenizer="bpe"),
}
