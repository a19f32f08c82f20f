"""GPT's rows of ``zoo bench``: training and generation beside transformers and a plain loop, text into the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.gpt.bench_data import data_wait, prepare_tokenize
from zoo.gpt.bench_loop import PlainGPT
from zoo.gpt.configs import VARIANTS, GptConfig
from zoo.gpt.convert import HF, hf_settings
from zoo.gpt.model import GPT
from zoo.shared.bench import Case, Limit, Mode, Row, Setting, Side, import_peer
from zoo.shared.generation.decode import generate
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.optim.groups import adamw

_ADAM: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
_10M = GptConfig(vocab_size=8192, context=256, width=320, depth=6, heads=5, tokenizer="bpe")
_SHAPES: dict[str, tuple[GptConfig, int, int]] = {  # config, texts, tokens of each
    "10m": (_10M, 16, 256),
    "124m": (VARIANTS["gpt2"], 2, 512),
}
_NEW = 64


def rows() -> list[Row | Limit]:
    """GPT's rows."""
    made: list[Row | Limit] = []
    for size, (config, batch, length) in _SHAPES.items():
        for peer in ("transformers", "plain loop"):
            made.append(
                Row(
                    name=f"gpt-train-{size}" + ("" if peer == "transformers" else "-loop"),
                    what=f"train step of {size.upper()} parameters (vocabulary {config.vocab_size:,}), "
                    f"{batch} texts of {length} tokens",
                    peer=peer,
                    prepare=partial(prepare_train, size=size, peer=peer),
                    unit="tokens",
                    goal=1.3,
                    tolerance=1e-3,  # of the losses of two steps: Adam's first step magnifies rounding
                )
            )
    for batch in (1, 16):
        for cache in ("default", "static"):
            made.append(
                Row(
                    name=f"gpt-generate-{batch}" + ("" if cache == "default" else "-static"),
                    what=f"gpt2 writes {_NEW} greedy tokens after {batch} prompts of 32",
                    peer=f"transformers, {cache} cache",
                    prepare=partial(prepare_generate, batch=batch, cache=cache),
                    unit="tokens",
                    goal=2.0 if cache == "default" else None,
                    tolerance=0.0,
                    best_tolerance=0.05,
                    own_modes=(Mode(precision="int8"),),
                    has_floor=False,
                )
            )
    made.append(
        Row(
            name="gpt-tokenize",
            what="GPT-2's ids of Shakespeare's plays",
            peer="transformers",
            prepare=prepare_tokenize,
            unit="bytes",
            goal=1.0,
            modes=(),
            tolerance=0.0,
            has_floor=False,
            devices=("cpu",),
        )
    )
    made.append(
        Limit(
            name="gpt-data-wait",
            what="share of its time that gpt-nano waits for tokens: steps 11 to 20 of the default recipe",
            limit=2.0,
            unit="%",
            figure=data_wait,
        )
    )
    return made


def make_model(side: Side, config: GptConfig, peer: str, device: str) -> nn.Module:
    """Either side's model with the same weights."""
    torch.manual_seed(0)
    ours = GPT(config)
    if side == "zoo":
        return ours.to(device)
    if peer == "plain loop":
        return PlainGPT.from_zoo(ours).to(device)
    transformers = import_peer("transformers", package="transformers")
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**hf_settings(config, None, "float32")))
    theirs.transformer.load_state_dict(HF.foreign_state(ours), strict=False)
    theirs.tie_weights()
    return theirs.to(device)


def compile_blocks(model: nn.Module) -> None:
    """Compile every transformer block in place."""
    for module in list(model.modules()):
        if type(module).__name__ in ("Block", "GPT2Block", "PlainBlock"):
            module.compile()


def prepare_train(side: Side, setting: Setting, *, size: str, peer: str) -> Case:
    """A step: forward, loss, backward, clipped gradient, AdamW."""
    config, batch, length = _SHAPES[size]
    if setting.quick:
        config, batch, length = VARIANTS["gpt-debug"], 2, 16
    net: Any = make_model(side, config, peer, setting.device).train()
    if setting.mode.compiled:
        compile_blocks(net)
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(config.vocab_size, (batch, length + 1), generator=draw).to(setting.device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    optimizer = adamw(net, **_ADAM) if side == "zoo" else peer_optimizer(net, fused=setting.best)

    def forward() -> Tensor:
        if side == "zoo":
            return net.loss_sum(inputs, targets) / targets.numel()
        logits = net(inputs) if peer == "plain loop" else net(input_ids=inputs, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def step() -> Tensor:
        optimizer.zero_grad()
        with setting.mode.autocast(setting.device):
            loss = forward()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    def losses() -> Mapping[str, Tensor]:
        return {"loss": step().float(), "loss after a step": step().float()}

    return Case(call=step, result=losses, samples=batch * length, note=f"{batch} x {length} tokens")


def peer_optimizer(model: nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    """AdamW as nanoGPT groups it: decay for matrices; fused where the side may choose."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    settings = {key: value for key, value in _ADAM.items() if key != "weight_decay"}
    groups = [{"params": matrices, "weight_decay": _ADAM["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, fused=fused or None, **settings)


def prepare_generate(side: Side, setting: Setting, *, batch: int, cache: str) -> Case:
    """Greedy tokens after prompts of equal length; a precision means weights of that type.

    Both sides' best must agree on the logits after the prompts: tokens part where two of them are as likely.
    """
    config, count = (VARIANTS["gpt-debug"], 8) if setting.quick else (VARIANTS["gpt2"], _NEW)
    net: Any = make_model(side, config, "transformers", setting.device).eval()
    exact = setting.mode.precision
    net = net.for_int8_decoding() if exact == "int8" else net.to(getattr(torch, exact))
    draw = torch.Generator().manual_seed(1)
    prompts = torch.randint(config.vocab_size, (batch, 32 if not setting.quick else 8), generator=draw)
    call: Callable[[], Tensor]
    logits: Callable[[], Tensor]
    if side == "zoo":
        options = GenerationOptions(max_new_tokens=count, compile="inductor" if setting.mode.compiled else None)

        def call() -> Tensor:
            found = generate(net, prompts.tolist(), options, end=None)
            return torch.tensor([list(one.tokens) for one in found])

        def logits() -> Tensor:
            with torch.inference_mode():
                return net.next_logits(prompts.to(setting.device))
    else:
        ids = prompts.to(setting.device)
        settings: dict[str, Any] = {
            "max_new_tokens": count,
            "do_sample": False,
            "pad_token_id": 0,
            "eos_token_id": None,
        }
        settings |= {"cache_implementation": "static"} if cache == "static" else {}
        settings |= {"disable_compile": True} if not setting.mode.compiled else {}

        def call() -> Tensor:
            with torch.inference_mode():
                return net.generate(ids, attention_mask=torch.ones_like(ids), **settings)[:, ids.shape[1] :].cpu()

        def logits() -> Tensor:
            with torch.inference_mode():
                return net(ids).logits[:, -1]

    def result() -> Mapping[str, Tensor]:
        return {"logits": logits().float()} if setting.best else {"tokens": call().float()}

    return Case(call=call, result=result, samples=batch * count)
