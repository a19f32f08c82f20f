"""OpenAI's GPT-2 as it was released: a checkpoint of TensorFlow, read without it."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from toys.gpts import TINY, reference
from zoo.shared.convert.source import open_source
from zoo.shared.errors import UserError
from zoo.weights import identify

# The index that TensorFlow 2.21 (`tf.compat.v1.train.Saver`) wrote for a GPT-2 with 5 tokens, a context of 3, a width
# of 4 and one block, compressed. The numbers of its variables, in the order of the names, count up from 0.
WRITTEN_BY_TENSORFLOW = (
    "eNpjYGDjYJRi4mBkEOPPzU9JzdHPMNBPLCnJ00+OB1NJHIxCLEJMHDwaBqbXl4XeEWWUKgcK8QCFGIEYLKVgoHGA0VRlkoqOAJtQQVF+FlwXi8"
    "IHRg0BU/tvnJlYNLIoNDBpOJj6cbHf4GQTysmLN0TSeIAJqHHnwwcP+BiF0uGiF0CivQf1inmYhYyQVD8AiSssNGlDUf0BJPql4dR6Ti6h3JwC"
    "oJ/SkuGaBBQamIG2P1g2yVqIURrdbQIKB5g1GphMaxrMuvgxfHWAFWhwaMaOPBFUnQIQR7KCdIbzFvewgb2VhqTzAjvISSGTYriRHfoAJJrm9f"
    "U7G7NYeUEqUJwDKM4M8QQ7MOizdTa4M3CKQaKovASmghWsYgGHRoDpyWMM7xmAYA0jAwMTiLGxftE9EM0IIg58WriBgZE5j+EWM1wsevGn5/eZ"
    "Od4w8zMQBOG/G7pVSt1vAwCMfWx1"
)
SHAPES = {
    "model/h0/attn/c_attn/b": (12,), "model/h0/attn/c_attn/w": (1, 4, 12),
    "model/h0/attn/c_proj/b": (4,), "model/h0/attn/c_proj/w": (1, 4, 4),
    "model/h0/ln_1/b": (4,), "model/h0/ln_1/g": (4,), "model/h0/ln_2/b": (4,), "model/h0/ln_2/g": (4,),
    "model/h0/mlp/c_fc/b": (16,), "model/h0/mlp/c_fc/w": (1, 4, 16),
    "model/h0/mlp/c_proj/b": (4,), "model/h0/mlp/c_proj/w": (1, 16, 4),
    "model/ln_f/b": (4,), "model/ln_f/g": (4,), "model/wpe": (3, 4), "model/wte": (5, 4),
}  # fmt: skip


def released(folder: Path) -> Path:
    """The files of TensorFlow's small checkpoint."""
    numbers = np.arange(sum(int(np.prod(shape)) for shape in SHAPES.values()), dtype="<f4")
    numbers.tofile(folder / "model.ckpt.data-00000-of-00001")
    (folder / "model.ckpt.index").write_bytes(zlib.decompress(base64.b64decode(WRITTEN_BY_TENSORFLOW)))
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    (folder / "hparams.json").write_text(json.dumps({"n_head": 2, "n_embd": 4}))
    return folder


def test_what_tensorflow_wrote_is_read(tmp_path: Path) -> None:
    tensors = open_source(released(tmp_path)).tensors
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == SHAPES
    joined = torch.cat([tensors[name].flatten() for name in sorted(SHAPES)])
    assert torch.equal(joined, torch.arange(len(joined)).float())
    found = identify(tmp_path)
    assert (found.family, found.format, found.config.heads, found.config.context) == ("gpt", "openai", 2, 3)
    weight = zoo.load(tmp_path).transformer.blocks[0].mlp.up.weight
    assert torch.equal(weight, tensors["model/h0/mlp/c_fc/w"][0].T)


def test_what_is_damaged_is_said_in_one_line(tmp_path: Path) -> None:
    index, data = (released(tmp_path) / f"model.ckpt.{part}" for part in ("index", "data-00000-of-00001"))
    whole, numbers = index.read_bytes(), data.read_bytes()
    data.write_bytes(numbers[:-1])
    with pytest.raises(UserError, match="data-00000-of-00001 is cut short: model/wte lies behind its end"):
        zoo.load(tmp_path)
    data.unlink()
    with pytest.raises(UserError, match="data-00000-of-00001 is missing"):
        zoo.load(tmp_path)
    data.write_bytes(numbers)
    index.write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"model\.ckpt\.index is not a weights file"):
        zoo.load(tmp_path)
    index.write_bytes(whole[:100] + whole[160:])
    with pytest.raises(UserError, match=r"model\.ckpt\.index is damaged"):
        zoo.load(tmp_path)
    index.write_bytes(whole)
    with pytest.raises(UserError, match="format of GPT-1"):
        zoo.save_weights(zoo.load(tmp_path), tmp_path / "out", format="openai")


def varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]], restart_every: int) -> bytes:
    """Entries that share the start of the last key, and the places where none does. No checksum: it is not read."""
    out, restarts, last = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + bytes(5)


def write_checkpoint(prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    """A checkpoint in the documented format, its index in blocks of few entries."""
    entries, data = [(b"", field(1, 1))], b""
    for name in sorted(arrays):
        array = arrays[name]
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        entry = field(1, 1) + field(2, shape) + field(4, len(data)) + field(5, array.nbytes)
        entries.append((name.encode(), entry))
        data += array.tobytes()
    table, places = b"", []
    for first in range(0, len(entries), 7):
        part = block(entries[first : first + 7], restart_every=3)
        places.append((entries[min(first + 6, len(entries) - 1)][0], varint(len(table)) + varint(len(part) - 5)))
        table += part
    ends = b""
    for part in (block([], 1), block(places, 1)):
        ends += varint(len(table)) + varint(len(part) - 5)
        table += part
    table += ends.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(prefix.name + ".index").write_bytes(table)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)


@torch.no_grad()
def test_the_model_computes_what_transformers_does(tmp_path: Path) -> None:
    """Heads of 32 channels: their number stands in `hparams.json` only."""
    theirs = reference("gpt2", **TINY | {"n_head": 4})
    arrays = {}
    for key, tensor in theirs.transformer.state_dict().items():
        *parts, kind = key.split(".")
        path = "/".join(parts).replace("h/", "h", 1)
        if path.startswith("w"):
            arrays[f"model/{path}"] = tensor.numpy()
        elif kind == "weight":
            norm = "ln_" in path
            arrays[f"model/{path}/{'g' if norm else 'w'}"] = tensor.numpy() if norm else tensor[None].numpy()
        else:
            arrays[f"model/{path}/b"] = tensor.numpy()
    write_checkpoint(tmp_path / "model.ckpt", arrays)
    (tmp_path / "hparams.json").write_text(json.dumps({"n_head": 4}))
    ours = zoo.load(tmp_path)
    ids = torch.randint(97, (2, 24), generator=torch.Generator().manual_seed(1))
    expected = theirs(ids).logits
    assert float((ours(ids) - expected).abs().max() / expected.abs().max()) < 1e-5
