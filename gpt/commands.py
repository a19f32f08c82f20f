"""The word of the command line that GPT shares with other families: ``generate gpt``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import (
    Parser,
    add_model_options,
    give,
    pick_device,
    pick_weights,
    read_text_file,
    say,
)
from zoo.shared.errors import UserError
from zoo.shared.generation.options import LENGTH_CONVENTIONS, TOP_P_CONVENTIONS, GenerationOptions

if TYPE_CHECKING:
    from zoo.gpt.generation import Completion
    from zoo.gpt.model import GPT
    from zoo.gpt.tokenizer import GptTokenizer

DTYPES = ("float32", "bfloat16", "float16", "int8")
_SAMPLED = {"temperature": 1.0, "top_k": 40}  # GPT-2's published samples


def add_sampling_options(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """The options of every command that lets a GPT write, and what they mean."""
    add = parser.add_argument
    add("--max-new-tokens", type=int, default=max_new_tokens, metavar="N", help="tokens at most (default %(default)s)")
    add("--temperature", type=float, metavar="T", help="0 takes the likeliest token (default 1, with beams 0)")
    add("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens, 0 for all (default 40)")
    add("--top-p", type=float, default=1.0, metavar="P", help="sample among the likeliest tokens of this probability")
    add(
        "--top-p-convention", choices=TOP_P_CONVENTIONS, default="common",
        help="whether the token that crosses P is kept, or left out as in GPT-2's code (default %(default)s)",
    )  # fmt: skip
    add("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 makes tokens that occurred rarer")
    add("--seed", type=int, default=0, metavar="S", help="seed of sampling (default %(default)s)")
    add("--dtype", choices=DTYPES, default="float32", help="of the weights; int8 is for CPUs (default %(default)s)")
    add("--compile", action="store_true", help="compile the steps: slow at first, then fast on a GPU")


def sampling_options(args: argparse.Namespace, **further: Any) -> GenerationOptions:
    """The options that :func:`add_sampling_options` read.

    Raises:
        UserError: They do not fit together.
    """
    temperature, top_k = args.temperature, args.top_k
    if temperature is None:
        temperature = 0.0 if further.get("beams", 1) > 1 else _SAMPLED["temperature"]
    if top_k is None and temperature > 0:
        top_k = _SAMPLED["top_k"]
    try:
        return GenerationOptions(
            max_new_tokens=args.max_new_tokens,
            temperature=temperature,
            top_k=top_k or None,
            top_p=args.top_p,
            top_p_convention=args.top_p_convention,
            repetition_penalty=args.repetition_penalty,
            seed=args.seed,
            compile="inductor" if args.compile else None,
            **further,
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def load_model(weights: str | None, device: str | None, dtype: str = "float32") -> tuple[GPT, GptTokenizer, str]:
    """Load a GPT and its tokenizer.

    Returns:
        Model, preprocessor, and what was loaded, for people.

    Raises:
        UserError: No weights, damaged weights, or weights of another family.
    """
    place, weights = pick_device(device), pick_weights("gpt", weights)
    import torch

    from zoo.factory import create_preprocessor
    from zoo.gpt.model import GPT
    from zoo.weights import load

    if dtype == "int8" and place != "cpu":
        raise UserError("--dtype int8 is for CPUs; give --device cpu, or --dtype bfloat16 here")
    model = load(weights, dtype=torch.float32 if dtype == "int8" else getattr(torch, dtype))
    if not isinstance(model, GPT):
        raise UserError(f"{weights} holds a {type(model).__name__}, not a GPT; choose other --weights")
    model = model.to(place).eval()
    return model.for_int8_decoding() if dtype == "int8" else model, create_preprocessor(weights), weights


def generate(words: list[str]) -> int:
    """``zoo generate gpt``: let a GPT write on."""
    parser = Parser(prog="zoo generate gpt", description="Let a GPT continue texts.")
    add = parser.add_argument
    add(
        "--prompt", action="append", default=[], metavar="TEXT",
        help="the beginning; - reads it from standard input; repeatable",
    )  # fmt: skip
    add("--prompt-file", action="append", default=[], metavar="FILE", help="the beginning is a file; repeatable")
    add_sampling_options(parser, max_new_tokens=100)
    add("--beams", type=int, default=1, metavar="K", help="search the likeliest text with K beams")
    add("--length-penalty", type=float, default=1.0, metavar="A", help="exponent of a beam's length")
    add(
        "--length-convention", choices=LENGTH_CONVENTIONS, default="power",
        help="length, or (5 + length) / 6 as in GPT-3's searches (default %(default)s)",
    )  # fmt: skip
    add("--stop", action="append", default=[], metavar="TEXT", help="ends a text and is left out; repeatable")
    add("--samples", type=int, default=1, metavar="N", help="texts for each prompt (default %(default)s)")
    add("--batch-size", type=int, default=16, metavar="B", help="texts computed together (default %(default)s)")
    add("--stream", action="store_true", help="show the text as it comes, as a terminal does for one text")
    add_model_options(parser, title="GPT")
    args = parser.parse_args(words)
    options = sampling_options(
        args,
        beams=args.beams,
        length_penalty=args.length_penalty,
        length_convention=args.length_convention,
        stop=tuple(args.stop),
        batch_size=args.batch_size,
    )
    if args.samples < 1:
        raise UserError(f"--samples {args.samples}: ask for at least one text")
    if args.samples > 1 and options.temperature == 0:
        raise UserError(f"--samples {args.samples} would all be the same text; give a --temperature above 0")
    prompts = read_prompts(args.prompt, args.prompt_file)
    texts = [prompt for prompt in prompts for _ in range(args.samples)]
    stream = args.stream or (len(texts) == 1 and sys.stdout.isatty() and not args.json)
    if args.stream and (args.json or options.beams > 1 or len(texts) > 1):
        raise UserError("--stream shows one text as it comes; leave out --json, --beams, --samples and further prompts")
    model, preprocessor, weights = load_model(args.weights, args.device, args.dtype)
    from zoo.gpt.generation import generate_texts

    tell_limits(model, preprocessor, prompts, options)
    if stream and options.beams == 1:
        _stream(model, preprocessor, texts[0], options)
        return 0
    found = generate_texts(model, preprocessor, texts, options)
    if args.json:
        give([as_json(one, weights) for one in found])
    else:
        _show(found)
    return 0


def read_prompts(prompts: Sequence[str], files: Sequence[str]) -> list[str]:
    """The prompts as given; one empty prompt if there is none.

    Raises:
        UserError: A file cannot be read, or standard input is named twice.
    """
    if [*prompts, *files].count("-") > 1:
        raise UserError("standard input can be read only once; give - for one prompt")
    read = [read_text_file("-") if prompt == "-" else prompt for prompt in prompts]
    return [*read, *(read_text_file(path) for path in files)] or [""]


def tell_limits(model: GPT, preprocessor: GptTokenizer, prompts: Sequence[str], options: GenerationOptions) -> None:
    """Say so where the context ends a text before ``max_new_tokens`` do."""
    from zoo.gpt.generation import prompt_ids

    context = model.config.context
    room = context - max(len(prompt_ids(preprocessor, prompt)) for prompt in prompts)
    if 0 < room < options.max_new_tokens:
        say(f"the context of {context} tokens leaves room for {room} new ones, not {options.max_new_tokens}")


def as_json(one: Completion, weights: str) -> dict[str, Any]:
    """A completion for machines."""
    return {
        "prompt": one.prompt,
        "text": one.text,
        "finish": one.finish,
        "tokens": len(one.tokens),
        "log_probability": one.log_probability,
        "weights": weights,
    }


def _stream(model: GPT, preprocessor: GptTokenizer, prompt: str, options: GenerationOptions) -> None:
    """Write a text as it comes, its beginning not before it is known to be good."""
    from zoo.gpt.generation import generate_texts, joint

    beginning = prompt + (joint(preprocessor) if prompt else "")

    def write(_: int, text: str) -> None:
        nonlocal beginning
        sys.stdout.write(beginning + text)
        sys.stdout.flush()
        beginning = ""

    generate_texts(model, preprocessor, [prompt], options, on_text=write)
    write(0, "\n")


def _show(found: Sequence[Completion]) -> None:
    for number, one in enumerate(found, 1):
        if len(found) > 1:
            sys.stdout.write(f"{'' if number == 1 else chr(10)}=== {number} of {len(found)} ===\n")
        sys.stdout.write(f"{one.whole}\n")
