"""The scaling laws themselves: formulas, and where a search for their constants starts.

Kaplan et al. 2020, arXiv:2001.08361, Equations 1.1 to 1.8; Hoffmann et al. 2022, arXiv:2203.15556, Approach 3;
McCandlish et al. 2018, arXiv:1812.06162, Equation 2.11.

The parameters of a law are logarithms, taken at the middle of the runs: the published constants lie many orders of
magnitude away from any run, and with them a fit is nearly singular.

Shapes: R runs, K columns, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_HUBER = 1e-3  # Hoffmann et al., Approach 3


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law ``y = f(columns)``.

    Attributes:
        name: Such as ``L(N)``.
        formula: In words of a formula.
        columns: What it depends on.
        constants: Names of the published constants.
        log_value: Function ``(parameters (P,), logs (K, R)) -> log y (R,)``; ``logs`` count from the runs' middle.
        publish: Function ``(parameters (P,), middles (K,)) -> logarithms of the constants (P,)``.
        starts: Parameters to start from ``(several, P)``; the level of ``y`` at the middle is added by ``level``.
        level: Parameters that ``log y`` at the middle is added to.
        huber: Where the penalty of a residual of ``log y`` becomes linear; None: least squares.
        straight: ``log y`` falls with slope ``-exp(P[1])`` from ``P[0]``, which needs no search.
    """

    name: str
    formula: str
    columns: tuple[str, ...]
    constants: tuple[str, ...]
    log_value: Callable[[Array, Array], Array]
    publish: Callable[[Array, Array], Array]
    starts: tuple[tuple[float, ...], ...] = ((),)
    level: tuple[int, ...] = ()
    huber: float | None = None
    straight: bool = False

    @property
    def least_points(self) -> int:
        """Runs that a fit needs: one more than constants, or nothing is left to judge it by."""
        return len(self.constants) + 1


def _power(name: str, column: str, constants: tuple[str, str]) -> Law:
    return Law(
        name=name,
        formula=f"L = ({constants[1]} / {column})^{constants[0]}",
        columns=(column,),
        constants=constants,
        log_value=lambda p, x: p[0] - np.exp(p[1]) * x[0],
        publish=lambda p, m: np.array([p[1], m[0] + p[0] / np.exp(p[1])]),
        straight=True,
    )


OF_SIZE = _power("L(N)", "N", ("aN", "Nc"))
OF_DATA = _power("L(D)", "D", ("aD", "Dc"))
OF_COMPUTE = _power("L(C)", "C", ("aC", "Cc"))


def _kaplan_publish(p: Array, m: Array) -> Array:
    return np.array([p[3] + p[2], p[2], m[0] + p[0] / np.exp(p[3]), m[1] + p[1]])


OF_SIZE_AND_DATA = Law(
    name="L(N,D)",
    formula="L = [(Nc / N)^(aN / aD) + Dc / D]^aD",
    columns=("N", "D"),
    constants=("aN", "aD", "Nc", "Dc"),
    # The level of L belongs to the sum in brackets, hence the division by the exponent.
    log_value=lambda p, x: np.exp(p[2]) * np.logaddexp(p[0] - np.exp(p[3]) * x[0], p[1] - x[1]),
    publish=_kaplan_publish,
    starts=tuple(
        (first, second, np.log(exponent), np.log(ratio))
        for exponent in (0.1, 0.3)
        for ratio in (0.4, 1.0)
        for first, second in ((10.0, 5.0), (5.0, 10.0), (3.0, 3.0))
    ),
    level=(),
)

CHINCHILLA = Law(
    name="Chinchilla",
    formula="L = E + A / N^a + B / D^b",
    columns=("N", "D"),
    constants=("E", "A", "B", "a", "b"),
    log_value=lambda p, x: np.logaddexp(p[0], np.logaddexp(p[1] - np.exp(p[3]) * x[0], p[2] - np.exp(p[4]) * x[1])),
    publish=lambda p, m: np.array([p[0], p[1] + np.exp(p[3]) * m[0], p[2] + np.exp(p[4]) * m[1], p[3], p[4]]),
    starts=tuple(
        (np.log(share), np.log(first), np.log(1 - share - first), np.log(a), np.log(b))
        for share in (0.2, 0.6)
        for first in (0.1, 0.3)
        for a in (0.2, 0.5)
        for b in (0.2, 0.5)
        if share + first < 1
    ),
    level=(0, 1, 2),
    huber=_HUBER,
)

OF_SIZE_AND_STEPS = Law(
    name="L(N,S)",
    formula="L = (Nc / N)^aN + (Sc / Smin)^aS",
    columns=("N", "S"),
    constants=("aN", "aS", "Nc", "Sc"),
    log_value=lambda p, x: np.logaddexp(p[0] - np.exp(p[2]) * x[0], p[1] - np.exp(p[3]) * x[1]),
    publish=lambda p, m: np.array([p[2], p[3], m[0] + p[0] / np.exp(p[2]), m[1] + p[1] / np.exp(p[3])]),
    starts=tuple(
        (np.log(1 - share), np.log(share), np.log(a), np.log(b))
        for share in (0.1, 0.4)
        for a in (0.08, 0.3)
        for b in (0.3, 0.8)
    ),
    level=(0, 1),
)

STEPS_AND_BATCH = Law(
    name="S(B)",
    formula="(S / Smin - 1) (E / Emin - 1) = 1 with E = B S, that is S = Smin (1 + Bcrit / B)",
    columns=("B",),
    constants=("Smin", "Bcrit"),
    log_value=lambda p, x: p[0] + np.logaddexp(0.0, p[1] - x[0]),
    publish=lambda p, m: np.array([p[0], p[1] + m[0]]),
    starts=((0.0, 0.0), (0.0, 2.0), (0.0, -2.0)),
    level=(0,),
)

CRITICAL_BATCH = Law(
    name="Bcrit(L)",
    formula="Bcrit = B* / L^(1 / aB)",
    columns=("L",),
    constants=("aB", "B*"),
    log_value=lambda p, x: p[0] - np.exp(p[1]) * x[0],
    publish=lambda p, m: np.array([-p[1], p[0] + np.exp(p[1]) * m[0]]),
    straight=True,
)
