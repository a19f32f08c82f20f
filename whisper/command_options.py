"""The options of ``zoo transcribe``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from zoo.shared.command_line import Parser, add_model_options
from zoo.shared.errors import UserError
from zoo.whisper.loading import DTYPES
from zoo.whisper.tokens import TASKS
from zoo.whisper.transcription.options import APPENDED, PREPENDED, TEMPERATURES, TranscriptionOptions
from zoo.whisper.writers import WRITERS, SubtitleOptions

_NEED_WORDS = ("highlight_words", "max_line_width", "max_line_count", "max_words_per_line")


def number_or_none(text: str) -> float | None:
    """A number, or None for ``none``, which turns a threshold off."""
    return None if text.lower() == "none" else float(text)


def transcribe_parser() -> argparse.ArgumentParser:
    """The parser of ``zoo transcribe``."""
    parser = Parser(
        prog="zoo transcribe",
        description="Write down what is said in recordings of any length.",
        epilog="Without --format and --out the text is shown as it comes.",
    )
    add: Callable[..., Any] = parser.add_argument
    add("audio", nargs="+", metavar="AUDIO", help="files or patterns like '*.mp3'; - reads standard input")
    add("--language", metavar="L", help="what is spoken, as en or english; default: what the first window sounds like")
    add("--languages", metavar="L,L", help="choose among these languages only")
    add("--task", choices=TASKS, default="transcribe", help="translate: into English (default %(default)s)")
    add("--word-timestamps", action="store_true", help="find the time of each word")
    add("--format", metavar="F,F", help=f"write files: {', '.join(WRITERS)}; default with --out: all")
    add("--out", metavar="DIR", help="folder for the files (default with --format: this one)")
    search = parser.add_argument_group("search")
    add = search.add_argument
    add("--beam-size", type=int, default=5, metavar="K", help="beams at temperature 0, 1 is greedy (default 5)")
    add("--patience", type=float, metavar="P", help="go on until K * P beams have ended (default 1)")
    add("--best-of", type=int, default=5, metavar="N", help="samples at other temperatures (default %(default)s)")
    add("--length-penalty", type=float, metavar="A", help="exponent of a text's length (default: a plain mean)")
    add(
        "--temperature", default=",".join(f"{t:g}" for t in TEMPERATURES), metavar="T,T",
        help="tried in turn until the text is good (default %(default)s)",
    )  # fmt: skip
    threshold: dict[str, Any] = {"type": number_or_none, "metavar": "X"}
    add("--compression-ratio-threshold", default=2.4, help="more repeats itself (default %(default)s)", **threshold)
    add("--logprob-threshold", default=-1.0, help="less is unlikely (default %(default)s)", **threshold)
    add("--no-speech-threshold", default=0.6, help="more, and unlikely text, is silence (default 0.6)", **threshold)
    add("--suppress-tokens", default="-1", metavar="I,I", help="ids never written; -1: all that nobody speaks")
    add("--initial-prompt", metavar="TEXT", help="stands before the first window: names, spelling, style")
    add("--carry-initial-prompt", action="store_true", help="before every window")
    add("--hotwords", metavar="TEXT", help="words to expect in every window")
    add("--no-condition-on-previous-text", action="store_true", help="tell no window the text before it")
    add(
        "--hallucination-silence-threshold", type=float, metavar="S",
        help="skip silence of more than S seconds where words look invented; with --word-timestamps",
    )  # fmt: skip
    add("--clip-timestamps", default="0", metavar="S,E", help="seconds from S to E only; also S,E,S,E ...")
    batches = parser.add_argument_group("batches: voice activity finds the speech, and pieces are decoded together")
    add = batches.add_argument
    add("--batched", action="store_true", help="quick; no piece is told the text before it")
    add("--accounted", action="store_true", help="batched, and every second ends as text, silence or flagged")
    add("--batch-size", type=int, default=16, metavar="N", help="pieces at once (default %(default)s)")
    words = parser.add_argument_group("subtitles, with --word-timestamps")
    add = words.add_argument
    add("--max-line-width", type=int, metavar="N", help="characters of a line")
    add("--max-line-count", type=int, metavar="N", help="lines of a subtitle, with --max-line-width")
    add("--max-words-per-line", type=int, metavar="N", help="words of a subtitle")
    add("--highlight-words", action="store_true", help="underline each word while it is spoken")
    add("--prepend-punctuations", default=PREPENDED, metavar="SIGNS", help="belong to the next word")
    add("--append-punctuations", default=APPENDED, metavar="SIGNS", help="belong to the word before")
    add_model_options(parser, title="Whisper, else OpenAI's tiny.en")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the weights; int8 is for CPUs (default %(default)s)"
    )
    parser.add_argument("--compile", action="store_true", help="compile the steps: some 20 seconds at first, then fast")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of sampling (default %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor cores to use")
    return parser


def read_options(args: argparse.Namespace) -> tuple[TranscriptionOptions, SubtitleOptions]:
    """What the words of the command line ask for.

    Raises:
        UserError: They do not fit together.
    """
    if not args.word_timestamps:
        for name in (*_NEED_WORDS, "hallucination_silence_threshold"):
            if getattr(args, name) not in (None, False):
                raise UserError(f"--{name.replace('_', '-')} needs --word-timestamps")
    if args.max_line_count is not None and args.max_line_width is None:
        raise UserError("--max-line-count needs --max-line-width")
    if args.max_words_per_line is not None and args.max_line_width is not None and args.max_line_count is not None:
        raise UserError("--max-words-per-line has no effect beside --max-line-width and --max-line-count; choose")
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: give at least one")
    if args.carry_initial_prompt and not args.initial_prompt:
        raise UserError("--carry-initial-prompt needs --initial-prompt")
    if args.beam_size < 1 or args.best_of < 1:
        raise UserError("--beam-size and --best-of count from 1")
    if args.patience is not None and args.beam_size == 1:
        raise UserError("--patience is about beams; give --beam-size 2 or more")
    options = TranscriptionOptions.of(
        None,
        {
            "language": args.language,
            "languages": args.languages,
            "task": args.task,
            "temperature": args.temperature,
            "best_of": args.best_of,
            "beam_size": args.beam_size if args.beam_size > 1 else None,
            "patience": args.patience,
            "length_penalty": args.length_penalty,
            "suppress_tokens": args.suppress_tokens,
            "compression_ratio_threshold": args.compression_ratio_threshold,
            "logprob_threshold": args.logprob_threshold,
            "no_speech_threshold": args.no_speech_threshold,
            "condition_on_previous_text": not args.no_condition_on_previous_text,
            "initial_prompt": args.initial_prompt,
            "carry_initial_prompt": args.carry_initial_prompt,
            "hotwords": args.hotwords,
            "word_timestamps": args.word_timestamps,
            "prepend_punctuations": args.prepend_punctuations,
            "append_punctuations": args.append_punctuations,
            "clip_timestamps": args.clip_timestamps,
            "hallucination_silence_threshold": args.hallucination_silence_threshold,
            "seed": args.seed,
            "compile": "inductor" if args.compile else None,
        },
    )
    return options, SubtitleOptions(**{name: getattr(args, name) for name in _NEED_WORDS})
