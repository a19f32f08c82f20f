"""Texts in, texts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.gpt.tokenizer import GptTokenizer
from zoo.shared.errors import UserError
from zoo.shared.generation.batch import Generated
from zoo.shared.generation.decode import generate
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.generation.stop import TextStream, text_of
from zoo.shared.text.end_of_word import EndOfWordTokenizer

if TYPE_CHECKING:
    from zoo.gpt.model import GPT

OnText = Callable[[int, str], None]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A text that a model wrote.

    Attributes:
        prompt: What it continues.
        text: The continuation, up to the end of text or a stop text.
        joint: What stands between the two.
        tokens: New tokens, with the one that ended the text.
        finish: Why it ended: ``end``, ``stop`` or ``length``.
        log_probability: Of all new tokens together under the model, in nats.
    """

    prompt: str
    text: str
    joint: str
    tokens: list[int]
    finish: str
    log_probability: float

    @property
    def whole(self) -> str:
        """Prompt and continuation."""
        return self.prompt + (self.joint if self.prompt else "") + self.text


def prompt_ids(preprocessor: GptTokenizer, prompt: str) -> list[int]:
    """Tokens of a prompt; an empty one starts from the end of text, which parts documents in training.

    Raises:
        UserError: The prompt is empty and the tokenizer has no end of text.
    """
    ids = preprocessor.encode(prompt)
    if ids:
        return ids
    if preprocessor.end_of_text is None:
        raise UserError(
            f"the prompt is empty, and the tokenizer {preprocessor.tokenizer.name} has no end of text to start from; "
            "give a prompt"
        )
    return [preprocessor.end_of_text]


def check_vocabulary(model: GPT, preprocessor: GptTokenizer) -> None:
    """Refuse a tokenizer that is not the model's.

    Raises:
        UserError: It has ids that the model lacks.
    """
    if preprocessor.vocab_size > model.config.vocab_size:
        raise UserError(
            f"the tokenizer {preprocessor.tokenizer.name} has {preprocessor.vocab_size} ids but the model only "
            f"{model.config.vocab_size}; use the tokenizer that the model was trained with"
        )


def generate_texts(
    model: GPT,
    preprocessor: GptTokenizer,
    prompts: Sequence[str],
    options: GenerationOptions,
    *,
    on_text: OnText | None = None,
) -> list[Completion]:
    """Continue texts.

    Args:
        model: The model, in ``eval()`` mode.
        preprocessor: Its tokenizer.
        prompts: The texts; one that is given several times gets several samples.
        options: How.
        on_text: Called with the prompt's number and each piece of its continuation, in whole characters; not with
            beams, which have no text before the end.

    Returns:
        One completion for each prompt.

    Raises:
        UserError: A prompt is empty or too long, or the tokenizer is not the model's.
    """
    check_vocabulary(model, preprocessor)
    ids = [prompt_ids(preprocessor, prompt) for prompt in prompts]
    found = generate_from_ids(model, preprocessor, ids, options, on_text=on_text)
    return [
        Completion(
            prompt=prompt,
            text=plain_text(one, preprocessor, options),
            joint=joint(preprocessor),
            tokens=one.tokens,
            finish=one.finish,
            log_probability=one.log_probability,
        )
        for prompt, one in zip(prompts, found, strict=True)
    ]


def joint(preprocessor: GptTokenizer) -> str:
    """What stands between a prompt and its continuation: GPT-1's tokens are words, which a space parts."""
    return " " if isinstance(preprocessor.tokenizer, EndOfWordTokenizer) else ""


def generate_from_ids(
    model: GPT,
    preprocessor: GptTokenizer,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    end: int | None = None,
    on_text: OnText | None = None,
) -> list[Generated]:
    """Continue tokens, and hand the text on as it comes: :func:`generate_texts` for prompts that are no plain text.

    Args:
        model: The model, in ``eval()`` mode.
        preprocessor: Its tokenizer.
        prompts: Token ids.
        options: How.
        end: The token that ends a text; by default the end of text.
        on_text: As for :func:`generate_texts`.
    """
    decode_bytes = preprocessor.tokenizer.decode_bytes
    end = preprocessor.end_of_text if end is None else end
    streams = [TextStream(decode_bytes, options.stop) for _ in prompts]

    def pass_on(row: int, token: int) -> None:
        assert on_text is not None
        if token != end and (text := streams[row].push(token)):
            on_text(row, text)

    streaming = on_text is not None and options.beams == 1
    found = generate(
        model,
        prompts,
        options,
        end=end,
        decode_bytes=decode_bytes,
        vocab_size=preprocessor.vocab_size,
        on_token=pass_on if streaming else None,
    )
    if streaming and on_text is not None:
        for row, stream in enumerate(streams):
            if text := stream.finish():
                on_text(row, text)
    return found


def plain_text(one: Generated, preprocessor: GptTokenizer, options: GenerationOptions) -> str:
    """Text of what was generated, without its end."""
    tokens = one.tokens[:-1] if one.finish == "end" else one.tokens
    return text_of(tokens, preprocessor.tokenizer.decode_bytes, options.stop)
