"""Training CLIP: loss, optimiser, metrics. Knows no hardware and no data set."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor

from zoo.clip.loss import contrastive_loss, encode_in_chunks
from zoo.clip.model import CLIP
from zoo.clip.retrieval import retrieval_recall
from zoo.shared.distributed import data_rank
from zoo.shared.errors import UserError
from zoo.shared.optim.groups import adamw
from zoo.shared.optim.schedules import build_schedule
from zoo.shared.runs.plan import planned_steps


class ClipTask(LightningModule):
    """Contrastive pre-training of a CLIP model (arXiv:2103.00020, Sections 2.3 and 2.5).

    Args:
        model: The model to train.
        lr: Peak learning rate (Table 18).
        warmup_steps: Steps of linear warm-up (Table 18).
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        weight_decay: Decoupled decay of matrices; gains, biases and the logit scale have none.
        betas: Adam's moments: (0.9, 0.98) for ViT, (0.9, 0.999) for ResNet (Table 18).
        eps: Adam's epsilon: 1e-6 for ViT, 1e-8 for ResNet (Table 18).
        max_logit_scale: Largest factor on the cosines; clamped after each step (Section 2.5).
        micro_batches: Compute the batch in this many pieces to save memory, with the gradients of the
            whole batch (see :func:`zoo.clip.loss.encode_in_chunks`).
        local_loss: Each rank computes only its rows of the logits; the gradients are the same.
    """

    def __init__(
        self,
        model: CLIP,
        *,
        lr: float = 5e-4,
        warmup_steps: int = 2000,
        schedule: Literal["cosine", "linear", "constant"] = "cosine",
        weight_decay: float = 0.2,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        max_logit_scale: float = 100.0,
        micro_batches: int = 1,
        local_loss: bool = False,
    ) -> None:
        super().__init__()
        if micro_batches < 1:
            raise UserError(f"--task.micro_batches must be at least 1, got {micro_batches}")
        if max_logit_scale < 1:
            raise UserError(f"--task.max_logit_scale must be at least 1, got {max_logit_scale}")
        self.model = model
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.betas = betas
        self.eps = eps
        self.max_logit_scale = max_logit_scale
        self.micro_batches = micro_batches
        self.local_loss = local_loss
        self.held_out: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Refuse the accumulation that would change the loss."""
        if self.trainer.accumulate_grad_batches > 1:
            raise UserError(
                "--trainer.accumulate_grad_batches sums losses of small batches, which is not the contrastive loss "
                "of the big one; use --task.micro_batches, which is exact"
            )

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The loss of a batch and its accuracy at naming each image's text.

        Args:
            batch: ``image`` ``(B, 3, S, S)`` and ``tokens`` ``(B, T)``.
        """
        if len(batch["image"]) % self.micro_batches:
            raise UserError(
                f"a batch of {len(batch['image'])} cannot be cut into {self.micro_batches} equal micro-batches; "
                "change --data.batch_size or --task.micro_batches"
            )
        image = encode_in_chunks(self.model.encode_image, batch["image"], self.micro_batches)
        text = encode_in_chunks(self.model.encode_text, batch["tokens"], self.micro_batches)
        loss, per_image, _ = contrastive_loss(image, text, self.model.logit_scale, local=self.local_loss)
        with torch.no_grad():
            offset = 0 if len(per_image) == per_image.shape[1] else data_rank() * len(per_image)
            labels = torch.arange(len(per_image), device=per_image.device) + offset
            accuracy = (per_image.argmax(-1) == labels).float().mean()
        return loss, accuracy

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on a batch of pairs."""
        loss, accuracy = self.loss(batch)
        self.log("train/loss", loss, sync_dist=True)
        self.log("train/accuracy", accuracy, sync_dist=True)
        self.log("train/logit_scale", self.model.logit_scale.detach().exp())
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then keep the logit scale in [1, ``max_logit_scale``]."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.model.logit_scale.clamp_(0.0, math.log(self.max_logit_scale))

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Collect embeddings of held-out pairs."""
        self.held_out.append((self.model.encode_image(batch["image"]), self.model.encode_text(batch["tokens"])))

    def on_validation_epoch_end(self) -> None:
        """Log the retrieval recall over all held-out pairs."""
        if not self.held_out:
            return
        image, text = (torch.cat(part) for part in zip(*self.held_out, strict=True))  # every rank has all of them
        self.held_out.clear()
        recall = retrieval_recall(image, text, ks=(1, 5))
        self.log_dict({f"val/{name}": value for name, value in recall.items()})

    def configure_optimizers(self) -> Any:
        """AdamW and the schedule, stepped every batch."""
        optimizer = adamw(
            self.model,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
        factor = build_schedule(self.schedule, warmup=self.warmup_steps, total=planned_steps(self.trainer))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
