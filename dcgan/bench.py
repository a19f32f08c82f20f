"""DCGAN's rows of ``zoo bench``: a training step beside the loop of PyTorch's example, and the wait for data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.dcgan.configs import VARIANTS, DcganConfig
from zoo.dcgan.convert import DISCRIMINATOR, GENERATOR, TORCH
from zoo.dcgan.model import DCGAN, SLOPE
from zoo.shared import bench_wait
from zoo.shared.bench import Case, Limit, Row, Setting, Side


def rows() -> list[Row | Limit]:
    """DCGAN's rows."""
    made: list[Row | Limit] = [
        Row(
            name=name,
            what=f"train step of both networks of {model}, batch {batch}",
            peer="PyTorch example's loop",
            prepare=partial(prepare_train, model=model, batch=batch),
            unit="images",
            goal=1.3,
            tolerance=1e-3,  # of the losses of two steps: Adam's first step magnifies rounding
        )
        for name, model, batch in (("dcgan-train", "dcgan-64-torch", 64), ("dcgan-train-nano", "dcgan-nano", 64))
    ]
    made.append(
        Limit(
            name="dcgan-data-wait",
            what="share of its time that dcgan-nano waits for digits: steps 21 to 40, batch 64, one worker",
            limit=2.0,
            unit="%",
            figure=data_wait,
        )
    )
    return made


def shape(model: str, setting: Setting) -> DcganConfig:
    """The model's config; the smallest one when it is only to be seen to run."""
    return VARIANTS["dcgan-debug" if setting.quick else model]


def prepare_train(side: Side, setting: Setting, *, model: str, batch: int) -> Case:
    """A step of both networks on the same images and latent vectors."""
    config = shape(model, setting)
    torch.manual_seed(0)
    ours = DCGAN(config).train()
    draw = torch.Generator().manual_seed(1)
    real = torch.rand(batch, *config.image_shape, generator=draw).mul_(2).sub_(1).to(setting.device)
    z = torch.randn(batch, config.latent, generator=draw).to(setting.device)
    make = our_step if side == "zoo" else example_step
    step = make(ours, real, z, setting)

    def losses() -> Mapping[str, Tensor]:
        return {"losses": step().float(), "losses after a step": step().float()}

    return Case(call=step, result=losses, samples=batch, note="x".join(map(str, config.image_shape)))


def our_step(model: DCGAN, real: Tensor, z: Tensor, setting: Setting) -> Callable[[], Tensor]:
    """What :class:`~zoo.dcgan.task.DcganTask` does with a batch."""
    from zoo.dcgan.task import DcganTask, frozen  # deferred: `zoo bench --list` need not wait for Lightning

    task = DcganTask(model.to(setting.device))
    task.setup("fit")
    if setting.mode.compiled:
        model.generator.compile()
        model.discriminator.compile()
    for_generator, for_discriminator = task.configure_optimizers()

    def step() -> Tensor:
        with setting.mode.autocast(setting.device):
            fake = model.generator(z)
            first = task.discriminator_loss(real, fake.detach())[0]
        for_discriminator.zero_grad()
        first.backward()
        for_discriminator.step()
        with frozen(model.discriminator), setting.mode.autocast(setting.device):
            second = task.generator_loss(fake)
            for_generator.zero_grad()
            second.backward()
            for_generator.step()
        return torch.stack([first.detach(), second.detach()])

    return step


def example_step(model: DCGAN, real: Tensor, z: Tensor, setting: Setting) -> Callable[[], Tensor]:
    """The same work as a user of PyTorch's example has it: three passes of the discriminator, two plain Adams."""
    generator, discriminator = example_networks(model)
    networks = [network.to(setting.device).train() for network in (generator, discriminator)]
    if setting.best:
        networks = [network.to(memory_format=torch.channels_last) for network in networks]
        real = real.contiguous(memory_format=torch.channels_last)
    if setting.mode.compiled:
        for network in networks:
            network.compile()
    adams = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=setting.best or None)
        for network in networks
    ]
    ones, zeros = (torch.full((len(z),), value, device=setting.device) for value in (1.0, 0.0))
    vectors = z[:, :, None, None]

    def judged(x: Tensor, target: Tensor) -> Tensor:
        with setting.mode.autocast(setting.device):
            logits = networks[1](x).flatten()
        return F.binary_cross_entropy(torch.sigmoid(logits.float()), target)

    def step() -> Tensor:
        adams[1].zero_grad()
        on_real = judged(real, ones)
        on_real.backward()
        with setting.mode.autocast(setting.device):
            fake = networks[0](vectors)
        on_fake = judged(fake.detach(), zeros)
        on_fake.backward()
        adams[1].step()
        adams[0].zero_grad()
        second = judged(fake, ones)
        second.backward()
        adams[0].step()
        return torch.stack([(on_real + on_fake).detach(), second.detach()])

    return step


def example_networks(model: DCGAN) -> tuple[nn.Sequential, nn.Sequential]:
    """PyTorch's example's networks with the model's weights."""
    config = model.config
    project = config.base_channels
    up: list[nn.Module] = [nn.ConvTranspose2d(config.latent, project, config.base, bias=False)]
    up += [nn.BatchNorm2d(project), nn.ReLU(True)]
    for layer in config.generator_layers():
        up += [nn.ConvTranspose2d(*layer, bias=False), nn.BatchNorm2d(layer.outputs), nn.ReLU(True)]
    up = [*up[:-2], nn.Tanh()]
    down: list[nn.Module] = []
    for number, layer in enumerate(config.discriminator_layers()):
        down += [nn.Conv2d(*layer, bias=False), *([nn.BatchNorm2d(layer.outputs)] if number else [])]
        down.append(nn.LeakyReLU(SLOPE, True))
    down.append(nn.Conv2d(config.discriminator_layers()[-1].outputs, 1, config.discriminator_sides[-2], bias=False))
    networks = nn.Sequential(*up), nn.Sequential(*down)
    state: dict[str, Any] = TORCH.foreign_state(model)
    for part, network in zip((GENERATOR, DISCRIMINATOR), networks, strict=True):
        start = f"{part}main."
        network.load_state_dict({key.removeprefix(start): v for key, v in state.items() if key.startswith(start)})
    return networks


def data_wait(quick: bool) -> float:
    """Percent of the time that a short run waits for digits."""
    recipe, steps = ("smoke", 4) if quick else ("default", 40)
    return bench_wait.data_wait("dcgan", "--recipe", recipe, steps=steps)
