"""What a trained CLIP can do on the held-out concepts of its data: figures and a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from zoo.clip.pictures import retrieval_sheet
from zoo.clip.preprocessing import ClipPreprocessor
from zoo.clip.retrieval import retrieval_recall
from zoo.clip.zero_shot import embed_images, embed_texts, top_k_accuracy, zero_shot_classifier
from zoo.shared.data.images import BadSample
from zoo.shared.data.pairs import PairSource
from zoo.shared.runs.report import Figure, Report

# Plain sentences: the class names of a user's data fit into any of them.
TEMPLATES = ("{}", "a picture of {}", "an image of {}", "{}.")


def usable(source: PairSource) -> list[int]:
    """Samples of a source whose image and title can be read."""
    found = []
    for index in range(len(source)):
        try:
            source.image(index), source.title(index)
        except BadSample:
            continue
        found.append(index)
    return found


def measure(
    model: Any, preprocessor: ClipPreprocessor, source: PairSource
) -> tuple[list[Figure], torch.Tensor, list[int]]:
    """Zero-shot accuracy (where there are classes) and retrieval recall on a source.

    Args:
        model: A CLIP model.
        preprocessor: Its preprocessing.
        source: N pairs.

    Returns:
        The figures, the embeddings of the images ``(N, E)``, and which samples they are.
    """
    indices = usable(source)
    images = embed_images(model, preprocessor, [source.image(i) for i in indices])
    figures = []
    labelled = [(row, label) for row, i in enumerate(indices) if (label := source.label(i)) is not None]
    if source.classes and labelled:
        rows, labels = (torch.tensor(part) for part in zip(*labelled, strict=True))
        classifier = zero_shot_classifier(model, preprocessor, source.classes, TEMPLATES)
        accuracy = top_k_accuracy(images[rows] @ classifier, labels, ks=(1,))["top1"]
        largest = Counter(labels.tolist()).most_common(1)[0][1] / len(labels)
        figures.append(
            Figure(
                name=f"zero-shot accuracy, {len(source.classes)} classes (chance: always the largest)",
                key="zero_shot_top1",
                value=accuracy,
                chance=largest,
            )
        )
    texts = embed_texts(model, preprocessor, [source.title(i) for i in indices])
    recall = retrieval_recall(images, texts, ks=(1, 5))
    for direction in ("text_to_image", "image_to_text"):
        for k in (1, 5):
            figures.append(
                Figure(
                    name=f"retrieval {direction.replace('_', ' ')}, R@{k} of {len(indices)}",
                    key=f"{direction}_r{k}",
                    value=recall[f"{direction}_r{k}"],
                    chance=min(1.0, k / len(indices)),
                )
            )
    return figures, images, indices


def report(task: Any, datamodule: Any, folder: Path) -> Report:
    """Measure a trained model on held-out concepts and draw what it retrieves for ten captions.

    Args:
        task: The trained :class:`~zoo.clip.task.ClipTask`.
        datamodule: The :class:`~zoo.clip.data.ClipDataModule` of the run.
        folder: Where the picture goes.
    """
    source, model = datamodule.held_out_source, task.model.to("cpu")
    preprocessor = ClipPreprocessor.for_model(model.config)
    figures, images, indices = measure(model, preprocessor, source)
    # Ten different concepts, evenly spread over the held-out data.
    chosen = [indices[row * len(indices) // 10] for row in range(10)] if len(indices) > 10 else indices
    captions = [source.title(i) for i in chosen]
    scores = embed_texts(model, preprocessor, captions) @ images.T
    picture = folder / "retrieval.png"
    retrieval_sheet(
        [
            (
                caption,
                [
                    (source.image(indices[j]), indices[j] == right, float(row[j]))
                    for j in row.topk(min(8, len(row))).indices
                ],
            )
            for caption, right, row in zip(captions, chosen, scores, strict=True)
        ],
        picture,
        title=f"best held-out images for ten captions ({source.name})",
    )
    labels = ",".join(source.classes[:4]) if source.classes else "a cat,a dog"
    return Report(
        title=f"on {len(indices)} held-out pairs of {source.name}, concepts never trained on",
        figures=figures,
        pictures=[picture],
        next_commands=[
            f'zoo classify IMAGE --labels "{labels}" --weights {{weights}}',
            'zoo search FOLDER "a red fruit" --weights {weights}',
        ],
    )
