"""Translation after example pairs.

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Section 3.7: pairs ``english = french`` and
then ``english =``; greedy; the first sentence is the translation.
"""

from __future__ import annotations

from pathlib import Path

from zoo.gpt.evaluation.exam import Exam, Figure, Result, described, protocol, read_text
from zoo.gpt.evaluation.few_shot import write_lines
from zoo.gpt.evaluation.free_form import GREEDY, bleu, jackknife_error, sentences
from zoo.gpt.evaluation.prompts import Item
from zoo.shared.errors import UserError

_SHOTS = 10
_TOKENS = 100


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Source and target between a tab, on each line.

    Raises:
        UserError: Another format.
    """
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 2 or not all(parts):
            raise UserError(f"{path}, line {number}: source, one tab and target are expected")
        found.append((parts[0], parts[1]))
    if not found:
        raise UserError(f"{path} is empty; source, one tab and target are expected on each line")
    return found


def translation(exam: Exam) -> Result:
    """BLEU of greedy translations."""
    pairs = read_pairs(exam.file)
    shown = pairs if exam.train is None else read_pairs(exam.train)
    numbers = exam.chosen(pairs)
    items, pool = (
        [Item(prompt=f"{source} =", answers=(f" {target}",)) for source, target in rows] for rows in (pairs, shown)
    )
    used = [items[i] for i in numbers]
    sources, references = zip(*(pairs[i] for i in numbers), strict=True)
    shots = _SHOTS if exam.shots is None else exam.shots
    tokens = min(_TOKENS, exam.context // 3)
    exam.say(f"translation: {len(used)} sentences")
    written = write_lines(
        exam, used, pool, shots=shots, tokens=tokens, decoding=GREEDY, separator="\n", numbers=numbers
    )
    answers = [(sentences(text) or [""])[0] for text in written.texts]

    def score(chosen: list[int]) -> float:
        return bleu([answers[i] for i in chosen], [references[i] for i in chosen])

    everything = list(range(len(used)))
    return Result(
        figures=[
            Figure(
                name="translations",
                metric="BLEU",
                value=score(everything),
                error=jackknife_error(score, len(used)),
                chance=bleu(sources, references),
                chance_is="the source unchanged",
                items=len(used),
                shots=written.shots,
            )
        ],
        protocol=protocol(
            exam,
            benchmark="translation",
            template="{source} = {target}",
            separator="\n",
            shots=shots,
            decoding={"greedy": True, "max_new_tokens": tokens, "stop": "\n"},
            scoring="corpus BLEU, tokenised 13a, unsmoothed, of the first sentence",
        ),
        data=described(exam.file, len(pairs), len(used)),
        notes={
            "truncated": written.truncated,
            "translations": dict(list(zip(sources, answers, strict=True))[:5]),
        },
    )
