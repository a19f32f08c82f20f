"""CLIP's rows of ``zoo bench`` about data: tars beside open_clip's pipeline, and how long a run waits."""

from __future__ import annotations

import argparse
import io
import itertools
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.clip.configs import VARIANTS
from zoo.clip.preprocessing import MEAN, STD
from zoo.shared import bench_wait
from zoo.shared.bench import Case, Setting, Side, import_peer

_COUNTED = 64  # samples in a batch and in a timed call
_COLOURS = ("red", "green", "blue", "white", "small", "large", "old", "new")
_THINGS = ("house", "river", "garden", "street", "table", "boat", "hill", "bird")


def write_tars(folder: Path, *, count: int, size: tuple[int, int]) -> None:
    """Tars as img2dataset writes them: smooth pictures as JPEG, each with a caption of its own."""
    rng = np.random.default_rng(0)
    words = itertools.product(_COLOURS, _THINGS, _COLOURS, _THINGS)
    captions = [f"a photo of the {a} {b} beside a {c} {d}" for a, b, c, d in itertools.islice(words, count)]
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as opened:
            for number in range(shard, count, 2):
                coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
                picture = io.BytesIO()
                coarse.resize(size, Image.Resampling.BICUBIC).save(picture, "JPEG", quality=90)
                for suffix, content in (("jpg", picture.getvalue()), ("txt", captions[number].encode())):
                    member = tarfile.TarInfo(f"{number:06}.{suffix}")
                    member.size = len(content)
                    opened.addfile(member, io.BytesIO(content))


def prepare_data(side: Side, setting: Setting) -> Case:
    """Batches for ViT-B/32 from tars, read in this process, cropped and normalised."""
    folder = tempfile.TemporaryDirectory(prefix="zoo-bench-")
    count = _COUNTED if setting.quick else 4 * _COUNTED
    size = (96, 72) if setting.quick else (640, 480)
    write_tars(Path(folder.name), count=count, size=size)
    make = zoo_batches if side == "zoo" else open_clip_batches
    config = VARIANTS["clip-debug" if setting.quick else "clip-vit-b-32"]
    batches = make(Path(folder.name), config, count)

    def colours() -> Mapping[str, Tensor]:
        """Each caption's ids and the mean colours of its picture, in the order of the captions."""
        found = {}
        for images, tokens in itertools.islice(batches, count // _COUNTED):
            for image, ids in zip(images, tokens, strict=True):
                found[tuple(ids.tolist())] = image.mean((1, 2)) * torch.tensor(STD) + torch.tensor(MEAN)
        keys = sorted(found)
        return {"ids": torch.tensor(keys), "colours": torch.stack([found[key] for key in keys])}

    note = f"{count} JPEG of {size[0]} x {size[1]} pixels to {config.image_size} pixels, batch {_COUNTED}"
    return Case(
        call=lambda: next(batches), result=colours, samples=_COUNTED, note=note, finish=lambda: folder.cleanup()
    )


def zoo_batches(folder: Path, config: Any, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and ids as our training takes them, epoch after epoch."""
    from zoo.clip.data import ClipDataModule  # deferred: it brings Lightning

    data = ClipDataModule(config=config, source=f"{folder}/*.tar", batch_size=_COUNTED, held_out=0.0)
    data.setup("fit")
    while True:
        for batch in data.train_dataloader():
            ready = data.on_after_batch_transfer(batch, 0)
            yield ready["image"], ready["tokens"]


def open_clip_batches(folder: Path, config: Any, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and ids as open_clip's training takes them, epoch after epoch."""
    open_clip = import_peer("open_clip", package="open_clip_torch")
    data = import_peer("open_clip_train.data", package="open_clip_torch")
    # Its grouping fails on the empty mark that webdataset 1.0 puts at the end of each tar.
    data.tar_file_expander = partial(import_module("webdataset.tariterators").tar_file_expander, eof_value=None)
    settings = argparse.Namespace(
        train_data=f"{folder}/{{00000..00001}}.tar", dataset_resampled=False, train_num_samples=count,
        train_data_upsampling_factors=None, seed=0, batch_size=_COUNTED, workers=0, world_size=1,
    )  # fmt: skip
    transform = open_clip.image_transform(config.image_size, is_train=True)
    tokenizer = open_clip.SimpleTokenizer(context_length=config.context)
    info = data.get_wds_dataset(settings, transform, True, tokenizer=tokenizer)
    for epoch in itertools.count():
        info.set_epoch(epoch)
        yield from info.dataloader


def data_wait(quick: bool) -> float:
    """Percent of the time that a short run waits for emoji."""
    model, size, steps = ("clip-debug", "32", 4) if quick else ("clip-nano", "128", 20)
    data = ["--data.source", "emoji", "--data.batch_size", size, "--data.workers", "1"]
    crops = ["--data.scale", "[0.5,1.0]", "--data.flip", "0.5"]
    return bench_wait.data_wait(model, "--recipe", "smoke", *data, *crops, steps=steps)
