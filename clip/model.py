"""CLIP (Radford et al. 2021, arXiv:2103.00020). Differs from OpenAI's code in: the last block of each tower computes
only the token that is pooled, and text is cut to the longest one of the batch; both give the same numbers, because
nothing else of the last block is read and the text mask is causal.

Shapes: B batch, T tokens, D width, E embedding, P patches, S image side.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.clip.configs import ClipConfig
from zoo.clip.resnet import ModifiedResNet
from zoo.shared.transformer import (
    CAUSAL,
    MLP,
    Attention,
    Block,
    FusedProjection,
    Mask,
    StochasticDepth,
    Transformer,
    activation,
)


def build_transformer(config: ClipConfig, width: int, depth: int, heads: int) -> Transformer:
    """Pre-LN blocks, as both towers use them (Section 2.4)."""

    def block(index: int) -> Block:
        rate = config.stochastic_depth * index / max(1, depth - 1)
        return Block(
            Attention(FusedProjection(width), nn.Linear(width, width), heads=heads, dropout=config.dropout),
            MLP(width, 4 * width, act=activation(config.activation)),
            pre_attention=nn.LayerNorm(width),
            pre_mlp=nn.LayerNorm(width),
            branch=nn.Sequential(nn.Dropout(config.dropout), StochasticDepth(rate)),
        )

    return Transformer([block(index) for index in range(depth)], checkpointing=config.checkpointing)


class VisionTransformer(nn.Module):
    """ViT image tower: class token, learned positions, LayerNorm before and after the blocks."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        assert isinstance(config.vision_depth, int)
        width = config.vision_width
        patches = (config.image_size // config.patch_size) ** 2
        self.patch = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(patches + 1, width))
        self.norm_in = nn.LayerNorm(width)
        self.transformer = build_transformer(config, width, config.vision_depth, config.vision_heads)
        self.norm_out = nn.LayerNorm(width)
        self.projection = nn.Parameter(torch.empty(width, config.embed_dim))

    def init_weights(self) -> None:
        """OpenAI's initialisation.

        The blocks keep the defaults of ``nn.MultiheadAttention`` and ``nn.Linear``, as in OpenAI's code.
        """
        scale = self.class_token.shape[0] ** -0.5
        for parameter in (self.class_token, self.positions, self.projection):
            nn.init.normal_(parameter, std=scale)
        blocks: Any = self.transformer.blocks
        for block in blocks:
            nn.init.xavier_uniform_(block.attention.project.weight)
            nn.init.zeros_(block.attention.project.bias)
            nn.init.zeros_(block.attention.out.bias)

    def features(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, S, S)`` to the class token's state ``(B, D)``, which linear probes read."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        first = self.class_token.to(x.dtype).expand(x.shape[0], 1, -1)
        x = self.norm_in(torch.cat([first, x], dim=1) + self.positions.to(x.dtype))
        rows = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        return self.norm_out(self.transformer.pooled(x, rows))

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, S, S)`` to embeddings ``(B, E)``."""
        return self.features(x) @ self.projection


class TimmTower(nn.Module):
    """Any timm model as image tower, with a bias-free linear projection on its pooled features."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        import timm  # deferred: timm takes seconds to import and only this tower needs it

        name = config.vision.removeprefix("timm/")
        if not timm.is_model(name):
            close = timm.list_models(f"*{name.split('_')[0]}*")[:3]
            raise ValueError(f"timm has no model {name!r}" + (f"; near: {', '.join(close)}" if close else ""))
        try:
            self.trunk: Any = timm.create_model(name, num_classes=0, img_size=config.image_size)
        except TypeError:  # convolutional models take any size and no such argument
            self.trunk = timm.create_model(name, num_classes=0)
        self.projection = nn.Linear(self.trunk.num_features, config.embed_dim, bias=False)

    def init_weights(self) -> None:
        """The trunk keeps timm's initialisation."""
        nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)

    def features(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, S, S)`` to the trunk's pooled features ``(B, D)``."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, S, S)`` to embeddings ``(B, E)``."""
        return self.projection(self.features(x))


