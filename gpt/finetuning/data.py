"""Labelled texts for fine-tuning, as padded token sequences with the start, delimiter and classify tokens.

Shapes: B items, C sequences of an item, L tokens, K outputs of the head.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.gpt.configs import GptConfig
from zoo.gpt.finetuning.inputs import FinetuneTokenizer, Kind, pad, sequences, with_marks
from zoo.gpt.finetuning.sources import (
    COLUMNS,
    GLUE,
    LAYOUTS,
    Example,
    check_kind,
    film_reviews,
    generated,
    read_layout,
    read_table,
)
from zoo.gpt.finetuning.targets import targets
from zoo.gpt.held_out import FILLER, DealingDataModule
from zoo.gpt.tokenizer import GptTokenizer, named_tokenizer
from zoo.shared.data.datamodule import Item
from zoo.shared.data.images import BadSample
from zoo.shared.distributed import first_process
from zoo.shared.errors import UserError
from zoo.shared.runs.folder import newest_weights
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.prepare import is_held_out
from zoo.shared.text.tokenizer_files import has_tokenizer

log = logging.getLogger("zoo")

BUILT_IN = ("movie-reviews", "sentences")  # sources that are no files


class ExampleReader:
    """Sequences and targets of one part of the data.

    Args:
        examples: The items.
        items: Token sequences of each; none where a text is empty.
        target: Distributions ``(N, K)``; zeros where the label is missing.
        fill: The id that pads.
    """

    def __init__(
        self, examples: Sequence[Example], items: Sequence[list[list[int]]], target: np.ndarray, fill: int
    ) -> None:
        self.examples = examples
        self.items = items
        self.target = target
        self.fill = fill
        self.filler = next((i for i, item in enumerate(items) if item and target[i].any()), 0)
        self.count = max((len(item) for item in items), default=1)
        self.length = max((len(row) for item in items for row in item), default=1)

    def __len__(self) -> int:
        return len(self.examples)

    def id(self, index: int) -> str:
        """File and row."""
        return self.examples[index].name

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """``tokens`` ``(C, L)``, ``lengths`` ``(C,)`` with 0 where there is no such answer, ``target`` ``(K,)``."""
        index = self.filler if index == FILLER else index
        if not self.items[index]:
            raise BadSample("a text is empty")
        if not self.target[index].any():
            raise BadSample("it has no label")
        tokens, lengths = pad(self.items[index], count=self.count, length=self.length, fill=self.fill)
        return {"tokens": tokens, "lengths": lengths, "target": self.target[index]}


class FinetuneDataModule(DealingDataModule):
    """Labelled texts (GPT-1, Section 3.3).

    Args:
        config: The model that is trained on: its context, vocabulary and tokenizer.
        source: ``movie-reviews`` (embedded: 8,530 sentences of film reviews, positive or negative), ``sentences``
            (generated, for tests), a table (CSV, TSV, JSONL, parquet), or a task's own files, see ``layout``.
        kind: ``classification`` (columns text, label), ``entailment`` (premise, hypothesis, label), ``similarity``
            (text1, text2, label) or ``multiple-choice`` (context, choices, label).
        layout: The source is a folder or file as it was published: ``cola``, ``sst-2``, ``mrpc``, ``qqp``, ``sts-b``,
            ``mnli``, ``qnli``, ``rte`` (GLUE), ``race`` or ``story-cloze``; it decides the kind.
        columns: Names of the text columns, where they are others.
        label_column: Name of the label's column.
        labels: The classes in their order; by default those of the training data, sorted.
        scores: Least and greatest score, such as ``[0, 5]``, where labels are numbers: the head then has an output for
            each whole score.
        held_out: Share that is held out, by its first text, where nothing else is.
        held_out_source: File that is held out, laid out like the source.
        limit: Use only so many training items.
        tokenizer: Folder with a tokenizer; by default the one that lies beside the weights.
        batch_size: Items in a batch of all processes together (Section 4.1: 32).
        workers: Processes that read.
        seed: Chooses the order, the items of ``limit`` and the new weights.
        max_bad_fraction: The run stops when a larger share cannot be used.

    Attributes:
        labels: Names of the classes or scores; empty where answers are chosen.
        marks: The ids that fine-tuning adds.
        rows: Rows that the embedding needs.
        cut: Items of the training and the held-out part that were longer than the context.
    """

    preprocessor: FinetuneTokenizer | None

    def __init__(
        self,
        config: GptConfig,
        *,
        source: str = "movie-reviews",
        kind: str = "classification",
        layout: str | None = None,
        columns: tuple[str, ...] = (),
        label_column: str = "label",
        labels: tuple[str, ...] = (),
        scores: tuple[int, int] | None = None,
        held_out: float = 0.1,
        held_out_source: str | None = None,
        limit: int | None = None,
        tokenizer: str | None = None,
        batch_size: int = 32,
        workers: int = 0,
        seed: int = 0,
        max_bad_fraction: float = 0.01,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed, max_bad_fraction=max_bad_fraction)
        self.kind: Kind = check_kind(kind)
        if layout is not None and layout not in LAYOUTS:
            raise UserError(f"--data.layout {layout!r} is unknown; use {', '.join(LAYOUTS)}")
        if not 0 <= held_out < 1:
            raise UserError(f"--data.held_out is a share of the items, from 0 to below 1, not {held_out}")
        if scores is not None and not scores[0] < scores[1]:
            raise UserError(f"--data.scores are the least and the greatest score, not {tuple(scores)}")
        if columns and len(columns) != len(COLUMNS[self.kind]):
            raise UserError(f"--data.columns of {kind} are {len(COLUMNS[self.kind])}: {', '.join(COLUMNS[self.kind])}")
        if labels and (scores is not None or (layout in GLUE and GLUE[layout].scores)):
            raise UserError("a task has scores or classes: leave out --data.labels, or --data.scores")
        if source in BUILT_IN and (layout is not None or held_out_source is not None):
            given = "held_out_source" if layout is None else "layout"
            raise UserError(f"--data.{given} is for files; name them with --data.source, which is {source}")
        if source == "movie-reviews" and kind != "classification":
            raise UserError(f"movie-reviews are for classification; give --data.source with items of {kind}")
        if limit is not None and limit < 1:
            raise UserError(f"--data.limit must be at least 1, not {limit}")
        self.config = config
        self.source = source
        self.layout = layout
        self.columns = tuple(columns) or COLUMNS[self.kind]
        self.label_column = label_column
        self.labels: tuple[str, ...] = tuple(labels)
        self.scores = None if scores is None else (scores[0], scores[1])
        self.held_out = held_out
        self.held_out_source = held_out_source
        self.limit = limit
        self.tokenizer = tokenizer
        self.metric = "accuracy"
        self.pretrained = False
        self.cut = (0, 0)

    def start_from(self, weights: Path | None) -> None:
        """Use the tokenizer that lies beside the weights.

        Raises:
            UserError: The model has a tokenizer of its own, and it does not lie there.
        """
        self.pretrained = True
        if self.tokenizer is None and weights is not None and has_tokenizer(weights):
            self.tokenizer = str(weights)
        elif self.tokenizer is None and self.config.tokenizer == "bpe":
            raise UserError("no tokenizer lies beside the weights, and theirs cannot be guessed; give --data.tokenizer")

    @property
    def readers(self) -> tuple[ExampleReader, ExampleReader | None]:
        """Training and held-out items."""
        readers: Any = super().readers
        return readers

    @property
    def classes(self) -> int:
        """Outputs of the head; one where answers are scored one by one."""
        self.setup()
        return 1 if self.kind == "multiple-choice" else len(self.labels)

    @property
    def description(self) -> str:
        """The data in words."""
        words = {"movie-reviews": "sentences of film reviews", "sentences": "generated sentences"}
        return words.get(self.source, self.layout or Path(self.source).name)

    def open(self) -> tuple[ExampleReader, ExampleReader | None]:
        """Read, split and encode."""
        train, held_out = self.examples()
        if self.limit is not None:
            chosen = np.random.default_rng(self.seed).permutation(len(train))[: self.limit]
            train = [train[place] for place in chosen]
        if self.kind != "multiple-choice" and not self.labels:
            found = sorted({example.label for example in train if example.label})
            least, greatest = self.scores or (0, -1)
            self.labels = tuple(str(score) for score in range(least, greatest + 1)) if self.scores else tuple(found)
        if self.kind != "multiple-choice" and len(self.labels) < 2:
            raise UserError(f"{self.source} has only the label {''.join(self.labels)!r}; a task needs two classes")
        if self.config.classes and self.config.classes != (1 if self.kind == "multiple-choice" else len(self.labels)):
            raise UserError(
                f"the head has {self.config.classes} outputs, but {self.source} needs {max(1, len(self.labels))}; "
                "start from weights without a head"
            )
        tokenizer, self.marks, self.rows = with_marks(self._tokenizer(train), self.config.vocab_size)
        self.preprocessor = FinetuneTokenizer(tokenizer, kind=self.kind, labels=self.labels)
        parts = [self._reader(train), self._reader(held_out)]
        self.cut = (parts[0][1], parts[1][1])
        if first_process():
            self._say(len(train) + len(held_out))
        return parts[0][0], parts[1][0] if held_out else None

    def examples(self) -> tuple[list[Example], list[Example]]:
        """All training and all held-out examples, as texts.

        Raises:
            UserError: The files are missing, empty, or laid out otherwise.
        """
        return self._split(*self._read_source())

    def _read_source(self) -> tuple[list[Example], list[Example] | None]:
        held_out: list[Example] | None = None
        if self.source in BUILT_IN:
            train = film_reviews() if self.source == "movie-reviews" else generated(self.kind)
        elif self.layout is not None:
            train, held_out, layout = read_layout(self.layout, Path(self.source).expanduser())
            self.kind, self.metric = layout.kind, layout.metric
            self.labels, self.scores = self.labels or layout.labels or (), layout.scores
            if self.held_out_source is not None:
                held_out = read_layout(self.layout, Path(self.held_out_source).expanduser())[0]
        else:
            train = self._table(self.source)
            held_out = None if self.held_out_source is None else self._table(self.held_out_source)
        if self.scores and not self.layout:
            self.metric = "pearson"
        if not train:
            raise UserError(f"{self.source} is empty; it needs a line that names the columns, and rows")
        return train, held_out

    def _table(self, source: str) -> list[Example]:
        path = Path(source).expanduser()
        if not path.exists():
            raise UserError(
                f"--data.source {source}: no such file; give a table, movie-reviews or sentences, or a --data.layout"
            )
        if path.is_dir():
            raise UserError(f"--data.source {source} is a folder; say what it holds with --data.layout")
        return read_table(path, self.kind, self.columns, self.label_column)

    def _split(self, train: list[Example], held_out: list[Example] | None) -> tuple[list[Example], list[Example]]:
        if held_out is not None:
            return train, held_out
        sides: tuple[list[Example], list[Example]] = ([], [])
        for example in train:  # by the first text: a text that comes twice is never on both sides
            sides[is_held_out(example.texts[0], self.held_out)].append(example)
        return sides if sides[0] else (train, [])

    def _tokenizer(self, train: Sequence[Example]) -> Any:
        if self.tokenizer is not None:
            return named_tokenizer(self.tokenizer, self.config).tokenizer
        if self.config.tokenizer != "bpe":
            return GptTokenizer.for_model(self.config).tokenizer
        texts = (text for example in train for text in example.texts)
        return train_byte_level_bpe(texts, self.config.vocab_size)

    def _reader(self, examples: Sequence[Example]) -> tuple[ExampleReader, int]:
        """The reader, and how many items were cut."""
        assert self.preprocessor is not None
        texts = self.preprocessor.encode_batch([text for example in examples for text in example.texts])
        items: list[list[list[int]]] = []
        cut = place = 0
        for example in examples:
            own = texts[place : place + len(example.texts)]
            place += len(own)
            if not all(own):
                items.append([])
                continue
            rows, was_cut = sequences(self.kind, own, self.marks, self.config.context)
            cut += was_cut
            items.append(rows)
        choosing = self.kind == "multiple-choice"
        target = targets(
            examples,
            labels=None if choosing or self.scores else {label: place for place, label in enumerate(self.labels)},
            scores=self.scores,
            answers=max((len(example.texts) - 1 for example in examples), default=1),
        )
        reader = ExampleReader(examples, items, target, self.marks.start)
        if choosing:  # an item that is left out may be the one with the most answers
            reader.count = target.shape[1]
        return reader, cut

    def _say(self, total: int) -> None:
        if sum(self.cut):
            log.info("%d of %d items are longer than the context and were cut", sum(self.cut), total)
        if self.pretrained:
            return
        try:
            hint = f", such as --weights {newest_weights('gpt')}"
        except UserError:
            hint = " of `zoo train gpt`"
        log.info("the model trains from scratch; pre-trained weights%s make it better", hint)

    def count(self, batch: Item) -> dict[str, int]:
        """Items, of which the loss of the head is a mean, and sequences, of which the other loss is one."""
        return {"items": len(batch["tokens"]), "sequences": int((batch["lengths"] > 0).sum())}

    def on_before_batch_transfer(self, batch: Item, dataloader_idx: int) -> Item:
        """Leave out the padding that no sequence of the batch needs."""
        return {**batch, "tokens": batch["tokens"][..., : int(batch["lengths"].max())]}

    def peek(self, count: int) -> dict[str, Tensor]:
        """The first training items as a batch, in the source's order; those that cannot be used are left out."""
        return self.batch_of(self.readers[0], range(min(count, len(self.readers[0]))))

    def batch_of(self, reader: ExampleReader, indices: Sequence[int]) -> dict[str, Tensor]:
        """Items of a part as a batch."""
        rng, items = np.random.default_rng(0), []
        for index in indices:
            try:
                items.append(reader.read(index, rng))
            except BadSample:
                continue
        if not items:
            raise UserError(f"{self.source}: none of the first {len(indices)} items can be used; check the columns")
        stacked = {key: torch.from_numpy(np.stack([item[key] for item in items])) for key in items[0]}
        return self.on_before_batch_transfer(stacked, 0)
