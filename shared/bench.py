"""What a comparison with a peer consists of, for the families that make some; ``bench_measure`` takes the figures."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.shared.errors import UserError

Side = Literal["peer", "zoo"]
SAME, BEST = "same precision", "best against best"


class MissingPeer(UserError):
    """The peer of a row is not installed."""


class Disagreement(RuntimeError):
    """Peer and zoo do not compute the same, so their times mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a side computes.

    Attributes:
        precision: ``float32``, ``bfloat16`` through autocast, or ``int8`` matrices.
        compiled: Whether ``torch.compile`` is used.
    """

    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    compiled: bool = False

    def __str__(self) -> str:
        return self.precision + (", compiled" if self.compiled else "")

    def autocast(self, device: str) -> AbstractContextManager[Any]:
        """The context to compute in."""
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


PLAIN = Mode()
ALL_MODES = (  # a precision before its compiled form
    PLAIN,
    Mode(precision="bfloat16"),
    Mode(compiled=True),
    Mode(precision="bfloat16", compiled=True),
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a side is prepared for.

    Attributes:
        device: ``cpu`` or ``cuda``.
        mode: How to compute.
        best: Use every setting that makes the side fast, not the one it ships with.
        quick: Take small shapes, to see that the row runs.
    """

    device: str = "cpu"
    mode: Mode = PLAIN
    best: bool = False
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One side, ready to be timed.

    Attributes:
        call: The work; called again and again.
        result: What the work computes, compared between the sides before any timing.
        samples: Samples in a call.
        note: Shapes and lengths, for the reader.
        finish: Called when the side is no longer needed.
    """

    call: Callable[[], object]
    result: Callable[[], Mapping[str, Tensor]]
    samples: int = 1
    note: str = ""
    finish: Callable[[], object] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A comparison with a peer.

    Attributes:
        name: Its name on the command line.
        what: The work in words, with shapes.
        peer: Name of the peer.
        prepare: ``(side, setting) -> Case``: the same weights and inputs for both sides. Must be picklable,
            because memory is measured in a process of its own for each side.
        unit: What a sample is.
        goal: Least wanted ratio of best against best.
        modes: What each side may choose its best from; empty leaves that comparison out.
        own_modes: What zoo alone may choose from besides.
        tolerance: Largest relative difference of the results at the same precision.
        best_tolerance: The same when either side does not compute in float32.
        has_floor: Whether the matmul rate bounds the work.
        devices: Where it can run.
    """

    name: str
    what: str
    peer: str
    prepare: Callable[[Side, Setting], Case]
    unit: str = "samples"
    goal: float | None = None
    modes: tuple[Mode, ...] = ALL_MODES
    own_modes: tuple[Mode, ...] = ()
    tolerance: float = 1e-4
    best_tolerance: float = 2e-2
    has_floor: bool = True
    devices: tuple[str, ...] = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A figure that must stay under a bound, with no peer.

    Attributes:
        name: Its name on the command line.
        what: What is measured, in words.
        limit: The bound.
        unit: ``s`` or ``%``.
        figure: Takes whether to be quick; returns the figure.
    """

    name: str
    what: str
    limit: float
    unit: str
    figure: Callable[[bool], float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured for a row, in one comparison.

    Attributes:
        row: Name of the row.
        what: The work.
        comparison: ``same precision``, ``best against best`` or ``limit``.
        ratio: Peer's time over zoo's, of the minima; for a limit the bound over the figure.
        goal: Least wanted ratio, if there is one.
        low: Smallest ratio of a single round.
        high: Largest ratio of a single round.
        peer: Name of the peer and its mode.
        zoo: Our mode.
        peer_seconds: Minimum of a call.
        zoo_seconds: Minimum of a call.
        rate: Our samples a second.
        unit: What a sample is.
        floor: Share of the floor that we reach: operations over the measured matmul rate, over our time.
        difference: Relative difference of the results.
        peer_memory: Peak of a process with the peer only, in MB.
        zoo_memory: Peak of a process with zoo only, in MB.
        note: Shapes and lengths.
        tried: Seconds of each mode that a side could choose from.
        figure: The smallest figure, where there is a bound and no peer.
        limit: The bound.
    """

    row: str
    what: str
    comparison: str
    ratio: float
    goal: float | None = None
    low: float | None = None
    high: float | None = None
    peer: str = ""
    zoo: str = ""
    peer_seconds: float | None = None
    zoo_seconds: float | None = None
    rate: float | None = None
    unit: str = ""
    floor: float | None = None
    difference: float | None = None
    peer_memory: float | None = None
    zoo_memory: float | None = None
    note: str = ""
    tried: Mapping[str, float] = field(default_factory=dict)
    figure: float | None = None
    limit: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None when the comparison has none."""
        return None if self.goal is None else self.ratio >= self.goal


def import_peer(module: str, *, package: str) -> Any:
    """Import a peer's module when its row runs.

    Raises:
        MissingPeer: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPeer(
            f"this row compares with {package}, which cannot be imported; `pip install {package}`"
        ) from error


def choose_rows(rows: Sequence[Row | Limit], names: Sequence[str]) -> list[Row | Limit]:
    """The rows of these names, all of them when no name is given.

    Raises:
        UserError: No such row.
    """
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(close)}?" if close else "`zoo bench --list` shows all"
            raise UserError(f"unknown row {name!r}; {hint}")
    return [known[name] for name in names] if names else list(rows)
