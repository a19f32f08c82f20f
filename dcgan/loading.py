"""Loading a DCGAN for a command."""

from __future__ import annotations

from zoo.dcgan.model import DCGAN
from zoo.shared.command_line import pick_device, pick_weights
from zoo.shared.errors import UserError
from zoo.weights import load


def load_model(weights: str | None, device: str | None) -> tuple[DCGAN, str]:
    """Load a model, and say which: by default that of the newest run.

    Raises:
        UserError: No weights, damaged weights, or weights of another family.
    """
    place, weights = pick_device(device), pick_weights("dcgan", weights)
    model = load(weights)
    if not isinstance(model, DCGAN):
        raise UserError(f"{weights} holds a {type(model).__name__}, not DCGAN; choose other --weights")
    return model.to(place), weights
