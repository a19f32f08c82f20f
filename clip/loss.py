"""CLIP's symmetric cross-entropy (arXiv:2103.00020, Section 2.3), over all ranks, and its cached form.

Shapes: B this rank's pairs, N pairs of all ranks, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils.checkpoint import checkpoint

from zoo.shared.distributed import data_rank, gather


def contrastive_loss(
    image: Tensor, text: Tensor, logit_scale: Tensor, *, local: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the cross-entropies of images over texts and of texts over images.

    Args:
        image: Embeddings ``(B, E)``; need not be normalised.
        text: Embeddings ``(B, E)``.
        logit_scale: Logarithm of the temperature's inverse, a scalar.
        local: Compute only this rank's rows of the N x N matrix. Less memory, same gradients.

    Returns:
        The loss, and the logits per image and per text of the rows that this rank computed
        (``(B, N)`` if local, else ``(N, N)``). The mean of the loss over ranks is the loss of one
        process that sees all N pairs.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)  # half precision is too coarse for the logits
    image, text = F.normalize(image.to(dtype), dim=-1), F.normalize(text.to(dtype), dim=-1)
    all_image, all_text = gather(image), gather(text)
    scale = logit_scale.to(dtype).exp()
    labels = torch.arange(len(all_image), device=image.device)
    if local:
        labels = labels[data_rank() * len(image) :][: len(image)]
        per_image, per_text = scale * image @ all_text.T, scale * text @ all_image.T
    else:
        per_image = scale * all_image @ all_text.T
        per_text = per_image.T
    loss = (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)) / 2
    return loss, per_image, per_text


def encode_in_chunks(encode: Callable[[Tensor], Tensor], x: Tensor, chunks: int) -> Tensor:
    """Encode ``x`` ``(B, ...)`` in micro-batches and keep no activations: the cached contrastive loss.

    Contrastive losses are not sums over samples, so summing the gradients of micro-batches is not the
    gradient of the batch. Here the embeddings of all micro-batches are computed first without
    keeping activations; the loss sees the whole batch; the backward pass then recomputes one
    micro-batch after the other with the random state it had (GradCache, arXiv:2101.06983). It is
    activation checkpointing with a micro-batch as the unit, so autograd keeps every gradient exact,
    the temperature's included.

    BatchNorm normalises over a micro-batch, as it must, so there the gradient differs from the big
    batch's; its running statistics move once a step, by the mean of the micro-batches' statistics.

    Args:
        encode: A module or bound method that maps a micro-batch to embeddings.
        x: The whole batch; B must be a multiple of ``chunks``.
        chunks: Number of micro-batches.
    """
    if chunks == 1:
        return encode(x)
    norms = batch_norms(encode)
    embeddings = []
    for index, part in enumerate(x.chunk(chunks)):

        def contexts(index: int = index) -> tuple[Any, Any]:
            return share_of_update(norms, index, chunks), frozen_statistics(norms)

        if torch.is_grad_enabled():
            embeddings.append(checkpoint(encode, part, use_reentrant=False, context_fn=contexts))
        else:
            with contexts()[0]:
                embeddings.append(encode(part))
    return torch.cat(embeddings)


def batch_norms(encode: Callable[[Tensor], Tensor]) -> list[BatchNorm]:
    """The BatchNorm layers behind a module or one of its bound methods."""
    owner = encode if isinstance(encode, nn.Module) else getattr(encode, "__self__", None)
    if not isinstance(owner, nn.Module):
        return []
    return [m for m in owner.modules() if isinstance(m, BatchNorm) and m.track_running_stats]


@contextmanager
def with_momenta(norms: list[BatchNorm], momenta: list[float | None], *, count: bool) -> Iterator[None]:
    """Let the layers update their running statistics with other momenta, and count the batch or not."""
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if not count and norm.num_batches_tracked is not None:
                norm.num_batches_tracked = norm.num_batches_tracked.clone()
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = counted


def share_of_update(norms: list[BatchNorm], index: int, chunks: int) -> AbstractContextManager[None]:
    """Weigh micro-batch ``index`` so that ``chunks`` updates equal one by the mean of their statistics.

    With momenta m_i = (m/k) / (1 - m + m i/k), i = 1..k, each micro-batch ends up with weight m/k.
    """
    shares = [
        None if norm.momentum is None
        else (norm.momentum / chunks) / (1 - norm.momentum + norm.momentum * (index + 1) / chunks)
        for norm in norms
    ]  # fmt: skip
    return with_momenta(norms, shares, count=index == 0)


def frozen_statistics(norms: list[BatchNorm]) -> AbstractContextManager[None]:
    """Normalise by the batch as before but leave the running statistics alone: the second pass."""
    return with_momenta(norms, [0.0] * len(norms), count=False)
