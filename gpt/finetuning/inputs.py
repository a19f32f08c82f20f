"""Structured tasks as token sequences for one decoder (GPT-1, Section 3.3 and Figure 1).

Texts are set between ``_start_``, ``_delimiter_`` and ``_classify_``; the last state of a sequence, that of
``_classify_``, is what the head reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.gpt.tokenizer import GptTokenizer, read_tokenizer
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json
from zoo.shared.text.base import TextTokenizer
from zoo.shared.text.end_of_word import FINE_TUNING_SPECIALS, EndOfWordTokenizer
from zoo.shared.text.tokenizer import ByteLevelTokenizer

Kind = Literal["classification", "entailment", "similarity", "multiple-choice"]
KINDS: tuple[Kind, ...] = ("classification", "entailment", "similarity", "multiple-choice")
SETTINGS_FILE = "preprocessor_config.json"

Ids = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Ids of the three tokens that fine-tuning adds."""

    start: int
    delimiter: int
    classify: int


def with_marks(tokenizer: TextTokenizer, vocab_size: int) -> tuple[TextTokenizer, Marks, int]:
    """Give a tokenizer the three tokens of fine-tuning, unless it has them already.

    Args:
        tokenizer: The tokenizer of the pre-trained model.
        vocab_size: Rows of the model's embedding; may exceed what the tokenizer uses.

    Returns:
        The tokenizer with the three tokens as specials, their ids, and the rows that the embedding needs for them:
        GPT-1's word tokenizer has them after its last id, one of bytes after the last row.

    Raises:
        UserError: The tokenizer has more ids than the model.
    """
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size} ids but the model only {vocab_size}; "
            "use the tokenizer that the model was trained with"
        )
    if not set(FINE_TUNING_SPECIALS) <= set(tokenizer.specials):
        if isinstance(tokenizer, EndOfWordTokenizer):
            tokenizer = tokenizer.with_specials()
        else:
            assert isinstance(tokenizer, ByteLevelTokenizer)
            added = {token: vocab_size + place for place, token in enumerate(FINE_TUNING_SPECIALS)}
            tokenizer = tokenizer.with_specials(added, name=tokenizer.name)
    start, delimiter, classify = (tokenizer.specials[token] for token in FINE_TUNING_SPECIALS)
    rows = max(vocab_size, max(start, delimiter, classify) + 1)
    return tokenizer, Marks(start=start, delimiter=delimiter, classify=classify), rows


def room(context: int, *, single: bool) -> int:
    """Tokens that a text may have: ``context - 2`` alone, ``context / 2 - 2`` as one of two, as in the released script.

    Raises:
        UserError: Nothing would be left of a text.
    """
    tokens = context - 2 if single else context // 2 - 2
    if tokens < 1:
        raise UserError(f"a context of {context} tokens is too short for fine-tuning; use a model with a longer one")
    return tokens


def sequences(kind: Kind, texts: Sequence[Ids], marks: Marks, context: int) -> tuple[list[list[int]], bool]:
    """The sequences of one item, each ending in ``_classify_``.

    Args:
        kind: ``classification`` takes one text; ``entailment`` premise and hypothesis; ``similarity`` two texts, which
            give a sequence in either order; ``multiple-choice`` a context and its answers, which give one each.
        texts: Token ids.
        marks: The three tokens.
        context: The model's.

    Returns:
        The sequences, and whether a text was cut at its end to fit.
    """
    if kind == "classification":
        limit = room(context, single=True)
        return [[marks.start, *texts[0][:limit], marks.classify]], len(texts[0]) > limit
    limit = room(context, single=False)

    def pair(one: Ids, two: Ids) -> list[int]:
        return [marks.start, *one[:limit], marks.delimiter, *two[:limit], marks.classify]

    cut = any(len(text) > limit for text in texts)
    first, *others = texts
    if kind == "similarity":
        return [pair(first, others[0]), pair(others[0], first)], cut
    return [pair(first, other) for other in others], cut


def pad(rows: Sequence[Ids], *, count: int, length: int, fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad sequences at the right, where causal attention never looks.

    Args:
        rows: At most ``count`` sequences of at most ``length`` tokens.
        count: Sequences C of every item; absent ones have length 0.
        length: Tokens L of every sequence.
        fill: The id that pads.

    Returns:
        int64 ``(C, L)`` and the lengths ``(C,)``.
    """
    padded = np.full((count, length), fill, dtype=np.int64)
    lengths = np.zeros(count, dtype=np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
        lengths[place] = len(row)
    return padded, lengths


def is_fine_tuned(folder: str | Path) -> bool:
    """Whether a folder says what the outputs of a head mean."""
    return (Path(folder) / SETTINGS_FILE).is_file()


class FinetuneTokenizer(GptTokenizer):
    """What is saved with a fine-tuned model: its tokenizer, and what its head's outputs mean.

    Args:
        tokenizer: With the three tokens of fine-tuning.
        kind: How texts become sequences.
        labels: What each output means; the names of the classes, the whole scores, or nothing where answers are scored.
    """

    def __init__(self, tokenizer: TextTokenizer, *, kind: Kind, labels: Sequence[str]) -> None:
        super().__init__(tokenizer)
        self.kind = kind
        self.labels = tuple(labels)
        start, delimiter, classify = (tokenizer.specials[token] for token in FINE_TUNING_SPECIALS)
        self.marks = Marks(start=start, delimiter=delimiter, classify=classify)

    def inputs(self, texts: Sequence[str], context: int) -> list[list[int]]:
        """The sequences of one item; its texts are given as for :func:`sequences`."""
        return sequences(self.kind, self.encode_batch(list(texts)), self.marks, context)[0]

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files and the settings."""
        super().save(folder)
        write_json(Path(folder) / SETTINGS_FILE, {"kind": self.kind, "labels": list(self.labels)})

    @classmethod
    def load(cls, folder: str | Path | None, config: Any) -> FinetuneTokenizer:
        """Read what lies beside fine-tuned weights.

        Raises:
            UserError: They are not fine-tuned, or a file is damaged.
        """
        if folder is None or not is_fine_tuned(folder):
            raise UserError(f"{folder} holds no fine-tuned model; train one with `zoo train gpt --recipe finetune`")
        path = Path(folder) / SETTINGS_FILE
        settings = read_json(path)
        if not isinstance(settings, dict) or settings.get("kind") not in KINDS or "labels" not in settings:
            raise UserError(f"{path} is damaged: it needs kind and labels; copy it again")
        return cls(read_tokenizer(folder, config), kind=settings["kind"], labels=settings["labels"])
