"""Figures as rows for people: those of generated images, and of held-out ones beside them."""

from __future__ import annotations

from zoo.dcgan.evaluation.measure import Results
from zoo.shared.runs.report import Figure

Row = tuple[Figure, float | None]
"""A figure of generated images, and the same of held-out real ones where it is known."""


def rows(results: Results) -> list[Row]:
    """Everything that was measured, the plainest first."""
    ours, real = results.generated, results.real
    found: list[Row] = []

    def add(name: str, key: str, value: float | None, floor: float | None, *, percent: bool = False) -> None:
        if value is not None:
            found.append((Figure(name=name, key=key, value=value, percent=percent), floor))

    if ours.coverage:
        floor = real.coverage if real else None
        sure, seen = "classifier sure (above 0.9)", f"classes among these, of {len(results.classes)}"
        add(sure, "confident", ours.coverage.confident, floor.confident if floor else None, percent=True)
        add(seen, "classes_seen", ours.coverage.seen, floor.seen if floor else None)
    add("FID (0 is best)", "fid", ours.fid, real.fid if real else None)
    add("KID (0 is best)", "kid", ours.kid, real.kid if real else None)
    precision, recall = "precision: generated, among the real", "recall: real, among the generated"
    add(precision, "precision", ours.precision, real.precision if real else None, percent=True)
    add(recall, "recall", ours.recall, real.recall if real else None, percent=True)
    add("Inception-style score", "inception_score", ours.inception_score, real.inception_score if real else None)
    for space, near in (results.memorisation or {}).items():
        add(f"distance to nearest training image, {space}", f"nearest_{space}", near.generated, near.held_out)
        add(f"as near as the nearest 1 % of real, {space}", f"near_{space}", near.near, 0.01, percent=True)
    return found


def figures_of(results: Results) -> list[Figure]:
    """The figures for a run's table, each named with what held-out real images get and with its feature network."""
    figures = []
    for figure, floor in rows(results):
        told = [] if floor is None else [f"real images: {figure.show(floor)}"]
        if figure.key == "fid":
            told.append(f"by {results.network}")
        name = f"{figure.name} [{'; '.join(told)}]" if told else figure.name
        figures.append(Figure(name=name, key=figure.key, value=figure.value, percent=figure.percent))
    return figures


def notes(results: Results) -> list[str]:
    """What one must know to read the figures."""
    lines = [f"features: {results.network}; figures of different networks are not comparable"]
    if results.classifier:
        known = "held-out accuracy unknown" if results.accuracy is None else f"{results.accuracy:.1%} right on held-out"
        lines.append(f"classifier: {results.classifier}, {known}")
    if results.real and results.real.images < results.generated.images:
        lines.append("FID falls with more images, so the real figure, of fewer, is a little high")
    return lines
