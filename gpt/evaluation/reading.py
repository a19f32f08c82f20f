"""Questions: CoQA with a document and a dialogue before them (Reddy et al. 2019), Natural Questions with nothing.

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Sections 3.5 and 3.8: greedy answers; for
Natural Questions after pairs of questions and answers, with the accuracy of the most confident 1 %.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.evaluation.exam import (
    Exam,
    Figure,
    Result,
    described,
    mean_and_error,
    protocol,
    read_json_lines,
    read_text,
    require,
)
from zoo.gpt.evaluation.few_shot import write_lines
from zoo.gpt.evaluation.free_form import GREEDY, complete, exact_match, f1, normalise
from zoo.gpt.evaluation.prompts import Item
from zoo.shared.errors import UserError

_COQA = 'CoQA\'s JSON with "data", each entry with story, questions and answers'
_NQ = "Natural Questions' simplified JSON lines with question_text, document_text and annotations"
_TOKENS = 30
_CONFIDENT = 0.01
_SHOTS = 5
_HTML = re.compile(r"<[^>]*>")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question in a dialogue.

    Attributes:
        prompt: The story, the dialogue so far, and the question, ending in ``A:``.
        references: Answers of several people.
    """

    prompt: str
    references: tuple[str, ...]


def read_coqa(path: Path) -> list[Turn]:
    """Read ``coqa-dev-v1.0.json``; the dialogue before a question has the answers of the first person.

    Raises:
        UserError: Another format.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON; {_COQA} is expected") from error
    found = []
    entries = require(content, ("data",), what=_COQA, where=str(path))["data"]
    for number, entry in enumerate(entries, 1):
        where = f"{path}, story {number}"
        entry = require(entry, ("story", "questions", "answers"), what=_COQA, where=where)
        more = list((entry.get("additional_answers") or {}).values())
        questions = [str(turn.get("input_text", "")) for turn in entry["questions"]]
        people = [[str(turn.get("input_text", "")) for turn in turns] for turns in (entry["answers"], *more)]
        if any(len(answers) != len(questions) for answers in people):
            raise UserError(f"{where}: {len(questions)} questions but another number of answers")
        lines = [entry["story"].strip(), ""]
        for place, question in enumerate(questions):
            lines += [f"Q: {question}", "A:"]
            found.append(Turn(prompt="\n".join(lines), references=tuple(answers[place] for answers in people)))
            lines[-1] = f"A: {people[0][place]}"
    if not found:
        raise UserError(f"{path} holds no question; {_COQA} is expected")
    return found


def leave_one_out(score: Any, answer: str, references: tuple[str, ...]) -> float:
    """CoQA's score: mean of the best over all references but one, as people are compared with each other."""
    if len(references) == 1:
        return float(score(answer, references))
    rest = [references[:i] + references[i + 1 :] for i in range(len(references))]
    return float(np.mean([score(answer, others) for others in rest]))


def coqa(exam: Exam) -> Result:
    """F1 and exact match of greedy answers."""
    turns = read_coqa(exam.file)
    used = [turns[i] for i in exam.chosen(turns)]
    exam.say(f"CoQA: {len(used)} questions")
    tokens = exam.tokenizer.encode_batch([turn.prompt for turn in used])
    truncated = sum(len(row) > exam.context - _TOKENS for row in tokens)
    said, _ = complete(exam, tokens, max_new_tokens=_TOKENS, stop=("\n",), **GREEDY)
    pairs = list(zip(said, used, strict=True))
    figures = []
    for name, score in (("F1", f1), ("exact match", exact_match)):
        value, error = mean_and_error(leave_one_out(score, text, turn.references) for text, turn in pairs)
        chance, _ = mean_and_error(leave_one_out(score, "yes", turn.references) for turn in used)
        figures.append(
            Figure(
                name="answers",
                metric=name,
                value=value,
                error=error,
                chance=chance,
                chance_is='always "yes"',
                items=len(used),
            )
        )
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="coqa",
            template="{story}\n\nQ: {question}\nA: {first person's answer}\n...\nQ: {question}\nA:",
            decoding={"greedy": True, "max_new_tokens": _TOKENS, "stop": "\n"},
            scoring="SQuAD's normalisation; mean over people of the best match with the others",
        ),
        data=described(exam.file, len(turns), len(used)),
        notes={"truncated": truncated},
    )


def read_questions(path: Path) -> list[Item]:
    """Questions of the simplified files that have a short answer, a ``yes`` or a ``no``.

    Raises:
        UserError: Another format, or no question with a short answer.
    """
    found = []
    fields = ("question_text", "document_text", "annotations")
    for row in read_json_lines(path, fields=fields, what=_NQ):
        words = row["document_text"].split(" ")
        answers: dict[str, None] = {}
        for note in row["annotations"]:
            for span in note.get("short_answers") or ():
                text = _HTML.sub("", " ".join(words[span["start_token"] : span["end_token"]]))
                answers[" ".join(text.split())] = None
            verdict = str(note.get("yes_no_answer", "NONE")).lower()
            if verdict in ("yes", "no"):
                answers[verdict] = None
        usable = tuple(f" {text}" for text in answers if text)
        if usable:
            found.append(Item(prompt=f"Q: {row['question_text'].strip()}?\nA:", answers=usable))
    if not found:
        raise UserError(f"{path} holds no question with a short answer; {_NQ} are expected")
    return found


def natural_questions(exam: Exam) -> Result:
    """Exact match of greedy answers, of all and of the most confident 1 %."""
    items = read_questions(exam.file)
    pool = items if exam.train is None else read_questions(exam.train)
    numbers = exam.chosen(items)
    used = [items[i] for i in numbers]
    shots = _SHOTS if exam.shots is None else exam.shots
    exam.say(f"Natural Questions: {len(used)} questions")
    written = write_lines(exam, used, pool, shots=shots, tokens=_TOKENS, decoding=GREEDY, numbers=numbers)
    right = np.array([exact_match(text, item.answers) for text, item in zip(written.texts, used, strict=True)])
    best = np.argsort(-written.confidence, kind="stable")[: max(1, round(_CONFIDENT * len(used)))]
    counts = Counter(guess for item in items for guess in {normalise(text) for text in item.answers})
    chance = counts.most_common(1)[0][1] / len(items)
    figures = []
    for name, marks in (("all", right), ("most confident 1 %", right[best])):
        value, error = mean_and_error(marks)
        figures.append(
            Figure(
                name=name,
                metric="exact match",
                value=value,
                error=error,
                chance=chance,
                chance_is="always the commonest answer",
                items=len(marks),
                shots=written.shots,
            )
        )
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="natural-questions",
            template="Q: {question}?\nA: {answer}",
            separator="\n\n",
            shots=shots,
            decoding={"greedy": True, "max_new_tokens": _TOKENS, "stop": "\n"},
            scoring="exact match after SQuAD's normalisation; confidence is the answer's probability",
        ),
        data=described(exam.file, len(items), len(used)),
        notes={
            "truncated": written.truncated,
            "answers": dict(list(zip([item.prompt for item in used], written.texts, strict=True))[:5]),
        },
    )
