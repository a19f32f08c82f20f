import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from zoo.shared.audio.spec_augment import POLICIES, Policy, draw_spec_augment, spec_augment, time_warp
from zoo.shared.data.order import sample_rng

NO_WARP = Policy(warp=0, width=27, bands=2, length=100, share=1.0, spans=2)


def features(batch=4, bins=80, frames=600):
    return torch.randn(batch, bins, frames, generator=torch.Generator().manual_seed(0))


def draws(policy, frames, bins=80, seed=0):
    return default_collate(
        [draw_spec_augment(sample_rng(seed, 0, k), policy, frames=int(f), bins=bins) for k, f in enumerate(frames)]
    )


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("bins", [80, 128])
def test_draws_keep_to_the_papers_limits_and_reach_them(name, bins):
    policy = POLICIES[name]
    widths, lengths, moves = [], [], []
    for k in range(2000):
        drawn = draw_spec_augment(sample_rng(1, 2, k), policy, frames=1000, bins=bins)
        bands, spans = drawn["bands"], drawn["spans"]
        assert bands.shape == (policy.bands, 2)
        assert spans.shape == (policy.spans, 2)
        assert bands.min() >= 0
        assert bands.max() <= bins
        assert spans.min() >= 0
        assert spans.max() <= 1000
        widths += (bands[:, 1] - bands[:, 0]).tolist()
        lengths += (spans[:, 1] - spans[:, 0]).tolist()
        centre, target = drawn["warp"].tolist()
        assert policy.warp <= centre < 1000 - policy.warp
        moves.append(target - centre)
    top = policy.width * bins / 80
    assert 0 <= min(widths) <= 1
    assert top - 2 <= max(widths) < top
    assert np.mean(widths) == pytest.approx((top - 1) / 2, abs=0.8)
    assert max(lengths) in (policy.length - 2, policy.length - 1)
    assert np.mean(lengths) == pytest.approx((policy.length - 1) / 2, abs=2)
    assert -policy.warp < min(moves) < -0.95 * policy.warp
    assert policy.warp > max(moves) > 0.95 * policy.warp


def test_short_recordings_are_never_left_or_filled():
    for frames in (0, 1, 2, 3, 50, 161):
        for k in range(50):
            drawn = draw_spec_augment(sample_rng(0, 0, k), POLICIES["SS"], frames=frames, bins=80)
            assert drawn["spans"].max() <= frames
            assert (drawn["spans"][:, 1] - drawn["spans"][:, 0]).max() <= 0.2 * frames
            assert 0 <= drawn["warp"].min() <= drawn["warp"].max() <= max(0, frames - 1)
    inputs, lengths = features(6, frames=200), torch.tensor([0, 1, 2, 3, 50, 161])
    assert spec_augment(inputs, draws(POLICIES["SS"], lengths), frames=lengths).isfinite().all()


def test_masks_take_the_mean_of_the_recording_and_nothing_else_changes():
    inputs, frames = features(), torch.tensor([600, 300, 450, 600])
    drawn = draws(NO_WARP, frames)
    result = spec_augment(inputs, drawn, frames=frames)
    for k in range(4):
        hidden = torch.zeros(80, 600, dtype=torch.bool)
        for low, high in drawn["bands"][k].tolist():
            hidden[low:high, : frames[k]] = True
        for low, high in drawn["spans"][k].tolist():
            hidden[:, low:high] = True
        assert hidden.any()
        assert torch.equal(result[k][~hidden], inputs[k][~hidden])
        mean = inputs[k, :, : frames[k]].mean()
        torch.testing.assert_close(result[k][hidden], mean.expand(int(hidden.sum())), atol=1e-6, rtol=0)


def test_the_warp_moves_its_frame_and_keeps_the_ends():
    ramp = torch.arange(600.0).expand(3, 80, 600)
    warp, frames = torch.tensor([[200, 260], [400, 340], [300, 300]]), torch.tensor([600, 500, 600])
    result = time_warp(ramp, warp, frames=frames)
    for k, ((source, target), length) in enumerate(zip(warp.tolist(), frames.tolist(), strict=True)):
        line = result[k, 0]
        assert line[target] == pytest.approx(source, abs=1e-3)
        assert line[0] == 0
        assert line[length - 1] == pytest.approx(length - 1, abs=1e-3)
        assert torch.equal(line[length:], ramp[0, 0, length:])
        wanted = np.interp(np.arange(length), [0, target, length - 1], [0, source, length - 1])
        np.testing.assert_allclose(line[:length], wanted, atol=1e-3)
    assert torch.equal(result[2], ramp[2])


def test_a_sample_depends_on_no_other_and_keeps_its_type():
    inputs, frames = features(), torch.tensor([600, 300, 450, 77])
    drawn = draws(POLICIES["LD"], frames)
    together = spec_augment(inputs, drawn, frames=frames)
    for k in range(4):
        alone = spec_augment(
            inputs[k : k + 1], {name: value[k : k + 1] for name, value in drawn.items()}, frames=frames[k : k + 1]
        )
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-6, rtol=0)
    half = spec_augment(inputs.bfloat16(), drawn, frames=frames)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), together, atol=0.05, rtol=0.02)
