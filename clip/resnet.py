"""CLIP's ModifiedResNet (arXiv:2103.00020, Section 2.4): three-convolution stem, anti-aliased strides, attention pool.

Shapes: B batch, C channels, H and W pixels, E embedding.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """ResNet bottleneck whose stride is an average pool after the 3x3 convolution (and in the shortcut)."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        channels_out = width * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    pool=nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                    conv=nn.Conv2d(channels_in, channels_out, 1, bias=False),
                    bn=nn.BatchNorm2d(channels_out),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, 4 * width, H / stride, W / stride)``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.pool(out)))
        return F.relu(out + self.shortcut(x))


class AttentionPool(nn.Module):
    """One attention layer whose only query is the mean of the feature map.

    Args:
        side: Height and width of the feature map.
        width: Channels of the feature map.
        heads: Attention heads.
        out: Width of the result.
    """

    def __init__(self, side: int, width: int, *, heads: int, out: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(side * side + 1, width) / width**0.5)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, out)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, out)``."""
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positions.to(x.dtype)
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (self.query(x[:, :1]), self.key(x), self.value(x))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).flatten(1))


class ModifiedResNet(nn.Module):
    """The ResNet image tower.

    Args:
        depths: Blocks in each of the four stages.
        width: Channels of the first stage.
        heads: Heads of the attention pool.
        image_size: Side of the input in pixels, a multiple of 32.
        out: Width of the embedding.
    """

    def __init__(self, depths: tuple[int, int, int, int], *, width: int, heads: int, image_size: int, out: int) -> None:
        super().__init__()
        half = width // 2
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False),
                bn1=nn.BatchNorm2d(half),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(half, half, 3, padding=1, bias=False),
                bn2=nn.BatchNorm2d(half),
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(half, width, 3, padding=1, bias=False),
                bn3=nn.BatchNorm2d(width),
                relu3=nn.ReLU(),
                pool=nn.AvgPool2d(2),
            )
        )
        self.stages = nn.ModuleList()
        channels = width
        for stage, depth in enumerate(depths):
            stage_width = width * 2**stage
            blocks = []
            for index in range(depth):
                blocks.append(Bottleneck(channels, stage_width, stride=2 if stage and not index else 1))
                channels = stage_width * Bottleneck.expansion
            self.stages.append(nn.Sequential(*blocks))
        self.pool = AttentionPool(image_size // 32, channels, heads=heads, out=out)

    def init_weights(self) -> None:
        """OpenAI's initialisation: attention-pool matrices std in^-0.5, last gain of each bottleneck 0."""
        for linear in (self.pool.query, self.pool.key, self.pool.value, self.pool.out):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to embeddings ``(B, E)``."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.pool(x)
