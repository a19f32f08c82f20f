"""Int8 matrices for decoding: near the float ones, exact where rounding loses nothing, and only where they belong."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from zoo.gpt.configs import VARIANTS
from zoo.gpt.model import GPT
from zoo.shared.generation.decode import generate
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.int8 import Int8Linear, to_int8
from zoo.shared.transformer import FusedProjection


def test_whole_numbers_are_exact():
    """Rows that reach 127 in whole numbers are their own rounding."""
    draw = torch.Generator().manual_seed(0)
    layer = nn.Linear(24, 10)
    layer.weight.data = torch.randint(-126, 127, (10, 24), generator=draw).float()
    layer.weight.data[:, 0] = 127.0
    x = torch.randint(-126, 127, (3, 5, 24), generator=draw).float()
    x[..., 1] = -127.0
    torch.testing.assert_close(Int8Linear(layer)(x), layer(x), rtol=1e-6, atol=1e-2)


def test_a_large_token_does_not_blur_the_others():
    """Each token has a scale of its own, and so has each output channel."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 32, bias=False)
    layer.weight.data[3] *= 1e4
    x = torch.randn(4, 64)
    x[1] *= 1e4
    found, wanted = Int8Linear(layer)(x), layer(x)
    others = torch.tensor([0, 2, 3])
    for rows, columns in ((others, others), (torch.tensor([1]), others), (others, torch.tensor([3]))):
        part = wanted[rows][:, columns]
        assert (found[rows][:, columns] - part).norm() < 0.03 * part.norm()


def test_rows_of_zeros():
    layer = nn.Linear(8, 4)
    layer.weight.data[2] = 0.0
    found = Int8Linear(layer)(torch.zeros(2, 8))
    torch.testing.assert_close(found, layer.bias.detach().expand(2, 4))


@pytest.mark.parametrize("bias", [True, False])
def test_a_row_alone_is_what_it_is_among_others(bias):
    """A single row goes another way, with fewer calls."""
    torch.manual_seed(0)
    layer = Int8Linear(nn.Linear(48, 300, bias=bias))
    x = torch.cat([torch.randn(40, 48), torch.zeros(1, 48)])
    together = layer(x[:, None])
    assert together.shape == (41, 1, 300)
    for row in (0, 3, 40):
        torch.testing.assert_close(layer(x[row : row + 1]), together[row])
        torch.testing.assert_close(layer(x[row]), together[row, 0])


def test_projection_keeps_its_three_parts():
    torch.manual_seed(0)
    holder = nn.Sequential(FusedProjection(32))
    wanted = holder(torch.ones(2, 3, 32))
    to_int8(holder)
    for one, other in zip(holder(torch.ones(2, 3, 32)), wanted, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 0.05 * other.norm()


@pytest.mark.parametrize("layout", ["gpt1", "gpt2", "talkie"])
def test_decoding_is_near_the_float_model(layout):
    torch.manual_seed(0)
    config = replace(VARIANTS["gpt-debug"], layout=layout, width=64, heads=4)
    model = GPT(config).eval()
    if model.output is not None:
        nn.init.normal_(model.output.weight, std=0.02)
    int8 = copy.deepcopy(model).for_int8_decoding()
    assert not [name for name, part in int8.named_modules() if isinstance(part, nn.Linear)]
    tokens = torch.randint(config.vocab_size, (3, 12))
    with torch.inference_mode():
        wanted, found = model.next_logits(tokens), int8.next_logits(tokens)
    assert 0 < (found - wanted).norm() < 0.05 * wanted.norm()
    plain = generate(int8, tokens.tolist(), GenerationOptions(max_new_tokens=6), end=None)
    for options in ({"cache": "none"}, {"cache": "static"}, {"compile": "aot_eager"}, {"batch_size": 1}):
        again = generate(int8, tokens.tolist(), GenerationOptions(max_new_tokens=6, **options), end=None)
        assert [one.tokens for one in again] == [one.tokens for one in plain], options


def test_only_float32_on_a_cpu():
    with pytest.raises(ValueError, match=r"float32 model on a CPU, not torch.bfloat16"):
        GPT(VARIANTS["gpt-debug"]).bfloat16().for_int8_decoding()
