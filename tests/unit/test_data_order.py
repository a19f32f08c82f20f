import itertools
from collections import Counter
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch

from zoo.shared.data.datamodule import KeyedDataModule
from zoo.shared.data.images import BadSample
from zoo.shared.data.order import BatchRamp, EpochOrder, GlobalBatchSampler, sample_rng
from zoo.shared.errors import UserError

MANY_WORKERS = pytest.mark.filterwarnings("ignore:This DataLoader will create")
# Lightning's advice and PyTorch's notices that concern no code of ours.
QUIET = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")


class Noise:
    """Reads nothing: index and a few random numbers; those in ``broken`` fail."""

    def __init__(self, size, broken=()):
        self.size, self.broken = size, set(broken)

    def __len__(self):
        return self.size

    def id(self, index):
        return f"sample-{index}"

    def read(self, index, rng):
        if index in self.broken:
            raise BadSample("broken on purpose")
        return {"read": index, "noise": torch.from_numpy(rng.random(3))}


class NoiseModule(KeyedDataModule):
    def __init__(self, size=50, broken=(), *, batch_size=8, workers=0, seed=0, max_bad_fraction=1.0):
        super().__init__(batch_size=batch_size, workers=workers, seed=seed, max_bad_fraction=max_bad_fraction)
        self.size, self.broken = size, broken

    def open(self):
        return Noise(self.size, self.broken), Noise(5)


def at(module, *, consumed=0, rank=0, world_size=1):
    progress = SimpleNamespace(total=SimpleNamespace(processed=consumed))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    place = {"rank": rank, "num_replicas": world_size}
    module.trainer = SimpleNamespace(fit_loop=loop, distributed_sampler_kwargs=place)
    return module


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=0)


@MANY_WORKERS
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers):
    broken = [3, 11, 12]
    alone, many = NoiseModule(broken=broken), NoiseModule(broken=broken, workers=workers)
    expected = list(alone.train_dataloader())
    same(expected, list(many.train_dataloader()))
    assert alone.bad.keys() == many.bad.keys() <= {"sample-3", "sample-11", "sample-12"}
    assert alone.bad
    bad = torch.cat([batch["bad"] for batch in expected])
    read = torch.cat([batch["read"] for batch in expected])
    asked = torch.cat([batch["index"] for batch in expected])
    assert torch.equal(read != asked, bad)
    assert not set(read.tolist()) & set(broken)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_global_batch(world_size):
    whole = list(NoiseModule().train_dataloader())
    parts = [list(at(NoiseModule(), rank=r, world_size=world_size).train_dataloader()) for r in range(world_size)]
    joined = [{k: torch.cat([part[k] for part in at_once]) for k in at_once[0]} for at_once in zip(*parts, strict=True)]
    same(whole, joined)


def test_resume_in_mid_epoch_continues_and_does_not_end_early():
    module = NoiseModule()
    epochs = [list(at(module, consumed=6 * e).train_dataloader()) for e in range(3)]
    unbroken = list(itertools.chain(*epochs))
    resumed = list(at(NoiseModule(), consumed=4).train_dataloader())
    same(unbroken[4:10], resumed)
    assert module.batches_per_epoch == 6


@MANY_WORKERS
def test_three_ranks_with_two_workers_read_every_sample_once_also_after_a_resume():
    size, broken = 48, [5, 17]
    batches = size // 6

    def read(consumed, count):
        found = []
        for rank in range(3):
            module = at(NoiseModule(size, broken, batch_size=6, workers=2), consumed=consumed, rank=rank, world_size=3)
            found += [
                (number, index)
                for number, batch in enumerate(itertools.islice(module.train_dataloader(), count), consumed)
                for index in batch["index"].tolist()
            ]
        return found

    whole = read(0, batches)
    assert Counter(index for _, index in whole) == Counter(range(size))
    first, rest = read(0, 5), read(5, batches - 5)
    assert Counter(first + rest) == Counter(whole)
    assert len(rest) == 3 * 6


def test_epochs_are_permutations_that_depend_on_seed_and_epoch():
    order = EpochOrder(100, seed=1)
    first, second = order(0).copy(), order(1).copy()
    assert sorted(first) == sorted(second) == list(range(100))
    assert (first != second).any()
    assert (order(0) == first).all()
    assert (EpochOrder(100, seed=2)(0) != first).any()
    assert (EpochOrder(100, seed=1, shuffle=False)(7) == np.arange(100)).all()


