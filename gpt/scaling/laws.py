"""From records of runs to fitted laws, the effect of shape, and a prediction that is written before it is tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.scaling import fits as laws
from zoo.gpt.scaling import forms
from zoo.gpt.scaling.fits import Fit
from zoo.gpt.scaling.grid import Plan, Record
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json

FORETELLING = ("Chinchilla", "L(N,D)")  # the laws that predict; the first one is the prediction
_TARGETS = 6  # losses at which steps are set against examples
_WARM = 0.25  # share of a curve that is left out of L(N,S): warm-up and the first descent


def grid_of(records: Sequence[Record]) -> list[Record]:
    """The runs of sizes and budgets."""
    return [record for record in records if record["part"] == "grid"]


def fit_laws(records: Sequence[Record], context: int) -> tuple[dict[str, Fit], dict[str, str]]:
    """Fit every law that the runs allow.

    Args:
        records: Finished runs.
        context: Tokens of a window.

    Returns:
        Fits by name, and the reasons why others could not be made.
    """
    grid, fits, refused = grid_of(records), {}, {}

    def attempt(name: str, make: Callable[[], Fit]) -> None:
        try:
            fits[name] = make()
        except UserError as error:
            refused[name] = str(error)

    most, largest = max(r["tokens"] for r in grid), max(r["size"] for r in grid)
    sizes, budgets = [r for r in grid if r["tokens"] == most], [r for r in grid if r["size"] == largest]
    attempt("L(N)", lambda: _fit(forms.OF_SIZE, sizes, N="size"))
    attempt("L(D)", lambda: _fit(forms.OF_DATA, budgets, D="tokens"))
    for name, key in (("L(C), C = 6ND", "flops_6nd"), ("L(C), exact", "flops")):
        front = [grid[i] for i in laws.envelope([r[key] for r in grid], [r["loss"] for r in grid])]
        attempt(name, lambda front=front, key=key: _fit(forms.OF_COMPUTE, front, C=key))  # type: ignore[misc]
    attempt("L(N,D)", lambda: _fit(forms.OF_SIZE_AND_DATA, grid, N="size", D="tokens"))
    attempt("Chinchilla", lambda: _fit(forms.CHINCHILLA, grid, N="size", D="tokens"))
    attempt("Bcrit(L)", lambda: critical_batch(records, context)[0])
    if "Bcrit(L)" in fits:
        attempt("L(N,S)", lambda: size_and_steps(sizes, fits["Bcrit(L)"], context))
    else:
        refused["L(N,S)"] = "it needs the critical batch size"
    return fits, refused


def _fit(law: forms.Law, records: Sequence[Record], **columns: str) -> Fit:
    return laws.fit(law, {c: [r[key] for r in records] for c, key in columns.items()}, [r["loss"] for r in records])


def batch_curves(records: Sequence[Record], context: int) -> dict[float, tuple[list[float], list[float]]]:
    """Batch size in tokens to steps and losses of the runs that differ in it."""
    return {
        float(r["batch_size"] * context): ([p[0] for p in r["curve"]], [p[1] for p in r["curve"]])
        for r in records
        if r["part"] == "batch"
    }


def critical_batch(records: Sequence[Record], context: int) -> tuple[Fit, list[tuple[float, Fit]]]:
    """The critical batch size as a law of the loss, and the trade-offs at single losses behind it.

    Raises:
        UserError: Too few losses are reached by enough batch sizes.
    """
    curves = batch_curves(records, context)
    if len(curves) < forms.STEPS_AND_BATCH.least_points:
        raise UserError(f"the critical batch size needs runs of 3 batch sizes, and there are {len(curves)}")
    lowest, highest = max(min(y) for _, y in curves.values()), min(y[0] for _, y in curves.values())
    targets = np.linspace(highest, lowest, _TARGETS + 1)[1:].tolist() if highest > lowest else []
    found = laws.critical_batches(curves, targets)
    return laws.fit(
        forms.CRITICAL_BATCH, {"L": [loss for loss, _ in found]}, [f.constants["Bcrit"].value for _, f in found]
    ), found


def size_and_steps(records: Sequence[Record], critical: Fit, context: int) -> Fit:
    """L(N, S) over the learning curves, their steps reduced to those of a batch far above the critical one.

    Rates fall within a run, so that its middle lies higher than the end of a run of that length.
    """
    rows = [
        (r["size"], float(laws.least_steps(step, r["batch_size"] * context, critical.value(L=loss)[0])), loss)
        for r in records
        for step, loss in r["curve"]
        if step > _WARM * r["steps"]
    ]
    sizes, steps, losses = zip(*rows, strict=True)
    return laws.fit(forms.OF_SIZE_AND_STEPS, {"N": sizes, "S": steps}, losses)


def allocation(fits: dict[str, Fit]) -> dict[str, float]:
    """How the best size grows with compute: the exponent p of ``Nopt ~ C^p`` for C = 6ND, by law."""
    found = {}
    if "Chinchilla" in fits:
        constants = fits["Chinchilla"].constants
        found["Chinchilla"] = constants["b"].value / (constants["a"].value + constants["b"].value)
    if "L(N,D)" in fits:  # N^(aN/aD) grows as D
        constants = fits["L(N,D)"].constants
        ratio = constants["aN"].value / constants["aD"].value
        found["L(N,D)"] = 1 / (1 + ratio)
    return found


def shape_effect(records: Sequence[Record]) -> dict[str, Any] | None:
    """The spread of the loss over shapes of one size, beside what the size itself does.

    Returns:
        Losses by shape, their largest distance, and the distance from the smallest to the largest size at the same
        budget; None where no shapes were trained.
    """
    shapes = [r for r in records if r["part"] == "shape"]
    if not shapes:
        return None
    same = [r for r in grid_of(records) if r["tokens"] == shapes[0]["tokens"]]
    own = min(same, key=lambda r: abs(np.log(r["size"] / shapes[0]["size"])))
    losses = {
        f"{r['depth']} x {r['width']}, {r['heads']} head{'s' if r['heads'] > 1 else ''}": r["loss"]
        for r in (own, *shapes)
    }
    spread, by_size = (
        max(values) - min(values) for values in (list(losses.values()), [float(r["loss"]) for r in same])
    )
    ends = [min(r["size"] for r in (own, *shapes)), max(r["size"] for r in (own, *shapes))]
    sizes = [min(r["size"] for r in same), max(r["size"] for r in same)]
    return {"losses": losses, "sizes_of_shapes": ends, "spread": spread, "sizes": sizes, "spread_by_size": by_size}


def noise_scales(records: Sequence[Record]) -> dict[str, float]:
    """B_simple in tokens at the end of each run that measured it, by name."""
    return {r["name"]: r["noise_scale_tokens"][-1][1] for r in records if r["noise_scale_tokens"]}


def foretell(plan: Plan, tokens: int, fits: dict[str, Fit], path: Path) -> dict[str, Any]:
    """Write what the laws say of a run that was not trained yet; a prediction that is there already stays.

    Args:
        plan: The run.
        tokens: Its tokens.
        fits: Fits of the smaller runs.
        path: The JSON file.

    Raises:
        UserError: None of the laws could be fitted.
    """
    if path.is_file():
        return read_json(path)
    said = {}
    for name in FORETELLING:
        if name in fits:
            low, high = fits[name].interval(N=plan.size, D=tokens, one_run=True)
            value = fits[name].value(N=plan.size, D=tokens)
            said[name] = {"loss": float(value[0]), "low": float(low[0]), "high": float(high[0])}
    if not said:
        raise UserError("no law of N and D could be fitted, so nothing can be predicted; use more --sizes or --budgets")
    prediction = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": plan.name,
        "size": plan.size,
        "tokens": tokens,
        "times_the_largest_fitted_size": plan.size / max(fits[name].range["N"][1] for name in said),
        "interval": 0.95,
        "predictions": said,
    }
    write_json(path, prediction)
    return prediction


def score(prediction: dict[str, Any], record: Record, path: Path) -> dict[str, Any]:
    """Compare a prediction with the trained run, and write that beside it."""
    found = {
        name: {
            **said,
            "found": record["loss"],
            "error": said["loss"] - record["loss"],
            "inside": said["low"] <= record["loss"] <= said["high"],
        }
        for name, said in prediction["predictions"].items()
    }
    write_json(path, {"run": prediction["run"], "found": record["loss"], "scores": found})
    return found
