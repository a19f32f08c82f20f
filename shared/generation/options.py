"""How a text is generated."""

from __future__ import annotations

import math
from dataclasses import dataclass

TOP_P_CONVENTIONS = ("common", "gpt2")
LENGTH_CONVENTIONS = ("power", "gnmt")
CACHES = ("growing", "static", "none")
COMPILERS = ("inductor", "aot_eager")


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Settings of :func:`zoo.shared.generation.decode.generate`."""

    max_new_tokens: int = 100
    """Tokens generated at most; the model's context may end a text earlier."""
    temperature: float = 0.0
    """What logits are divided by before sampling; 0 takes the likeliest token."""
    top_k: int | None = None
    """Sample among so many of the likeliest tokens (GPT-2's samples: 40)."""
    top_p: float = 1.0
    """Sample among the likeliest tokens of together this probability (Holtzman et al. 2020, arXiv:1904.09751)."""
    top_p_convention: str = "common"
    """``common`` keeps the token that crosses ``top_p``, ``gpt2`` leaves it out, as GPT-2's released code does."""
    repetition_penalty: float = 1.0
    """What tokens that occurred already are penalised by (Keskar et al. 2019, arXiv:1909.05858, Section 4.1)."""
    beams: int = 1
    """Width of beam search; 1 searches nothing."""
    length_penalty: float = 1.0
    """Exponent of the length that a beam's log-probability is divided by: GPT-3 used 0.6, with ``gnmt``."""
    length_convention: str = "power"
    """``power`` divides by ``length ** length_penalty`` as `transformers` does, ``gnmt`` by
    ``((5 + length) / 6) ** length_penalty`` (Wu et al. 2016, arXiv:1609.08144, eq. 14)."""
    stop: tuple[str, ...] = ()
    """Texts that end the generation; neither they nor what follows belongs to the result."""
    seed: int = 0
    """Seed of sampling. A sample follows from the seed, its prompt, and how often the prompt was given before."""
    batch_size: int = 16
    """Prompts computed together."""
    cache: str = "growing"
    """``growing`` attends to what is filled, ``static`` has shapes that never change, ``none`` computes all anew."""
    compile: str | None = None
    """Backend of ``torch.compile`` for the single steps, on a static cache; ``inductor`` uses CUDA graphs on a GPU."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise ValueError("stop must be several texts, not one; write (text,)")
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise ValueError("a stop text must not be empty; leave it out, or give the text that ends the generation")
        for name in ("max_new_tokens", "beams", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}")
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be 0 (take the likeliest token) or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not (self.repetition_penalty > 0 and math.isfinite(self.repetition_penalty)):
            raise ValueError(f"repetition_penalty must be above 0 (1 changes nothing), not {self.repetition_penalty}")
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty must be a number, not {self.length_penalty}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, not {self.seed}")
        known = {"top_p_convention": TOP_P_CONVENTIONS, "length_convention": LENGTH_CONVENTIONS, "cache": CACHES}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; use {' or '.join(values)}")
        if self.compile is not None and self.compile not in COMPILERS:
            raise ValueError(f"compile {self.compile!r} is unknown; use {' or '.join(COMPILERS)}")
        if self.compile is not None and self.cache == "none":
            raise ValueError("compiled steps need a cache; leave cache='none' out")
        if self.beams > 1 and self.temperature > 0:
            raise ValueError("beam search does not sample; use temperature 0 with beams, or one beam")
        if self.temperature == 0 and (self.top_k is not None or self.top_p < 1):
            raise ValueError("top_k and top_p choose what is sampled from; give a temperature above 0 with them")
        if self.beams > 1 and (self.cache == "none" or self.compile is not None):
            raise ValueError("beam search moves texts within a cache that is not compiled; leave cache and compile out")
