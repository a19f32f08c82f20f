"""Tars that are read from front to back, here from a program: what is promised, and what is not."""

import io
import logging
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.clip.configs import VARIANTS
from zoo.clip.data import ClipDataModule
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


def test_after_a_resume_in_mid_epoch_it_goes_on_with_the_next_and_says_so(shards, caplog):
    whole = data(shards).train_dataloader()
    epochs = [[tuple(row) for batch in whole for row in batch["tokens"].tolist()] for _ in range(2)]
    module = data(shards)
    module.consumed = lambda: 5
    with caplog.at_level(logging.WARNING, logger="zoo"):
        logging.getLogger("zoo").addHandler(caplog.handler)
        assert seen(module) == epochs[1]
        logging.getLogger("zoo").removeHandler(caplog.handler)
    assert "cannot be resumed in mid-epoch" in caplog.text


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_left_out_and_named(tmp_path, workers):
    write_tar(tmp_path / "0.tar", [f"0-{i}" for i in range(16)], broken=("0-3",))
    module = data(f"pipe:cat {tmp_path}/0.tar", pairs=16, workers=workers)
    assert len(seen(module)) == 16
    assert list(module.bad) == ["0.tar/0-3"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_breaks_off_stops_the_run(tmp_path, workers):
    write_tar(tmp_path / "0.tar", [f"0-{i}" for i in range(300)])
    command = f"pipe:head -c 900000 {tmp_path}/0.tar; false"
    with pytest.raises(UserError, match=r"head -c 900000 .* cannot be read to its end"):
        seen(data(command, pairs=600, workers=workers))
    # Between two members nothing but the program's exit code tells.
    (tmp_path / "part").write_bytes((tmp_path / "0.tar").read_bytes()[: 512 * 14])
    with pytest.raises(UserError, match="cannot be read to its end"):
        list(read_shard(f"pipe:cat {tmp_path}/part; false"))


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
