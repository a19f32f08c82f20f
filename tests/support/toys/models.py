"""Models of the toys and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from toys.data import AUDIO, LENGTH, PAD, VOCAB
from zoo.shared.distributed import data_rank, data_world_size, gather_objects
from zoo.shared.optim.accumulation import share_of_mean
from zoo.shared.optim.manual import count_steps_of
from zoo.shared.transformer import CAUSAL, MLP, Attention, Block, FusedProjection, Transformer, activation


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Shapes of a toy."""

    width: int = 16
    """Width."""
    dropout: float = 0.0
    """Dropout."""
    norm: bool = False
    """BatchNorm in the generator."""

    def architecture(self) -> dict[str, object]:
        return {"width": self.width, "norm": self.norm}


def transformer(config: ToyConfig) -> Transformer:
    width = config.width
    return Transformer(
        Block(
            Attention(FusedProjection(width), nn.Linear(width, width), heads=2, dropout=config.dropout),
            MLP(width, 2 * width, act=activation("gelu")),
            pre_attention=nn.LayerNorm(width),
            pre_mlp=nn.LayerNorm(width),
            branch=nn.Dropout(config.dropout),
        )
        for _ in range(2)
    )


class Speaker(nn.Module):
    """Embeds tokens, after a sound to speak of, and runs them through blocks."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(VOCAB, config.width)
        self.positions = nn.Embedding(LENGTH + 1, config.width)
        self.blocks = transformer(config)
        self.norm = nn.LayerNorm(config.width)

    def hidden(self, tokens: Tensor, *, causal: bool, audio: Tensor | None = None) -> Tensor:
        x = self.tokens(tokens)
        if audio is not None:
            x = torch.cat([audio[:, None], x], 1)
        x = x + self.positions.weight[: x.shape[1]]
        return self.norm(self.blocks(x, mask=CAUSAL) if causal else self.blocks(x))


class LanguageModel(Speaker):
    """Next tokens."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.width, VOCAB)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.hidden(tokens, causal=True))


class MaskedModel(Speaker):
    """Masked tokens, and whether the second half follows the first."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.width, VOCAB)
        self.follows = nn.Linear(config.width, 2)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(tokens, causal=False)
        return self.head(hidden), self.follows(hidden[:, 0])


class SpeechModel(Speaker):
    """Tokens from a sound."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.ear = nn.Linear(AUDIO, config.width)
        self.head = nn.Linear(config.width, VOCAB)

    def forward(self, audio: Tensor, tokens: Tensor) -> Tensor:
        return self.head(self.hidden(tokens[:, :-1], causal=True, audio=self.ear(audio)))


class RecurrentModel(nn.Module):
    """A recurrent network whose state goes on from batch to batch."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(VOCAB, config.width)
        self.cell = nn.GRU(config.width, config.width, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, VOCAB)

    def forward(self, tokens: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden, state = self.cell(self.tokens(tokens), state)
        return self.head(self.dropout(hidden)), state


class AdversarialModel(nn.Module):
    """A generator, with or without BatchNorm, and a discriminator."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        norm = nn.BatchNorm1d(width) if config.norm else nn.Identity()
        self.generator = nn.Sequential(nn.Linear(3, width), norm, nn.ReLU(), nn.Linear(width, 2))
        self.discriminator = nn.Sequential(
            nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Dropout(config.dropout), nn.Linear(width, 1)
        )


