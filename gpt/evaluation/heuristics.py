"""What a language model can do of four tasks without being trained for them (GPT-1, Section 5, Figure 2 right).

Acceptability: the mean log-probability of a sentence's tokens, and a threshold. Sentiment: after the sentence and
"very", is "positive" or "negative" likelier? Reading: the answer with the highest mean log-probability after document
and question. Pronouns: each referent takes the pronoun's place, and the mean log-probability of the rest decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.evaluation.choices import encode_pair
from zoo.gpt.evaluation.winograd import Schema, substituted
from zoo.gpt.finetuning.sources import Example, film_reviews
from zoo.gpt.scoring import score_continuations
from zoo.shared.errors import UserError

NAMES = {
    "acceptability": "acceptability (Matthews)",
    "sentiment": "sentiment (accuracy)",
    "reading": "reading (accuracy)",
    "pronouns": "pronouns (accuracy)",
}


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """What is asked. A task without items is left out.

    Attributes:
        acceptability: Sentences with the label ``1`` where they are acceptable, ``0`` where not: CoLA.
        sentiment: Sentences with the label ``1`` or ``positive``, ``0`` or ``negative``: SST-2.
        reading: Contexts with answers, of which the label numbers the right one: RACE.
        pronouns: Winograd schemas.
    """

    acceptability: Sequence[Example] = ()
    sentiment: Sequence[Example] = ()
    reading: Sequence[Example] = ()
    pronouns: Sequence[Schema] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a heuristic comes to.

    Attributes:
        value: Accuracy, or Matthews correlation for acceptability.
        chance: What guessing gets.
        count: Items.
    """

    value: float
    chance: float
    count: int


def heuristic_scores(
    model: Any, tokenizer: Any, tasks: Tasks | None = None, *, batch_size: int = 32
) -> dict[str, Score]:
    """Score a model by the four heuristics.

    Args:
        model: A GPT.
        tokenizer: The tokenizer that belongs to it.
        tasks: What is asked; None: :func:`embedded`.
        batch_size: Texts scored at once.

    Returns:
        ``acceptability``, ``sentiment``, ``reading`` and ``pronouns``, as far as they have items.

    Raises:
        UserError: A text is longer than the context, or has nothing to score.
    """
    tasks = tasks or embedded()
    found = {}
    if tasks.acceptability:
        found["acceptability"] = _acceptability(model, tokenizer, tasks.acceptability, batch_size)
    if tasks.sentiment:
        found["sentiment"] = _sentiment(model, tokenizer, tasks.sentiment, batch_size)
    if tasks.reading:
        found["reading"] = _reading(model, tokenizer, tasks.reading, batch_size)
    if tasks.pronouns:
        found["pronouns"] = _pronouns(model, tokenizer, tasks.pronouns, batch_size)
    return found


def _means(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]], batch_size: int) -> np.ndarray:
    """Mean log-probability of a token of each continuation, ``(N,)``."""
    rows = []
    for context, continuation in pairs:
        before, after = (
            encode_pair(tokenizer, context, continuation) if context else ([], tokenizer.encode(continuation))
        )
        if not before and tokenizer.end_of_text is None:  # nothing stands before a first token
            before, after = after[:1], after[1:]
        rows.append((before, after[: model.config.context]))
    found = score_continuations(
        model,
        [before for before, _ in rows],
        [after for _, after in rows],
        start=tokenizer.end_of_text,
        batch_size=batch_size,
    )
    return -found.means()


def _acceptability(model: Any, tokenizer: Any, items: Sequence[Example], batch_size: int) -> Score:
    means = _means(model, tokenizer, [("", item.texts[0]) for item in items], batch_size)
    right = np.array([item.label == "1" for item in items])
    return Score(value=cross_fitted_matthews(means, right), chance=0.0, count=len(items))


def cross_fitted_matthews(scores: np.ndarray, right: np.ndarray) -> float:
    """Matthews correlation of a threshold that no item has helped to choose.

    The paper does not say how it chose the threshold. Here each half of the items, every second one, is judged by the
    threshold that is best for the other half.

    Args:
        scores: ``(N,)``.
        right: Bool ``(N,)``.
    """
    judged = np.zeros(len(scores), dtype=bool)
    halves = np.arange(len(scores)) % 2
    for half in (0, 1):
        fitted, other = halves == half, halves != half
        judged[other] = scores[other] >= _best_threshold(scores[fitted], right[fitted])
    return matthews(judged, right)


def _best_threshold(scores: np.ndarray, right: np.ndarray) -> float:
    ordered = np.unique(scores)
    borders = (ordered[1:] + ordered[:-1]) / 2
    if not len(borders):
        return -np.inf
    return float(borders[int(np.argmax([matthews(scores >= border, right) for border in borders]))])


def matthews(found: np.ndarray, right: np.ndarray) -> float:
    """Matthews correlation of two bool arrays ``(N,)``; 0 where one of them is constant."""
    if found.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(found, right)[0, 1])


def _sentiment(model: Any, tokenizer: Any, items: Sequence[Example], batch_size: int) -> Score:
    pairs = [(f"{item.texts[0]} very", word) for item in items for word in (" positive", " negative")]
    # Of words of several tokens the mean decides, as everywhere here.
    means = _means(model, tokenizer, pairs, batch_size).reshape(-1, 2)
    right = np.array([item.label in ("1", "positive") for item in items])
    return Score(
        value=float(((means[:, 0] > means[:, 1]) == right).mean()),
        chance=float(max(right.mean(), 1 - right.mean())),
        count=len(items),
    )


