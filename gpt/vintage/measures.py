"""What a model with a cutoff finds surprising, year by year (Talkie, Levine, Duvenaud and Radford 2026, evaluations).

Bits per byte of dated texts rise after the year where the training text ends. A modern twin of the same shape and
tokens says how much of a rise comes from the texts themselves: figures of two models are compared text by text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.gpt.evaluation.exam import Exam, Figure, Result, described, fingerprint, protocol, read_text
from zoo.gpt.scoring import text_losses
from zoo.shared.errors import UserError
from zoo.shared.text.documents import Document, open_documents

DRAWS = 10_000  # of a bootstrap
CONFIDENCE = 0.95
DRAWN = 1 << 24  # items of the draws that memory holds at once; 128 MiB for each array of them


@dataclass(frozen=True, kw_only=True)
class DatedScores:
    """What a model makes of dated texts.

    Attributes:
        years: Of each text, int64 ``(N,)``.
        bits: That each text costs the model, float64 ``(N,)``.
        bytes: UTF-8 bytes of each text that were scored, int64 ``(N,)``.
    """

    years: NDArray[np.int64]
    bits: NDArray[np.float64]
    bytes: NDArray[np.int64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Bits per byte of each text, ``(N,)``."""
        return self.bits / self.bytes


@dataclass(frozen=True, kw_only=True)
class Period:
    """Texts of some years.

    Attributes:
        first: The first year.
        last: The last one.
        items: Texts.
        value: Mean bits per byte, or what else was averaged.
        error: Its standard error; None for a single text.
    """

    first: int
    last: int
    items: int
    value: float
    error: float | None

    @property
    def name(self) -> str:
        """The years, for people."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, kw_only=True)
class Rise:
    """How much a mean is higher after a cutoff than before.

    Attributes:
        cutoff: The last year that counts as before.
        before: Mean until the cutoff.
        after: Mean after it.
        value: The difference.
        low, high: Bounds of its bootstrap interval of :data:`CONFIDENCE`.
        items: Texts before and after.
    """

    cutoff: int
    before: float
    after: float
    value: float
    low: float
    high: float
    items: tuple[int, int]


def score_dated(exam: Exam, documents: Sequence[Document]) -> DatedScores:
    """Score texts, each for itself.

    Args:
        exam: Model and tokenizer.
        documents: Texts with years.
    """
    losses = text_losses(
        exam.model, exam.tokenizer, [one.text for one in documents], stride=exam.stride, batch_size=exam.batch_size
    )
    return DatedScores(
        years=np.array([one.year for one in documents], dtype=np.int64),
        bits=losses.nats / math.log(2),
        bytes=losses.bytes,
    )


def by_period(
    years: NDArray[Any], values: NDArray[Any], *, width: int, weights: NDArray[Any] | None = None
) -> list[Period]:
    """Means of the texts of each year or decade, in order; periods without a text are left out.

    Args:
        years: Of each text, ``(N,)``.
        values: What is averaged, ``(N,)``.
        width: Years of a period.
        weights: What each text counts, ``(N,)``; None: all the same. With bytes as weights, a mean of bits per byte is
            that of all texts together; its error is that of a ratio.
    """
    weights = np.ones(len(years)) if weights is None else np.asarray(weights, dtype=np.float64)
    found = []
    for first in sorted({int(year) // width * width for year in years}):
        chosen = (years >= first) & (years < first + width)
        count, total = int(chosen.sum()), float(weights[chosen].sum())
        mean = float((weights[chosen] * values[chosen]).sum() / total)
        spread = float(np.square(weights[chosen] * (values[chosen] - mean)).sum())
        error = math.sqrt(spread * count / (count - 1)) / total if count > 1 else None
        found.append(Period(first=first, last=first + width - 1, items=count, value=mean, error=error))
    return found


def rise_after(
    years: NDArray[Any],
    values: NDArray[Any],
    cutoff: int,
    *,
    weights: NDArray[Any] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Rise:
    """How much a mean rises at a cutoff, with a percentile bootstrap over the texts of each side.

    Args:
        years: Of each text, ``(N,)``.
        values: What is averaged, ``(N,)``; differences of two models, where those are compared.
        cutoff: The last year of the first side.
        weights: As for :func:`by_period`.
        seed: Of the draws.
        draws: Number of draws.

    Raises:
        UserError: A side has no text.
    """
    check_cutoff(years, cutoff)
    weights = np.ones(len(years)) if weights is None else np.asarray(weights, dtype=np.float64)
    sides = [years <= cutoff, years > cutoff]
    generator = np.random.default_rng(seed)
    means, drawn = [], []
    for side in sides:
        value, weight = values[side], weights[side]
        means.append(float((value * weight).sum() / weight.sum()))
        sums = [(value[at] * weight[at]).sum(1) / weight[at].sum(1) for at in _draws(generator, len(value), draws)]
        drawn.append(np.concatenate(sums))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn[1] - drawn[0], [tail, 100 - tail])
    return Rise(
        cutoff=cutoff,
        before=means[0],
        after=means[1],
        value=means[1] - means[0],
        low=float(low),
        high=float(high),
        items=(int(sides[0].sum()), int(sides[1].sum())),
    )


def _draws(generator: np.random.Generator, items: int, draws: int) -> Iterator[NDArray[np.int64]]:
    """Places of the items that bootstrap draws take, ``(some draws, items)`` at a time, which bounds the memory."""
    step = max(1, min(500, DRAWN // items))
    for first in range(0, draws, step):
        yield generator.integers(0, items, size=(min(step, draws - first), items))


def check_cutoff(years: Sequence[int] | NDArray[Any], cutoff: int) -> None:
    """Refuse a cutoff that does not part the texts.

    Raises:
        UserError: A side has no text.
    """
    first, last = int(min(years)), int(max(years))
    if not first <= cutoff < last:
        side = "before" if cutoff < first else "after"
        raise UserError(
            f"cutoff {cutoff} lies {side} every text, whose years are {first} to {last}; choose another --cutoff"
        )


def mean_interval(values: NDArray[Any], *, seed: int = 0, draws: int = DRAWS) -> tuple[float, float, float]:
    """A mean and the bounds of its percentile bootstrap interval of :data:`CONFIDENCE`.

    Args:
        values: ``(N,)``; differences of two models on the same items, where those are compared.
        seed: Of the draws.
        draws: Number of draws.
    """
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([values[at].mean(1) for at in _draws(generator, len(values), draws)])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(values.mean()), float(low), float(high)


def read_dated(path: str | Path, *, text_column: str = "text", year_column: str = "year") -> list[Document]:
    """The documents of a JSON lines or parquet file that have a year.

    Args:
        path: File, folder or pattern.
        text_column: Column of the texts.
        year_column: Column of the years.

    Raises:
        UserError: It cannot be read, or no document has a year.
    """
    found = [one for one in open_documents(path, text_column=text_column, year_column=year_column) if one.year]
    if not found:
        raise UserError(
            f"{path}: no document has a year in {year_column!r}; JSON lines or parquet with a year beside each text "
            "are expected, in another column by --year-column"
        )
    return found


def read_events(path: Path) -> list[Document]:
    """Events of a file with lines ``year<TAB>text``, or of JSON lines with ``year`` and ``text``.

    Raises:
        UserError: A line has another form, or there is none.
    """
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            year, text = _event(line)
            if year is None or not text:
                raise UserError(
                    f'{path}, line {number}: no year; `year<TAB>text` or {{"year": ..., "text": ...}} is expected'
                )
            found.append(Document(text, f"line {number}", year))
    if not found:
        raise UserError(f"{path} holds no event; `year<TAB>text` is expected on each line")
    return found


def _event(line: str) -> tuple[int | None, str]:
    if line.lstrip().startswith("{"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            return None, ""
        year, text = str(row.get("year", "")), row.get("text", "")
    else:
        year, _, text = line.partition("\t")
    return int(year) if year.strip().isdigit() else None, str(text).strip()


def events() -> list[Document]:
    """The built-in events, one line each: what happened from 1850 to 2020."""
    from zoo.gpt.vintage.events import EVENTS

    found: list[Document] = []
    for line in EVENTS.strip().splitlines():
        year, text = line.split(" ", 1)
        found.append(Document(text, f"event {len(found) + 1}", int(year)))
    return found


def bits_by_year(exam: Exam) -> Result:
    """Bits per byte of a dated corpus, year by year (``--benchmark years``)."""
    documents = read_dated(exam.file)
    used = [documents[i] for i in exam.chosen(documents)]
    exam.say(f"years: {len(used):,} dated texts")
    scores = score_dated(exam, used)
    periods = by_period(scores.years, scores.rates, width=1, weights=scores.bytes)
    return Result(
        figures=_figures(periods),
        protocol=protocol(exam, benchmark="years", template="{text}", scoring="bits of a year's texts over bytes"),
        data=described(exam.file, len(documents), len(used)),
        notes={"bytes": int(scores.bytes.sum())},
    )


def surprise(exam: Exam) -> Result:
    """Bits per byte of one-line descriptions of dated events, by decade (``--benchmark surprise``)."""
    documents = events() if exam.data is None else read_events(exam.data)
    used = [documents[i] for i in exam.chosen(documents)]
    exam.say(f"surprise: {len(used):,} events")
    scores = score_dated(exam, used)
    return Result(
        figures=_figures(by_period(scores.years, scores.rates, width=10)),
        protocol=protocol(
            exam, benchmark="surprise", template="{text}", scoring="mean over events of bits per byte, by decade"
        ),
        data=source_of(exam, documents, len(used)),
    )


def source_of(exam: Exam, documents: Sequence[Any], used: int) -> dict[str, Any]:
    """What was measured on: a file, or the built-in items."""
    if exam.data is not None:
        return described(exam.data, len(documents), used)
    return {"built-in": fingerprint([repr(one) for one in documents]), "items": len(documents), "used": used}


def _figures(periods: Sequence[Period]) -> list[Figure]:
    return [
        Figure(name=one.name, metric="bits per byte", value=one.value, error=one.error, items=one.items)
        for one in periods
    ]
