"""Which samples stand for a concept: those that a person names by number, or a classifier is surest of.

An expression such as ``7 - 1 + 0`` or ``12,40,7 - 3,9,31 + 5,8,22`` has terms with signs. A term with a comma lists
samples by number, one without is a class, by name or number.

Shapes: N samples, Z numbers of a latent vector, K classes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.shared.errors import UserError

_TRAINED_ON = 10_000  # images, at most, that the classifier learns from, as for `zoo eval`, whose classifier it is


@dataclass(frozen=True, kw_only=True)
class Term:
    """A concept in an expression.

    Attributes:
        sign: 1 or -1.
        name: What it is called.
        samples: Numbers of the samples that stand for it.
    """

    sign: int
    name: str
    samples: tuple[int, ...]


def parse_expression(text: str) -> list[tuple[int, str]]:
    """Signs and words of an expression; signs have white space on both sides.

    Raises:
        UserError: A sign without a word beside it, or nothing at all.
    """
    first, *rest = re.split(r"(?:^|\s)\s*([+-])(?=\s|$)", text)
    parts = [*(["+", first] if first.strip() or not rest else []), *rest]
    found = [(1 if sign == "+" else -1, word.strip()) for sign, word in zip(parts[::2], parts[1::2], strict=True)]
    if not all(word for _, word in found):
        raise UserError(f"{text!r} lacks a term; write it like '7 - 1 + 0', with spaces around the signs")
    return found


class Exemplars:
    """Picks samples by number or by class.

    Args:
        count: Samples N that there are.
        probabilities: Called once, when a class is asked for: probabilities ``(N, K)`` of the samples' classes, and
            the names of the classes.
    """

    def __init__(self, count: int, probabilities: Callable[[], tuple[Tensor, Sequence[str]]]) -> None:
        self.count = count
        self._probabilities = probabilities
        self._known: tuple[Tensor, Sequence[str]] | None = None

    def pick(self, word: str, *, exemplars: int) -> tuple[str, tuple[int, ...]]:
        """Name and samples of a term.

        Args:
            word: Numbers with commas, or a class.
            exemplars: Samples picked for a class.

        Raises:
            UserError: Not a number, out of range, or no such class.
        """
        if "," in word:
            return word.rstrip(","), self._numbers(word)
        if self._known is None:
            self._known = self._probabilities()
        table, names = self._known
        if exemplars > self.count:
            raise UserError(f"{exemplars} exemplars are more than the {self.count} samples; raise --among")
        column = _class(word, names)
        best = table[:, column].topk(exemplars).indices.tolist()
        return names[column], tuple(best)

    def _numbers(self, word: str) -> tuple[int, ...]:
        try:
            found = tuple(int(part) for part in word.rstrip(",").split(","))
        except ValueError as error:
            raise UserError(f"{word!r} is no list of sample numbers; write it like 12,40,7") from error
        wrong = [number for number in found if not 0 <= number < self.count]
        if wrong:
            raise UserError(f"there is no sample {wrong[0]}; they are numbered from 0 to {self.count - 1}")
        return found

    def terms(self, expression: str, *, exemplars: int) -> list[Term]:
        """All terms of an expression, with their samples."""
        picked = [(sign, *self.pick(word, exemplars=exemplars)) for sign, word in parse_expression(expression)]
        return [Term(sign=sign, name=name, samples=samples) for sign, name, samples in picked]


def _class(word: str, names: Sequence[str]) -> int:
    lower = [name.lower() for name in names]
    if word.lower() in lower:
        return lower.index(word.lower())
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    close = difflib.get_close_matches(word.lower(), lower, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    raise UserError(f"there is no class {word!r}; {hint}")


def mean_of(values: Tensor, samples: Sequence[int]) -> Tensor:
    """Mean over some samples of ``values (N, ...)``."""
    return values[torch.tensor(samples, device=values.device)].mean(0)


@torch.no_grad()
def class_probabilities(
    images: Tensor, datamodule: Any, *, progress: Callable[[str], object]
) -> tuple[Tensor, Sequence[str]]:
    """What a classifier of the training images makes of samples.

    Args:
        images: Samples ``(N, C, H, W)`` in [-1, 1].
        datamodule: A set-up :class:`~zoo.dcgan.data.DcganDataModule`.
        progress: Called with a line when the classifier must be trained first.

    Returns:
        Probabilities ``(N, K)`` and the names of the classes.

    Raises:
        UserError: The data have no classes.
    """
    names = datamodule.images.classes
    if len(names) < 2:
        raise UserError(
            f"{datamodule.source} has no classes to pick samples by; name samples by number, such as 12,40,7"
        )
    from zoo.dcgan.evaluation.classifier import trained_classifier
    from zoo.dcgan.evaluation.images import read

    labelled = read(datamodule.train_items, limit=_TRAINED_ON).named
    classifier = trained_classifier(labelled, classes=len(names), device=torch.device("cpu"), progress=progress)
    logits = torch.cat([classifier(part)[1] for part in images.split(256)])
    return logits.softmax(-1), names
