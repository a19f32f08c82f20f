"""The sizes of a GPT model, told by the shapes of its tensors under zoo's names."""

from __future__ import annotations

from typing import Any

from zoo.gpt.configs import GptConfig
from zoo.shared.convert.formats import Recognised
from zoo.shared.convert.rules import Shapes
from zoo.shared.errors import UserError

_FIRST = "transformer.blocks.0."
_CHANNELS = 64  # of a head, in every model that OpenAI released
_TOKENIZERS = {
    40478: "gpt1",
    40481: "gpt1",
    50257: "gpt2",
    50260: "gpt2",
    50304: "gpt2",
    65536: "talkie",
    65540: "talkie-chat",
}


def from_shapes(shapes: Shapes, *, settled: bool = False, **known: Any) -> Recognised | None:
    """Infer a config.

    Args:
        shapes: Name to shape.
        settled: The format leaves no choice where shapes do: heads have 64 channels, Talkie's texts 4,096 tokens.
        **known: Fields of the config that are known better.

    Returns:
        The config and what was assumed for it; None if the shapes are not those of a GPT model.

    Raises:
        UserError: They are, but of one that zoo does not have.
    """
    tokens = shapes.get("tokens.weight", ())
    if len(tokens) != 2 or f"{_FIRST}attention.project.weight" not in shapes:
        return None
    vocab_size, width = tokens
    talkie = f"{_FIRST}attention.condition.gain" in shapes
    layout = "talkie" if talkie else "gpt1" if f"{_FIRST}post_attention.weight" in shapes else "gpt2"
    found: dict[str, Any] = {
        "layout": layout,
        "vocab_size": vocab_size,
        "width": width,
        "depth": len({key.split(".")[2] for key in shapes if key.startswith("transformer.blocks.")}),
        "tokenizer": _TOKENIZERS.get(vocab_size, "bpe"),
    }
    assumed = {}
    if talkie:
        found["heads"], found["context"] = shapes[f"{_FIRST}attention.condition.gain"][0], 4096
        assumed["context"] = "the longest text is not in the file; 4,096 tokens are assumed, as Talkie has"
    else:
        found["context"] = shapes["positions.weight"][0]
        found["heads"] = max(1, width // _CHANNELS)
        assumed["heads"] = f"the number of heads is not in the file; heads of {_CHANNELS} channels are assumed"
        if layout == "gpt2":
            assumed["window"] = "whether every second block is banded is not in the file; none is assumed"
    try:
        return Recognised(
            config=GptConfig(**(found | known)),
            assumed={name: text for name, text in assumed.items() if name not in known and not settled},
        )
    except ValueError as error:
        raise UserError(f"the sizes of this GPT do not fit together: {error}") from error
