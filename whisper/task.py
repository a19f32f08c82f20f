"""Training a Whisper: next-token loss over what is to be written, optimiser, metrics. Knows no hardware, no data.

Shapes: B utterances, M bands, F frames, T tokens.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor

from zoo.shared.errors import UserError
from zoo.shared.optim.accumulation import share_of_mean
from zoo.shared.optim.groups import adamw
from zoo.shared.optim.muon import Muon
from zoo.shared.optim.schedules import build_schedule
from zoo.shared.runs.plan import planned_steps
from zoo.whisper.course import Course
from zoo.whisper.listener import Listener, measure, transcripts, word_error_rate
from zoo.whisper.model import Whisper
from zoo.whisper.targets import IGNORED

log = logging.getLogger("zoo")


class WhisperTask(LightningModule):
    """Multitask speech to text (arXiv:2212.04356, Sections 2.3 and 2.4, Appendix F).

    Args:
        model: The model to train.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        schedule: ``linear``, ``cosine`` or ``constant`` after the warm-up.
        weight_decay: Decoupled decay of matrices.
        betas: Adam's moments.
        eps: Adam's epsilon.
        optimizer: ``adamw``, as in the paper, or ``muon``, which learns more from each step: the default run has
            minutes.
        written: Held-out transcripts that the model writes by itself at each validation, for ``val/wer``; 0: none.

    Attributes:
        before: Figures of the weights that the run started from, by key; empty where it started from scratch.
    """

    def __init__(
        self,
        model: Whisper,
        *,
        lr: float = 1.5e-3,
        warmup_steps: int = 2048,
        schedule: Literal["linear", "cosine", "constant"] = "linear",
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        optimizer: Literal["adamw", "muon"] = "adamw",
        written: int = 32,
    ) -> None:
        super().__init__()
        if written < 0:
            raise UserError(f"--task.written is a number of transcripts, not {written}")
        self.model = model
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.betas = betas
        self.eps = eps
        self.optimizer = optimizer
        self.written = written
        self.held_out = torch.zeros(2, dtype=torch.float64)  # nats, tokens
        self.before: dict[str, float] = {}
        self.course = Course()

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, int]:
        """Sum of the loss over a batch in nats, and the tokens that it is a sum over.

        Args:
            batch: ``mel`` ``(B, M, F)``, ``tokens`` and ``targets`` ``(B, T)``; targets of -100 do not count.
        """
        targets = batch["targets"]
        return self.model.loss_sum(batch["mel"], batch["tokens"], targets), int((targets != IGNORED).sum())

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """One batch of utterances."""
        nats, _ = self.loss(batch)
        loss = share_of_mean(nats, batch["step_counts"]["tokens"], window=self.trainer.accumulate_grad_batches)
        self.log("train/loss", loss.detach(), sync_dist=True)  # texts are not as long in every process
        self.course.trained(loss.detach())
        return loss

    def on_train_start(self) -> None:
        """Measure the weights that the run starts from, as the report measures what becomes of them."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.trainer.global_step or not self.trainer.is_global_zero:
            return
        if self._sharded:
            log.warning("a sharded model writes nothing while it trains: no val/wer, and no figures before training")
        elif getattr(data, "trained", False):  # not somebody else's loaders
            figures, _ = measure(Listener(self.model, data.preprocessor), data.speech.held_out)
            self.before = {figure.key: figure.value for figure in figures}

    @property
    def _sharded(self) -> bool:
        """Whether each process has a part of the weights only, so that none can write by itself."""
        return hasattr(self.trainer.strategy, "whole_weights")

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Add up the loss of held-out utterances; every process sees all of them."""
        nats, count = self.loss(batch)
        self.held_out += torch.tensor([float(nats), count], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        """Log the held-out loss in nats per token, how much worse it is than in training, and how many words are wrong
        when the model writes by itself.
        """
        self._write()
        nats, count = self.held_out.tolist()
        self.held_out.zero_()
        if not count:
            return
        self.log("val/loss", nats / count)
        trained = self.trainer.callback_metrics.get("train/loss")
        if trained is not None:
            self.log("val/gap", nats / count - float(trained))

    def _write(self) -> None:
        """Log ``val/wer``, and by how much it has risen although the loss in training has fallen."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        speech = getattr(data, "speech", None)  # None: somebody else's loaders
        if not self.written or self._sharded or speech is None or not speech.held_out:
            return
        utterances = transcripts(next(iter(speech.held_out.values())), self.written)
        wer = word_error_rate(Listener(self.model, data.preprocessor).write(utterances, languages=False))
        if wer is None:
            return
        loss = self.trainer.strategy.reduce(self.course.loss(self.device), reduce_op="mean")
        rise = self.course.heard(wer, float(loss))
        self.log("val/wer", wer)
        self.log("val/wer_rise", rise)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what has been measured."""
        checkpoint["whisper"] = {"before": self.before, "course": self.course.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it."""
        kept = checkpoint.get("whisper", {"before": {}, "course": {}})
        self.before = dict(kept["before"])
        self.course = Course(**kept["course"])

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule, stepped every batch."""
        settings: dict[str, Any] = {
            "lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay,
        }  # fmt: skip
        optimizer: torch.optim.Optimizer
        if self.optimizer == "muon":
            optimizer = Muon(self.model.named_parameters(), chosen=lambda name: ".blocks." in name, **settings)
        else:
            optimizer = adamw(self.model, **settings)
        factor = build_schedule(
            self.schedule,
            warmup=self.warmup_steps,
            total=planned_steps(self.trainer),
            final=None if self.schedule == "constant" else 0.0,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
