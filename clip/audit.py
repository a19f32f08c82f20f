"""What CLIP's first batch and first loss must look like, and what signals trouble later."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
import torch.nn.functional as F

from zoo.shared.audit import Check
from zoo.shared.data.images import BadSample

PATH_LIKE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)


@torch.no_grad()
def audit(task: Any, datamodule: Any) -> list[Check]:
    """Look at one batch of at most 64 pairs.

    Args:
        task: The :class:`~zoo.clip.task.ClipTask` that will be trained.
        datamodule: A set-up :class:`~zoo.clip.data.ClipDataModule`.
    """
    batch = datamodule.peek(64)
    image, tokens, model = batch["image"], batch["tokens"], task.model
    checks = [shapes(image, tokens, model.config), captions(datamodule.train_source), words(tokens)]
    if not all(check.passed for check in checks):
        return checks  # the model cannot take such a batch

    training = model.training
    model.eval()
    try:
        image_vectors = F.normalize(model.encode_image(image).float(), dim=-1)
        text_vectors = F.normalize(model.encode_text(tokens).float(), dim=-1)
    finally:
        model.train(training)
    checks += losses(image_vectors @ text_vectors.T, model.logit_scale.exp().item())
    scale = model.logit_scale.exp().item()
    checks.append(
        Check(
            name="logit scale",
            found=f"{scale:.2f}",
            expected=f"1 to {task.max_logit_scale:g}; untrained: 14.29",
            passed=1.0 <= scale <= task.max_logit_scale * (1 + 1e-4),
        )
    )
    checks += [images(image), duplicates(datamodule), leak(datamodule)]
    return checks


def losses(cosines: torch.Tensor, scale: float) -> list[Check]:
    """The loss against what it is known to be.

    With logits of small spread the loss of B pairs is ln B, whatever the embeddings. At the model's own
    temperature the known value is the loss of the same batch with its texts shuffled: an untrained model cannot
    tell the two apart, and a trained one must do better on the true pairs.

    Args:
        cosines: Of every image with every text, ``(B, B)``.
        scale: The model's factor on them.
    """
    count = len(cosines)
    expected, labels = math.log(count), torch.arange(count)
    flat = ((F.cross_entropy(cosines, labels) + F.cross_entropy(cosines.T, labels)) / 2).item()
    logits = scale * cosines
    normalisers = (logits.logsumexp(0) + logits.logsumexp(1)) / 2
    loss = (normalisers - logits.diagonal()).mean().item()
    shuffled = (normalisers.mean() - logits.mean()).item()
    noise = 5 * logits.std().item() / math.sqrt(count)
    return [
        Check(
            name="loss at logit scale 1",
            found=f"{flat:.3f}",
            expected=f"ln {count} = {expected:.3f} within 0.5",
            passed=math.isfinite(flat) and abs(flat - expected) < 0.5,
        ),
        Check(
            name="loss of the first pairs",
            found=f"{loss:.3f}",
            expected=f"at most that of shuffled pairs, {shuffled:.3f}, within {noise:.2f}",
            passed=math.isfinite(loss) and loss < shuffled + noise,
        ),
    ]


def shapes(image: torch.Tensor, tokens: torch.Tensor, config: Any) -> Check:
    """Images and texts are where they belong."""
    size = (3, config.image_size, config.image_size)
    sound = image.is_floating_point() and image.shape[1:] == size and not tokens.is_floating_point()
    return Check(
        name="image and text not swapped",
        found=f"image {tuple(image.shape)} {image.dtype}, tokens {tuple(tokens.shape)} {tokens.dtype}",
        expected=f"image (B, 3, {config.image_size}, {config.image_size}) float, tokens (B, T) integer",
        passed=sound and tokens.dim() == 2 and int(tokens.max()) < config.vocab_size,
    )


def captions(source: Any, count: int = 200) -> Check:
    """Captions are words, not file names."""
    looked = range(0, len(source), max(1, len(source) // count))
    names = sum(bool(PATH_LIKE.search(title_of(source, i).strip())) for i in looked)
    return Check(
        name="captions are words",
        found=f"{names} of {len(looked)} look like image paths",
        expected="fewer than half",
        passed=names * 2 < len(looked),
    )


def title_of(source: Any, i: int) -> str:
    """The title of a sample, or nothing when it is a bad one, which the loader counts."""
    try:
        return source.title(i)
    except BadSample:
        return ""


def words(tokens: torch.Tensor) -> Check:
    """Texts have content between start and end."""
    empty = int((tokens.argmax(-1) <= 1).sum())
    return Check(
        name="texts are not empty",
        found=f"{empty} of {len(tokens)} have no words",
        expected="fewer than half",
        passed=empty * 2 < len(tokens),
    )


def images(image: torch.Tensor) -> Check:
    """Images show something and are finite."""
    flat = int((image.flatten(1).std(-1) < 1e-3).sum())
    finite = bool(image.isfinite().all())
    return Check(
        name="images show something",
        found=f"{flat} of {len(image)} are one colour" + ("" if finite else "; some are not finite"),
        expected="fewer than half, all finite",
        passed=finite and flat * 2 < len(image),
    )


def duplicates(datamodule: Any) -> Check:
    """The same pair does not come again and again: a duplicate is a false negative of its twin."""
    pairs, total = datamodule.duplicates(), len(datamodule.train_source)
    return Check(
        name="images that stand twice in the data",
        found=f"{len(pairs)} of {total}" + (f", such as {pairs[0][0]} and {pairs[0][1]}" if pairs else ""),
        expected="fewer than a tenth",
        passed=len(pairs) * 10 < total,
    )


def leak(datamodule: Any) -> Check:
    """No concept is on both sides of the split."""
    source, held_out = datamodule.train_source, datamodule.held_out_source
    shared = {source.concept(i) for i in range(len(source))} & {held_out.concept(i) for i in range(len(held_out))}
    return Check(
        name="concepts in both training and held-out data",
        found=str(len(shared)),
        expected="0",
        passed=not shared,
    )
