"""Parameter groups and schedules."""

from __future__ import annotations

import math

import pytest
import torch
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


def muon_model():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Embedding(11, 8), torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)
    )


def test_muon_is_torchs_muon_and_adamw_up_to_the_precision_of_bfloat16():
    from zoo.shared.optim.muon import Muon, orthogonalise

    ours, theirs = muon_model(), muon_model()
    settings = {"lr": 0.02, "betas": (0.9, 0.95), "eps": 1e-8}
    mine = Muon(ours.named_parameters(), chosen=lambda name: not name.startswith("0."), weight_decay=0.1, **settings)
    matrices = [theirs[1].weight, theirs[3].weight]
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [{"params": [theirs[0].weight]}, {"params": [theirs[1].bias, theirs[3].bias], "weight_decay": 0.0}],
        weight_decay=0.1, **settings,
    )  # fmt: skip
    for step in range(5):
        x = torch.randint(11, (16,), generator=torch.Generator().manual_seed(step))
        for model, optimizers in ((ours, [mine]), (theirs, [muon, adamw])):
            model(x).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        if step == 0:  # later gradients differ because the matrices do
            for a, b in ((ours[0].weight, theirs[0].weight), (ours[1].bias, theirs[1].bias)):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    start = muon_model()
    for a, b, c in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        assert ((a - b).norm() / (b - c).norm()).item() < 0.05

    stack = torch.randn(3, 6, 20)
    values = torch.linalg.svdvals(orthogonalise(stack))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    assert torch.allclose(orthogonalise(stack.mT), orthogonalise(stack).mT, atol=1e-6)


def test_muon_goes_on_from_its_state():
    from zoo.shared.optim.muon import Muon

    def optimizer(model):
        return Muon(model.named_parameters(), chosen=lambda name: not name.startswith("0."),
                    lr=0.02, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)  # fmt: skip

    def train(model, opt, steps):
        for step in steps:
            model(torch.tensor([step, 1, 2])).square().mean().backward()
            opt.step()
            opt.zero_grad()

    whole = muon_model()
    train(whole, optimizer(whole), range(6))
    first = muon_model()
    before = optimizer(first)
    train(first, before, range(3))
    again = muon_model()
    again.load_state_dict(first.state_dict())
    after = optimizer(again)
    after.load_state_dict(before.state_dict())
    train(again, after, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