class ToyTask(LightningModule):
    """What the toys' tasks share.

    Args:
        model: The model.
        lr: Learning rate.
    """

    def __init__(self, model: nn.Module, *, lr: float = 1e-2) -> None:
        super().__init__()
        self.model = model
        self.lr = lr

    def mean(self, losses: Tensor, batch: dict[str, Any], name: str) -> Tensor:
        """Mean of ``losses`` over the optimiser step, which holds ``step_counts[name]`` of them."""
        return share_of_mean(losses.sum(), batch["step_counts"][name], window=self.trainer.accumulate_grad_batches)

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, sync_dist=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, eps=1e-3)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def entropies(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of each token; none where it is padding."""
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=PAD, reduction="none")


class LanguageTask(ToyTask):
    """Mean over the tokens that are not padding."""

    def loss(self, batch: dict[str, Any]) -> Tensor:
        tokens = batch["tokens"]
        return self.mean(entropies(self.model(tokens)[:, :-1], tokens[:, 1:]), batch, "predicted")


class NaiveLanguageTask(LanguageTask):
    """The well-known mistake: each batch is divided by its own number of tokens."""

    def loss(self, batch: dict[str, Any]) -> Tensor:
        tokens = batch["tokens"]
        return entropies(self.model(tokens)[:, :-1], tokens[:, 1:]).sum() / (tokens[:, 1:] != PAD).sum()


class EstimatingTask(LanguageTask):
    """The trap: Lightning then builds the loader before a resumed run knows where it stands."""

    def configure_optimizers(self) -> Any:
        self.steps = self.trainer.estimated_stepping_batches
        return super().configure_optimizers()


class ReseededTask(LanguageTask):
    """The trap: every start begins with the same random numbers, as without a saved random state."""

    def on_train_start(self) -> None:
        torch.manual_seed(0)


class MaskedTask(ToyTask):
    """Two means over different numbers."""

    def loss(self, batch: dict[str, Any]) -> Tensor:
        masked, tokens = batch["masked"], batch["tokens"]
        words, follows = self.model(tokens.masked_fill(masked, VOCAB - 1))
        guesses = F.cross_entropy(words[masked], tokens[masked], reduction="none")
        neighbours = F.cross_entropy(follows, batch["follows"], reduction="none")
        return self.mean(guesses, batch, "masked") + self.mean(neighbours, batch, "samples")


class SpeechTask(ToyTask):
    """Mean over the text that is not padding."""

    def loss(self, batch: dict[str, Any]) -> Tensor:
        tokens = batch["tokens"]
        logits = self.model(batch["audio"].to(self.model.ear.weight.dtype), tokens)
        return self.mean(entropies(logits, tokens), batch, "spoken")


class RecurrentTask(ToyTask):
    """The state of one batch is where the next one starts; checkpoints hold that of the global batch."""

    state: Tensor | None = None

    def loss(self, batch: dict[str, Any]) -> Tensor:
        tokens = batch["tokens"]
        logits, state = self.model(tokens, self.state)
        self.state = state.detach()
        return self.mean(entropies(logits[:, :-1], tokens[:, 1:]), batch, "predicted")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["recurrent_state"] = torch.cat(gather_objects(self.state), 1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.state = checkpoint["recurrent_state"].chunk(data_world_size(), 1)[data_rank()].clone()


class ForgetfulTask(RecurrentTask):
    """The mistake: a resumed run starts from no state."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        pass


class AdversarialTask(ToyTask):
    """Two optimisers in turns, by hand.

    Args:
        model: The model.
        lr: Learning rate of both.
        micro_batches: Pieces that a batch is cut into.
    """

    def __init__(self, model: AdversarialModel, *, lr: float = 1e-2, micro_batches: int = 1) -> None:
        super().__init__(model, lr=lr)
        self.automatic_optimization = False
        self.micro_batches = micro_batches

    def training_step(self, batch: dict[str, Any], index: int) -> None:
        discriminator, generator = optimizers = self.optimizers()
        count_steps_of(generator, optimizers)
        dtype = next(self.model.parameters()).dtype
        pieces = list(zip(*(batch[key].to(dtype).chunk(self.micro_batches) for key in ("image", "noise")), strict=True))
        # The noise of the whole batch would be another one for the second pass in the paper; here it is the same.
        for optimizer, loss in ((discriminator, self.discriminator_loss), (generator, self.generator_loss)):
            optimizer.zero_grad()
            for image, noise in pieces:
                self.manual_backward(loss(image, noise) / len(pieces))
            optimizer.step()
        with torch.no_grad():
            self.log("train/loss", sum(self.generator_loss(*piece) for piece in pieces) / len(pieces), sync_dist=True)
        for schedule in self.lr_schedulers():
            schedule.step()

    def discriminator_loss(self, image: Tensor, noise: Tensor) -> Tensor:
        fake = self.model.generator(noise).detach()
        return self.judged(image, real=True) + self.judged(fake, real=False)

    def generator_loss(self, image: Tensor, noise: Tensor) -> Tensor:
        return self.judged(self.model.generator(noise), real=True)

    def judged(self, x: Tensor, *, real: bool) -> Tensor:
        logits = self.model.discriminator(x)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def configure_optimizers(self) -> Any:
        made = [
            torch.optim.Adam(part.parameters(), lr=self.lr, betas=(0.5, 0.999), eps=1e-3)
            for part in (self.model.discriminator, self.model.generator)
        ]
        return made, [torch.optim.lr_scheduler.StepLR(optimizer, 2) for optimizer in made]
