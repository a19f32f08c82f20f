"""Summaries brought about by ``TL;DR:``, and three random sentences to compare with.

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Section 3.6: 100 tokens sampled from the two
likeliest at each step; the first three sentences are the summary.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from zoo.gpt.evaluation.exam import Exam, Figure, Result, described, mean_and_error, protocol, read_json_lines
from zoo.gpt.evaluation.free_form import complete, rouge, sentences
from zoo.shared.errors import UserError

HINT = "\nTL;DR:"
_TOKENS = 100
_SENTENCES = 3
_SAMPLING: dict[str, Any] = {"temperature": 1.0, "top_k": 2}
_NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
_FORMAT = '{"article": ..., "highlights": ...} on each line'


def read_articles(path: Path) -> list[tuple[str, str]]:
    """Articles and highlights; a list of highlights is joined.

    Raises:
        UserError: Another format, or an article without text.
    """
    found = []
    for number, row in enumerate(read_json_lines(path, fields=("article", "highlights"), what=_FORMAT), 1):
        highlights = row["highlights"]
        summary = "\n".join(map(str, highlights)) if isinstance(highlights, list) else str(highlights)
        if not str(row["article"]).strip() or not summary.strip():
            raise UserError(f"{path}, item {number} has no article or no highlights")
        found.append((str(row["article"]).strip(), summary.strip()))
    return found


def first_sentences(text: str) -> str:
    """The first three sentences."""
    return " ".join(sentences(text)[:_SENTENCES])


def random_sentences(article: str, generator: random.Random) -> str:
    """Three sentences of the article, in its order."""
    found = sentences(article)
    places = sorted(generator.sample(range(len(found)), min(_SENTENCES, len(found))))
    return " ".join(found[i] for i in places)


def summarisation(exam: Exam) -> Result:
    """ROUGE of the model's summaries and of random sentences."""
    articles = read_articles(exam.file)
    numbers = exam.chosen(articles)
    used = [articles[i] for i in numbers]
    hint = exam.tokenizer.encode(HINT)
    room = exam.context - _TOKENS - len(hint)
    if room < 1:
        raise UserError(f"summaries of {_TOKENS} tokens do not fit into a context of {exam.context}")
    rows = exam.tokenizer.encode_batch([article for article, _ in used])
    exam.say(f"summarisation: {len(used)} articles")
    said, _ = complete(exam, [[*row[:room], *hint] for row in rows], max_new_tokens=_TOKENS, **_SAMPLING)
    summaries = {
        "model": [first_sentences(text) for text in said],
        "random-3": [
            random_sentences(article, random.Random(f"summarisation {exam.seed} {number}"))
            for number, (article, _) in zip(numbers, used, strict=True)
        ],
    }
    scores = {
        who: [rouge(text, summary) for text, (_, summary) in zip(texts, used, strict=True)]
        for who, texts in summaries.items()
    }
    figures = []
    for key, name in _NAMES.items():
        value, error = mean_and_error(row[key] for row in scores["model"])
        figures.append(
            Figure(
                name="summaries",
                metric=name,
                value=value,
                error=error,
                chance=mean_and_error(row[key] for row in scores["random-3"])[0],
                chance_is="three random sentences",
                items=len(used),
            )
        )
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="summarisation",
            template="{beginning of the article}" + HINT,
            decoding={**_SAMPLING, "max_new_tokens": _TOKENS},
            scoring=f"ROUGE F-measures without stemming, of the first {_SENTENCES} sentences",
        ),
        data=described(exam.file, len(articles), len(used)),
        notes={"truncated": sum(len(row) > room for row in rows)},
    )
