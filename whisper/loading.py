"""The Whisper that a command of the command line is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.shared.command_line import pick_device, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.whisper.model import Whisper
    from zoo.whisper.preprocessing import WhisperPreprocessor

DTYPES = ("float32", "bfloat16", "float16", "int8")


def load_model(
    weights: str | None, device: str | None, dtype: str = "float32"
) -> tuple[Whisper, WhisperPreprocessor, str]:
    """Load a Whisper and what belongs to it: the weights named, else those of the newest run, else the real tiny.en.

    Returns:
        Model, preprocessor, and what was loaded, for people.

    Raises:
        UserError: Damaged weights, weights of another family, or a type that the device cannot use.
    """
    place = pick_device(device)
    if dtype == "int8" and place != "cpu":
        raise UserError("--dtype int8 is for CPUs; give --device cpu, or --dtype bfloat16 here")
    weights = weights or _own_or_released()
    import torch

    from zoo.factory import create_preprocessor
    from zoo.weights import load
    from zoo.whisper.model import Whisper

    model = load(weights, dtype=torch.float32 if dtype == "int8" else getattr(torch, dtype))
    if not isinstance(model, Whisper):
        raise UserError(f"{weights} holds a {type(model).__name__}, not a Whisper; choose other --weights")
    model = model.to(place).eval()
    return model.for_int8_decoding() if dtype == "int8" else model, create_preprocessor(weights), weights


def _own_or_released() -> str:
    from zoo.shared.runs.folder import newest_weights
    from zoo.whisper.pretrained import tiny_en

    try:
        weights = newest_weights("whisper")
    except UserError:  # there is no run
        weights = tiny_en(progress=say)
        say("using OpenAI's tiny.en, as there are no --weights and no run; it knows English")
    else:
        say(f"using {weights}")
    return str(weights)
