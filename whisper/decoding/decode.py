"""From the states of windows of sound to their texts.

Shapes: N windows, A states of sound, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.whisper.decoding.beam import beam_search
from zoo.whisper.decoding.candidates import Candidate, likeliest
from zoo.whisper.decoding.language import language_ids, language_probabilities
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.prompts import Text, check, past_ids, start_ids, tokens_at_most
from zoo.whisper.decoding.result import DecodingResult, compression_ratio
from zoo.whisper.decoding.rules import Rules
from zoo.whisper.decoding.sampling import sample
from zoo.whisper.decoding.session import Session
from zoo.whisper.model import Whisper

if TYPE_CHECKING:
    from zoo.whisper.tokenizer import WhisperTokenizer

_COMPILED_SLOTS = 256  # two lengths of 448 at most: each is compiled by itself, which takes seconds
_DEFAULT = DecodingOptions()


def decode(
    model: Whisper,
    tokenizer: WhisperTokenizer,
    audio_states: Tensor,
    options: DecodingOptions = _DEFAULT,
    prompts: Sequence[Text | None] | None = None,
) -> list[DecodingResult]:
    """Write down what is said in windows of sound.

    Windows are computed together, and each gets what it would get alone. With a temperature of 0 the results are those
    of openai-whisper.

    Args:
        model: In ``eval()`` mode.
        tokenizer: Its tokenizer.
        audio_states: ``(N, A, D)`` from the encoder.
        options: How.
        prompts: What came before each window, in place of ``options.prompt``.

    Returns:
        One result for each window.

    Raises:
        UserError: The model cannot do it, or what is given does not fit into its context.
    """
    given = [options.prompt] * len(audio_states) if prompts is None else list(prompts)
    if len(given) != len(audio_states):
        raise ValueError(f"{len(given)} prompts are not one for each of {len(audio_states)} windows")
    context = model.config.text_context
    past = [past_ids(prompt, tokenizer, options, context) for prompt in given]
    some = options.language or (tokenizer.languages[0] if tokenizer.multilingual else None)
    start = start_ids(tokenizer, options, some, context)  # as long whatever the language
    for ids in past:
        check([*ids, *start], context=context, size=model.config.vocab_size)
    lengths = [len(ids) + len(start) for ids in past]
    results: dict[int, DecodingResult] = {}
    with torch.inference_mode():
        for rows in _together(lengths, [_room(length, options, context) for length in lengths], context):
            whole = len(rows) == len(audio_states)
            audio = audio_states if whole else audio_states[torch.tensor(rows, device=audio_states.device)]
            found = _decode(model, tokenizer, audio, options, [past[row] for row in rows], len(start))
            results.update(zip(rows, found, strict=True))
    return [results[row] for row in range(len(audio_states))]


def _room(length: int, options: DecodingOptions, context: int) -> int:
    """Tokens that may follow ``length`` of them; the last one need not fit, because nothing follows it."""
    return min(tokens_at_most(options, context), context + 1 - length)


def _together(lengths: Sequence[int], rooms: Sequence[int], context: int) -> list[list[int]]:
    """Numbers of the windows that are computed together.

    Padding takes room too, so a window with much before it and one with little may not share a batch: each text is as
    long as it would be alone.
    """
    found: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not found or longest + rooms[row] - 1 > context:
            found.append([])
            longest = lengths[row]
        found[-1].append(row)
    return [sorted(rows) for rows in found]


def _decode(
    model: Whisper,
    tokenizer: WhisperTokenizer,
    audio: Tensor,
    options: DecodingOptions,
    past: Sequence[Sequence[int]],
    start: int,
) -> list[DecodingResult]:
    """The results of windows that are computed together, whose transcripts start with ``start`` ids."""
    context = model.config.text_context
    rooms = [_room(len(ids) + start, options, context) for ids in past]
    slots = max(map(len, past)) + start + max(rooms) - 1
    if options.compile is not None:
        slots = min(-(-slots // _COMPILED_SLOTS) * _COMPILED_SLOTS, context)
    session = Session(model, audio, texts=options.group, slots=slots, compile=options.compile)
    languages, heard = _languages(session, tokenizer, options)
    if options.task == "lang_id":
        return [
            DecodingResult(language=code, language_probs=found) for code, found in zip(languages, heard, strict=True)
        ]
    starts = [
        [*ids, *start_ids(tokenizer, options, code if tokenizer.multilingual else None, context)]
        for ids, code in zip(past, languages, strict=True)
    ]
    after_sot, logits = session.begin(starts, start - 1)
    silence = after_sot.softmax(-1)[:, tokenizer.specials.no_speech].tolist()
    rules = Rules(tokenizer, options, size=logits.shape[-1], device=logits.device)
    if options.beam_size is None:
        candidates = sample(session, logits, rules, options, starts=starts, rooms=rooms)
    else:
        candidates = beam_search(session, logits, rules, options, rooms=rooms)
    return [
        _result(tokenizer, options, likeliest(found, options), code, probabilities, no_speech)
        for found, code, probabilities, no_speech in zip(candidates, languages, heard, silence, strict=True)
    ]


def _languages(
    session: Session, tokenizer: WhisperTokenizer, options: DecodingOptions
) -> tuple[list[str], Sequence[dict[str, float] | None]]:
    """The language of each window, and what was heard where it was not given."""
    if options.task == "lang_id" or (options.language is None and tokenizer.multilingual):
        allowed = language_ids(tokenizer, options.languages)
        heard = language_probabilities(session.at_start(tokenizer.specials.sot), tokenizer, allowed)
        return [max(found, key=lambda code: found[code]) for found in heard], heard
    return [options.language or tokenizer.languages[0]] * session.windows, [None] * session.windows


def _result(
    tokenizer: WhisperTokenizer,
    options: DecodingOptions,
    best: Candidate,
    language: str,
    heard: dict[str, float] | None,
    no_speech: float,
) -> DecodingResult:
    text = tokenizer.decode(best.tokens).strip()
    return DecodingResult(
        language=language,
        language_probs=heard,
        tokens=best.tokens,
        text=text,
        avg_logprob=best.log_probability / (len(best.tokens) + 1),
        no_speech_prob=no_speech,
        temperature=options.temperature,
        compression_ratio=compression_ratio(text),
    )
