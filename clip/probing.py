"""Linear probes: how much a linear classifier finds in the image tower's features (Section 3.2, Appendix A.3).

Shapes: N images, D features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.clip.zero_shot import Images, encode_images
from zoo.shared.errors import UserError

# Appendix A.3: start on every second decade, then halve the step around the best down to 8 steps a decade.
_LOW, _HIGH = -6.0, 6.0
_COARSE, _FINE = 2.0, 1 / 8
_ITERATIONS = 1000


def probe_features(model: nn.Module, preprocessor: Any, images: Images, *, batch_size: int = 64) -> Tensor:
    """What a probe reads: the state before the projection where the tower has one, else the embedding.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it.
        images: PIL images, paths, or a preprocessed tensor ``(N, 3, S, S)``.
        batch_size: Images of a batch.

    Returns:
        ``(N, D)``, float32, on the CPU.
    """
    vision: Any = model.vision
    encode = getattr(vision, "features", vision)
    return encode_images(encode, model, preprocessor, images, batch_size=batch_size)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a linear probe found.

    Attributes:
        accuracy: On the test set, from 0 to 1.
        best_c: Inverse strength of the L2 penalty, as scikit-learn counts it; the weakest of equally good ones is
            not taken, the strongest is.
        validation_accuracy: Of ``best_c``, before the refit.
        sweep: Every C that was tried, rising, with its accuracy on the validation set.
    """

    accuracy: float
    best_c: float
    validation_accuracy: float
    sweep: list[tuple[float, float]]


def _arrays(name: str, split: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    features, labels = split
    if features.ndim != 2 or labels.shape != (len(features),) or not len(features):
        raise UserError(
            f"{name}: features (N, D) and labels (N,) are needed, with N of at least 1; "
            f"got {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if not torch.isfinite(features).all():
        raise UserError(f"{name}: features hold NaN or infinity; the weights are broken")
    return features.detach().float().cpu().numpy(), labels.cpu().numpy()


def linear_probe(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> ProbeResult:
    """Fit logistic regression with L-BFGS, choosing the L2 penalty on the validation set.

    After the sweep the classifier is fitted again on training and validation set together.

    Args:
        train: Features ``(N, D)`` and labels ``(N,)``.
        validation: The same, for choosing the penalty.
        test: The same, for the accuracy that is returned.

    Raises:
        UserError: Shapes that do not fit, features that are not finite, or a single class.
    """
    x, y = _arrays("train", train)
    x_val, y_val = _arrays("validation", validation)
    x_test, y_test = _arrays("test", test)
    if len(np.unique(y)) < 2:
        raise UserError("a linear probe needs images of at least two classes")

    tried: dict[float, float] = {}

    def score(exponent: float) -> float:
        if exponent not in tried:
            tried[exponent] = float((_fit(x, y, 10.0**exponent).predict(x_val) == y_val).mean())
        return tried[exponent]

    step = _COARSE
    candidates = list(np.arange(_LOW, _HIGH + step / 2, step).tolist())
    while True:
        best = max(candidates, key=lambda exponent: (score(exponent), -exponent))
        if step <= _FINE:
            break
        step /= 2
        candidates = [e for e in (best - step, best, best + step) if _LOW <= e <= _HIGH]
    both = _fit(np.concatenate([x, x_val]), np.concatenate([y, y_val]), 10.0**best)
    return ProbeResult(
        accuracy=float((both.predict(x_test) == y_test).mean()),
        best_c=10.0**best,
        validation_accuracy=tried[best],
        sweep=[(10.0**exponent, tried[exponent]) for exponent in sorted(tried)],
    )


def _fit(x: np.ndarray, y: np.ndarray, c: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # The paper stops after 1000 iterations, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=c, max_iter=_ITERATIONS).fit(x, y)
