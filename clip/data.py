"""Image–text pairs for CLIP: a fixed canvas of bytes per sample from the workers, crops on the accelerator."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.clip.configs import ClipConfig
from zoo.shared.data.crops import crop_resize, draw_box, normalise
from zoo.shared.data.datamodule import Item, KeyedDataModule, KeyedDataset, collate, log
from zoo.shared.data.images import BadSample
from zoo.shared.data.order import GlobalBatchSampler
from zoo.shared.data.pairs import PairSource, PairView, check_pairs, duplicates, split_by_concept
from zoo.shared.data.sources import is_remote
from zoo.shared.data.streams import PairStream, StreamedItems
from zoo.shared.errors import UserError

LongText = Literal["truncate", "error"]


class ClipDataModule(KeyedDataModule):
    """Pairs to train a CLIP on, split by concept into a training and a held-out part.

    A batch has ``image`` (B, 3, S, S) normalised floats, ``tokens`` (B, T) int64, ``index`` (B,) into the part's
    source, ``bad`` (B,) bool where another sample took a bad one's place, ``box`` (B, 4) and ``flip`` (B,).
    Before ``on_after_batch_transfer`` its ``image`` is the canvas of bytes.

    Args:
        config: Shapes of the model: image size and context.
        source: ``emoji``, ``shapes`` (drawn on the spot, for tests), or a path: a table (CSV, TSV, JSONL, parquet)
            of image paths and captions, img2dataset's
            output folder, WebDataset tars (``data/{000..009}.tar`` or ``data/*.tar``), a folder of images, or a stream
            of tars (``https://HOST/{000..009}.tar``, ``pipe:COMMAND``; see :mod:`zoo.shared.data.streams`).
        stream_pairs: Pairs that make an epoch of a stream, which has no length of its own and holds nothing out.
        image_column: Column of a table that holds image paths; found by itself when it has a usual name.
        caption_column: Column of a table that holds captions; found by itself when it has a usual name.
        batch_size: Samples in a batch of all processes together.
        workers: Processes that read samples; 0 reads in the main process.
        seed: Chooses order and augmentation, and the split.
        held_out: Share of the concepts that is held out for scoring.
        category_words: Emoji only: let captions name the category. Without it no caption has a category's words.
        languages: Emoji only: languages of the captions, such as ``[en, de]``; the first one's names are scored.
        scale: Least and greatest part of the image's area in a random crop.
        ratio: Least and greatest width over height of a random crop.
        flip: Chance of mirroring a training image.
        max_bad_fraction: The run stops when a larger share of the samples cannot be used.
        long_text: Cut captions that are longer than the context, or stop with an error.

    Attributes:
        train_source: The pairs to train on.
        held_out_source: The pairs to score on.
    """

    def __init__(
        self,
        *,
        config: ClipConfig,
        source: str = "emoji",
        stream_pairs: int | None = None,
        image_column: str | None = None,
        caption_column: str | None = None,
        batch_size: int = 256,
        workers: int = 0,
        seed: int = 0,
        held_out: float = 0.15,
        category_words: bool = True,
        languages: tuple[str, ...] = ("en",),
        scale: tuple[float, float] = (0.9, 1.0),
        ratio: tuple[float, float] = (0.75, 4 / 3),
        flip: float = 0.0,
        max_bad_fraction: float = 0.01,
        long_text: LongText = "truncate",
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed, max_bad_fraction=max_bad_fraction)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f"scale must rise within (0, 1], not {tuple(scale)}")
        if not 0 < ratio[0] <= ratio[1]:
            raise UserError(f"ratio must rise above 0, not {tuple(ratio)}")
        if not 0 <= held_out < 1:
            raise UserError(f"held_out must be at least 0 and below 1, not {held_out}")
        if not 0 <= flip <= 1:
            raise UserError(f"flip must be from 0 to 1, not {flip}")
        if long_text not in ("truncate", "error"):
            raise UserError(f"long_text must be truncate or error, not {long_text!r}")
        self.config = config
        if is_remote(source) != bool(stream_pairs):
            raise UserError(
                "a stream has no length: give --data.stream_pairs N, the pairs that make an epoch"
                if is_remote(source)
                else f"stream_pairs is for streams, whose length is not known; {source} has a length of its own"
            )
        self.source = source
        self.stream_pairs = stream_pairs
        self.image_column = image_column
        self.caption_column = caption_column
        self.held_out = held_out
        self.category_words = category_words
        self.languages = tuple(languages)
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.flip = flip
        self.long_text = long_text
        # Large enough that a crop of the least allowed area is rarely enlarged.
        self.canvas = math.ceil(config.image_size * min(2.0, max(1.15, scale[0] ** -0.5)))

    def open(self) -> tuple[PairReader | StreamedPairReader, PairReader | None]:
        """Open the source and split it."""
        pairs = self._open_source()
        if not len(pairs):
            raise UserError(f"{self.source} has no pairs of image and caption")
        share = 0.0 if self.stream_pairs else self.held_out
        train, held_out = split_by_concept(pairs, held_out=share, seed=self.seed)
        self._train = PairView(pairs, indices=train)
        self._held_out = PairView(pairs, indices=held_out, name=f"{pairs.name} (held out)")
        trained = PairReader(
            self._train,
            side=self.canvas,
            config=self.config,
            long_text=self.long_text,
            augment=Augment(self.scale, self.ratio, self.flip),
        )
        if isinstance(pairs, PairStream):
            return StreamedPairReader(trained, stream=pairs, size=self.stream_pairs or 0), None
        side = self.config.image_size
        scored = PairReader(self._held_out, side=side, config=self.config, long_text=self.long_text, augment=None)
        return trained, scored if held_out else None

    def _open_source(self) -> PairSource:
        from zoo.shared.data.sources import open_source

        return open_source(
            self.source,
            size=self.canvas,
            image_column=self.image_column,
            caption_column=self.caption_column,
            languages=self.languages,
            category_words=self.category_words,
            seed=self.seed,
            progress=log.info,
        )

    @staticmethod
    def check_source(
        source: str,
        *,
        image_column: str | None = None,
        caption_column: str | None = None,
        progress: Callable[[int, int], object] = lambda done, total: None,
        note: Callable[[str], object] = lambda line: None,
    ) -> dict[str, Any]:
        """Open every pair of a source once, indexing its tars; behind ``zoo data prepare clip``.

        Args:
            source: As for the class.
            image_column: As for the class.
            caption_column: As for the class.
            progress: Called with the samples done and all samples.
            note: Called with a line when something else takes time.
        """
        from zoo.shared.data.sources import open_source

        pairs = open_source(source, image_column=image_column, caption_column=caption_column, progress=note)
        return check_pairs(pairs, progress=progress)

    def peek(self, count: int) -> Item:
        """The first samples of the first training batch, as the model gets them, without starting workers.

        Args:
            count: How many, at most.
        """
        reader = self.readers[0]
        size = min(self.batch_size, len(reader))
        sampler = GlobalBatchSampler(
            len(reader), batch_size=size, seed=self.seed, rank=0, world_size=1, consumed=lambda: 0
        )
        dataset = KeyedDataset(reader, seed=self.seed)
        batch = collate([dataset[key] for key in next(iter(sampler))[:count]])
        self._watch(batch, 0.0)
        return self.on_after_batch_transfer(batch, 0)

    @property
    def description(self) -> str:
        """The data in words, with what decides how its figures are to be read."""
        if self.source != "emoji":
            return self.train_source.name
        mention = "mention" if self.category_words else "never mention"
        return f"emoji; the captions {mention} category words ({', '.join(self.languages)})"

    @property
    def train_source(self) -> PairView:
        """The pairs to train on."""
        self.setup()
        return self._train

    @property
    def held_out_source(self) -> PairView:
        """The pairs to score on; empty when nothing is held out."""
        self.setup()
        return self._held_out

    def duplicates(self, limit: int = 5000) -> list[tuple[str, str]]:
        """Ids of training and held-out samples with equal pixels; see :func:`zoo.shared.data.pairs.duplicates`."""
        return duplicates(self.train_source, self.held_out_source, limit=limit)

    def on_after_batch_transfer(self, batch: Item, dataloader_idx: int) -> Item:
        """Cut, resize and normalise the canvases where the batch now is."""
        return {**batch, "image": prepare_images(batch, size=self.config.image_size)}


def prepare_images(batch: dict[str, Any], *, size: int) -> Tensor:
    """Images ``(B, 3, S, S)`` for the model, from a batch's canvases, boxes and flips."""
    from zoo.clip.preprocessing import MEAN, STD

    images = crop_resize(batch["image"], batch["box"], size=size, mode="bicubic", flips=batch["flip"])
    return normalise(images, mean=MEAN, std=STD)


class Augment:
    """What a training sample draws.

    Args:
        scale: Least and greatest part of the area.
        ratio: Least and greatest width over height.
        flip: Chance of mirroring.
    """

    def __init__(self, scale: tuple[float, ...], ratio: tuple[float, ...], flip: float) -> None:
        self.scale = (scale[0], scale[1])
        self.ratio = (ratio[0], ratio[1])
        self.flip = flip


class PairReader:
    """Prepares pairs for a batch.

    Args:
        source: The pairs.
        side: Side of the square canvas.
        config: Shapes of the model.
        long_text: What to do with captions longer than the context.
        augment: What a sample draws; None takes the middle of the image and its title, as inference does.
    """

    def __init__(
        self, source: PairSource, *, side: int, config: ClipConfig, long_text: LongText, augment: Augment | None
    ) -> None:
        self.source = source
        self.side = side
        self.context = config.context
        self.long_text = long_text
        self.augment = augment

    def __len__(self) -> int:
        return len(self.source)

    def id(self, index: int) -> str:
        """What a person recognises the sample by."""
        return self.source.id(index)

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """Canvas ``(3, side, side)`` bytes, box, flip and tokens ``(T,)``."""
        return self.prepare(self.source, index, rng)

    def prepare(self, source: PairSource, index: int, rng: np.random.Generator) -> Item:
        """The same for a sample of any source."""
        image = source.image(index)
        side = float(self.side)
        if self.augment is None:
            text, box, flip = source.title(index), (0.0, 0.0, side, side), False
            canvas = square(image, side=self.side, at=0.5)
        else:
            # All draws happen for every sample, so that no setting shifts what another one draws.
            at, mirror, choice = rng.random(3)
            captions = source.captions(index)
            if not captions:
                raise BadSample("has no caption")
            text = captions[int(choice * len(captions))]
            box = draw_box(rng, width=side, height=side, scale=self.augment.scale, ratio=self.augment.ratio)
            flip = bool(mirror < self.augment.flip)
            canvas = square(image, side=self.side, at=at)
        return {
            "image": torch.from_numpy(np.array(canvas)).permute(2, 0, 1),
            "box": torch.tensor(box),
            "flip": flip,
            "tokens": self._tokens(text, source.id(index)),
        }

    def _tokens(self, text: str, name: str) -> Tensor:
        try:
            return _tokens(text, self.context, self.long_text)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error


class StreamedPairReader:
    """Prepares the pairs of a stream; read by number, its first pairs stand for all of them.

    Args:
        reader: Prepares a pair.
        stream: The pairs.
        size: Pairs that make an epoch.
    """

    def __init__(self, reader: PairReader, *, stream: PairStream, size: int) -> None:
        self.reader = reader
        self.pairs = stream
        self.size = size

    def __len__(self) -> int:
        return self.size

    def id(self, index: int) -> str:
        """What a person recognises the sample by."""
        return self.reader.id(index % len(self.reader))

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """As :meth:`PairReader.read`."""
        return self.reader.read(index % len(self.reader), rng)

    def stream(self, *, rank: int, world_size: int) -> StreamedItems:
        """The items of one process."""
        return StreamedItems(
            self.pairs,
            read=self.prepare_one,
            rank=rank,
            world_size=world_size,
        )

    def prepare_one(self, pairs: PairSource, rng: np.random.Generator) -> Item:
        """The item of a source with one pair."""
        return self.reader.prepare(pairs, 0, rng)


def square(image: Image.Image, *, side: int, at: float) -> Image.Image:
    """Resize the shorter side to ``side`` and cut a square out of the longer one.

    Args:
        image: Any size.
        side: Side of the result.
        at: Where to cut, from 0 (left or top) to 1; 0.5 is the middle, as at inference.
    """
    width, height = image.size
    if (width, height) != (side, side):
        short = min(width, height)
        image = image.resize((side * width // short, side * height // short), Image.Resampling.BICUBIC)
    left, top = round(at * (image.width - side)), round(at * (image.height - side))
    return image.crop((left, top, left + side, top + side))


@lru_cache
def _tokenizer(context: int, policy: LongText) -> Any:
    from zoo.clip.tokenizer import ClipTokenizer

    return ClipTokenizer(context=context, policy=policy)


@lru_cache(maxsize=2**15)
def _tokens(text: str, context: int, policy: LongText) -> Tensor:
    return _tokenizer(context, policy)([text])[0]
