"""Pictures of scaling laws: loss against size, data and compute, the joint fit with its prediction, and batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.scaling import fits as laws
from zoo.gpt.scaling.fits import Fit
from zoo.gpt.scaling.grid import Record
from zoo.gpt.scaling.laws import batch_curves, critical_batch, grid_of
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path

_LINE, _FOUND = "#1d1d1f", "#c23b22"


def draw_all(
    records: Sequence[Record], fits: dict[str, Fit], prediction: dict[str, Any], context: int, folder: Path
) -> list[Path]:
    """Draw every picture that the runs allow; returns the files.

    Args:
        records: Finished runs.
        fits: Fitted laws by name.
        prediction: What was foretold of the target run.
        context: Tokens of a window.
        folder: Where the files go.
    """
    drawn = [_laws(records, fits, folder / "laws.png"), _joint(records, fits, prediction, folder / "size-and-data.png")]
    if any(record["part"] == "batch" for record in records):
        drawn.append(_batches(records, fits, context, folder / "batches.png"))
    return drawn


def _figure(panels: int, path: Path, draw: Callable[..., None]) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    figure = Figure(figsize=(5.4 * panels, 4.6), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for panel in axes:
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.grid(alpha=0.25, which="major")
        panel.spines[["top", "right"]].set_visible(False)
    draw(*axes)
    for panel in axes:
        low, high = panel.get_ylim()
        if high / low < 20:  # losses lie within a decade, where powers of ten say nothing
            panel.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
        low, high = panel.get_xlim()
        if high / low < 20 and panel.get_xscale() == "log":
            panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def _count(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _colours(count: int) -> list[Any]:
    import matplotlib

    return [matplotlib.colormaps["viridis"](x) for x in np.linspace(0.1, 0.85, count)]


def _wide(ends: tuple[float, float], by: float = 1.6) -> Any:
    return np.geomspace(ends[0] / by, ends[1] * by, 60)


def _with_band(panel: Any, fit: Fit, column: str, label: str, by: float = 1.6) -> None:
    x = _wide(fit.range[column], by)
    low, high = fit.interval(**{column: x})
    panel.plot(x, fit.value(**{column: x}), color=_LINE, lw=1.5, label=label, zorder=4)
    panel.fill_between(x, low, high, color=_LINE, alpha=0.12, lw=0)


def _power_label(fit: Fit, name: str) -> str:
    found = fit.constants[name]
    return f"{fit.law.name}: exponent {found.value:.3f}\n({found.low:.3f} to {found.high:.3f})"


def _laws(records: Sequence[Record], fits: dict[str, Fit], path: Path) -> Path:
    grid, shapes = grid_of(records), [r for r in records if r["part"] == "shape"]

    def draw(by_size: Any, by_data: Any, by_compute: Any) -> None:
        budgets = sorted({r["tokens"] for r in grid})
        for colour, tokens in zip(_colours(len(budgets)), budgets, strict=True):
            row = [r for r in grid if r["tokens"] == tokens]
            by_size.plot([r["size"] for r in row], [r["loss"] for r in row], "o-", color=colour, lw=0.8,
                         label=f"D = {_count(tokens)} tokens")  # fmt: skip
        if shapes:
            by_size.plot([r["size"] for r in shapes], [r["loss"] for r in shapes], "x", color=_FOUND,
                         label="other shapes")  # fmt: skip
        sizes = sorted({r["size"] for r in grid})
        for colour, size in zip(_colours(len(sizes)), sizes, strict=True):
            row = [r for r in grid if r["size"] == size]
            tokens, losses = [r["tokens"] for r in row], [r["loss"] for r in row]
            by_data.plot(tokens, losses, "o-", color=colour, lw=0.8, label=f"N = {_count(size)}")
            by_compute.plot([r["flops"] for r in row], losses, "o-", color=colour, lw=0.8, label=f"N = {_count(size)}")
        front = [grid[i] for i in laws.envelope([r["flops"] for r in grid], [r["loss"] for r in grid])]
        by_compute.plot([r["flops"] for r in front], [r["loss"] for r in front], "o", mfc="none", mec=_FOUND, ms=11,
                        ls="none", label="envelope")  # fmt: skip
        panels = (by_size, "L(N)", "N", "aN"), (by_data, "L(D)", "D", "aD"), (by_compute, "L(C), exact", "C", "aC")
        for panel, name, column, exponent in panels:
            if name in fits:
                _with_band(panel, fits[name], column, _power_label(fits[name], exponent))
            panel.set_ylabel("held-out loss, nats per token")
            low, high = panel.get_ylim()
            panel.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
            panel.legend(fontsize=8, frameon=False, ncols=2, loc="upper right")
        by_size.set_xlabel("N, non-embedding parameters")
        by_data.set_xlabel("D, training tokens")
        by_compute.set_xlabel("C, floating-point operations")

    return _figure(3, path, draw)


def _joint(records: Sequence[Record], fits: dict[str, Fit], prediction: dict[str, Any], path: Path) -> Path:
    grid = grid_of(records)
    found = [r for r in records if r["part"] == "target"]

    def draw(panel: Any, against: Any) -> None:
        budgets = sorted({r["tokens"] for r in grid})
        sizes = [r["size"] for r in (*grid, *found)]
        x = _wide((min(sizes), max(sizes)), 1.3)
        for colour, tokens in zip(_colours(len(budgets)), budgets, strict=True):
            row = [r for r in grid if r["tokens"] == tokens]
            panel.plot([r["size"] for r in row], [r["loss"] for r in row], "o", color=colour,
                       label=f"D = {_count(tokens)}")  # fmt: skip
            for name, style in (("Chinchilla", "-"), ("L(N,D)", "--")):
                if name in fits:
                    panel.plot(x, fits[name].value(N=x, D=tokens), style, color=colour, lw=1.2)
        for name, style in (("Chinchilla", "-"), ("L(N,D)", "--")):
            panel.plot([], [], style, color=_LINE, lw=1.2, label=name)
        said = prediction["predictions"]
        for shift, (name, marker) in zip((0.97, 1.03), (("Chinchilla", "s"), ("L(N,D)", "D")), strict=True):
            if name not in fits:
                continue
            values = [float(fits[name].value(N=r["size"], D=r["tokens"])[0]) for r in grid]
            against.plot([r["loss"] for r in grid], values, marker, ms=4.5, mfc="none", ls="none",
                         color=_LINE if name == "Chinchilla" else "#7a7a80", label=f"{name}, fitted runs")  # fmt: skip
            for record in found:
                loss, low, high = (said[name][key] for key in ("loss", "low", "high"))
                bars = np.maximum(0.0, [[loss - low], [high - loss]])  # draws may leave out the fit itself
                mark: dict[str, Any] = {"color": _FOUND, "marker": marker, "ms": 6, "capsize": 4, "ls": "none"}
                panel.errorbar(record["size"] * shift, said[name]["loss"], yerr=bars, **mark)
                against.errorbar(record["loss"], said[name]["loss"], yerr=bars, **mark, label=f"{name}, foretold run")
        for record in found:
            panel.plot(record["size"], record["loss"], "*", color="#e0a000", mec=_LINE, mew=0.6, ms=15, zorder=6,
                       label="found afterwards")  # fmt: skip
        ends = [f([r["loss"] for r in (*grid, *found)]) for f in (min, max)]
        against.plot(ends, ends, color=_LINE, lw=0.7, alpha=0.6)
        panel.set_xlabel("N, non-embedding parameters")
        panel.set_ylabel("held-out loss, nats per token")
        against.set_xscale("linear")
        against.set_yscale("linear")
        against.set_xlabel("loss found")
        against.set_ylabel("loss by the fit (bars: 95 % for one run)")
        for each in (panel, against):
            each.legend(fontsize=8, frameon=False)

    return _figure(2, path, draw)


def _batches(records: Sequence[Record], fits: dict[str, Fit], context: int, path: Path) -> Path:
    runs = sorted((r for r in records if r["part"] == "batch"), key=lambda r: r["batch_size"])
    try:
        trades = critical_batch(records, context)[1]
    except UserError:
        trades = []

    def draw(curves: Any, trade: Any, critical: Any) -> None:
        for colour, record in zip(_colours(len(runs)), runs, strict=True):
            batch = record["batch_size"] * context
            steps, losses = zip(*record["curve"], strict=True)
            curves.plot(steps, losses, ".-", color=colour, lw=1, label=f"B = {_count(batch)} tokens")
            if record["noise_scale_tokens"]:
                at, noise = np.array(record["noise_scale_tokens"]).T
                loss = np.interp(np.log(at), np.log(steps), losses, left=np.nan)
                critical.plot(loss, noise, "-", color=colour, lw=0.9, label=f"noise scale, B = {_count(batch)}")
        for colour, (loss, fit) in zip(_colours(len(trades)), trades, strict=True):
            points = [
                (reached, batch * reached)
                for batch, curve in batch_curves(records, context).items()
                if (reached := laws.steps_to_reach(*curve, loss)) is not None
            ]
            trade.plot(*zip(*points, strict=True), "o", color=colour, label=f"loss {loss:.2f}")
            batches = _wide(fit.range["B"], 4.0)
            least = fit.value(B=batches)
            trade.plot(least, batches * least, "-", color=colour, lw=1)
            found = fit.constants["Bcrit"]
            bars = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
            critical.errorbar(loss, found.value, yerr=bars, fmt="o", color=_FOUND, capsize=3)
        if "Bcrit(L)" in fits:
            _with_band(critical, fits["Bcrit(L)"], "L", "Bcrit(L)", 1.02)
        if trades:
            middle = [fit.constants["Bcrit"].value for _, fit in trades]
            critical.set_ylim(min(middle) / 30, max(middle) * 30)
        curves.set_xlabel("steps")
        curves.set_ylabel("held-out loss, nats per token")
        trade.set_xlabel("steps to a loss")
        trade.set_ylabel("tokens to the same loss")
        critical.set_xlabel("loss")
        critical.set_ylabel("critical batch size, noise scale; tokens")
        for panel in (curves, trade, critical):
            if panel.get_legend_handles_labels()[0]:
                panel.legend(fontsize=8, frameon=False)

    return _figure(3, path, draw)
