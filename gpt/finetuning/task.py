"""Fine-tuning a GPT: a head on the last token's state, and language modelling beside it. Knows no data set.

Differs from the released script in: the auxiliary softmax runs over the vocabulary and the three new tokens, not over
the positions that share their matrix there; embeddings are dropped out as they are looked up, not in the matrix; the
head has no bias (Equation 3); Adam's bias correction does not scale the decay.

Shapes: B items, C sequences of an item, L tokens, D width, K outputs, N rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.gpt.finetuning.metrics import measure
from zoo.gpt.held_out import FILLER
from zoo.gpt.model import GPT
from zoo.gpt.task import check_optimiser
from zoo.shared.distributed import gather_objects
from zoo.shared.errors import UserError
from zoo.shared.optim.accumulation import share_of_mean
from zoo.shared.optim.groups import adamw
from zoo.shared.runs.plan import planned_steps

_LOGITS = 1 << 24  # held at a time


@dataclass(frozen=True, kw_only=True)
class Sums:
    """The two losses of a batch, summed.

    Attributes:
        classification: Of its items.
        language: Of its sequences, each of which is a mean over its tokens.
        logits: ``(B, K)``.
    """

    classification: Tensor
    language: Tensor
    logits: Tensor


class FinetuneTask(LightningModule):
    """Supervised fine-tuning (GPT-1, Sections 3.2 and 4.1).

    Args:
        model: The pre-trained model; it gets its head and the rows of the new tokens when the data is known.
        lr: Peak learning rate.
        warmup: Share of the run in which the rate rises; then it falls linearly to 0.
        lm_weight: Weight of language modelling on the same texts; 0 leaves it out.
        dropout: On what the head reads, with one mask for all sequences of an item.
        weight_decay: Decoupled decay of matrices.
        betas: Adam's moments.
        eps: Adam's epsilon.
        copied_blocks: Keep only so many blocks of the pre-trained model, from below, beside its embeddings, and draw
            the others anew (Section 5); None keeps all.
    """

    def __init__(
        self,
        model: GPT,
        *,
        lr: float = 6.25e-5,
        warmup: float = 0.002,
        lm_weight: float = 0.5,
        dropout: float = 0.1,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        copied_blocks: int | None = None,
    ) -> None:
        super().__init__()
        check_optimiser(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        if not 0 <= warmup < 1:
            raise UserError(f"--task.warmup is a share of the run, from 0 to below 1, not {warmup}")
        if lm_weight < 0 or not 0 <= dropout < 1:
            raise UserError("--task.lm_weight must be 0 or more, and --task.dropout from 0 to below 1")
        if copied_blocks is not None and not 0 <= copied_blocks <= model.config.depth:
            raise UserError(
                f"--task.copied_blocks must be from 0 to the depth {model.config.depth}, not {copied_blocks}"
            )
        self.model = model
        self.lr = lr
        self.warmup = warmup
        self.lm_weight = lm_weight
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.betas = betas
        self.eps = eps
        self.copied_blocks = copied_blocks
        self.scores: tuple[int, int] | None = None
        self.held_out: list[tuple[Tensor, ...]] = []  # of each batch the items' places, logits and targets

    def setup(self, stage: str) -> None:
        """Fit the model to the data, before anything is restored from a checkpoint."""
        self.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def prepare(self, datamodule: Any) -> None:
        """Give the model the rows and the head that the data needs; the second time nothing is left to do."""
        self.scores = datamodule.scores
        if self.model.head is not None:
            return
        if self.copied_blocks is not None:
            keep_blocks(self.model, self.copied_blocks, seed=datamodule.seed)
        extend(self.model, rows=datamodule.rows, classes=datamodule.classes, seed=datamodule.seed)

    def sums(self, batch: dict[str, Any]) -> Sums:
        """The losses of a batch.

        Args:
            batch: ``tokens`` ``(B, C, L)``, ``lengths`` ``(B, C)``, ``target`` ``(B, K)``.
        """
        tokens, lengths, target = batch["tokens"], batch["lengths"], batch["target"]
        states = self.model.hidden(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        logits = self.read_out(states, lengths)
        classification = -(target * logits.float().log_softmax(-1)).sum()
        language = torch.zeros_like(classification)
        if self.lm_weight:
            language = language_loss_sum(states, self.model.output_matrix(), tokens, lengths)
        return Sums(classification=classification, language=language, logits=logits)

    def read_out(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Logits ``(B, K)`` from states ``(B, C, L, D)``: answers are scored each, other states are summed."""
        assert self.model.head is not None
        ends = (lengths.clamp(min=1) - 1)[..., None, None].expand(-1, -1, 1, states.shape[-1])
        last = states.gather(2, ends).squeeze(2)
        if self.training and self.dropout:
            keep = F.dropout(torch.ones_like(last[:, :1]), self.dropout)
            last = last * keep
        if self.model.config.classes == 1:
            logits = self.model.head(last).squeeze(-1)
            return logits.masked_fill(lengths == 0, torch.finfo(logits.dtype).min)
        return self.model.head(last.sum(1))

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The loss of a batch by itself, and its logits ``(B, K)``."""
        found = self.sums(batch)
        items, rows = len(batch["tokens"]), (batch["lengths"] > 0).sum()
        return found.classification / items + self.lm_weight * found.language / rows, found.logits

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """One batch of items."""
        found, counts, window = self.sums(batch), batch["step_counts"], self.trainer.accumulate_grad_batches
        items, rows = len(batch["tokens"]), (batch["lengths"] > 0).sum()
        classification, language = found.classification.detach() / items, found.language.detach() / rows
        self.log("train/loss", classification + self.lm_weight * language, sync_dist=True)
        self.log("train/classification", classification, sync_dist=True)
        self.log("train/language", language, sync_dist=True)
        loss = share_of_mean(found.classification, counts["items"], window=window)
        if self.lm_weight:
            loss = loss + self.lm_weight * share_of_mean(found.language, counts["sequences"], window=window)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Collect the answers to this process's held-out items, without what only takes the place of one."""
        states = self.model.hidden(batch["tokens"].flatten(0, 1)).unflatten(0, batch["tokens"].shape[:2])
        found = (batch["index"], self.read_out(states, batch["lengths"]).float(), batch["target"])
        counted = (batch["index"] != FILLER) & ~batch["bad"]
        self.held_out.append(tuple(part[counted].cpu() for part in found))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the held-out items of all processes."""
        if not self.held_out:
            return
        here = [torch.cat(part) for part in zip(*self.held_out, strict=True)]
        self.held_out.clear()
        index, logits, target = (torch.cat(part) for part in zip(*gather_objects(here), strict=True))
        # Each once and in the source's order: processes that compute one model together have read the same.
        places = np.unique(index.numpy(), return_index=True)[1]
        if not len(places):
            return
        logits, target = logits[places], target[places]
        loss = -(target * logits.log_softmax(-1)).sum(-1).mean()
        self.log_dict(
            {"val/loss": loss, **{f"val/{k}": v for k, v in measure(logits, target, scores=self.scores).items()}}
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which model the checkpoint holds; it has grown since the run was set up."""
        if "zoo" in checkpoint:
            checkpoint["zoo"] = {**checkpoint["zoo"], "config": asdict(self.model.config)}

    def configure_optimizers(self) -> Any:
        """Adam with decoupled decay and the schedule, stepped every batch."""
        optimizer = adamw(self.model, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)
        factor = finetune_schedule(planned_steps(self.trainer), warmup=self.warmup)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def finetune_schedule(total: int, *, warmup: float = 0.002) -> Callable[[int], float]:
    """``(x / warmup if x <= warmup else 1) * (1 - x)``, x being the share of the run in the middle of a step.

    Taken at a step's beginning or end, the first or the last step would do nothing.
    """

    def factor(step: int) -> float:
        x = min(1.0, (step + 0.5) / total)
        return (x / warmup if x <= warmup else 1.0) * (1 - x)

    return factor


