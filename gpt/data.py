"""Text for pre-training: packed token windows, from the embedded plays, from text files or from prepared tokens."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.gpt.configs import GptConfig
from zoo.gpt.held_out import FILLER, DealingDataModule
from zoo.gpt.sources import end_apart, equal_shares, in_words, is_named, named
from zoo.gpt.tokenizer import GptTokenizer, named_tokenizer
from zoo.shared.data.datamodule import Item, ItemReader
from zoo.shared.data.order import BatchRamp
from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.documents import Document, open_documents
from zoo.shared.text.prepare import HELD_OUT, TRAIN, is_held_out
from zoo.shared.text.token_files import TokenFile
from zoo.shared.text.tokenizer_files import has_tokenizer
from zoo.shared.text.tokens import UNKNOWN_YEAR, Tokens, from_texts

log = logging.getLogger("zoo")

_IN_MEMORY = 512 << 20  # bytes of text that are encoded anew at every start; more is prepared once


class TokenWindows:
    """Windows of ``context + 1`` tokens, each beginning with the last token of the one before.

    Args:
        tokens: The packed documents.
        context: Tokens that are predicted in each window.
    """

    def __init__(self, tokens: Tokens, context: int) -> None:
        self.tokens = tokens
        self.context = context

    def __len__(self) -> int:
        return max(0, (len(self.tokens) - 1) // self.context)

    def id(self, index: int) -> str:
        """Where the window begins."""
        return f"tokens {index * self.context:,} on"

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """``tokens`` int64 ``(context + 1,)`` and the ``bytes`` that all but the first stand for."""
        index = 0 if index == FILLER else index
        window = self.tokens.window(index * self.context, self.context + 1)
        return {"tokens": torch.from_numpy(window), "bytes": int(self.tokens.lengths[window[1:]].sum())}


class GptDataModule(DealingDataModule):
    """Windows of packed documents.

    Args:
        config: The model that is trained: its context, vocabulary and tokenizer.
        source: ``shakespeare`` (embedded: 34 plays, 4 held out), ``webster-1913``, ``verse`` (printed by 1922),
            ``film-reviews`` (of today), ``python-docs`` (what the running Python says of itself), several of them
            joined by ``+``, ``sentences`` (generated, for tests), a folder that ``zoo data prepare gpt`` wrote, or text
            files: a file, a folder or a pattern, as plain text, JSON lines or parquet.
        tokenizer: Folder with a tokenizer; None takes the model's, which a model with one of its own has trained on
            the training text.
        text_column: Column of the texts in JSON lines and parquet.
        year_column: Column of the years, for ``cutoff``.
        held_out: Share of the documents of text files that is held out; where they are too few for that, the end of
            the longest. The other sources have a part of their own.
        cutoff: Leave out documents of later years, and those whose year is not known (Talkie: 1930).
        paired: Named sources joined by ``+`` that runs which are compared have in common: a tokenizer of the model's
            own is trained on equal shares of them, whatever the source, and the report measures what each holds out.
        batch_size: Windows in a batch of all processes together.
        ramp_start: Windows in the first batch, where batches grow (GPT-3, appendix B); None: they do not.
        ramp_batches: Batches until they have their full size.
        workers: Processes that read.
        seed: Chooses the order.
        max_bad_fraction: The run stops when a larger share cannot be used.
    """

    def __init__(
        self,
        config: GptConfig,
        *,
        source: str = "shakespeare",
        tokenizer: str | None = None,
        text_column: str = "text",
        year_column: str | None = None,
        held_out: float = 0.01,
        cutoff: int | None = None,
        paired: str | None = None,
        batch_size: int = 32,
        ramp_start: int | None = None,
        ramp_batches: int = 1000,
        workers: int = 0,
        seed: int = 0,
        max_bad_fraction: float = 0.01,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed, max_bad_fraction=max_bad_fraction)
        if not 0 <= held_out < 1:
            raise UserError(f"--data.held_out is a share of the documents, from 0 to below 1, not {held_out}")
        self.config = config
        self.source = source
        self.tokenizer = tokenizer
        self.text_column = text_column
        self.year_column = year_column
        self.held_out = held_out
        self.cutoff = cutoff
        self.paired = paired
        self.ramp = None if ramp_start is None else BatchRamp(start=ramp_start, batches=ramp_batches)
        self.held_out_tokens: Tokens | None = None
        self.trained = False
        self.paired_tokens: dict[str, Tokens] = {}

    def start_from(self, weights: Path | None) -> None:
        """Use the tokenizer that lies beside the weights.

        Raises:
            UserError: The model has a tokenizer of its own, and it does not lie there.
        """
        self.trained = True
        if self.tokenizer is not None:
            return
        if weights is not None and has_tokenizer(weights):
            self.tokenizer = str(weights)
        elif self.config.tokenizer == "bpe":
            raise UserError("no tokenizer lies beside the weights, and theirs cannot be guessed; give --data.tokenizer")

    def open(self) -> tuple[ItemReader, ItemReader | None]:
        """Open the source."""
        folder = Path(self.source).expanduser()
        for part in (folder, folder / TRAIN, folder / HELD_OUT):
            if (part / "unfinished.json").is_file():
                raise UserError(f"{part} is unfinished; run the same `zoo data prepare` again to go on with it")
        if (folder / TRAIN / "index.json").is_file() or (folder / "index.json").is_file():
            if self.paired is not None:
                raise UserError("--data.paired trains a tokenizer, but prepared tokens have theirs; leave it out")
            train, held_out = self._prepared(folder)
        else:
            train, held_out = self._texts()
        train = self._until_cutoff(train)
        if held_out is not None and self.cutoff is not None:
            years = held_out.documents["year"]
            dated = bool(((years != UNKNOWN_YEAR) & (years <= self.cutoff)).any())
            held_out = self._until_cutoff(held_out) if dated else None
        if held_out is None:
            log.warning(
                "no text is held out, so nothing will be measured; a larger --data.held_out takes more documents"
            )
        context = self.config.context
        if len(train) <= context:
            raise UserError(
                f"the training text has {len(train):,} tokens, fewer than one window of {context + 1:,}; "
                "use more text or a smaller --model.context"
            )
        self.held_out_tokens = held_out
        return TokenWindows(train, context), None if held_out is None else TokenWindows(held_out, context)

    def count(self, batch: Item) -> dict[str, int]:
        """Predicted tokens."""
        return {"tokens": batch["tokens"][:, 1:].numel()}

    def state_dict(self) -> dict[str, Any]:
        """What is counted, and which text it was."""
        return {**super().state_dict(), "text": self._text()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on, with the same text.

        Raises:
            UserError: The text or the tokenizer has changed since.
        """
        if state_dict.get("text", self._text()) != self._text():
            raise UserError(
                f"the text of {self.source}, or its tokenizer, is not the one that the run began with; "
                "bring it back, or train its weights on: zoo train gpt --weights RUN/weights"
            )
        super().load_state_dict(state_dict)

    def _text(self) -> list[Any]:
        train = self.readers[0].tokens  # type: ignore[attr-defined]
        digest = zlib.crc32(np.ascontiguousarray(train.documents["tokens"]).tobytes())
        return [train.fingerprint, len(train), digest]

    @property
    def description(self) -> str:
        """What is trained on, in words."""
        until = f" up to {self.cutoff}" if self.cutoff is not None else ""
        return (in_words(self.source) or self.source) + until

    def _prepared(self, folder: Path) -> tuple[Tokens, Tokens | None]:
        parts = [folder / TRAIN, folder / HELD_OUT] if (folder / TRAIN).is_dir() else [folder]
        if self.tokenizer is None:
            self.preprocessor = GptTokenizer.load(parts[0], self.config)
        else:
            self.preprocessor = named_tokenizer(self.tokenizer, self.config)
        train, *others = (
            TokenFile(part, tokenizer=self.preprocessor.tokenizer) for part in parts if (part / "index.json").is_file()
        )
        return train, others[0] if others else None

    def _texts(self) -> tuple[Tokens, Tokens | None]:
        train, held_out = self._documents()
        pairs = {name: named(name) for name in self.paired.split("+")} if self.paired else {}
        if pairs:
            texts = equal_shares([documents for documents, _ in pairs.values()])
        else:  # a word that is later than the cutoff must not become a token
            texts = [d.text for d in train if self.cutoff is None or (d.year is not None and d.year <= self.cutoff)]
        self.preprocessor = self._tokenizer(texts or [d.text for d in train])
        tokenizer = self.preprocessor.tokenizer
        self.paired_tokens = {name: from_texts(away, tokenizer) for name, (_, away) in pairs.items()}
        return from_texts(train, tokenizer), from_texts(held_out, tokenizer) if held_out else None

    def _documents(self) -> tuple[Sequence[Document], Sequence[Document]]:
        if is_named(self.source):
            return named(self.source)
        documents = open_documents(self.source, text_column=self.text_column, year_column=self.year_column, bad="skip")
        self._check_size(documents.size)
        texts, size = [], 0
        for document in documents:  # compressed texts, and those of the hub, show their size only now
            size += len(document.text)
            self._check_size(size)
            texts.append(document)
        self.name_unreadable(
            {place: f"it {reason}" for place, reason in documents.unreadable.items()}, len(texts), what="document"
        )
        sides: tuple[list[Document], list[Document]] = ([], [])
        for document in texts:
            sides[is_held_out(document.text, self.held_out)].append(document)
        return sides if all(sides) else end_apart(texts, self.held_out)

    def _check_size(self, size: int) -> None:
        if size > _IN_MEMORY:
            raise UserError(
                f"{self.source} has more than {_IN_MEMORY / 1e9:.1f} GB of text; prepare it once with "
                f"`zoo data prepare gpt {self.source} --out FOLDER` and give --data.source FOLDER"
            )

    def _tokenizer(self, texts: Sequence[str]) -> GptTokenizer:
        if self.tokenizer is not None:
            return named_tokenizer(self.tokenizer, self.config)
        if self.config.tokenizer != "bpe":
            return GptTokenizer.for_model(self.config)
        return GptTokenizer(train_byte_level_bpe(texts, self.config.vocab_size))

    def _until_cutoff(self, tokens: Tokens) -> Tokens:
        return tokens if self.cutoff is None else tokens.select(years=(None, self.cutoff))

    def peek(self, count: int) -> dict[str, Any]:
        """The first training windows as a batch, in the source's order."""
        reader, rng = self.readers[0], np.random.default_rng(0)
        items = [reader.read(index, rng) for index in range(min(count, len(reader)))]
        return {
            "tokens": torch.stack([item["tokens"] for item in items]),
            "bytes": torch.tensor([item["bytes"] for item in items]),
        }
