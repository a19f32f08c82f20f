"""LAMBADA: the last word of a passage (Paperno et al. 2016), as GPT-2 was measured on it.

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Section 3.3: perplexity and accuracy of the
last word, and accuracy when predictions that are stop words are passed over, since a last word is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from zoo.gpt.evaluation.choices import encode_pair
from zoo.gpt.evaluation.exam import (
    Exam,
    Figure,
    Result,
    commonest_share,
    described,
    fingerprint,
    mean_and_error,
    protocol,
    read_json_lines,
)
from zoo.gpt.evaluation.free_form import complete
from zoo.gpt.evaluation.stop_words import STOP_WORDS
from zoo.gpt.scoring import likeliest_next, score_continuations
from zoo.shared.errors import UserError

CANDIDATES = 20  # first tokens that may be passed over
_WORD_TOKENS = 6
_WORD = re.compile(r"\s*([^\W_]+(?:['’-][^\W_]+)*)")


def read_passages(path: Path) -> list[tuple[str, str]]:
    """Contexts and last words of OpenAI's file, one JSON object with ``text`` on each line.

    Raises:
        UserError: Another format, or a passage of a single word.
    """
    found = []
    for number, row in enumerate(
        read_json_lines(path, fields=("text",), what='LAMBADA\'s {"text": ...} on each line'), 1
    ):
        context, _, word = str(row["text"]).strip().rpartition(" ")
        if not context.strip() or not word:
            raise UserError(f"{path}, passage {number} has no context before its last word")
        found.append((context.rstrip(), word))
    return found


def first_word(text: str) -> str:
    """The word that a text begins with; empty if it begins with something else."""
    match = _WORD.match(text)
    return match[1] if match else ""


def words_without_stops(exam: Exam, contexts: Sequence[Sequence[int]]) -> list[str]:
    """The next word after each context: the likeliest first token, completed greedily, whose word is no stop word.

    Empty where all of the :data:`CANDIDATES` likeliest tokens lead to a stop word or to none.
    """
    room = exam.context - _WORD_TOKENS
    cut = [list(context)[-(room - 1) :] for context in contexts]
    first = likeliest_next(
        exam.model, cut, CANDIDATES, vocab_size=exam.tokenizer.vocab_size, batch_size=exam.batch_size
    )
    found = [""] * len(contexts)
    left = list(range(len(contexts)))
    for rank in range(min(CANDIDATES, first.shape[1])):
        if not left:
            break
        tokens = [int(first[i, rank]) for i in left]
        rest, _ = complete(
            exam, [[*cut[i], token] for i, token in zip(left, tokens, strict=True)], max_new_tokens=_WORD_TOKENS - 1
        )
        waiting = []
        for i, token, text in zip(left, tokens, rest, strict=True):
            word = first_word(exam.tokenizer.decode([token]) + text)
            if word and word.lower() not in STOP_WORDS:
                found[i] = word
            else:
                waiting.append(i)
        left = waiting
    return found


def lambada(exam: Exam) -> Result:
    """Last words."""
    passages = read_passages(exam.file)
    used = [passages[i] for i in exam.chosen(passages)]
    exam.say(f"LAMBADA: scoring {len(used)} last words")
    pairs = [encode_pair(exam.tokenizer, context, f" {word}") for context, word in used]
    contexts = [before for before, _ in pairs]
    scores = score_continuations(
        exam.model,
        contexts,
        [after for _, after in pairs],
        start=exam.tokenizer.end_of_text,
        batch_size=exam.batch_size,
    )
    totals = scores.totals()
    nats, nats_error = mean_and_error(totals)
    plain, plain_error = mean_and_error(scores.all_greedy())
    exam.say("LAMBADA: passing over stop words")
    said = words_without_stops(replace(exam, shots=None), contexts)
    filtered, filtered_error = mean_and_error(np.array(said) == np.array([word for _, word in used]))
    chance = commonest_share(word for _, word in passages)
    perplexity = math.exp(nats)
    return Result(
        figures=[
            Figure(
                name="last word",
                metric="perplexity",
                value=perplexity,
                error=None if nats_error is None else perplexity * nats_error,
                items=len(used),
            ),
            Figure(
                name="last word",
                metric="accuracy",
                value=plain,
                error=plain_error,
                chance=chance,
                chance_is="always the commonest word",
                items=len(used),
            ),
            Figure(
                name="no stop words",
                metric="accuracy",
                value=filtered,
                error=filtered_error,
                chance=chance,
                chance_is="always the commonest word",
                items=len(used),
            ),
        ],
        protocol=protocol(
            exam,
            benchmark="lambada",
            template="{passage without its last word}",
            detokenizer="none: the text as published",
            scoring={
                "perplexity": "exp of the mean nats of a whole last word",
                "accuracy": "every token of the last word is the likeliest",
                "no stop words": f"greedy word after the likeliest of {CANDIDATES} first tokens that is no stop word",
            },
            stop_words=fingerprint(sorted(STOP_WORDS)),
        ),
        data=described(exam.file, len(passages), len(used)),
        notes={"truncated": scores.truncated},
    )
