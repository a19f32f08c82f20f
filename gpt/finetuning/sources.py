"""Labelled texts for fine-tuning: tables, files of GLUE, RACE and Story Cloze, film reviews, generated sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.finetuning.inputs import KINDS, Kind
from zoo.shared.data.tables import read_columns
from zoo.shared.errors import UserError
from zoo.shared.text.film_reviews import read_rows


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled item.

    Attributes:
        texts: One text, two, or a context and its answers; as :func:`zoo.gpt.finetuning.inputs.sequences` takes them.
        label: The class's name, a score as text, or the number of the right answer from 0.
        name: What a person recognises it by.
    """

    texts: tuple[str, ...]
    label: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a task's files are laid out.

    Attributes:
        kind: What the task is.
        texts: Columns of the texts, by header or, without one, by number.
        label: Column of the label.
        labels: The classes in their order; None takes them from the data.
        scores: Least and greatest score, where labels are scores.
        train: Training file in the task's folder.
        dev: Held-out file in the task's folder.
        header: Whether the first line names the columns.
        metric: What the task is judged by: a key of :func:`zoo.gpt.finetuning.metrics.measure`.
    """

    kind: Kind
    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...] | None = None
    scores: tuple[int, int] | None = None
    train: str = "train.tsv"
    dev: str = "dev.tsv"
    header: bool = True
    metric: str = "accuracy"


_YES_NO = ("0", "1")
_ENTAILED = ("entailment", "not_entailment")
GLUE: dict[str, Layout] = {
    "cola": Layout(kind="classification", texts=("3",), label="1", labels=_YES_NO, header=False, metric="matthews"),
    "sst-2": Layout(kind="classification", texts=("sentence",), label="label", labels=_YES_NO),
    "mrpc": Layout(kind="similarity", texts=("#1 String", "#2 String"), label="Quality", labels=_YES_NO, metric="f1"),
    "qqp": Layout(
        kind="similarity", texts=("question1", "question2"), label="is_duplicate", labels=_YES_NO, metric="f1"
    ),
    "sts-b": Layout(
        kind="similarity", texts=("sentence1", "sentence2"), label="score", scores=(0, 5), metric="pearson"
    ),
    "mnli": Layout(
        kind="entailment",
        texts=("sentence1", "sentence2"),
        label="gold_label",
        labels=("contradiction", "entailment", "neutral"),
        dev="dev_matched.tsv",
    ),
    "qnli": Layout(kind="entailment", texts=("question", "sentence"), label="label", labels=_ENTAILED),
    "rte": Layout(kind="entailment", texts=("sentence1", "sentence2"), label="label", labels=_ENTAILED),
}
LAYOUTS = (*GLUE, "race", "story-cloze")
# Columns of a table of one's own, by kind.
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "classification": ("text",),
    "entailment": ("premise", "hypothesis"),
    "similarity": ("text1", "text2"),
    "multiple-choice": ("context", "choices"),
}


def read_table(path: Path, kind: Kind, columns: Sequence[str], label: str) -> list[Example]:
    """Examples of a CSV, TSV, JSONL or parquet file.

    Args:
        path: The file.
        kind: The task. The answers of multiple choice are a list, or text that is a JSON list.
        columns: Columns of the texts.
        label: Column of the labels; of multiple choice the number of the right answer, from 0, or the answer itself.

    Raises:
        UserError: A column or a label is missing.
    """
    table = read_columns(path)
    for column in (*columns, label):
        if column not in table:
            raise UserError(
                f"{path} has no column {column!r}; it has {', '.join(table)}: "
                f"name them with --data.columns and --data.label_column"
            )
    examples = []
    for row, (*cells, value) in enumerate(zip(*(table[column] for column in (*columns, label)), strict=True), 1):
        name = f"{path.name} row {row}"
        if kind == "multiple-choice":
            cells = [cells[0], *_answers(cells[1], name)]
        if value is None or str(value).strip() == "":
            raise UserError(f"{name} has no label in column {label!r}")
        texts = tuple("" if cell is None else str(cell).strip() for cell in cells)
        text = str(value).strip()
        examples.append(Example(texts, _choice(text, texts[1:], name) if kind == "multiple-choice" else text, name))
    return examples


def _answers(cell: Any, name: str) -> list[str]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError:
            cell = None
    if not isinstance(cell, Sequence) or isinstance(cell, str) or len(cell) < 2:
        raise UserError(f"{name}: the answers must be a list of two or more texts, in a text file as JSON")
    return [str(answer) for answer in cell]


def _choice(label: str, answers: Sequence[str], name: str) -> str:
    if label in answers:
        return str(answers.index(label))
    if label.isdigit() and int(label) < len(answers):
        return label
    raise UserError(f"{name}: the label {label!r} is none of its {len(answers)} answers, nor their number from 0")


def read_layout(name: str, source: Path) -> tuple[list[Example], list[Example] | None, Layout]:
    """Examples of a task in its own files.

    Args:
        name: One of :data:`LAYOUTS`.
        source: The task's folder, or its training file alone.

    Returns:
        Training and, where the folder has them, held-out examples; and the layout.

    Raises:
        UserError: A file is missing or laid out otherwise.
    """
    if name == "race":
        race = Layout(kind="multiple-choice", texts=("context", "choices"), label="label")
        dev = source / "dev"
        return (
            read_race(source / "train" if (source / "train").is_dir() else source),
            (read_race(dev) if dev.is_dir() else None),
            race,
        )
    if name == "story-cloze":
        cloze = Layout(kind="multiple-choice", texts=("context", "choices"), label="label")
        return read_story_cloze(source), None, cloze
    layout = GLUE[name]
    if source.is_dir():
        dev = source / layout.dev
        return read_glue(source / layout.train, layout), read_glue(dev, layout) if dev.is_file() else None, layout
    return read_glue(source, layout), None, layout


def read_glue(path: Path, layout: Layout) -> list[Example]:
    """Examples of one of GLUE's files: tabs between columns, and quotes that mean nothing."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    rows = [line.removesuffix("\r").split("\t") for line in lines if line.strip()]
    if not rows:
        raise UserError(f"{path} is empty")
    header = rows.pop(0) if layout.header else [str(place) for place in range(len(rows[0]))]
    wanted = (*layout.texts, layout.label)
    for column in wanted:
        if column not in header:
            raise UserError(f"{path} has no column {column!r}; it has {', '.join(header)}: is it of another task?")
    places = [header.index(column) for column in wanted]
    examples = []
    for number, row in enumerate(rows, 2 if layout.header else 1):
        if len(row) <= max(places):  # QQP's training file has a few broken lines
            examples.append(Example(("",) * len(layout.texts), "", f"{path.name} line {number}"))
            continue
        *texts, label = (row[place].strip() for place in places)
        examples.append(Example(tuple(texts), label, f"{path.name} line {number}"))
    return examples


