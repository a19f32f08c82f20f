"""What signals trouble while a DCGAN trains. Imports no torch."""

from __future__ import annotations

from zoo.shared.watch import Watch

COLLAPSED = 0.3
"""Pairwise diversity of generated images, as a part of that of real ones, below which the generator has collapsed."""
PATIENCE = 5
"""Measurements in a row that must be below it."""
AFTER = 100
"""Steps in which generated images may be all alike, as they are at first."""

WATCHES = (
    Watch(
        metric="health/diversity",
        below=COLLAPSED,
        patience=PATIENCE,
        after=AFTER,
        at_log_steps=True,
        advice="generated images are all alike (mode collapse): lower --task.lr, use larger batches, or "
        "--on-collapse rollback",
    ),
    Watch(
        metric="health/discriminator_real",
        above=0.995,
        patience=20,
        after=AFTER,
        at_log_steps=True,
        advice="the discriminator knows every real image, so the generator learns little: lower "
        "--task.discriminator_lr, or more data",
    ),
    Watch(
        metric="health/discriminator_fake",
        below=0.1,
        patience=10,
        after=AFTER,
        at_log_steps=True,
        advice="the discriminator takes nearly all generated images for real: raise --task.discriminator_lr",
    ),
    Watch(
        metric="health/gradient_ratio",
        above=100.0,
        patience=10,
        after=AFTER,
        at_log_steps=True,
        advice="the generator's gradients are far larger than the discriminator's, which has all but won: lower "
        "--task.discriminator_lr",
    ),
    Watch(
        metric="health/saturation",
        above=0.3,
        patience=10,
        after=AFTER,
        at_log_steps=True,
        advice="many generated pixels are at the ends of the tanh, where no gradient passes: lower --task.lr",
    ),
)
