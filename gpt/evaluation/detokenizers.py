"""Undoing the tokenisation of corpora that were published as separated words, and doing it again.

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Section 3.1: likelihoods are those of the
detokenised text, which is the same data as long as the way back exists. How much of a file comes back is measured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.gpt.evaluation.exam import fingerprint

Rules = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Detokenizer:
    """Rules from separated words to running text, and back.

    Attributes:
        name: Its name.
        forward: Patterns and replacements, applied in order to each line.
        backward: The same for the way back.
        quotes: Whether ``"`` opens and closes by turns within a line.
    """

    name: str
    forward: Rules = ()
    backward: Rules = ()
    quotes: bool = False

    def __call__(self, text: str) -> str:
        """Running text."""
        return "\n".join(self._line(line) for line in text.split("\n"))

    def _line(self, line: str) -> str:
        if self.quotes:
            parts = line.split('"')
            if len(parts) % 2:  # an even number of marks, so that each has a partner
                line = '"'.join(part.strip() if i % 2 else part for i, part in enumerate(parts))
        for pattern, replacement in self.forward:
            line = re.sub(pattern, replacement, line)
        return line

    def inverse(self, text: str) -> str:
        """Separated words again."""
        lines = []
        for line in text.split("\n"):
            for pattern, replacement in self.backward:
                line = re.sub(pattern, replacement, line)
            lines.append(line)
        return "\n".join(lines)

    def restored(self, text: str) -> float:
        """Share of the lines with words that come back word for word."""
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return 1.0
        return sum(self.inverse(self(line)).split() == line.split() for line in lines) / len(lines)

    def named(self) -> dict[str, str]:
        """Name and hash for a protocol."""
        rules = [list(self.forward), list(self.backward), self.quotes]
        return {"name": self.name, "sha256": fingerprint(rules)}


_SHORT = "Mr Mrs Ms Dr St Jr Sr vs Lt Gen Col Capt Sgt Prof Rev Maj Sen Rep Gov Inc Corp Ltd Co No Vol Op Mt ca etc"
_ABBREVIATIONS = r"(?<!\b[A-Z])" + "".join(rf"(?<!\b{word})" for word in _SHORT.split())
_WIKITEXT = Detokenizer(
    name="wikitext",
    quotes=True,
    forward=(
        (r" @([-,.])@ ", r"\1"),  # marks within words and numbers, which WikiText sets apart like this
        (r" ([,.;:!?%)\]])(?=[ \"]|$)", r"\1"),
        (r"([(\[$£€]) ", r"\1"),
        (r" ('(?:s|re|ve|ll|d|m|t))(?= |\W|$)", r"\1"),
        (r"^ | $", ""),
    ),
    backward=(
        (r"(?<=\w)-(?=\w)", " @-@ "),
        (r"(?<=\d),(?=\d)", " @,@ "),
        (r"(?<=\d)\.(?=\d)", " @.@ "),
        (r"(?<=\w)('(?:s|re|ve|ll|d|m|t))\b", r" \1"),
        (r"([\"()\[\]$£€])", r" \1 "),
        (r"(?<=\S)([;:!?%])", r" \1"),
        (r"(?<=\S),(?!@)", " ,"),
        # Not after an initial or an abbreviation, whose points were never set apart.
        (_ABBREVIATIONS + r"(?<=[^\s.@])\.(?=[\s\"')\]]|$)", " ."),
        (r"  +", " "),
    ),
)
_PTB = Detokenizer(
    name="ptb",
    forward=(
        (r"``\s?", '"'),
        (r"\s?''", '"'),
        (r"-LRB-\s?", "("),
        (r"\s?-RRB-", ")"),
        (r" n't(?= |\W|$)", "n't"),
        (r" ('(?:s|re|ve|ll|d|m|S))(?= |\W|$)", r"\1"),
        (r" ([,.;:!?%])(?= |\"|\)|$)", r"\1"),
        (r"([$]) ", r"\1"),
        (r"^ | $", ""),
    ),
    backward=(
        (r"(?<=\S)n't\b", " n't"),
        (r"(?<=\w)('(?:s|re|ve|ll|d|m|S))\b", r" \1"),
        (r"(^|\s)\"", r"\1`` "),
        (r"\"", " ''"),
        (r"\(", "-LRB- "),
        (r"\)", " -RRB-"),
        (r"\$", "$ "),
        (r"(?<=\S)([,;:!?%])", r" \1"),
        (r"(?<=[^\s.])\.(?=\s|$)", " ."),
        (r"  +", " "),
    ),
)
DETOKENIZERS: dict[str, Detokenizer] = {one.name: one for one in (Detokenizer(name="none"), _WIKITEXT, _PTB)}
