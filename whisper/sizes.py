"""The sizes of a Whisper model, told by the shapes of its tensors under zoo's names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zoo.shared.convert.formats import Recognised
from zoo.shared.convert.rules import Shapes
from zoo.shared.errors import UserError
from zoo.whisper.configs import VARIANTS, WhisperConfig

_CHANNELS = 64  # of a head, in every model that OpenAI released
_TOKENIZERS = {51864: "english", 51865: "multilingual", 51866: "multilingual"}
_LARGE = "whisper-large-v2"  # of the same size as large-v1, and the better known one


def from_shapes(shapes: Shapes, **known: Any) -> Recognised | None:
    """Infer a config.

    Args:
        shapes: Name to shape.
        **known: Fields of the config that are known better.

    Returns:
        The config and what was assumed for it; None if the shapes are not those of a Whisper model.

    Raises:
        UserError: They are, but of one that zoo does not have.
    """
    conv, tokens = shapes.get("encoder.conv1.weight", ()), shapes.get("decoder.tokens.weight", ())
    needed = ("encoder.positions", "decoder.positions.weight", "decoder.transformer.blocks.0.cross.query.weight")
    if len(conv) != 3 or len(tokens) != 2 or any(len(shapes.get(key, ())) != 2 for key in needed):
        return None
    width = conv[0]
    if tokens[1] != width:
        raise UserError(f"this Whisper hears in {width} channels and writes in {tokens[1]}, which zoo does not have")
    found: dict[str, Any] = {
        "mels": conv[1],
        "audio_context": shapes["encoder.positions"][0],
        "text_context": shapes["decoder.positions.weight"][0],
        "width": width,
        "heads": max(1, width // _CHANNELS),
        "audio_depth": _depth(shapes, "encoder"),
        "text_depth": _depth(shapes, "decoder"),
        "vocab_size": tokens[0],
        "tokenizer": _TOKENIZERS.get(tokens[0], "bpe"),
    }
    assumed = {"heads": f"the number of heads is not in the file; heads of {_CHANNELS} channels are assumed"}
    try:
        config = WhisperConfig(**(found | known))
    except (TypeError, ValueError) as error:
        raise UserError(f"the sizes of this Whisper do not fit together: {error}") from error
    if "alignment_heads" not in known:
        named = _released(config)
        config = replace(config, alignment_heads=named[-1].alignment_heads if named else None)
        if len(named) > 1:
            assumed["alignment_heads"] = "large-v1 and large-v2 have the same shapes; the heads of large-v2 are taken"
    return Recognised(
        config=config,
        assumed={name: text for name, text in assumed.items() if name not in known},
    )


def _depth(shapes: Shapes, tower: str) -> int:
    start = f"{tower}.transformer.blocks."
    return len({key.removeprefix(start).split(".")[0] for key in shapes if key.startswith(start)})


def _released(config: WhisperConfig) -> list[WhisperConfig]:
    """Released models of these sizes, the likeliest one last."""
    plain = replace(config, alignment_heads=None)
    same = [name for name, other in VARIANTS.items() if replace(other, alignment_heads=None) == plain]
    return [VARIANTS[name] for name in sorted(same, key=lambda name: name == _LARGE)]
