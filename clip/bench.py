"""CLIP's rows of ``zoo bench``: training, encoding and tokenizing beside open_clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from zoo.clip.bench_data import data_wait, prepare_data
from zoo.clip.configs import VARIANTS, ClipConfig
from zoo.clip.convert import OPEN_CLIP
from zoo.clip.formats import open_clip_settings
from zoo.clip.model import CLIP
from zoo.clip.tokenizer import ClipTokenizer
from zoo.shared.bench import Case, Limit, Row, Setting, Side, import_peer
from zoo.shared.optim.groups import adamw

Texts = Literal["emoji", "full"]

_ADAM: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.98), "eps": 1e-6}
_DECAY = 0.2


def rows() -> list[Row | Limit]:
    """CLIP's rows."""
    made: list[Row | Limit] = []
    train: tuple[tuple[str, str, Texts, int], ...] = (
        ("clip-train", "clip-vit-b-32", "emoji", 16),
        ("clip-train-full", "clip-vit-b-32", "full", 16),
        ("clip-train-nano", "clip-nano", "emoji", 64),
        ("clip-train-nano-full", "clip-nano", "full", 64),
    )
    encode: tuple[tuple[str, str, Texts, int, float], ...] = (
        ("clip-encode-image", "image", "full", 16, 1.2),
        ("clip-encode-text", "text", "emoji", 64, 1.3),
        ("clip-encode-text-full", "text", "full", 16, 1.3),
    )
    for name, model, texts, batch in train:
        made.append(
            Row(
                name=name,
                what=f"train step of {model}, batch {batch}, {_TEXTS[texts]}",
                peer="open_clip",
                prepare=partial(prepare_train, model=model, texts=texts, batch=batch),
                unit="pairs",
                goal=1.2,
                tolerance=1e-3,  # of the losses of two steps: Adam's first step magnifies rounding
            )
        )
    for name, part, texts, batch, goal in encode:
        made.append(
            Row(
                name=name,
                what=f"clip-vit-b-32 encodes {batch} " + ("images" if part == "image" else f"texts, {_TEXTS[texts]}"),
                peer="open_clip",
                prepare=partial(prepare_encode, part=part, texts=texts, batch=batch),
                unit=f"{part}s",
                goal=goal,
            )
        )
    made.append(
        Row(
            name="clip-tokenize",
            what="token ids of the captions of 1,500 emoji, words met before",
            peer="open_clip",
            prepare=prepare_tokenize,
            unit="texts",
            goal=1.0,
            modes=(),
            tolerance=0.0,
            has_floor=False,
            devices=("cpu",),
        )
    )
    made.append(
        Row(
            name="clip-data",
            what="JPEG and caption to a normalised batch, from WebDataset tars, one process",
            peer="open_clip's webdataset",
            prepare=prepare_data,
            unit="pairs",
            goal=1.0,
            modes=(),
            tolerance=0.1,  # of the pictures' mean colours: the random crops differ
            has_floor=False,
            devices=("cpu",),
        )
    )
    made.append(
        Limit(
            name="clip-data-wait",
            what="share of its time that clip-nano waits for emoji: steps 11 to 20, batch 128, one worker",
            limit=2.0,
            unit="%",
            figure=data_wait,
        )
    )
    return made


_TEXTS = {"emoji": "captions of emoji", "full": "texts that fill the context"}


def shape(model: str, setting: Setting) -> ClipConfig:
    """The model's config; the smallest one when it is only to be seen to run."""
    return VARIANTS["clip-debug" if setting.quick else model]


def make_captions(count: int) -> list[str]:
    """Real short captions: what training on emoji draws."""
    from zoo.shared.data.sources import open_source

    source = open_source("emoji", size=72)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(source))[:count]
    return [str(rng.choice(list(source.captions(int(i))))) for i in chosen]


def make_tokens(texts: Texts, count: int, context: int) -> Tensor:
    """Ids ``(B, T)`` of emoji captions, or of texts that leave no room."""
    if texts == "emoji":
        return ClipTokenizer(context=context)(make_captions(count))
    tokens = torch.randint(1, 49406, (count, context), generator=torch.Generator().manual_seed(2))
    tokens[:, 0], tokens[:, -1] = ClipTokenizer.start, ClipTokenizer.end
    return tokens


def describe(tokens: Tensor) -> str:
    """Lengths of the texts of a batch."""
    lengths = tokens.argmax(-1) + 1
    return f"texts of {int(lengths.min())} to {int(lengths.max())} tokens, mean {lengths.float().mean():.1f}"


