import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize, resized_crop

from zoo.shared.data.crops import crop_resize, draw_box, normalise


def images(count=5, height=41, width=37):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [8, 32, 50])
def test_integer_boxes_give_what_torchvision_gives(mode, size):
    canvas = images()
    boxes = torch.tensor([[0, 0, 37, 41], [3, 5, 30, 33], [10, 0, 37, 12], [1, 2, 3, 5], [0, 20, 9, 41]])
    # Floats have no range to be clipped to, so bicubic overshoot is compared too.
    ours = crop_resize(canvas.float() / 255, boxes, size=size, mode=mode)
    for i, (left, top, right, bottom) in enumerate(boxes.tolist()):
        theirs = resized_crop(
            canvas[i : i + 1].float() / 255, top, left, bottom - top, right - left, [size, size],
            interpolation=InterpolationMode(mode), antialias=True,
        )  # fmt: skip
        torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-5, rtol=0)


def test_a_batch_equals_its_samples_one_by_one():
    canvas = images()
    boxes = torch.tensor(
        [[0.3, 0.0, 33.9, 40.5], [3.2, 5.7, 30.1, 33.3], [9.9, 0, 37, 12], [1, 2, 3, 5], [0, 20, 9, 41]]
    )
    flips = torch.tensor([True, False, True, False, False])
    together = crop_resize(canvas, boxes, size=32, flips=flips)
    for i in range(len(canvas)):
        alone = crop_resize(canvas[i : i + 1], boxes[i : i + 1], size=32, flips=flips[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)


def test_flips_mirror_and_bytes_stay_in_range():
    canvas, boxes = images(2), torch.tensor([[2.5, 1.5, 35, 40], [2.5, 1.5, 35, 40]])
    canvas[1] = canvas[0]
    cut = crop_resize(canvas, boxes, size=20, mode="bicubic", flips=torch.tensor([False, True]))
    torch.testing.assert_close(cut[0].flip(-1), cut[1])
    assert cut.min() >= 0
    assert cut.max() <= 1


def test_a_fractional_box_moves_with_its_fraction():
    # A ramp resized without scaling: the value at a place is the place.
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    cut = crop_resize(ramp, torch.tensor([[8.25, 8.25, 40.25, 40.25]]), size=32)
    inner = cut[0, 0, 4, 1:-1]
    torch.testing.assert_close(inner, torch.arange(1.0, 31) + 8.25, atol=1e-4, rtol=0)


def test_a_box_thinner_than_a_pixel_is_finite():
    cut = crop_resize(images(1), torch.tensor([[5.6, 7.6, 5.8, 7.9]]), size=4)
    torch.testing.assert_close(cut[0, :, 0, 0], images(1)[0, :, 7, 5].float() / 255)


def test_whole_box_equals_a_plain_resize_and_normalise_is_the_formula():
    canvas = images(2, 48, 48)
    boxes = torch.tensor([[0.0, 0, 48, 48]] * 2)
    ours = normalise(crop_resize(canvas, boxes, size=32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    plain = resize(canvas.float() / 255, [32, 32], antialias=True)
    theirs = (plain - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_boxes_lie_inside_and_have_the_asked_area_and_ratio():
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = draw_box(rng, width=60, height=40, scale=(0.3, 0.8), ratio=(0.75, 4 / 3))
        assert 0 <= left < right <= 60 + 1e-9
        assert 0 <= top < bottom <= 40 + 1e-9
        assert 0.3 - 1e-9 <= (right - left) * (bottom - top) / 2400 <= 0.8 + 1e-9
        assert 0.75 - 1e-9 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-9


def test_an_impossible_ratio_gives_the_largest_central_crop():
    box = draw_box(np.random.default_rng(0), width=100, height=10, scale=(1, 1), ratio=(1, 1))
    assert box == (45, 0, 55, 10)
