"""Whether what a model writes becomes worse while its loss falls.

The loss is computed with the right text before each token. What the model writes by itself can become worse all the
while: it was trained with another prompt than it is used with, never saw a text end, or repeats itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Course:
    """The word error rate and the training loss so far.

    Args:
        lowest: Lowest error rate so far.
        then: Mean training loss of the steps before it was measured.
        nats: Sum of the losses since the last measurement.
        steps: Their number.
    """

    def __init__(
        self, *, lowest: float = math.inf, then: float = math.inf, nats: float | Tensor = 0.0, steps: int = 0
    ) -> None:
        self.lowest = lowest
        self.then = then
        self.nats = nats
        self.steps = steps

    def trained(self, loss: Tensor) -> None:
        """Take note of the loss of a step, which is not waited for."""
        self.nats = self.nats + loss
        self.steps += 1

    def loss(self, device: torch.device) -> Tensor:
        """Mean loss since the last measurement; infinite where there was no step."""
        nats = torch.as_tensor(self.nats, device=device, dtype=torch.float32)
        return nats / self.steps if self.steps else torch.full_like(nats, math.inf)

    def heard(self, wer: float, loss: float) -> float:
        """Take note of an error rate.

        Args:
            wer: Errors for each word; more than one counts as one, or an untrained model that babbles would set the
                standard.
            loss: Mean training loss since the last measurement.

        Returns:
            By how much it is above the lowest one, where the loss is below what it was then; otherwise 0.
        """
        wer = min(wer, 1.0)
        rise = wer - self.lowest if wer > self.lowest and loss < self.then else 0.0
        if wer <= self.lowest:
            self.lowest, self.then = wer, loss
        self.nats, self.steps = 0.0, 0
        return rise

    def state(self) -> dict[str, Any]:
        """Numbers for a checkpoint, which :class:`Course` takes again."""
        return {"lowest": self.lowest, "then": self.then, "nats": float(self.nats), "steps": self.steps}
