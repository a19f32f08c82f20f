"""The five word-scrambling tasks of GPT-3 on the 10,000 most frequent words of 5 to 14 letters.

Language Models are Few-Shot Learners (Brown et al. 2020, arXiv:2005.14165), Section 3.9.2.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from zoo.gpt.evaluation.exam import Exam, Result, fingerprint, protocol, read_text
from zoo.gpt.evaluation.few_shot import share_right, write_lines
from zoo.gpt.evaluation.free_form import BEAM
from zoo.gpt.evaluation.prompts import Item
from zoo.shared.errors import UserError

COUNT = 10_000
SHOTS = 100
DESCRIPTION = "Please unscramble the letters into a word, and write that word:"
_TOKENS = 16  # fourteen letters of a vocabulary without merges, the space before and the line end
_SHORTEST, _LONGEST = 5, 14
_SIGNS = " .,;:!?/-'\""
_WORD = re.compile(r"[^\W\d_]+")


def cycled(word: str, generator: random.Random) -> str:
    """CL: the letters moved round by 1 to all but one places."""
    by = generator.randrange(1, len(word))
    return word[by:] + word[:by]


def shuffled(word: str, generator: random.Random, kept: int) -> str:
    """A1, A2: all letters but the first and last ``kept`` in random order."""
    inner = list(word[kept:-kept])
    generator.shuffle(inner)
    return word[:kept] + "".join(inner) + word[-kept:]


def interrupted(word: str, generator: random.Random) -> str:
    """RI: a random punctuation mark or space between each two letters."""
    return "".join(letter + generator.choice(_SIGNS) for letter in word[:-1]) + word[-1]


TASKS: Mapping[str, Callable[[str, random.Random], str]] = {
    "CL": cycled,
    "A1": lambda word, generator: shuffled(word, generator, 1),
    "A2": lambda word, generator: shuffled(word, generator, 2),
    "RI": interrupted,
    "RW": lambda word, generator: word[::-1],
}


def frequent_words(texts: Iterable[str], count: int = COUNT) -> list[str]:
    """The most frequent lower-cased words of 5 to 14 letters, the commonest first, ties by the alphabet."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word in _WORD.findall(text.lower()) if _SHORTEST <= len(word) <= _LONGEST)
    return [word for word, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:count]]


def read_words(path: Path) -> list[str]:
    """The usable words of a list with one on each line, in its order.

    Raises:
        UserError: It is no list of words, or has too few.
    """
    lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if any(len(line.split()) > 1 for line in lines):
        raise UserError(f"{path} is no word list; one word on each line is expected, the most frequent first")
    words = [word for word in dict.fromkeys(lines) if word.isalpha() and _SHORTEST <= len(word) <= _LONGEST][:COUNT]
    if len(words) < 2:
        raise UserError(f"{path} holds {len(words)} words of {_SHORTEST} to {_LONGEST} letters; at least 2 are needed")
    return words


def word_list(path: Path | None) -> tuple[list[str], str]:
    """The words and where they are from: a user's list, or the Shakespeare pack."""
    if path is not None:
        return read_words(path), path.name
    from zoo.shared.text.plays import plays

    return frequent_words(play.text for play in plays()), "the plays of Shakespeare (pack shakespeare)"


def scrambled(task: str, words: Iterable[str], *, seed: int = 0) -> list[Item]:
    """The items of a task, ``scrambled = word``; each follows from the task, the word and the seed."""
    found = []
    for word in words:
        generator = random.Random(f"words {task} {seed} {word}")
        found.append(Item(prompt=f"{TASKS[task](word, generator)} =", answers=(f" {word}",)))
    return found


def words(exam: Exam) -> Result:
    """Exact match of the word that is written after each scrambled one."""
    listed, source = word_list(exam.data)
    shots = SHOTS if exam.shots is None else exam.shots
    numbers = exam.chosen(listed)
    figures = []
    for task in TASKS:
        exam.say(f"words {task}")
        pool = scrambled(task, listed, seed=exam.seed)
        items = [pool[i] for i in numbers]
        written = write_lines(
            exam,
            items,
            pool,
            shots=shots,
            tokens=_TOKENS,
            decoding=BEAM,
            separator="\n",
            description=DESCRIPTION,
            numbers=numbers,
        )
        figures.append(share_right(task, items, written, chance=1 / len(listed), chance_is="always the same word"))
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="words",
            template="{scrambled} = {word}",
            description=DESCRIPTION,
            separator="\n",
            shots=shots,
            decoding={**BEAM, "max_new_tokens": _TOKENS, "stop": "\n"},
            scoring="exact match of the stripped answer",
        ),
        data={
            "words": source,
            "sha256": fingerprint(listed),
            "items": len(listed),
            "used": len(numbers),
        },
    )
