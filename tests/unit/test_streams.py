"""Tars that are read from front to back, here from a program: what is promised, and what is not."""

import io
import itertools
import logging
import tarfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.clip.configs import VARIANTS
from zoo.clip.data import ClipDataModule
from zoo.shared.data import streams
from zoo.shared.data.pairs import PairSource
from zoo.shared.data.streams import PairStream, Slot, read_shard
from zoo.shared.errors import UserError

CONFIG = VARIANTS["clip-debug"]
SHARDS, EACH = 8, 12


@pytest.fixture
def shards(tmp_path):
    """A stream's source, of 8 tars with 12 pairs each: picture and caption "thing S-I"."""
    for shard in range(SHARDS):
        write_tar(tmp_path / f"{shard}.tar", [f"{shard}-{i}" for i in range(EACH)])
    return f"pipe:cat {tmp_path}/{{0..{SHARDS - 1}}}.tar"


@pytest.fixture
def uneven(tmp_path):
    """A stream's source, of 8 tars with 4, 7, 10 ... 25 pairs, of which "5-2" is bad; and the keys of the good ones."""
    keys = [[f"{shard}-{i}" for i in range(4 + 3 * shard)] for shard in range(SHARDS)]
    for shard in range(SHARDS):
        write_tar(tmp_path / f"{shard}.tar", keys[shard], broken=("5-2",))
    return f"pipe:cat {tmp_path}/{{0..{SHARDS - 1}}}.tar", {key for shard in keys for key in shard} - {"5-2"}


def write_tar(path, keys, broken=()):
    with tarfile.open(path, "w") as out:
        for number, key in enumerate(keys):
            colour = np.random.default_rng(number).integers(0, 256, (36, 36, 3), dtype=np.uint8)
            picture = io.BytesIO()
            Image.fromarray(colour).save(picture, "PNG")
            image = b"no picture" if key in broken else picture.getvalue()
            for name, contents in ((f"{key}.png", image), (f"{key}.txt", f"thing {key}".encode())):
                info = tarfile.TarInfo(name)
                info.size = len(contents)
                out.addfile(info, io.BytesIO(contents))


def data(source, *, rank=0, world_size=1, pairs=SHARDS * EACH, **settings):
    settings = {"batch_size": 8, **settings}
    module = ClipDataModule(config=CONFIG, source=source, stream_pairs=pairs, **settings)
    module._place = lambda: (rank, world_size)
    return module


def seen(module, name="tokens"):
    return [tuple(row) for batch in module.train_dataloader() for row in batch[name].tolist()]


def resumed(source, consumed, state, **settings):
    """The batches of a run that goes on after ``consumed`` ones."""
    return list(loader_of(data(source, **settings), consumed, state))


def loader_of(module, consumed, state):
    module.consumed = lambda: consumed
    loader = module.train_dataloader()
    loader.load_state_dict(state)
    return loader


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def keys(samples):
    return [sample["__key__"] for sample in samples]


def test_a_lap_visits_every_sample_once_whatever_the_readers(shards):
    stream = PairStream(shards, seed=3)
    assert isinstance(stream, PairSource)
    for count in (1, 2, 4, 8):
        parts = [keys(stream.lap(0, 0, Slot(number, count))) for number in range(count)]
        assert Counter(key for part in parts for key in part) == Counter(
            f"{shard}-{i}" for shard in range(SHARDS) for i in range(EACH)
        )
    first = keys(stream.lap(0, 0, Slot(0, 2)))
    assert first == keys(stream.lap(0, 0, Slot(0, 2)))
    assert first not in (keys(stream.lap(0, 1, Slot(0, 2))), keys(stream.lap(1, 0, Slot(0, 2))), sorted(first))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_two_processes_loses_and_doubles_nothing(shards, workers):
    found = Counter()
    for rank in range(2):
        module = data(shards, rank=rank, world_size=2, workers=workers)
        assert module.batches_per_epoch == SHARDS * EACH // 8
        tokens = seen(module)
        assert len(tokens) == SHARDS * EACH // 2
        found.update(tokens)
    assert len(found) == SHARDS * EACH
    assert set(found.values()) == {1}


def test_epochs_differ_and_a_longer_one_begins_another_lap(shards):
    module = data(shards, pairs=2 * SHARDS * EACH)
    loader = module.train_dataloader()
    first, second = ([tuple(row) for batch in loader for row in batch["tokens"].tolist()] for _ in range(2))
    assert set(Counter(first).values()) == {2}
    assert first != second
    assert first == seen(data(shards, pairs=2 * SHARDS * EACH))


