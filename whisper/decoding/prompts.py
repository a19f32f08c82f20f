"""What stands before a transcript: text that came before, the start with language and task, the given beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.shared.errors import UserError
from zoo.whisper.decoding.options import DecodingOptions

if TYPE_CHECKING:
    from zoo.whisper.tokenizer import WhisperTokenizer

Text = str | Sequence[int]


def ids_of(text: Text | None, tokenizer: WhisperTokenizer) -> list[int]:
    """Ids of a text as it stands in a transcript; ids stay as they are."""
    if not text:
        return []
    return tokenizer.encode(f" {text.strip()}") if isinstance(text, str) else list(text)


def tokens_at_most(options: DecodingOptions, context: int) -> int:
    """How many tokens a window's text may have, wherever it starts."""
    return options.sample_len or context // 2


def past_ids(prompt: Text | None, tokenizer: WhisperTokenizer, options: DecodingOptions, context: int) -> list[int]:
    """Hotwords and previous text, cut so that half of the context is left; none, or those after ``<|startofprev|>``."""
    room = context // 2 - 1
    hot = ids_of(options.hotwords, tokenizer)[:room]
    kept = ids_of(prompt, tokenizer)
    past = hot + kept[max(0, len(kept) - (room - len(hot))) :]
    return [tokenizer.specials.sot_prev, *past] if past else []


def start_ids(tokenizer: WhisperTokenizer, options: DecodingOptions, language: str | None, context: int) -> list[int]:
    """The start of the transcript of one window, its given beginning included.

    A beginning loses its first tokens where ``sample_len`` leaves too little of half a context. By default it leaves
    nothing of it, and then, as in the released code, the whole beginning stays.
    """
    task = "transcribe" if options.task == "lang_id" else options.task
    ids = list(tokenizer.sot_sequence(language, task))
    if options.without_timestamps:
        ids.append(tokenizer.specials.no_timestamps)
    prefix = ids_of(options.prefix, tokenizer)
    room = context // 2 - tokens_at_most(options, context)
    return ids + (prefix[-room:] if room > 0 else prefix)


def check(ids: Sequence[int], *, context: int, size: int) -> None:
    """Refuse what cannot be continued.

    Raises:
        UserError: It is too long, or has foreign ids.
    """
    if len(ids) > context:
        raise UserError(f"prompt and prefix take {len(ids)} tokens, the context has {context}; shorten the prefix")
    foreign = [index for index in ids if not 0 <= index < size]
    if foreign:
        raise UserError(f"prompt or prefix holds the id {foreign[0]}, which the vocabulary of {size} does not have")