def test_an_epoch_visits_nothing_twice():
    batches = list(GlobalBatchSampler(50, batch_size=8, seed=0))
    seen = [key.index for batch in batches for key in batch]
    assert len(seen) == len(set(seen)) == 48
    assert [key.position for batch in batches for key in batch] == list(range(48))


def test_random_numbers_of_samples_are_independent_streams():
    triples = [(s, e, p, u) for s in range(3) for e in range(3) for p in range(3) for u in range(2)]
    draws = {tuple(sample_rng(s, e, p, sub=u).random(2)) for s, e, p, u in triples}
    assert len(draws) == len(triples)
    # Frozen: another generator would change every run that is compared with an older one.
    assert sample_rng(1, 2, 3).integers(10**6, size=3).tolist() == [622483, 723173, 441874]
    assert EpochOrder(10, seed=1)(2).tolist() == [3, 1, 2, 9, 5, 0, 6, 7, 8, 4]
    assert abs(np.mean([sample_rng(0, 0, p).random() for p in range(2000)]) - 0.5) < 0.03


def test_mistakes_are_named():
    with pytest.raises(UserError, match="fewer than one batch of 64"):
        NoiseModule(batch_size=64).train_dataloader()
    with pytest.raises(UserError, match="cannot be divided over 3"):
        at(NoiseModule(), world_size=3).train_dataloader()
    with pytest.raises(UserError, match="batch_size must be"):
        NoiseModule(batch_size=0).train_dataloader()
    with pytest.raises(UserError, match="max_bad_fraction"):
        NoiseModule(max_bad_fraction=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_samples_stop_with_names(workers):
    module = NoiseModule(size=400, broken=range(0, 400, 10), max_bad_fraction=0.01, workers=workers)
    with pytest.raises(UserError, match=r"max_bad_fraction 0.01.*sample-\d+0 \(broken on purpose\)"):
        list(module.train_dataloader())
    assert 10 < module.replaced < 20


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_samples_stops_at_once_in_one_line(workers):
    with pytest.raises(UserError, match="in a row cannot be used: sample-") as caught:
        next(iter(NoiseModule(broken=range(50), workers=workers).train_dataloader()))
    assert "\n" not in str(caught.value)


class Recorder(L.LightningModule):
    """Writes down what it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["index"].tolist())
        return (self.weight * batch["noise"].float()).sum()

    def validation_step(self, batch, batch_idx):
        assert batch["index"].tolist() == list(range(5))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, steps, *, resume=None, workers=0):
    module = Recorder()
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu", devices=1, max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, NoiseModule(workers=workers), ckpt_path=resume, weights_only=True if resume else None)
    path = folder / f"{steps}.ckpt"
    trainer.save_checkpoint(path)
    return module, path


@QUIET
@pytest.mark.parametrize("workers", [0, 1])
def test_lightning_resumes_where_it_stopped(tmp_path, workers):
    straight, _ = fit(tmp_path, 15, workers=workers)
    _, middle = fit(tmp_path, 8, workers=workers)  # in the second epoch of six batches
    resumed, _ = fit(tmp_path, 15, resume=middle, workers=workers)
    assert len(straight.seen) == 15
    assert resumed.seen == straight.seen[8:]
    assert torch.equal(resumed.weight, straight.weight)


def test_growing_batches_go_through_the_order_without_gaps_on_any_number_of_ranks():
    ramp = BatchRamp(start=2, batches=10)

    def sampler(rank=0, world_size=1, **more):
        return GlobalBatchSampler(50, batch_size=8, seed=3, rank=rank, world_size=world_size, ramp=ramp, **more)

    whole = sampler()
    batches = [whole.batch(number) for number in range(30)]
    sizes = [len(batch) for batch in batches]
    assert sizes[0] == 2
    assert sizes[:10] == sorted(sizes[:10])
    assert set(sizes[10:]) == {8}
    plain = GlobalBatchSampler(50, batch_size=8, seed=3)
    flat = [key for number in range(40) for key in plain.batch(number)]
    grown = [key for batch in batches for key in batch]
    assert grown == flat[: len(grown)]
    for number in range(30):
        even = sampler(world_size=2).batch(number) + sampler(rank=1, world_size=2).batch(number)
        start = int(sampler(world_size=2).starts[min(number, 10)]) + max(0, number - 10) * 8
        assert even == flat[start : start + len(even)]
    resumed = sampler(consumed=lambda: 7)
    assert next(iter(resumed)) == batches[7]
    with pytest.raises(UserError, match="at least 1"):
        BatchRamp(start=0, batches=3)