def language_loss_sum(states: Tensor, matrix: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Sum over sequences of the mean negative log-likelihood of their tokens after the first.

    Args:
        states: ``(B, C, L, D)``.
        matrix: ``(V, D)``.
        tokens: ``(B, C, L)``.
        lengths: ``(B, C)``; what comes after them does not count.
    """
    counted = torch.arange(1, tokens.shape[-1], device=tokens.device) < lengths[..., None]
    weights = (1.0 / (lengths - 1).clamp(min=1))[..., None].expand_as(counted)[counted]
    rows, wanted = states[..., :-1, :][counted], tokens[..., 1:][counted]
    total = torch.zeros((), dtype=torch.float32, device=states.device)
    size = max(1, _LOGITS // len(matrix))
    for part in zip(rows.split(size), wanted.split(size), weights.split(size), strict=True):
        # Of a large vocabulary no more than one chunk of logits is kept: they are computed again for the gradient.
        several = len(rows) > size and torch.is_grad_enabled()
        total = total + (
            checkpoint(_weighted, matrix, *part, use_reentrant=False) if several else _weighted(matrix, *part)
        )
    return total


def _weighted(matrix: Tensor, rows: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    losses = F.cross_entropy(F.linear(rows, matrix).float(), wanted, reduction="none")
    return (losses * weights).sum()


@torch.no_grad()
def extend(model: Any, *, rows: int, classes: int, seed: int) -> None:
    """Give a model, in place, more tokens and a head; all new weights are normal with 0.02.

    Args:
        model: A GPT, or another model with ``tokens``, ``head`` and ``config``.
        rows: Tokens that it shall have.
        classes: Outputs of the head.
        seed: Of the new weights, which do not depend on the process.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).mul_(0.02).to(model.tokens.weight)

    more = rows - model.config.vocab_size
    assert more >= 0
    for part in (model.tokens, getattr(model, "output", None)):
        if part is not None and more:
            part.weight = nn.Parameter(torch.cat([part.weight, normal(more, part.weight.shape[1])]))
    model.tokens.num_embeddings = rows
    if getattr(model, "output", None) is not None:
        model.output.out_features = rows
    model.head = nn.utils.skip_init(nn.Linear, model.config.width, classes, bias=False)
    model.head.weight = nn.Parameter(normal(classes, model.config.width))
    model.config = replace(model.config, vocab_size=rows, classes=classes)


@torch.no_grad()
def keep_blocks(model: GPT, count: int, *, seed: int) -> None:
    """Draw all blocks after the first ``count`` anew, in place, and what follows the last block if any was."""
    if count == model.config.depth:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = GPT(model.config).state_dict()
    spared = {f"transformer.blocks.{number}." for number in range(count)}
    for name, parameter in model.named_parameters():
        first = ".".join(name.split(".")[:3]) + "."
        if name.startswith(("transformer.blocks.", "norm_out.")) and first not in spared:
            parameter.copy_(fresh[name])
