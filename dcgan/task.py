"""Training DCGAN: two losses, two optimisers, their alternation and their health. Knows no hardware and no data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from zoo.dcgan.health import Guard, OnCollapse, diversity, saturation
from zoo.dcgan.model import DCGAN
from zoo.dcgan.pictures import save_grid
from zoo.shared.errors import UserError
from zoo.shared.optim.manual import count_steps_of
from zoo.shared.optim.norms import grad_norm
from zoo.shared.runs.throughput import logs_now

_GRID = 64  # images in the grid of every epoch
_GRID_SEED = 0


class DcganTask(LightningModule):
    """Adversarial training (arXiv:1511.06434, Section 4; Goodfellow et al. 2014, with the non-saturating loss).

    Args:
        model: Both networks.
        lr: Adam's learning rate, for both networks (Section 4).
        discriminator_lr: The discriminator's, where it has its own.
        betas: Adam's moments (Section 4: 0.5 instead of 0.9).
        eps: Adam's epsilon.
        weight_decay: L2 added to the gradient: 1e-5 in the authors' code, 0 in PyTorch's example.
        alternation: ``both``: first the discriminator, then the generator, on every batch (PyTorch's example);
            ``turns``: the generator on even batches, the discriminator on odd ones (the authors' code).
        micro_batches: Compute the batch in this many pieces to save memory. Batch normalisation then sees each piece
            by itself; without it the gradients are those of the whole batch.
        on_collapse: What to do when generated images become all alike: ``warn``, ``stop``, or ``rollback`` to the last
            healthy state with half the rate.
    """

    def __init__(
        self,
        model: DCGAN,
        *,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        alternation: Literal["both", "turns"] = "both",
        micro_batches: int = 1,
        on_collapse: OnCollapse = "warn",
    ) -> None:
        super().__init__()
        for name, value in (("lr", lr), ("discriminator_lr", discriminator_lr)):
            if value is not None and value <= 0:
                raise UserError(f"--task.{name} must be above 0, not {value}")
        if micro_batches < 1:
            raise UserError(f"--task.micro_batches must be at least 1, not {micro_batches}")
        if alternation not in ("both", "turns"):
            raise UserError(f"--task.alternation must be both or turns, not {alternation!r}")
        if on_collapse not in ("warn", "stop", "rollback"):
            raise UserError(f"--task.on_collapse must be warn, stop or rollback, not {on_collapse!r}")
        self.automatic_optimization = False
        self.model = model
        self.lr = lr
        self.discriminator_lr = discriminator_lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.alternation = alternation
        self.micro_batches = micro_batches
        self.guard = Guard(on_collapse)

    def setup(self, stage: str) -> None:
        """Lay kernels out as convolutions like them best: a quarter of a small model's step on a CPU."""
        self.model.to(memory_format=torch.channels_last)

    def on_fit_start(self) -> None:
        """Refuse the strategy under which one network's pass would wait for the other's for ever."""
        if any(hasattr(parameter, "to_local") for parameter in self.model.parameters()):
            raise UserError("a DCGAN is not sharded, as both networks fit on one device: use --trainer.strategy ddp")

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The sum of both losses of a batch, the discriminator's and the generator's; nothing is stepped.

        Args:
            batch: ``image`` ``(B, C, H, W)`` and ``z`` ``(B, Z)``.
        """
        fake = self.model.generator(batch["z"])
        found = self.discriminator_loss(batch["image"], fake.detach())[0], self.generator_loss(fake)
        return found[0] + found[1], *found

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy of real images being real plus that of generated ones not being so, and the logits of each.

        Both are ``(B, C, H, W)``; they pass separately, so that each has the batch statistics of its own kind.
        """
        on_real, on_fake = self.model.discriminator(real), self.model.discriminator(fake)
        return cross_entropy(on_real, real=True) + cross_entropy(on_fake, real=False), on_real, on_fake

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Cross-entropy of generated images ``(B, C, H, W)`` being real."""
        return cross_entropy(self.model.discriminator(fake), real=True)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """One step of both networks, or of the one whose turn it is."""
        both: Any = self.optimizers()
        generator, discriminator = both
        steps: tuple[str, ...] = ("discriminator", "generator")
        if self.alternation == "turns":
            steps = (("generator", "discriminator")[self.global_step % 2],)
        else:
            count_steps_of(generator, both)
        pieces, found = self.pieces(batch), dict[str, Tensor]()
        with frozen(self.model.generator, steps == ("discriminator",)):
            fakes = [self.model.generator(piece["z"]) for piece in pieces]
        if "discriminator" in steps:
            found |= self.step_discriminator(discriminator, pieces, fakes)
        if "generator" in steps:
            found |= self.step_generator(generator, fakes)
        found["train/loss"] = torch.stack([value for name, value in found.items() if name.endswith("_loss")]).sum()
        if logs_now(self.trainer):
            real, fake = batch["image"], torch.cat([fake.detach() for fake in fakes])
            found |= {"health/diversity": diversity(fake, real), "health/saturation": saturation(fake, real)}
            if self.alternation == "both":
                ratio = found["health/generator_gradient"] / found["health/discriminator_gradient"].clamp_min(1e-12)
                found["health/gradient_ratio"] = ratio
            self.guard.look(self.global_step, found["health/diversity"], self.model, self.trainer.optimizers)
        self.log_dict(found, sync_dist=True)  # at once: see FiniteSteps

    def pieces(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The batch in equal micro-batches."""
        if len(batch["image"]) % self.micro_batches:
            raise UserError(
                f"a batch of {len(batch['image'])} cannot be cut into {self.micro_batches} equal micro-batches; "
                "change --data.batch_size or --task.micro_batches"
            )
        parts = [batch[key].chunk(self.micro_batches) for key in ("image", "z")]
        return [{"image": image, "z": z} for image, z in zip(*parts, strict=True)]

    def step_discriminator(
        self, optimizer: Any, pieces: list[dict[str, Tensor]], fakes: list[Tensor]
    ) -> dict[str, Tensor]:
        """Move the discriminator; returns its loss, its accuracy on either kind and its gradient's norm."""
        optimizer.zero_grad()
        losses, on_real, on_fake = [], [], []
        for piece, fake in zip(pieces, fakes, strict=True):
            loss, real_logits, fake_logits = self.discriminator_loss(piece["image"], fake.detach())
            self.manual_backward(loss / len(pieces))
            losses.append(loss.detach())
            on_real.append(real_logits.detach())
            on_fake.append(fake_logits.detach())
        found = {"train/discriminator_loss": torch.stack(losses).mean()}
        if logs_now(self.trainer):
            found["health/discriminator_real"] = (torch.cat(on_real) > 0).float().mean()
            found["health/discriminator_fake"] = (torch.cat(on_fake) < 0).float().mean()
            found["health/discriminator_gradient"] = grad_norm(list(self.model.discriminator.parameters()))
        optimizer.step()
        return found

    def step_generator(self, optimizer: Any, fakes: list[Tensor]) -> dict[str, Tensor]:
        """Move the generator, whose images are at hand; returns its loss and its gradient's norm."""
        optimizer.zero_grad()
        losses = []
        with frozen(self.model.discriminator):  # its own gradients would be computed for nothing
            for fake in fakes:
                loss = self.generator_loss(fake)
                self.manual_backward(loss / len(fakes))
                losses.append(loss.detach())
        found = {"train/generator_loss": torch.stack(losses).mean()}
        if logs_now(self.trainer):
            found["health/generator_gradient"] = grad_norm(list(self.model.generator.parameters()))
        optimizer.step()
        return found

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Share of held-out images that the discriminator takes for real; far below the training images' share, it
        knows those by heart.
        """
        taken = (self.model.discriminator(batch["image"]) > 0).float().mean()
        self.log("val/discriminator_real", taken, batch_size=len(batch["image"]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Draw with the weights that are validated, which are the averaged ones where there are any."""
        if not self.trainer.sanity_checking:
            self.draw_grid()

    def on_train_epoch_end(self) -> None:
        """Draw where nothing is validated."""
        if not self.trainer.val_dataloaders:
            self.draw_grid()

    def draw_grid(self) -> None:
        """Write images of the same latent vectors as ever to ``samples/`` of the run."""
        if not self.trainer.is_global_zero:
            return
        training = self.model.training
        self.model.eval()
        images = self.model.sample(_GRID, seed=_GRID_SEED)
        self.model.train(training)
        save_grid(images, Path(self.trainer.default_root_dir) / "samples" / f"step-{self.global_step:07d}.png")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the healthy state, too."""
        checkpoint["guard"] = self.guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on guarding."""
        self.guard.load_state_dict(checkpoint["guard"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the generator and for the discriminator."""
        rates = {"generator": self.lr, "discriminator": self.discriminator_lr or self.lr}
        return [
            torch.optim.Adam(
                [{"params": list(getattr(self.model, name).parameters()), "initial_lr": rate}],
                lr=rate,
                betas=self.betas,
                eps=self.eps,
                weight_decay=self.weight_decay,
                fused=True,
            )
            for name, rate in rates.items()
        ]


def cross_entropy(logits: Tensor, *, real: bool) -> Tensor:
    """Mean of ``-log sigmoid(logits)``, or of ``-log(1 - sigmoid(logits))`` for images that are not real."""
    return F.softplus(-logits if real else logits).mean()


@contextmanager
def frozen(network: nn.Module, yes: bool = True) -> Iterator[None]:
    """Compute no gradients of a network's parameters."""
    parameters = [p for p in network.parameters() if p.requires_grad] if yes else []
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