def read_race(folder: Path) -> list[Example]:
    """Examples of RACE: ``middle/*.txt`` and ``high/*.txt``, a passage with its questions in each, as JSON.

    The context is the passage, a space, and the question.
    """
    files = sorted(folder.rglob("*.txt"))
    if not files:
        raise UserError(f"{folder} holds no RACE passages (middle/*.txt, high/*.txt)")
    examples = []
    for path in files:
        try:
            item = json.loads(path.read_text(encoding="utf-8"))
            rows = zip(item["questions"], item["options"], item["answers"], strict=True)
            for number, (question, options, answer) in enumerate(rows, 1):
                name = f"{path.parent.name}/{path.name} question {number}"
                context = f"{item['article'].strip()} {question.strip()}"
                examples.append(Example((context, *options), str("ABCD".index(answer)), name))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no passage of RACE (article, questions, options, answers): {error}") from error
    return examples


def read_story_cloze(path: Path) -> list[Example]:
    """Examples of Story Cloze: four sentences, two endings, and which is right (1 or 2)."""
    table = read_columns(path)
    columns = [f"InputSentence{i}" for i in range(1, 5)] + [f"RandomFifthSentenceQuiz{i}" for i in (1, 2)]
    for column in (*columns, "AnswerRightEnding"):
        if column not in table:
            raise UserError(f"{path} has no column {column!r}, so it is not laid out as Story Cloze is")
    examples = []
    for row, (*cells, right) in enumerate(zip(*(table[c] for c in (*columns, "AnswerRightEnding")), strict=True), 1):
        name = f"{path.name} row {row}"
        if str(right).strip() not in ("1", "2"):
            raise UserError(f"{name}: the right ending must be 1 or 2, not {right!r}")
        story = " ".join(str(cell).strip() for cell in cells[:4])
        texts = (story, str(cells[4]).strip(), str(cells[5]).strip())
        examples.append(Example(texts, str(int(right) - 1), name))
    return examples


def film_reviews(source: str = "rotten_tomatoes") -> list[Example]:
    """Reviews of the pack ``movie-reviews``, labelled ``negative`` and ``positive``.

    Args:
        source: ``rotten_tomatoes``: 8,530 single sentences (Pang and Lee 2005); ``imdb``: 25,000 long ones.
    """
    names = {"0": "negative", "1": "positive"}
    chosen = [row for row in read_rows() if row["source"] == source]
    return [Example((row["text"].strip(),), names[row["label"]], f"review {i}") for i, row in enumerate(chosen, 1)]


_WORDS = {
    "good": ("bright", "warm", "kind", "merry", "gentle", "sweet"),
    "bad": ("dull", "cold", "cruel", "gloomy", "harsh", "bitter"),
}
_THINGS = ("song", "play", "house", "dinner", "story", "voice", "garden", "letter")


def generated(kind: Kind, count: int = 320) -> list[Example]:
    """Sentences that need no file, for tests: whether a thing is said to be good or bad decides each task."""
    draw = np.random.default_rng(0)

    def sentence(side: str, thing: str) -> str:
        return f"the {thing} was {draw.choice(_WORDS[side])}"

    examples = []
    for number in range(count):
        one, two = (str(side) for side in draw.choice(list(_WORDS), 2))
        texts: tuple[str, ...]
        thing, other = (str(word) for word in draw.choice(_THINGS, 2, replace=False))
        if kind == "classification":
            texts, label = (sentence(one, thing),), one
        elif kind == "multiple-choice":
            texts = (sentence(one, thing), sentence("good", thing), sentence("bad", thing))
            label = "0" if one == "good" else "1"
        else:
            texts = (sentence(one, thing), sentence(two, thing if kind == "entailment" else other))
            label = str(int(one == two))
        examples.append(Example(texts, label, f"sentence {number}"))
    return examples


def check_kind(kind: str) -> Kind:
    """The kind of that name.

    Raises:
        UserError: There is none.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise UserError(f"--data.kind {kind!r} is unknown; use {', '.join(KINDS)}")