class TextTransformer(nn.Module):
    """Causal text tower; the state at the end-of-text token is projected."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.text_width
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Parameter(torch.empty(config.context, width))
        self.transformer = build_transformer(config, width, config.text_depth, config.text_heads)
        self.norm_out = nn.LayerNorm(width)
        self.projection = nn.Parameter(torch.empty(width, config.embed_dim))

    def init_weights(self) -> None:
        """OpenAI's initialisation."""
        blocks: Any = self.transformer.blocks
        width, depth = self.positions.shape[1], len(blocks)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        nn.init.normal_(self.projection, std=width**-0.5)
        residual = width**-0.5 * (2 * depth) ** -0.5
        for block in blocks:
            nn.init.normal_(block.attention.project.weight, std=width**-0.5)
            nn.init.normal_(block.attention.out.weight, std=residual)
            nn.init.normal_(block.mlp.up.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.down.weight, std=residual)
            nn.init.zeros_(block.attention.project.bias)
            nn.init.zeros_(block.attention.out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token ids ``(B, T)`` to embeddings ``(B, E)``.

        Raises:
            ValueError: The text is longer than the context.
        """
        if tokens.shape[1] > self.positions.shape[0]:
            raise ValueError(f"text of {tokens.shape[1]} tokens exceeds the context of {self.positions.shape[0]}")
        end = tokens.argmax(dim=-1)  # the end-of-text id is the largest of the vocabulary
        length = int(end.max()) + 1 if not torch.compiler.is_compiling() else tokens.shape[1]
        tokens = tokens[:, :length]
        x = self.tokens(tokens)
        x = x + self.positions[:length].to(x.dtype)
        row_mask = Mask(padding=torch.arange(length, device=tokens.device) <= end[:, None])
        return self.norm_out(self.transformer.pooled(x, end, mask=CAUSAL, row_mask=row_mask)) @ self.projection


def build_vision(config: ClipConfig) -> nn.Module:
    """Build the image tower that ``config.vision`` names."""
    if config.vision == "vit":
        return VisionTransformer(config)
    if config.vision == "resnet":
        assert isinstance(config.vision_depth, tuple)
        return ModifiedResNet(
            config.vision_depth, width=config.vision_width, heads=config.vision_heads,
            image_size=config.image_size, out=config.embed_dim,
        )  # fmt: skip
    return TimmTower(config)


class CLIP(nn.Module):
    """Image tower, text tower and temperature.

    Args:
        config: Shapes of both towers.
    """

    entry_points = ("encode_image", "encode_text")

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.vision: Any = build_vision(config)
        self.text = TextTransformer(config)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise as OpenAI's code does; the logit scale starts at ln(1/0.07) (Section 2.5)."""
        self.vision.init_weights()
        self.text.init_weights()
        nn.init.constant_(self.logit_scale, math.log(1 / 0.07))

    def encode_image(self, x: Tensor) -> Tensor:
        """Map preprocessed images ``(B, 3, S, S)`` to un-normalised embeddings ``(B, E)``."""
        x = x.to(self.logit_scale.dtype)  # images are made in float32, whatever the model's precision
        if x.is_cuda or not self.training:
            # Faster for convolutions. Not in training on a CPU, where PyTorch's BatchNorm loses float32 accuracy by it.
            x = x.contiguous(memory_format=torch.channels_last)
        return self.vision(x)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Map token ids ``(B, T)`` to un-normalised embeddings ``(B, E)``."""
        return self.text(tokens)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Score every image against every text.

        Args:
            x: Preprocessed images ``(B_images, 3, S, S)``.
            tokens: Token ids ``(B_texts, T)``.

        Returns:
            Logits per image ``(B_images, B_texts)`` and per text ``(B_texts, B_images)``.
        """
        image = nn.functional.normalize(self.encode_image(x), dim=-1)
        text = nn.functional.normalize(self.encode_text(tokens), dim=-1)
        logits = self.logit_scale.exp() * image @ text.T
        return logits, logits.T
