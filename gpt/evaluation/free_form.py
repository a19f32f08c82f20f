"""Free answers: how they are generated and how they are scored.

Language Models are Few-Shot Learners (Brown et al. 2020, arXiv:2005.14165), Section 2.4: beam search of width 4 with a
length penalty of 0.6, scored by exact match, F1 or BLEU.
"""

from __future__ import annotations

import importlib.util
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.gpt.evaluation.exam import Exam
from zoo.shared.errors import UserError

# GPT-3 gives the numbers; that they are those of Wu et al. (2016), whose exponent was 0.6 too, is the usual reading.
BEAM: dict[str, Any] = {"beams": 4, "length_penalty": 0.6, "length_convention": "gnmt"}
GREEDY: dict[str, Any] = {}

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")


def complete(
    exam: Exam, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stop: tuple[str, ...] = (), **how: Any
) -> tuple[list[str], np.ndarray]:
    """Let the model write on.

    Args:
        exam: Model and tokenizer.
        prompts: Token ids; too long ones lose tokens at the left.
        max_new_tokens: Tokens written at most.
        stop: Texts that end an answer and do not belong to it.
        how: Further fields of :class:`zoo.shared.generation.options.GenerationOptions`, such as :data:`BEAM`.

    Returns:
        The texts, and the log-probability of each, its end included, ``(N,)``.

    Raises:
        UserError: The answer alone fills the context.
    """
    from zoo.shared.generation.decode import generate
    from zoo.shared.generation.options import GenerationOptions
    from zoo.shared.generation.stop import text_of

    tokenizer, model = exam.tokenizer, exam.model
    room = exam.context - max_new_tokens
    if room < 1:
        raise UserError(f"answers of {max_new_tokens} tokens leave no room for a prompt in a context of {exam.context}")
    options = GenerationOptions(
        max_new_tokens=max_new_tokens, stop=stop, batch_size=exam.batch_size, seed=exam.seed, **how
    )
    was_training = model.training
    model.eval()
    try:
        found = generate(
            model,
            [list(prompt)[-room:] for prompt in prompts],
            options,
            end=tokenizer.end_of_text,
            decode_bytes=tokenizer.decode_bytes,
            vocab_size=tokenizer.vocab_size,
        )
    finally:
        model.train(was_training)
    end = tokenizer.end_of_text
    texts = [text_of([t for t in one.tokens if t != end], tokenizer.decode_bytes, stop) for one in found]
    return texts, np.array([one.log_probability for one in found])


def normalise(text: str) -> str:
    """An answer without case, punctuation, articles and superfluous white space (Rajpurkar et al. 2016, SQuAD)."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 if an answer is one of the accepted ones, both normalised."""
    return float(normalise(answer) in {normalise(text) for text in accepted})


def f1(answer: str, accepted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, with the accepted answer that fits best."""
    return max(_f1(normalise(answer).split(), normalise(text).split()) for text in accepted)


def _f1(said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    same = (Counter(said) & Counter(wanted)).total()
    return 2 * same / (len(said) + len(wanted))


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU from 0 to 100, tokenised as in the WMT evaluations (``13a``).

    By ``sacrebleu`` where it is installed, otherwise by ``torchmetrics``.
    """
    if importlib.util.find_spec("sacrebleu") is not None:
        from sacrebleu.metrics.bleu import BLEU

        return float(BLEU(smooth_method="none").corpus_score(list(answers), [list(references)]).score)
    return torch_bleu(answers, references)


def torch_bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """:func:`bleu` by ``torchmetrics``."""
    from torchmetrics.functional.text import sacre_bleu_score

    return 100 * float(sacre_bleu_score(list(answers), [[text] for text in references], tokenize="13a"))


def rouge(answer: str, reference: str) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L, without stemming."""
    from torchmetrics.functional.text import rouge_score

    found = rouge_score([answer], [[reference]], rouge_keys=("rouge1", "rouge2", "rougeL"))
    return {name: float(found[f"{name}_fmeasure"]) for name in ("rouge1", "rouge2", "rougeL")}


def jackknife_error(metric: Callable[[list[int]], float], count: int, groups: int = 20) -> float | None:
    """Standard error of a figure that is no mean, by leaving out a group of items at a time.

    Args:
        metric: The figure on some of the items, given by their numbers.
        count: Number of items.
        groups: Number of groups; fewer where there are fewer items.
    """
    groups = min(groups, count)
    if groups < 2:
        return None
    values = np.array([metric([i for i in range(count) if i % groups != group]) for group in range(groups)])
    return float(math.sqrt((groups - 1) / groups * ((values - values.mean()) ** 2).sum()))


def sentences(text: str) -> list[str]:
    """Sentences of a text: cut after ``.``, ``!`` or ``?`` with white space behind, and at line ends."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
