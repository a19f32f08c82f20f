"""CLIP's sizes (arXiv:2103.00020, Tables 19 and 20) and the two small ones of ours. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Shapes of both towers.

    ``vision_depth`` is the number of blocks of a ViT, or the four stage depths of a ResNet;
    ``vision_heads`` follows the paper: width / 64 for a ViT, 32 * width / 64 for the attention pool.
    """

    embed_dim: int
    """Width of the shared embedding space."""
    image_size: int
    """Side of the square input image, in pixels."""
    vision: str = "vit"
    """Kind of image tower: ``vit``, ``resnet`` (the paper's ModifiedResNet) or ``timm/NAME``."""
    vision_width: int = 768
    """Width of the ViT, or of the ResNet's first stage. A timm tower ignores it."""
    vision_depth: int | tuple[int, int, int, int] = 12
    """Blocks of the ViT, or blocks in each of the ResNet's four stages. A timm tower ignores it."""
    vision_heads: int = 12
    """Attention heads of the ViT, or of the ResNet's attention pool. A timm tower ignores it."""
    patch_size: int = 32
    """Side of a ViT patch, in pixels; only a ViT uses it."""
    text_width: int = 512
    """Width of the text transformer."""
    text_depth: int = 12
    """Blocks of the text transformer."""
    text_heads: int = 8
    """Heads of the text transformer."""
    context: int = 77
    """Longest text in tokens, start and end included."""
    vocab_size: int = 49408
    """Rows of the token embedding."""
    activation: str = "quick_gelu"
    """``quick_gelu`` (all of OpenAI's weights) or ``gelu`` (open_clip's default)."""
    dropout: float = 0.0
    """Dropout on residual branches and attention weights; the paper uses none."""
    stochastic_depth: float = 0.0
    """Rate of the last block's dropped branches, rising linearly from 0 at the first; the paper uses none."""
    checkpointing: bool = False
    """Recompute activations in the backward pass to save memory (paper, Section 2.5)."""

    def __post_init__(self) -> None:
        kinds = ("vit", "resnet")
        if self.vision not in kinds and not self.vision.startswith("timm/"):
            raise ValueError(f"vision={self.vision!r} is unknown; use vit, resnet or timm/NAME")
        if isinstance(self.vision_depth, list):
            object.__setattr__(self, "vision_depth", tuple(self.vision_depth))
        if (self.vision == "resnet") != isinstance(self.vision_depth, tuple) and self.vision in kinds:
            raise ValueError("vision_depth is one number for vision='vit', four stage depths for vision='resnet'")
        if isinstance(self.vision_depth, tuple) and len(self.vision_depth) != 4:
            raise ValueError("vision_depth needs four stage depths for vision='resnet'")
        if self.vision == "vit" and self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.vision == "resnet" and self.image_size % 32:
            raise ValueError(f"image_size {self.image_size} is not a multiple of 32, as a ResNet needs")
        if self.vision == "vit" and self.vision_width % self.vision_heads:
            raise ValueError(f"vision_width {self.vision_width} is not a multiple of vision_heads {self.vision_heads}")
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width {self.text_width} is not a multiple of text_heads {self.text_heads}")

    def architecture(self) -> dict[str, object]:
        """The fields that weights depend on: neither what only matters while training nor what the tower ignores."""
        ignored = {"dropout", "stochastic_depth", "checkpointing"}
        if self.vision != "vit":
            ignored.add("patch_size")
        if self.vision.startswith("timm/"):
            ignored |= {"vision_width", "vision_depth", "vision_heads"}
        return {key: value for key, value in asdict(self).items() if key not in ignored}


# Table 20 (ViT) and Table 19 (ResNet).
_VIT_B_32 = ClipConfig(embed_dim=512, image_size=224)
_VIT_B_16 = replace(_VIT_B_32, patch_size=16)
_VIT_L_14 = ClipConfig(
    embed_dim=768, image_size=224, vision_width=1024, vision_depth=24, vision_heads=16, patch_size=14,
    text_width=768, text_heads=12,
)  # fmt: skip
_RN50 = ClipConfig(
    embed_dim=1024,
    image_size=224,
    vision="resnet",
    vision_width=64,
    vision_depth=(3, 4, 6, 3),
    vision_heads=32,
)
_RN101 = replace(_RN50, embed_dim=512, vision_depth=(3, 4, 23, 3))
_RN50X4 = replace(
    _RN50, embed_dim=640, image_size=288, vision_width=80, vision_depth=(4, 6, 10, 6), vision_heads=40,
    text_width=640, text_heads=10,
)  # fmt: skip
_RN50X16 = replace(
    _RN50, embed_dim=768, image_size=384, vision_width=96, vision_depth=(6, 8, 18, 8), vision_heads=48,
    text_width=768, text_heads=12,
)  # fmt: skip
_RN50X64 = replace(
    _RN50, embed_dim=1024, image_size=448, vision_width=128, vision_depth=(3, 15, 36, 10), vision_heads=64,
    text_width=1024, text_heads=16,
)  # fmt: skip
# Ours: for tests, and for the default run on two CPU cores.
_DEBUG = ClipConfig(
    embed_dim=16, image_size=32, vision_width=32, vision_depth=2, vision_heads=2, patch_size=8,
    text_width=32, text_depth=2, text_heads=2,
)  # fmt: skip
_NANO = ClipConfig(
    embed_dim=128, image_size=64, vision="resnet", vision_width=24, vision_depth=(1, 1, 1, 1), vision_heads=12,
    text_width=128, text_depth=2, text_heads=2,
)  # fmt: skip

VARIANTS: dict[str, ClipConfig] = {
    "clip-rn50": _RN50,
    "clip-rn101": _RN101,
    "clip-rn50x4": _RN50X4,
    "clip-rn50x16": _RN50X16,
    "clip-rn50x64": _RN50X64,
    "clip-vit-b-32": _VIT_B_32,
    "clip-vit-b-16": _VIT_B_16,
    "clip-vit-l-14": _VIT_L_14,
    "clip-vit-l-14-336": replace(_VIT_L_14, image_size=336),
    "clip-debug": _DEBUG,
    "clip-nano": _NANO,
}
