"""Every family, through one harness: debug models run and learn, real sizes have the paper's parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zoo
from zoo.factory import count_parameters
from zoo.registry import family_of, registry

DEBUG = zoo.list_models("*-debug")


def example_batch(name: str) -> dict[str, torch.Tensor]:
    """A batch as the family's data module makes it, from the smoke recipe's generated data."""
    from zoo.settings import read_recipe

    spec = family_of(name)
    settings = read_recipe(spec, "smoke")["data"] | {"batch_size": 8}
    return zoo.create_datamodule(name, **settings).peek(8)


@pytest.mark.parametrize("name", zoo.list_models())
def test_parameter_counts_are_exact(name: str) -> None:
    assert count_parameters(name) == registry().counts[name]


def test_every_family_has_a_debug_model() -> None:
    assert {family_of(name).name for name in DEBUG} == set(registry().families)


@pytest.mark.parametrize("name", DEBUG)
def test_a_step_through_the_task_reaches_every_parameter(name: str) -> None:
    task = zoo.create_task(name)
    loss = task.loss(example_batch(name))[0]
    assert torch.isfinite(loss)
    loss.backward()
    still = [n for n, p in task.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Softmax does not see a constant added to all its scores, so a key's bias has no gradient to speak of.
    assert not still, f"no gradient: {still}"
    before = [p.clone() for p in task.model.parameters()]
    torch.optim.AdamW(task.model.parameters(), lr=1e-3).step()
    assert all(not torch.equal(a, b) for a, b in zip(before, task.model.parameters(), strict=True))


@pytest.mark.parametrize("name", DEBUG)
def test_saving_and_loading_keeps_every_bit(name: str, tmp_path: Path) -> None:
    model = zoo.create_model(name).eval()
    zoo.save_weights(model, tmp_path / "weights")
    again = zoo.load(tmp_path / "weights")
    assert not again.training
    assert again.config == model.config
    assert model.state_dict().keys() == again.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    by_name = zoo.create_model(name, weights=tmp_path / "weights")
    assert torch.equal(next(by_name.parameters()), next(model.parameters()))


@pytest.mark.parametrize("name", DEBUG)
def test_the_models_of_a_family_can_be_moved_to_half_precision(name: str) -> None:
    model = zoo.create_model(name, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
