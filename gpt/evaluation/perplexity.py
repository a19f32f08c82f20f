"""Perplexity of a word and bits of a byte, over rolling windows.

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Section 3.1: nats of the detokenised text,
divided by the number of words that the corpus had as it was published.
"""

from __future__ import annotations

import math

from zoo.gpt.evaluation.detokenizers import DETOKENIZERS
from zoo.gpt.evaluation.exam import Exam, Figure, Result, described, protocol, read_text
from zoo.gpt.scoring import TextLosses, text_losses
from zoo.shared.errors import UserError


def _windows(exam: Exam) -> str:
    return f"rolling windows of {exam.context} tokens, {exam.stride or exam.context} predicted by each after the first"


def _losses(exam: Exam, texts: list[str]) -> TextLosses:
    return text_losses(exam.model, exam.tokenizer, texts, stride=exam.stride, batch_size=exam.batch_size)


def _exponential(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf  # a file whose words have hundreds of tokens


def perplexity(exam: Exam) -> Result:
    """Perplexity of a word of a corpus such as WikiText, whose words are separated by spaces."""
    text = read_text(exam.file)
    if not text.strip():
        raise UserError(f"{exam.file} is empty; running text is expected")
    whole = len(text)
    if exam.limit is not None:
        text = "".join(line + "\n" for line in text.split("\n")[: exam.limit])[: len(text)]
    detokenizer = DETOKENIZERS[exam.detokenizer or "wikitext"]
    # A line end is a word too: the published counts of WikiText and of the Penn Treebank have it.
    words = len(text.split()) + text.count("\n")
    exam.say(f"perplexity: {words:,} words")
    running = detokenizer(text)
    losses = _losses(exam, [running])
    nats = float(losses.nats.sum())
    vocabulary = exam.tokenizer.vocab_size
    return Result(
        figures=[
            Figure(
                name="word",
                metric="perplexity",
                value=_exponential(nats / words),
                chance=_exponential(math.log(vocabulary) * int(losses.tokens.sum()) / words),
                chance_is="all tokens equally likely",
                items=words,
            ),
            Figure(
                name="byte",
                metric="bits per byte",
                value=losses.bits_per_byte,
                chance=math.log2(vocabulary) * float(losses.tokens.sum() / losses.bytes.sum()),
                chance_is="all tokens equally likely",
                items=int(losses.bytes.sum()),
            ),
        ],
        protocol=protocol(
            exam,
            benchmark="perplexity",
            template="{text}",
            detokenizer=detokenizer.named(),
            scoring="exp of nats per word as published, line ends included",
            windows=_windows(exam),
        ),
        data=described(exam.file, whole, len(text)),
        notes={"words": words, "tokens": int(losses.tokens.sum()), "restored_lines": detokenizer.restored(text)},
    )


def bits_per_byte(exam: Exam) -> Result:
    """Bits per byte of a text file, or of the four plays of Shakespeare that no training saw."""
    if exam.data is not None:
        texts, data = [read_text(exam.data)], described(exam.data, 1, 1)
        if not texts[0].strip():
            raise UserError(f"{exam.data} is empty; running text is expected")
    else:
        from zoo.gpt.evaluation.exam import fingerprint
        from zoo.shared.text.plays import split

        held_out = split()[1]
        texts = [play.text for play in held_out]
        data = {"texts": [play.id for play in held_out], "sha256": fingerprint(texts), "used": len(texts)}
    exam.say(f"bits per byte: {sum(len(text) for text in texts):,} characters")
    losses = _losses(exam, texts)
    per_text = losses.nats / math.log(2) / losses.bytes
    error = float(per_text.std(ddof=1) / math.sqrt(len(per_text))) if len(per_text) > 1 else None
    return Result(
        figures=[
            Figure(
                name="text",
                metric="bits per byte",
                value=losses.bits_per_byte,
                error=error,
                chance=math.log2(exam.tokenizer.vocab_size) * float(losses.tokens.sum() / losses.bytes.sum()),
                chance_is="all tokens equally likely",
                items=int(losses.bytes.sum()),
            )
        ],
        protocol=protocol(
            exam,
            benchmark="bits-per-byte",
            template="{text}",
            detokenizer=DETOKENIZERS["none"].named(),
            scoring="nats / ln 2 / UTF-8 bytes, over all texts together",
            windows=_windows(exam),
        ),
        data=data,
        notes={"tokens": int(losses.tokens.sum())},
    )
