"""The Children's Book Test (Hill et al. 2016): which of ten words is missing from the sentence after twenty others?

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Section 3.2: a candidate is scored by its
probability and that of the rest of the sentence given it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.gpt.evaluation.choices import RULES, choose
from zoo.gpt.evaluation.detokenizers import DETOKENIZERS, Detokenizer
from zoo.gpt.evaluation.exam import Exam, Figure, Result, described, mean_and_error, protocol, read_text
from zoo.shared.errors import UserError

GAP = "XXXXX"
_SENTENCES = 20
_FORMAT = f"lines numbered 1 to 21, the last with {GAP}, the answer and the candidates between tabs"


@dataclass(frozen=True, kw_only=True)
class Cloze:
    """A gap.

    Attributes:
        context: The sentences before.
        query: The sentence with the gap.
        candidates: What may fill it.
        answer: What does.
    """

    context: str
    query: str
    candidates: tuple[str, ...]
    answer: str


def read_cloze(path: Path) -> list[Cloze]:
    """Read a file such as ``cbtest_NE_test_2500ex.txt``.

    Raises:
        UserError: Another format.
    """
    found: list[Cloze] = []
    sentences: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        head, _, text = line.partition(" ")
        if not head.isdigit() or int(head) != len(sentences) + 1:
            raise UserError(f"{path}, line {number} is not of the Children's Book Test: {_FORMAT} are expected")
        if len(sentences) < _SENTENCES:
            sentences.append(text.strip())
            continue
        fields = [field for field in text.split("\t") if field]
        if len(fields) != 3 or GAP not in fields[0]:
            raise UserError(f"{path}, line {number} is no query: {_FORMAT} are expected")
        query, answer, candidates = (field.strip() for field in fields)
        choices = tuple(candidates.split("|"))
        if answer not in choices:
            raise UserError(f"{path}, line {number}: the answer {answer!r} is no candidate")
        found.append(Cloze(context=" ".join(sentences), query=query, candidates=choices, answer=answer))
        sentences = []
    if sentences or not found:
        raise UserError(f"{path} ends within an item; {_FORMAT} are expected")
    return found


def filled(item: Cloze, candidate: str, detokenizer: Detokenizer) -> tuple[str, str]:
    """What stands before the gap, and the candidate with what follows.

    The whole is detokenised, so that a candidate at a mark is written as it would be in the book.
    """
    before, _, after = item.query.partition(GAP)
    start = detokenizer(f"{item.context} {before}".rstrip())
    whole = detokenizer(f"{item.context} {before}{candidate}{after}")
    if whole.startswith(start):
        return start, whole[len(start) :]
    return start, " " + detokenizer(f"{candidate}{after}")


def cbt(exam: Exam) -> Result:
    """Ten candidates for each gap."""
    items = read_cloze(exam.file)
    used = [items[i] for i in exam.chosen(items)]
    detokenizer = DETOKENIZERS[exam.detokenizer or "ptb"]
    exam.say(f"CBT: {len(used)} gaps")
    rows = [[filled(item, candidate, detokenizer) for candidate in item.candidates] for item in used]
    chosen = choose(exam, [[a for a, _ in row] for row in rows], [[b for _, b in row] for row in rows], rule="sum")
    value, error = mean_and_error(
        item.candidates[best] == item.answer for item, best in zip(used, chosen.best, strict=True)
    )
    return Result(
        figures=[
            Figure(
                name="gap",
                metric="accuracy",
                value=value,
                error=error,
                chance=mean_and_error(1 / len(item.candidates) for item in used)[0],
                chance_is="any candidate",
                items=len(used),
            )
        ],
        protocol=protocol(
            exam,
            benchmark="cbt",
            template="{20 sentences, joined by spaces} {query up to the gap}{candidate}{rest of the query}",
            detokenizer=detokenizer.named(),
            scoring=f"{RULES['sum']}: candidate and rest of the sentence",
        ),
        data=described(exam.file, len(items), len(used)),
        notes={"truncated": chosen.truncated},
    )