def _reading(model: Any, tokenizer: Any, items: Sequence[Example], batch_size: int) -> Score:
    pairs = [(item.texts[0], f" {answer}") for item in items for answer in item.texts[1:]]
    means = _means(model, tokenizer, pairs, batch_size)
    parts = np.split(means, np.cumsum([len(item.texts) - 1 for item in items])[:-1])
    hits = [int(part.argmax()) == int(item.label) for part, item in zip(parts, items, strict=True)]
    chance = float(np.mean([1 / (len(item.texts) - 1) for item in items]))
    return Score(value=float(np.mean(hits)), chance=chance, count=len(items))


def _pronouns(model: Any, tokenizer: Any, items: Sequence[Schema], batch_size: int) -> Score:
    pairs = [(item.before + substituted(item, option), item.after) for item in items for option in item.options]
    means = _means(model, tokenizer, pairs, batch_size)
    parts = np.split(means, np.cumsum([len(item.options) for item in items])[:-1])
    hits = [int(part.argmax()) == item.label for part, item in zip(parts, items, strict=True)]
    chance = float(np.mean([1 / len(item.options) for item in items]))
    return Score(value=float(np.mean(hits)), chance=chance, count=len(items))


@lru_cache
def embedded(count: int = 200) -> Tasks:
    """Tasks of the sample pack ``movie-reviews`` and generated ones; the published sets are not packed anywhere.

    Acceptability: reviews, half of them with their words shuffled. Sentiment: reviews. Reading: the first half of a
    review, and the second halves of four reviews. Pronouns: sentences of one pattern.

    Args:
        count: Items of each task.
    """
    draw = np.random.default_rng(0)
    reviews = [e for e in film_reviews() if 10 <= len(e.texts[0].split()) <= 30]
    chosen = [reviews[place] for place in draw.permutation(len(reviews))[: 2 * count]]
    halves = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in (e.texts[0].split() for e in chosen)]
    acceptability, reading = [], []
    for number in range(count):
        words = chosen[number].texts[0].split()
        label = str(number // 2 % 2)
        text = " ".join(words if label == "1" else draw.permutation(words))
        acceptability.append(Example((text,), label, chosen[number].name))
        place = int(draw.integers(4))
        others = [halves[(number + shift) % len(halves)][1] for shift in (1, 2, 3)]
        answers = [*others[:place], halves[number][1], *others[place:]]
        reading.append(Example((halves[number][0], *answers), str(place), chosen[number].name))
    return Tasks(acceptability=acceptability, sentiment=chosen[:count], reading=reading, pronouns=generated_schemas())


def generated_schemas() -> list[Schema]:
    """Schemas of one pattern: what does not fit is too large, and what it does not fit into too small."""
    found = []
    for thing, container in (
        ("table", "room"),
        ("book", "bag"),
        ("sword", "chest"),
        ("dog", "basket"),
        ("bed", "hall"),
    ):
        options = (f"the {thing}", f"the {container}")
        for label, sizes in enumerate((("large", "big", "great"), ("small", "little", "narrow"))):
            for size in sizes:
                before = f"The {thing} does not go into the {container}, for "
                found.append(
                    Schema(before=before, pronoun="it", after=f" is too {size}.", options=options, label=label)
                )
    return found


def over_checkpoints(
    run_folder: str | Path, tasks: Tasks | None = None, *, batch_size: int = 32
) -> list[tuple[int, dict[str, Score]]]:
    """Scores of the checkpoints of a pre-training run, by their steps.

    Args:
        run_folder: A finished run with ``checkpoints/`` and ``weights/``, whose tokenizer is used.
        tasks: What is asked.
        batch_size: Texts scored at once.

    Raises:
        UserError: There are no checkpoints, or no weights.
    """
    checkpoints = checkpoints_of(run_folder)
    return over_weights(checkpoints, Path(run_folder) / "weights", tasks, batch_size=batch_size)


def checkpoints_of(run_folder: str | Path) -> dict[int, Path]:
    """Step to checkpoint of a finished run.

    Raises:
        UserError: There are no checkpoints, or no weights.
    """
    run = Path(run_folder).expanduser()
    checkpoints = sorted(path for path in (run / "checkpoints").glob("*.ckpt") if path.stem.isdigit())
    if not checkpoints:
        raise UserError(f"{run} has no checkpoints; give the folder of a run of `zoo train gpt`")
    if not (run / "weights").is_dir():
        raise UserError(f"{run} is not finished, so its tokenizer is not known; go on with `zoo train --resume {run}`")
    return {int(path.stem): path for path in checkpoints}


def over_weights(
    weights: Mapping[int, str | Path], tokenizer: str | Path, tasks: Tasks | None = None, *, batch_size: int = 32
) -> list[tuple[int, dict[str, Score]]]:
    """Scores of several weights of one model.

    Args:
        weights: Step to weights.
        tokenizer: Folder of the tokenizer that belongs to all of them.
        tasks: What is asked.
        batch_size: Texts scored at once.
    """
    from zoo.factory import create_preprocessor
    from zoo.weights import load

    encoder = create_preprocessor(tokenizer)
    return [
        (step, heuristic_scores(load(weights[step]), encoder, tasks, batch_size=batch_size)) for step in sorted(weights)
    ]


def draw(points: Sequence[tuple[int, Mapping[str, Score]]], path: Path) -> None:
    """Draw scores over pre-training steps: 0 is guessing, 1 all right, as far as they go."""
    import matplotlib.figure

    from zoo.shared.files import save_atomically

    figure = matplotlib.figure.Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in points[0][1]:
        heights = [(scores[name].value - scores[name].chance) / (1 - scores[name].chance) for _, scores in points]
        axes.plot([step for step, _ in points], heights, marker="o", markersize=4, label=NAMES[name])
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="steps of pre-training", ylabel="above guessing, of what is possible")
    axes.legend(fontsize=8)
    save_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
