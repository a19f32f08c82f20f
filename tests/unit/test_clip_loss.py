"""The contrastive loss: its definition, its cached form, and its gradients over ranks."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from zoo import create_model
from zoo.clip.loss import contrastive_loss, encode_in_chunks

TINY_RESNET = {"vision": "resnet", "vision_depth": (1, 1, 1, 1), "vision_width": 8, "vision_heads": 4}


def resnet(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = create_model("clip-debug", **TINY_RESNET, dtype=dtype).train()
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):  # starts at zero, which would hide the gradients behind it
            nn.init.ones_(parameter)
    return model


def batch(count: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, 32, 32, generator=generator, dtype=dtype)
    tokens = torch.randint(1, 49000, (count, 12), generator=generator)
    tokens[:, 0], tokens[:, -1] = 49406, 49407
    return images, tokens


def gradients(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, chunks: int) -> dict[str, torch.Tensor]:
    model.zero_grad()
    image = encode_in_chunks(model.encode_image, images, chunks)
    text = encode_in_chunks(model.encode_text, tokens, chunks)
    contrastive_loss(image, text, model.logit_scale)[0].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def worst_ratio(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest ``|a - b| / |b|`` of any tensor.

    A gradient below a millionth of the whole is rounding around an exact zero (a key's bias moves no softmax).
    """
    floor = 1e-6 * torch.stack([t.norm() for t in b.values()]).norm()
    return max(((a[n] - b[n]).norm() / b[n].norm().clamp_min(floor)).item() for n in b)


def worst_norm_ratio(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest ``| |a| / |b| - 1 |`` of any tensor above the same floor."""
    floor = 1e-6 * torch.stack([t.norm() for t in b.values()]).norm()
    return max(abs((a[n].norm() / b[n].norm()).item() - 1) for n in b if b[n].norm() > floor)


def test_loss_equals_its_pseudocode() -> None:
    image, text, scale = torch.randn(6, 4), torch.randn(6, 4), torch.tensor(1.5)
    loss, per_image, per_text = contrastive_loss(image, text, scale)
    logits = F.normalize(image) @ F.normalize(text).T * scale.exp()
    labels = torch.arange(6)
    torch.testing.assert_close(loss, (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2)
    torch.testing.assert_close(per_image, logits)
    torch.testing.assert_close(per_text, logits.T)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_micro_batches_have_the_gradients_of_the_batch(dtype: torch.dtype, bound: float) -> None:
    model = create_model("clip-debug", dtype=dtype)
    whole = gradients(model, *batch(16, dtype), 1)
    assert whole["logit_scale"].abs() > 1e-4
    for chunks in (2, 4, 8):
        cached = gradients(model, *batch(16, dtype), chunks)
        assert worst_norm_ratio(cached, whole) < bound
        assert worst_ratio(cached, whole) < 5 * bound


def test_the_second_pass_replays_dropout() -> None:
    """Cached gradients equal those of the same chunks with all activations kept, dropout on."""
    model = create_model("clip-debug", dropout=0.2, stochastic_depth=0.2, dtype=torch.float64).train()
    images, tokens = batch(8, torch.float64)
    torch.manual_seed(5)
    cached = gradients(model, images, tokens, 4)
    torch.manual_seed(5)
    model.zero_grad()
    image = torch.cat([model.encode_image(part) for part in images.chunk(4)])
    text = torch.cat([model.encode_text(part) for part in tokens.chunk(4)])
    contrastive_loss(image, text, model.logit_scale)[0].backward()
    assert worst_ratio(cached, {n: p.grad for n, p in model.named_parameters()}) < 1e-10


def test_batchnorm_statistics_move_once_by_the_mean_of_the_micro_batches() -> None:
    model = resnet()
    before = copy.deepcopy(model)
    images, tokens = batch(8)
    gradients(model, images, tokens, 4)
    bn, untouched = model.vision.stem.bn1, before.vision.stem.bn1
    parts = [before.vision.stem.conv1(part) for part in images.chunk(4)]
    mean = torch.stack([p.mean((0, 2, 3)) for p in parts]).mean(0)
    var = torch.stack([p.var((0, 2, 3)) for p in parts]).mean(0)
    torch.testing.assert_close(bn.running_mean, 0.9 * untouched.running_mean + 0.1 * mean, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(bn.running_var, 0.9 * untouched.running_var + 0.1 * var, atol=1e-6, rtol=1e-4)
    assert bn.momentum == 0.1
    assert bn.track_running_stats


def test_batchnorm_differs_over_micro_batches_as_documented() -> None:
    model = resnet(torch.float64)
    images, tokens = batch(8, torch.float64)
    whole, cut = gradients(model, images, tokens, 1), gradients(model, images, tokens, 4)
    assert worst_ratio(cut, whole) > 1e-3
    model.eval()  # with fixed statistics the two agree
    assert worst_ratio(gradients(model, images, tokens, 4), gradients(model, images, tokens, 1)) < 1e-10


def _one_rank(index: int, ranks: int, port: int, folder: Path, resnet: bool) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=index, world_size=ranks)
    for local in (False, True):
        for chunks in (1, 2):
            torch.manual_seed(0)
            model = create_model("clip-debug", dtype=torch.float64).train()
            parallel = nn.parallel.DistributedDataParallel(_Loss(model, local, chunks))
            images, tokens = (t.chunk(ranks)[index] for t in batch(8, torch.float64))
            loss = parallel(images, tokens)
            loss.backward()
            torch.distributed.all_reduce(loss.detach_())
            if index == 0:
                found = {n: p.grad for n, p in model.named_parameters()}
                torch.save({"loss": loss / ranks, "gradients": found}, folder / f"{local}-{chunks}.pt")
    torch.distributed.destroy_process_group()


class _Loss(nn.Module):
    def __init__(self, model: nn.Module, local: bool, chunks: int) -> None:
        super().__init__()
        self.model, self.local, self.chunks = model, local, chunks

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        image = encode_in_chunks(self.model.encode_image, images, self.chunks)
        text = encode_in_chunks(self.model.encode_text, tokens, self.chunks)
        return contrastive_loss(image, text, self.model.logit_scale, local=self.local)[0]


@pytest.mark.parametrize("ranks", [2])
def test_ranks_have_the_gradients_of_one_process(ranks: int, tmp_path: Path, free_port: int) -> None:
    mp.start_processes(_one_rank, (ranks, free_port, tmp_path, False), nprocs=ranks, start_method="spawn")
    torch.manual_seed(0)
    model = create_model("clip-debug", dtype=torch.float64).train()
    images, tokens = batch(8, torch.float64)
    loss = contrastive_loss(model.encode_image(images), model.encode_text(tokens), model.logit_scale)[0]
    expected = gradients(model, images, tokens, 1)
    for local in (False, True):
        for chunks in (1, 2):
            found = torch.load(tmp_path / f"{local}-{chunks}.pt")
            torch.testing.assert_close(found["loss"], loss.detach(), atol=1e-10, rtol=0)
            assert worst_ratio(found["gradients"], expected) < 1e-9
