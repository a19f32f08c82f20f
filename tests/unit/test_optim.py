"""Parameter groups and schedules."""

from __future__ import annotations

import math

import pytest
from torch import nn

from zoo.shared.errors import UserError
from zoo.shared.optim.groups import adamw, parameter_groups
from zoo.shared.optim.schedules import build_schedule, warmup_cosine, warmup_linear


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv2d(1, 1, 3))
    model[0].weight.requires_grad_(True)
    groups = parameter_groups(model.named_parameters(), 0.2)
    assert [g["weight_decay"] for g in groups] == [0.2, 0.0]
    assert [len(g["params"]) for g in groups] == [2, 4]
    model[2].requires_grad_(False)
    assert sum(len(g["params"]) for g in parameter_groups(model.named_parameters(), 0.2)) == 4
    optimizer = adamw(model, lr=1.0, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    assert optimizer.defaults["betas"] == (0.9, 0.98)


def test_cosine_and_linear_against_their_formulas() -> None:
    cosine, linear = warmup_cosine(10, 110, final=0.1), warmup_linear(10, 110)
    assert [cosine(s) for s in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert cosine(10) == 1.0
    assert cosine(60) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert cosine(110) == pytest.approx(0.1)
    assert cosine(500) == pytest.approx(0.1)
    assert linear(60) == pytest.approx(0.5)
    assert linear(110) == 0.0


def test_a_warmup_longer_than_the_run_is_cut() -> None:
    schedule = build_schedule("cosine", warmup=2000, total=100)
    assert schedule(9) == 1.0
    with pytest.raises(UserError, match="cosine"):
        build_schedule("cosin", warmup=1, total=2)
