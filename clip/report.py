"""What a trained CLIP can do on the held-out concepts of its data: figures and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.clip.evaluation import read_images, run_benchmarks, spread
from zoo.clip.pictures import retrieval_sheet
from zoo.clip.preprocessing import ClipPreprocessor
from zoo.clip.zero_shot import embed_images, embed_texts
from zoo.shared.runs.report import Figure, Report

_CAPTIONS, _HITS = 10, 8


def report(task: Any, datamodule: Any, folder: Path) -> Report:
    """Measure a trained model on held-out concepts and draw what it retrieves for ten captions.

    Args:
        task: The trained :class:`~zoo.clip.task.ClipTask`.
        datamodule: The :class:`~zoo.clip.data.ClipDataModule` of the run.
        folder: Where the picture goes.
    """
    source, model = datamodule.held_out_source, task.model
    if not len(source):
        return Report(title=f"{source.name}: nothing was held out, so nothing was measured")
    preprocessor = ClipPreprocessor.for_model(model.config)
    names = ("zero-shot", "retrieval") if source.classes else ("retrieval",)
    results = run_benchmarks(model, preprocessor, datamodule, names)
    count = results["retrieval"]["images"]
    picture = folder / "retrieval.png"
    draw_retrieval(model, preprocessor, source, picture)
    labels = ",".join(source.classes[:4]) if source.classes else "a cat,a dog"
    return Report(
        title=f"{count} held-out pairs of {datamodule.description}",
        figures=figures_of(results),
        pictures=[picture],
        next_commands=[
            f'zoo classify IMAGE --labels "{labels}" --weights {{weights}}',
            'zoo search FOLDER "a red fruit" --weights {weights}',
            "zoo eval clip --weights {weights}",
        ],
    )


def figures_of(results: dict[str, dict[str, Any]]) -> list[Figure]:
    """The figures of a run's table, with what guessing gets."""
    figures = []
    if "zero-shot" in results:
        found = results["zero-shot"]
        figures.append(
            Figure(
                name=f"zero-shot accuracy, {found['classes']} classes (chance: always the largest)",
                key="zero_shot_top1",
                value=found["top1"],
                chance=found["largest_class"],
            )
        )
    found = results["retrieval"]
    for direction in ("text_to_image", "image_to_text"):
        for k in (1, 5):
            figures.append(
                Figure(
                    name=f"retrieval, {direction.replace('_', ' ')}, R@{k}",
                    key=f"{direction}_r{k}",
                    value=found[f"{direction}_r{k}"],
                    chance=min(1.0, k / found["images"]),
                )
            )
    return figures


def draw_retrieval(model: Any, preprocessor: ClipPreprocessor, source: Any, path: Path) -> None:
    """Draw the best held-out images for ten captions, evenly spread over the data.

    Args:
        model: A CLIP model.
        preprocessor: Its preprocessing.
        source: The held-out pairs.
        path: The picture.
    """
    held_out = read_images(embed_images, model, preprocessor, source)
    chosen = [held_out.indices[row] for row in spread(len(held_out.indices), _CAPTIONS)]
    captions = [source.title(i) for i in chosen]
    rows = []
    for caption, right, vector in zip(captions, chosen, embed_texts(model, preprocessor, captions), strict=True):
        cosines = held_out.vectors @ vector
        best = [(held_out.indices[j], float(cosines[j])) for j in cosines.topk(min(_HITS, len(cosines))).indices]
        rows.append((caption, [(source.image(i), i == right, cosine) for i, cosine in best]))
    retrieval_sheet(rows, path, title=f"best held-out images for {len(rows)} captions of {source.name}")
