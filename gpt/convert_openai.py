"""GPT-1's and GPT-2's weights as OpenAI released them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from zoo.gpt.configs import GptConfig
from zoo.gpt.convert import NORMS, OURS, PARTS, GptConverter, config_of
from zoo.gpt.sizes import from_shapes
from zoo.shared.convert.formats import Recognised, sync
from zoo.shared.convert.rules import TRANSPOSE, Rule, RuleTable, chain, squeeze
from zoo.shared.convert.source import ARRAY, Source
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json


class OpenAIConverter(GptConverter):
    """What OpenAI released. GPT-1: all numbers in a row, in ten ``.npy`` files, and a list of shapes. GPT-2:
    TensorFlow's checkpoint ``model.ckpt`` with ``hparams.json``, which is read and not written.
    """

    name = "openai"
    library = "finetune-transformer-lm"

    def recognise(self, source: Source) -> Recognised | None:
        """Of GPT-1, the first array holds the positions, the second one the tokens, and each block has twelve."""
        shapes = source.shapes
        if source.kind == "tensorflow":
            return from_shapes(OPENAI_GPT2.zoo_shapes(shapes), window=None, **_hparams(source))
        if f"{ARRAY}0" not in shapes or (len(shapes) - 2) % 12 or len(shapes) < 14:
            return None
        depth = (len(shapes) - 2) // 12
        return from_shapes(_openai_table(depth).zoo_shapes(shapes), settled=True)

    def table(self, config: GptConfig) -> RuleTable:
        """The names of GPT-2's variables, or the order of GPT-1's arrays."""
        if config.classes:
            raise UserError("OpenAI's formats have no place for the head of a fine-tuned model; use `--to hf`")
        if config.layout == "gpt2":
            return OPENAI_GPT2
        if config.layout != "gpt1":
            raise UserError("OpenAI's arrays are a format of GPT-1; use `--to hf` or `--to zoo`")
        return _openai_table(config.depth)

    def export(self, model: nn.Module, preprocessor: Any | None, folder: Path) -> Path:
        """Write ``params_shapes.json`` and ``params_0.npy`` to ``params_9.npy``."""
        if config_of(model).layout != "gpt1":
            raise UserError("OpenAI's arrays are a format of GPT-1; use `--to hf` or `--to zoo`")
        if config_of(model).width // config_of(model).heads != 64:
            raise UserError("OpenAI's arrays cannot say heads that are not 64 wide; use `--to hf`")
        state = self.foreign_state(model)
        arrays = [state[f"{ARRAY}{number}"].float().numpy() for number in range(len(state))]
        write_json(folder / "params_shapes.json", [list(array.shape) for array in arrays])
        for number, part in enumerate(np.array_split(np.concatenate([a.ravel() for a in arrays]), 10)):
            np.save(folder / f"params_{number}.npy", part)
            sync(folder / f"params_{number}.npy")
        return folder / "params_0.npy"


def _openai_table(depth: int) -> RuleTable:
    matrix = chain(squeeze(0), TRANSPOSE)
    rules = [Rule(f"{ARRAY}0", "positions.weight"), Rule(f"{ARRAY}1", "tokens.weight")]
    order = [
        ("attention.project.weight", matrix), ("attention.project.bias", None),
        ("attention.out.weight", matrix), ("attention.out.bias", None),
        ("post_attention.weight", None), ("post_attention.bias", None),
        ("mlp.up.weight", matrix), ("mlp.up.bias", None),
        ("mlp.down.weight", matrix), ("mlp.down.bias", None),
        ("post_mlp.weight", None), ("post_mlp.bias", None),
    ]  # fmt: skip
    for block in range(depth):
        for place, (name, transform) in enumerate(order):
            key = f"{ARRAY}{2 + 12 * block + place}"
            rules.append(Rule(key, f"transformer.blocks.{block}.{name}", transform=transform))
    return RuleTable(rules=rules)


def _openai_gpt2() -> RuleTable:
    rules = [Rule("model/wte", "tokens.weight"), Rule("model/wpe", "positions.weight")]
    for theirs, ours in PARTS.items():
        start = f"model/h{{i}}/{theirs.replace('.', '/')}"
        rules.append(Rule(f"{start}/w", f"{OURS}.{ours}.weight", transform=chain(squeeze(0), TRANSPOSE)))
        rules.append(Rule(f"{start}/b", f"{OURS}.{ours}.bias"))
    norms = {f"model/h{{i}}/ln_{place}": f"{OURS}.{ours}" for place, ours in enumerate(NORMS["gpt2"], 1)}
    for theirs, ours in {**norms, "model/ln_f": "norm_out"}.items():
        rules += [Rule(f"{theirs}/g", f"{ours}.weight"), Rule(f"{theirs}/b", f"{ours}.bias")]
    return RuleTable(rules=rules)


OPENAI_GPT2 = _openai_gpt2()


def _hparams(source: Source) -> dict[str, Any]:
    """The number of heads, which no shape tells."""
    path = None if source.folder is None else source.folder / "hparams.json"
    if path is None or not path.is_file():
        return {}
    heads = read_json(path).get("n_head")
    if not isinstance(heads, int) or heads < 1:
        raise UserError(f"{path} does not say n_head; copy or download it again")
    return {"heads": heads}


OPENAI = OpenAIConverter()
