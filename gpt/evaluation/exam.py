"""What every benchmark is given and what it gives back: figures with an error, a chance level and a named protocol."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.scoring import inner_tokenizer
from zoo.shared.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Exam:
    """A model and what it is examined on.

    Attributes:
        model: A GPT.
        tokenizer: The tokenizer that belongs to it.
        data: The benchmark's file; None where the benchmark makes its own items.
        train: File of the same format that demonstrations are drawn from; None: ``data``, never the item itself.
        shots: Demonstrations before an item, as many of them as fit; None: the benchmark's own number.
        limit: Items used at most, evenly spread over the file, or of each generated task.
        seed: Decides items that are generated, and which demonstrations an item gets.
        detokenizer: Which one; None: the benchmark's own.
        stride: Tokens predicted by a rolling window; None: windows adjoin.
        batch_size: Texts computed at once.
        say: Called with a line before something that takes time.

    Raises:
        UserError: The tokenizer has ids that the model lacks.
    """

    model: Any
    tokenizer: Any
    data: Path | None = None
    train: Path | None = None
    shots: int | None = None
    limit: int | None = None
    seed: int = 0
    detokenizer: str | None = None
    stride: int | None = None
    batch_size: int = 16
    say: Callable[[str], object] = lambda line: None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokenizer", inner_tokenizer(self.tokenizer))
        ids, known = self.tokenizer.vocab_size, self.model.config.vocab_size
        if ids > known:
            raise UserError(
                f"the tokenizer {self.tokenizer.name} has {ids} ids but the model only {known}; "
                "use the tokenizer that the model was trained with"
            )

    @property
    def context(self) -> int:
        """Longest text in tokens."""
        return int(self.model.config.context)

    @property
    def file(self) -> Path:
        """The benchmark's file.

        Raises:
            UserError: None was given.
        """
        if self.data is None:
            raise UserError("this benchmark needs its published file: give it with --data FILE")
        return self.data

    def chosen(self, items: Sequence[Any]) -> list[int]:
        """Numbers of the items that are used, evenly spread."""
        if self.limit is None or len(items) <= self.limit:
            return list(range(len(items)))
        return [i * len(items) // self.limit for i in range(self.limit)]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a benchmark.

    Attributes:
        name: What was measured, such as ``2D+``.
        metric: How, such as ``exact match``.
        value: The number; a share is from 0 to 1.
        error: Standard error; None where it has none.
        chance: What needs no language model; None where nothing does.
        chance_is: What that is, such as ``1 of 10 candidates``.
        items: How many it is a mean of.
        shots: Demonstrations that an item got on average.
    """

    name: str
    metric: str
    value: float
    items: int
    error: float | None = None
    chance: float | None = None
    chance_is: str | None = None
    shots: float | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a benchmark found.

    Attributes:
        figures: The numbers.
        protocol: How they came about, in words that decide it; see :func:`protocol`.
        data: What was measured on.
        notes: Further numbers, such as contexts that were cut.
    """

    figures: list[Figure]
    protocol: dict[str, Any]
    data: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values; JSON has no infinity, so a number that is too large for a float is null, which a note says."""
        found = asdict(self)
        unbounded = []
        for figure in found["figures"]:
            for name in ("value", "error", "chance"):
                if figure[name] is not None and not math.isfinite(figure[name]):
                    figure[name] = None
                    unbounded.append(f"{name} of {figure['name']} ({figure['metric']})")
        if unbounded:
            found["notes"]["unbounded"] = unbounded
        return found


def protocol(exam: Exam, **fields: Any) -> dict[str, Any]:
    """Name everything that decides a figure beside weights and data, and its hash.

    Args:
        exam: Gives tokenizer, context and seed.
        **fields: Template, scoring rule, detokenizer (none where none is named), ...; the hash covers their names
            and values.

    Returns:
        The fields, ``sha256`` over their canonical JSON, and ``id``, its first 8 digits.
    """
    named = {
        "detokenizer": "none: the text as it is",
        **fields,
        "tokenizer": {"name": exam.tokenizer.name, "fingerprint": exam.tokenizer.fingerprint},
        "context": exam.context,
        "seed": exam.seed,
    }
    digest = fingerprint(named)
    return {**named, "sha256": digest, "id": digest[:8]}


def fingerprint(value: Any) -> str:
    """SHA-256 over the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def described(path: Path, count: int, used: int) -> dict[str, Any]:
    """Name and hash of a file, and how much of it was used."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "items": count, "used": used}


def mean_and_error(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean and its standard error; a single value has none."""
    array = np.asarray(list(values), dtype=np.float64)
    error = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else None
    return float(array.mean()), error


def commonest_share(answers: Iterable[str]) -> float:
    """How often one is right who always gives the commonest answer."""
    counts = Counter(answers)
    return counts.most_common(1)[0][1] / counts.total()


def read_text(path: Path) -> str:
    """A file as UTF-8, with line ends as they are.

    Raises:
        UserError: It cannot be read as text.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}); give the benchmark's published file"
        ) from error


def read_json_lines(path: Path, *, fields: Sequence[str], what: str) -> list[dict[str, Any]]:
    """Objects of a file with one on each line.

    Args:
        path: The file.
        fields: What each must have.
        what: The format in words, for the message.

    Raises:
        UserError: The file has another format, or nothing in it.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: no JSON, but {what} is expected") from error
        rows.append(require(row, fields, what=what, where=f"{path}, line {number}"))
    if not rows:
        raise UserError(f"{path} is empty; {what} is expected")
    return rows


def require(row: Any, fields: Sequence[str], *, what: str, where: str) -> dict[str, Any]:
    """An object that has certain fields.

    Raises:
        UserError: It lacks one.
    """
    missing = [name for name in fields if not isinstance(row, Mapping) or name not in row]
    if missing:
        raise UserError(f"{where}: {', '.join(map(repr, missing))} missing; {what} is expected")
    return dict(row)