def make_model(side: Side, config: ClipConfig, device: str) -> nn.Module:
    """Either side's model with the same weights."""
    torch.manual_seed(0)
    ours = CLIP(config)
    if side == "zoo":
        return ours.to(device)
    open_clip = import_peer("open_clip", package="open_clip_torch")
    theirs = open_clip.CLIP(**open_clip_settings(config))
    theirs.load_state_dict(OPEN_CLIP.foreign_state(ours))
    return theirs.to(device)


def best_layout(images: Tensor, setting: Setting) -> Tensor:
    """Images as both sides like them best; left to themselves ours are laid out so in the model."""
    return images.contiguous(memory_format=torch.channels_last) if setting.best else images


def compile_blocks(model: nn.Module) -> None:
    """Compile every transformer block in place: nearly all of the fusion for a fraction of the compile time."""
    for module in list(model.modules()):
        if type(module).__name__ in ("Block", "ResidualAttentionBlock"):
            module.compile()


def prepare_train(side: Side, setting: Setting, *, model: str, texts: Texts, batch: int) -> Case:
    """A step: forward, loss, backward, AdamW, clamp of the logit scale."""
    config = shape(model, setting)
    net = make_model(side, config, setting.device).train()
    if setting.mode.compiled:
        compile_blocks(net)
    size = config.image_size
    tokens = make_tokens(texts, batch, config.context)
    note = describe(tokens)
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
    images = best_layout(images, setting).to(setting.device)
    tokens = tokens.to(setting.device)
    forward: Callable[[], Tensor]
    optimizer: torch.optim.Optimizer
    if side == "zoo":
        from zoo.clip.task import ClipTask  # deferred: `zoo bench --list` need not wait for Lightning

        assert isinstance(net, CLIP)
        task, pairs = ClipTask(net), {"image": images, "tokens": tokens}
        optimizer = adamw(net, weight_decay=_DECAY, **_ADAM)

        def forward() -> Tensor:
            return task.loss(pairs)[0]
    else:
        open_clip: Any = import_peer("open_clip", package="open_clip_torch")
        criterion = open_clip.ClipLoss()
        optimizer = open_clip_optimizer(net, fused=setting.best)

        def forward() -> Tensor:
            return criterion(*net(images, tokens))

    scale: Any = net.logit_scale

    def step() -> Tensor:
        optimizer.zero_grad()
        with setting.mode.autocast(setting.device):
            loss = forward()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            scale.clamp_(0, math.log(100))
        return loss.detach()

    def losses() -> Mapping[str, Tensor]:
        return {"loss": step().float(), "loss after a step": step().float()}

    return Case(call=step, result=losses, samples=batch, note=note)


def open_clip_optimizer(model: nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    """AdamW over the groups of open_clip's own training; fused where the side may choose."""
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim < 2 or "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name
        (plain if exempt else decayed).append(parameter)
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": _DECAY}]
    return torch.optim.AdamW(groups, fused=fused or None, **_ADAM)


def prepare_encode(side: Side, setting: Setting, *, part: str, texts: Texts, batch: int) -> Case:
    """One batch of images or texts to embeddings; bfloat16 means weights of that type."""
    config = shape("clip-vit-b-32", setting)
    dtype = getattr(torch, setting.mode.precision)
    net: Any = make_model(side, config, setting.device).eval().to(dtype)
    if setting.mode.compiled:
        compile_blocks(net)
    if part == "image":
        size = config.image_size
        x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
        x = best_layout(x, setting).to(setting.device, dtype)
        encode, note = net.encode_image, f"{size} x {size} pixels"
    else:
        x = make_tokens(texts, batch, config.context)
        encode, note = net.encode_text, describe(x)
        x = x.to(setting.device)

    def call() -> Tensor:
        with torch.inference_mode():
            return encode(x)

    return Case(call=call, result=lambda: {"embeddings": call().float()}, samples=batch, note=note)


def prepare_tokenize(side: Side, setting: Setting) -> Case:
    """Texts to ids."""
    texts = make_captions(32 if setting.quick else 1500)
    tokenize: Any
    if side == "zoo":
        tokenize = ClipTokenizer()
    else:
        tokenize = import_peer("open_clip", package="open_clip_torch").get_tokenizer("ViT-B-32")
    return Case(
        call=lambda: tokenize(texts),
        result=lambda: {"ids": tokenize(texts)},
        samples=len(texts),
        note=describe(tokenize(texts)),
    )
