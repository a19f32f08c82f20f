"""Whisper (Radford et al. 2022, arXiv:2212.04356, Section 2.2).

Differs from the paper in: nothing; dropout, which it had none of, and stochastic depth (large-v2) are settings.

Shapes: B texts, N windows of sound (each has B / N texts), F frames, A states of sound, T tokens, M bands, D width, V
vocabulary.
"""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.shared.cross_entropy import cross_entropy_sum
from zoo.shared.int8 import computes_in_bfloat16, to_int8
from zoo.shared.transformer import (
    MLP,
    Attention,
    Block,
    CrossAttention,
    KVCache,
    Mask,
    SplitProjection,
    StaticKVCache,
    StochasticDepth,
    Transformer,
    activation,
)
from zoo.whisper.configs import WhisperConfig


def sinusoids(length: int, channels: int, *, longest: float = 10_000.0) -> Tensor:
    """Fixed positions ``(length, channels)``: sines in the first half, cosines in the second one."""
    rates = torch.exp(-math.log(longest) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def build_block(config: WhisperConfig, *, cross: bool) -> Block:
    """One pre-norm block; the decoder's attend to sound as well."""
    width, heads, dropout = config.width, config.heads, config.dropout
    drops = dropout or config.stochastic_depth  # parts that do nothing take their time too, three in each block
    return Block(
        Attention(SplitProjection(width, key_bias=False), nn.Linear(width, width), heads=heads, dropout=dropout),
        MLP(width, 4 * width, act=activation("gelu")),
        pre_attention=nn.LayerNorm(width),
        pre_mlp=nn.LayerNorm(width),
        cross=CrossAttention(width, heads=heads, key_bias=False, dropout=dropout) if cross else None,
        pre_cross=nn.LayerNorm(width) if cross else None,
        branch=nn.Sequential(nn.Dropout(dropout), StochasticDepth(config.stochastic_depth)) if drops else None,
    )


class Encoder(nn.Module):
    """Sound to states, one for each 20 milliseconds."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.mels, config.width, 3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        # Stored, because released files hold them rounded to 16 bits.
        self.positions = nn.Buffer(sinusoids(config.audio_context, config.width))
        blocks = (build_block(config, cross=False) for _ in range(config.audio_depth))
        self.transformer = Transformer(blocks, checkpointing=config.checkpointing)
        self.norm_out = nn.LayerNorm(config.width)

    def forward(self, mel: Tensor) -> Tensor:
        """Hear.

        Args:
            mel: ``(N, M, F)``, at most ``2 * audio_context`` frames of a log-mel spectrogram.

        Returns:
            ``(N, A, D)``, A being half of F.

        Raises:
            ValueError: Too many frames.
        """
        if mel.shape[-1] > 2 * self.config.audio_context:
            raise ValueError(f"{mel.shape[-1]} frames exceed the window of {2 * self.config.audio_context}")
        mel = mel.to(self.conv1.weight.dtype)  # spectrograms are float32 whatever the model is
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        return self.norm_out(self.transformer(x + self.positions[: x.shape[1]]))


class Decoder(nn.Module):
    """Tokens, and the states of what was heard, to the next tokens."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.text_context, config.width)
        blocks = (build_block(config, cross=True) for _ in range(config.text_depth))
        self.transformer = Transformer(blocks, checkpointing=config.checkpointing)
        self.norm_out = nn.LayerNorm(config.width)
        self.output: nn.Linear | None = None  # tied; one of its own only for decoding in int8
        self.heard_dtype: torch.dtype | None = None  # of what is heard; of fewer bits only for decoding in int8

    def forward(
        self,
        tokens: Tensor,
        audio: Tensor | None = None,
        cache: KVCache | None = None,
        *,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token after each.

        Args:
            tokens: int64 ``(B, T)``; with a cache, those that it does not hold yet.
            audio: ``(N, A, D)`` from the encoder; needless with a cache, which holds what is made of it.
            cache: From :meth:`new_cache`; it is extended.
            padding_mask: Bool ``(B, T)``, True where a token is real; padding is at the left. With a cache, only for
                its first tokens.

        Returns:
            ``(B, T, V)``.

        Raises:
            ValueError: The text is longer than the context.
        """
        return self.logits(self.hidden(tokens, audio, cache, padding_mask=padding_mask))

    def hidden(
        self,
        tokens: Tensor,
        audio: Tensor | None = None,
        cache: KVCache | None = None,
        *,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """The last states ``(B, T, D)``, which the output matrix reads; arguments as for :meth:`forward`."""
        count = tokens.shape[1]
        if count > self.config.text_context:
            raise ValueError(f"a text of {count} tokens exceeds the context of {self.config.text_context}")
        if cache is not None:
            positions, mask = cache.begin(count, padding_mask)
        elif padding_mask is not None:
            positions, mask = (padding_mask.cumsum(1) - 1).clamp(min=0), Mask(causal=True, padding=padding_mask)
        else:
            positions, mask = torch.arange(count, device=tokens.device), Mask(causal=True)
        x = self.tokens(tokens) + self.positions(positions)
        x = self.transformer(x, mask=mask, cache=cache, context=audio)
        if cache is not None:
            cache.advance(count)
        return self.norm_out(x)

    def logits(self, states: Tensor) -> Tensor:
        """Logits ``(..., V)`` of states ``(..., D)``."""
        return F.linear(states, self.tokens.weight) if self.output is None else self.output(states)

    def new_cache(
        self, audio: Tensor, *, texts: int = 1, slots: int | None = None, static: bool = False, alone: bool = False
    ) -> KVCache:
        """An empty cache for texts about ``audio`` ``(N, A, D)``, with the keys and values that blocks make of it.

        Args:
            audio: From the encoder.
            texts: Texts about each window: beams or samples, one after the other.
            slots: Longest text; by default the context.
            static: Shapes that never change, for compiled steps.
            alone: Each window will have one text: then reading its sound is what attention costs, and a model that
                decodes in int8 keeps the sound in 16 bits where the processor computes in them.
        """
        config = self.config
        dtype = self.heard_dtype if alone and self.heard_dtype is not None else audio.dtype
        cache = (StaticKVCache if static else KVCache)(
            layers=config.text_depth,
            batch=audio.shape[0] * texts,
            heads=config.heads,
            channels=config.width // config.heads,
            slots=min(slots or config.text_context, config.text_context),
            dtype=audio.dtype,
            device=audio.device,
        )
        for block, layer in zip(self.transformer.blocks, cache.layers, strict=True):
            assert isinstance(block, Block)
            assert block.cross is not None
            # One head after the other in memory: every token reads all of it, and what is apart is read slowly.
            keys, values = (part.new_empty(part.shape, dtype=dtype).copy_(part) for part in block.cross.memory(audio))
            layer.memory = keys, values
        return cache


class Whisper(nn.Module):
    """Both towers.

    Args:
        config: Their shape.
    """

    entry_points = ("loss_sum", "hear")

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.init_weights()

    def init_weights(self) -> None:
        """Matrices and embeddings normal with 0.02, residual projections smaller by the root of the number of residual
        layers of their tower, as GPT-2, whose decoder the paper took; convolutions by their fan-in.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.decoder.positions.weight, std=0.01)
        for tower, layers in ((self.encoder, 2), (self.decoder, 3)):
            for block in tower.transformer.blocks:
                assert isinstance(block, Block)
                parts = [block.attention.out, block.mlp.down, *([] if block.cross is None else [block.cross.out])]
                for part in parts:
                    assert isinstance(part, nn.Linear)
                    nn.init.normal_(part.weight, std=0.02 * (layers * len(tower.transformer.blocks)) ** -0.5)

    def forward(self, mel: Tensor, tokens: Tensor) -> Tensor:
        """Logits ``(B, T, V)`` of the next token after each of ``tokens`` ``(B, T)``, having heard ``mel``
        ``(N, M, F)``.
        """
        return self.decoder(tokens, self.encoder(mel))

    def hear(self, mel: Tensor) -> Tensor:
        """States ``(N, A, D)`` of ``mel`` ``(N, M, F)``."""
        return self.encoder(mel)

    def loss_sum(self, mel: Tensor, tokens: Tensor, targets: Tensor) -> Tensor:
        """Sum of the negative log-likelihoods of ``targets`` ``(B, T)`` after ``tokens`` ``(B, T)``, in nats.

        No logits are kept. Targets of -100 do not count.
        """
        states = self.decoder.hidden(tokens, self.encoder(mel))
        return cross_entropy_sum(states.flatten(0, 1), self.decoder.tokens.weight, targets.flatten())

    def for_int8_decoding(self) -> Self:
        """Change the model, in float32 on a CPU, into one that hears and writes with int8 matrices: see
        :mod:`zoo.shared.int8`. Single texts attend to sound in bfloat16 where the processor computes in it. The model
        cannot be trained or saved afterwards.
        """
        decoder = self.decoder
        decoder.heard_dtype = torch.bfloat16 if computes_in_bfloat16() else None
        decoder.output = nn.utils.skip_init(nn.Linear, self.config.width, self.config.vocab_size, bias=False)
        decoder.output.weight = decoder.tokens.weight
        to_int8(self)
        return self
