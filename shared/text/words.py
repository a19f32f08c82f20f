"""GPT-1's way from text to lower-cased words.

Improving Language Understanding by Generative Pre-Training (Radford et al. 2018), section 4.1: ftfy, some
standardised punctuation and white space, then spaCy's tokenizer.
"""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache
from typing import Any, Literal

from zoo.shared.errors import UserError

Words = Literal["spacy", "bert"]

NEWLINE = "\n "  # the word that spaCy makes of a line end that has one space on either side

_SAME_SIGN = str.maketrans({"—": "-", "–": "-", "―": "-", "…": "...", "´": "'"})
# The backslash is not among them: the released code escapes it once too few, so it pads a plus instead.
_PADDED = re.compile(r"([-~!\";?+,)(/*\[\]}{|_])\1*")
_LINE_ENDS = re.compile(r"\s*\n\s*")
_SPACES = re.compile(r"[^\S\n]+")


def standardise(text: str) -> str:
    """Use one sign for each dash, put spaces round runs of a sign and round line ends, collapse white space."""
    text = _PADDED.sub(r" \g<0> ", text.translate(_SAME_SIGN))
    text = _SPACES.sub(" ", _LINE_ENDS.sub(" \n ", text))
    return text.strip()


def has_spacy() -> bool:
    """Whether spaCy is installed."""
    return importlib.util.find_spec("spacy") is not None


@lru_cache
def _english() -> Any:
    try:
        import spacy
    except ImportError as error:
        raise UserError(
            "this tokenizer splits words with spaCy, as GPT-1's paper does; `pip install 'paper-zoo[spacy]'`"
        ) from error
    return spacy.blank("en").tokenizer  # the rules of English alone; they need no trained pipeline


def paper_words(text: str) -> list[str]:
    """Mend, standardise and split a text as the paper does; a line end is the word :data:`NEWLINE`.

    Raises:
        UserError: spaCy is not installed.
    """
    import ftfy

    return [token.text.lower() for token in _english()(standardise(ftfy.fix_text(text)))]


def bert_split() -> tuple[Any, Any]:
    """The split that ``transformers`` uses for GPT-1, as parts of the ``tokenizers`` library.

    It drops control characters, accents and line ends, lower-cases, and makes a word of each punctuation mark.
    """
    from tokenizers import normalizers, pre_tokenizers

    return normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