def test_one_lap_of_two_processes_with_two_workers_delivers_every_sample_once(uneven):
    """Readers have unequal shares, so each is read to the end of its own first lap."""
    source, good = uneven
    stream, found, failed = PairStream(source, seed=1), Counter(), []
    for rank in range(2):
        module = data(source, rank=rank, world_size=2, workers=2, seed=1)
        items = module.readers[0].stream(rank=rank, world_size=2)
        for worker in range(2):
            lap = keys(stream.lap(0, 0, Slot(2 * rank + worker, 4)))
            reader = as_worker(items, worker, workers=2)
            delivered = list(itertools.islice(reader, len(lap) - ("5-2" in lap)))
            # An item's number says which sample of the reader's order it is.
            found.update(lap[item["index"] // 4] for item in delivered)
            failed += [name for item in (*delivered, next(reader)) for name, _ in item["_failed"]]
    assert found == Counter(good)
    assert set(failed) == {"5.tar/5-2"}


def as_worker(items, number, *, workers):
    """What one worker of a loader reads, here in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "get_worker_info", lambda: SimpleNamespace(id=number, num_workers=workers))
        reader = iter(items)
        first = next(reader)
    return itertools.chain([first], reader)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("consumed", [1, 4, 11])
def test_a_resume_in_mid_epoch_delivers_exactly_the_rest(uneven, workers, consumed, caplog):
    source, _ = uneven
    for rank in range(2):
        settings = {"rank": rank, "world_size": 2, "workers": workers, "pairs": 8 * 14}
        module = data(source, **settings)
        loader = module.train_dataloader()
        batches = [*loader, *loader]
        state = loader.state_dict()
        again = resumed(source, consumed, state | {"epoch": 0, "first": 0}, **settings)
        same(again, batches[consumed : consumed + 14])  # it runs on into the next epoch, as with files
        second = resumed(source, 14 + consumed, state | {"epoch": 1, "first": 14}, **settings)
        same(second[: 14 - consumed], batches[14 + consumed :])
    assert "cannot be" not in caplog.text


def test_bad_samples_count_the_same_after_a_resume(uneven):
    source, _ = uneven
    whole = data(source, pairs=SHARDS * EACH)
    loader = whole.train_dataloader()
    states = [whole.state_dict() for _ in loader]
    assert (whole.replaced, whole.seen) == (1, SHARDS * EACH)
    for consumed in (1, 6, 11):  # the bad sample is met before and after
        module = data(source, pairs=SHARDS * EACH)
        module.load_state_dict(states[consumed - 1])
        again = loader_of(module, consumed, loader.state_dict())
        list(itertools.islice(iter(again), len(states) - consumed))
        assert (module.replaced, module.seen) == (whole.replaced, whole.seen)
        assert module.bad == whole.bad == {"5.tar/5-2": "not an image that Pillow knows"}


def test_counts_of_all_processes_survive_another_number_of_them():
    module = ClipDataModule(config=CONFIG, source="shapes")
    module.load_state_dict(
        {"ranks": [{"bad": {"a": "x"}, "seen": 8, "replaced": 1}, {"bad": {"b": "y"}, "seen": 8, "replaced": 2}]}
    )
    assert (module.bad, module.seen, module.replaced) == ({"a": "x", "b": "y"}, 16, 3)
    assert module.all_bad() == {"a": "x", "b": "y"}


def test_a_resume_at_the_end_of_a_shortened_epoch_goes_on_with_the_next(shards):
    """Only 4 of an epoch's 12 batches are trained on."""
    whole = data(shards)
    whole._epoch_length = lambda: 4
    loader = whole.train_dataloader()
    epochs = []
    for consumed in (0, 4, 8):
        whole.consumed = lambda consumed=consumed: consumed
        loader.consumed = whole.consumed
        epochs.append((list(itertools.islice(iter(loader), 4)), loader.state_dict()))
    for consumed, (_, state) in zip((4, 8), epochs, strict=False):
        module = data(shards)
        module._epoch_length = lambda: 4
        again = loader_of(module, consumed, state)
        same(list(itertools.islice(iter(again), 4)), epochs[consumed // 4][0])


@pytest.mark.parametrize("change", [{"workers": 2}, {"world_size": 2}, {"batch_size": 4}])
def test_with_other_numbers_it_goes_on_with_the_next_epoch_and_says_so(shards, caplog, change):
    loader = data(shards).train_dataloader()
    list(loader)
    logging.getLogger("zoo").addHandler(caplog.handler)
    found = resumed(shards, 5, loader.state_dict(), **change)
    logging.getLogger("zoo").removeHandler(caplog.handler)
    module = data(shards, **change)
    fresh = module.train_dataloader()
    iter(fresh)
    same(found, list(fresh))  # its second epoch
    assert "goes on with what epoch 1 reads" in caplog.text


def test_lightning_resumes_a_stream_with_the_same_bits(shards, tmp_path):
    def run(out, **settings):
        return zoo.train("clip", recipe="smoke", out=out, data=stream, checkpoint_every=5, **settings)

    stream = {"source": shards, "stream_pairs": 96, "workers": 2, "batch_size": 16, "flip": 0.5}
    quick = {"accelerator": "cpu", "enable_progress_bar": False, "max_steps": 10}
    whole = run(tmp_path / "a", trainer=quick)
    run(tmp_path / "b", trainer=quick)
    for late in (tmp_path / "b" / "checkpoints" / "00000010.ckpt", tmp_path / "b" / "metrics.json"):
        late.unlink()
    again = zoo.train("clip", resume=tmp_path / "b")
    one, other = (zoo.load(result.weights).state_dict() for result in (whole, again))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_left_out_and_named(tmp_path, workers):
    write_tar(tmp_path / "0.tar", [f"0-{i}" for i in range(16)], broken=("0-3",))
    module = data(f"pipe:cat {tmp_path}/0.tar", pairs=16, workers=workers)
    assert len(seen(module)) == 16
    assert list(module.bad) == ["0.tar/0-3"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", ["head -c {bytes} {tar}", "head -c {bytes} {tar}; false"])
def test_a_shard_that_breaks_off_is_used_as_far_as_it_goes(tmp_path, workers, command):
    for shard in range(2):
        write_tar(tmp_path / f"{shard}.tar", [f"{shard}-{i}" for i in range(12)])
    with tarfile.open(tmp_path / "1.tar") as whole:
        cut = whole.getmember("1-5.png").offset_data + 100
    program = command.format(bytes=cut, tar=f"{tmp_path}/1.tar")
    (tmp_path / "one.sh").write_text(f"case $1 in 0) cat {tmp_path}/0.tar;; 1) {program};; esac")
    settings = {"pairs": 34, "batch_size": 17, "workers": workers}
    module = data(f"pipe:sh {tmp_path}/one.sh {{0..1}}", **settings)
    assert len(set(seen(module))) == 12 + 5  # a lap
    (name,) = module.bad
    assert name.endswith("1/1-5")
    assert module.bad[name] == "the tar breaks off here; fetch it again"
    strict = data(f"pipe:sh {tmp_path}/one.sh {{0..1}}", **settings, max_bad_fraction=0.0)
    with pytest.raises(UserError, match=r"max_bad_fraction 0 allows: .*1-5 \(the tar breaks off here"):
        seen(strict)


def test_where_a_shard_can_break_off(tmp_path):
    write_tar(tmp_path / "0.tar", ["0", "1", "2"])
    whole = (tmp_path / "0.tar").read_bytes()
    with tarfile.open(tmp_path / "0.tar") as opened:
        text, picture = opened.getmember("1.txt").offset_data, opened.getmember("2.png").offset

    def found(contents, after=""):
        (tmp_path / "part").write_bytes(contents)
        return keys(read_shard(f"pipe:cat {tmp_path}/part{after}"))

    assert found(whole) == ["0", "1", "2"]
    assert found(whole[:text]) == ["0", "1"]  # the second stands for what is broken
    assert found(whole[: text + 512]) == ["0", "1", "1 and after"]
    assert found(whole[:picture]) == found(whole[: picture + 100]) == ["0", "1", "1 and after"]
    assert found(whole[:picture] + b"\x01" * 4096) == ["0", "1", "1 and after"]
    assert found(whole, after="; false") == ["0", "1", "2", "2 and after"]
    for contents in (b"", b"no tar" * 1000):
        with pytest.raises(UserError, match=r"part cannot be read .*; try it by hand"):
            found(contents)


def test_mistakes(shards, tmp_path):
    with pytest.raises(UserError, match=r"--data\.stream_pairs"):
        data(shards, pairs=None)
    with pytest.raises(UserError, match="length of its own"):
        data("shapes")
    with pytest.raises(UserError, match=r"1 tars cannot be dealt out to 2 readers"):
        seen(data(shards.replace("{0..7}", "0"), workers=2))
    with pytest.raises(UserError, match="cannot be read"):
        data(f"pipe:cat {tmp_path}/none.tar").setup()


def test_a_run_on_a_stream(shards, tmp_path):
    result = zoo.train(
        "clip",
        recipe="smoke",
        out=tmp_path / "run",
        data={"source": shards, "stream_pairs": 64, "workers": 2},
        trainer={"max_steps": 5, "accelerator": "cpu", "enable_progress_bar": False},
    )
    assert result.metrics["steps"] == 5
    assert not result.report.figures
