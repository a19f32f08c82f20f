"""Prompts with K demonstrations.

Language Models are Few-Shot Learners (Brown et al. 2020, arXiv:2005.14165), Section 2.4: K examples drawn at random
from the training set, separated by one or two newlines, as many as the context holds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.gpt.evaluation.exam import mean_and_error
from zoo.shared.errors import UserError


class NoRoom(UserError):
    """Not even one demonstration fits into the context."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A question and its answer.

    Attributes:
        prompt: What the model reads, such as ``Q: What is 48 plus 76? A:``.
        answers: What is right; the first one is shown when the item demonstrates. With the space before it, if any.
        choices: All that may be chosen; empty where the answer is free.
    """

    prompt: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Question and answer, as a demonstration."""
        return self.prompt + self.answers[0]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What stands before an answer.

    Attributes:
        text: Description, demonstrations and question.
        tokens: The same as ids.
        shots: Demonstrations in it.
    """

    text: str
    tokens: list[int]
    shots: int


def draw_demonstrations(item: Item, number: int, pool: Sequence[Item], shots: int, seed: int) -> list[Item]:
    """Demonstrations for one item: a function of the seed and the item's number, never the item itself.

    Fewer shots are the first of more.
    """
    found: list[Item] = []
    for place in _shuffled(len(pool), random.Random(f"demonstrations {seed} {number}")):
        if len(found) == shots:
            break
        if pool[place].prompt != item.prompt:
            found.append(pool[place])
    return found


def _shuffled(count: int, generator: random.Random) -> Iterator[int]:
    """Numbers below ``count`` in random order, no more of it drawn than is read."""
    moved: dict[int, int] = {}
    for place in range(count):
        other = generator.randrange(place, count)
        yield moved.get(other, other)
        moved[other] = moved.get(place, place)


def build_prompts(
    tokenizer: Any,
    items: Sequence[Item],
    pool: Sequence[Item],
    *,
    shots: int,
    room: int,
    separator: str = "\n\n",
    description: str = "",
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> list[Prompt]:
    """Put demonstrations before items, for each item as many of ``shots`` as its room allows.

    Args:
        tokenizer: Counts what fits.
        items: The questions.
        pool: What demonstrations are drawn from.
        shots: K.
        room: Tokens that the prompt may have, so that the answer fits after it.
        separator: One or two newlines.
        description: What the task is, in words, before everything.
        seed: Decides the draw, with the item's number.
        numbers: The items' numbers in their file; by default their places.

    Raises:
        UserError: There are no demonstrations to draw from, or (:class:`NoRoom`) not one fits before any item.
    """
    if separator not in ("\n", "\n\n"):
        raise UserError(f"separator {separator!r}: demonstrations are separated by one or two newlines")
    if shots < 0:
        raise UserError(f"--shots {shots}: ask for 0 demonstrations or more")
    head = description + separator if description else ""
    lengths: dict[str, int] = {}
    found = []
    for place, item in enumerate(items):
        number = place if numbers is None else numbers[place]
        drawn = draw_demonstrations(item, number, pool, shots, seed)
        if shots and not drawn:
            raise UserError(
                f"--shots {shots}: there is no other item to demonstrate with; give --train FILE or --shots 0"
            )
        texts = [other.shown for other in drawn]
        missing = list(dict.fromkeys(text for text in texts if text not in lengths))
        for text, row in zip(missing, tokenizer.encode_batch([text + separator for text in missing]), strict=True):
            lengths[text] = len(row)
        left, count = room - len(tokenizer.encode(head + item.prompt)), 0
        while count < len(texts) and lengths[texts[count]] <= left:
            left -= lengths[texts[count]]
            count += 1
        while True:  # tokens may join across borders, so the whole decides
            text = head + "".join(shown + separator for shown in texts[:count]) + item.prompt
            tokens = tokenizer.encode(text)
            if count == 0 or len(tokens) <= room:
                break
            count -= 1
        found.append(Prompt(text=text, tokens=tokens, shots=count))
    if shots and found and not any(prompt.shots for prompt in found):
        raise NoRoom(
            f"--shots {shots}: not even one demonstration fits into the {room} tokens that the context leaves; "
            "use --shots 0 or a model with a longer context"
        )
    return found


def mean_shots(prompts: Sequence[Prompt]) -> float:
    """Demonstrations that a prompt has on average."""
    return mean_and_error(prompt.shots for prompt in prompts)[0]
