"""The word of the command line that is Whisper's: ``transcribe``."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.shared.command_line import Parser, add_model_options, give, pick_device, say
from zoo.shared.errors import UserError
from zoo.whisper.tokens import TASKS
from zoo.whisper.transcription.options import APPENDED, PREPENDED, TEMPERATURES, TranscriptionOptions
from zoo.whisper.writers import WRITERS, SubtitleOptions

if TYPE_CHECKING:
    from zoo.whisper.model import Whisper
    from zoo.whisper.preprocessing import WhisperPreprocessor
    from zoo.whisper.transcription.transcribe import Progress, Result

DTYPES = ("float32", "bfloat16", "float16", "int8")
_STDIN = "-"
_NEED_WORDS = ("highlight_words", "max_line_width", "max_line_count", "max_words_per_line")


def load_model(
    weights: str | None, device: str | None, dtype: str = "float32"
) -> tuple[Whisper, WhisperPreprocessor, str]:
    """Load a Whisper and what belongs to it: the weights named, else those of the newest run, else the real tiny.en.

    Returns:
        Model, preprocessor, and what was loaded, for people.

    Raises:
        UserError: Damaged weights, weights of another family, or a type that the device cannot use.
    """
    place = pick_device(device)
    if dtype == "int8" and place != "cpu":
        raise UserError("--dtype int8 is for CPUs; give --device cpu, or --dtype bfloat16 here")
    weights = weights or _own_or_released()
    import torch

    from zoo.factory import create_preprocessor
    from zoo.weights import load
    from zoo.whisper.model import Whisper

    model = load(weights, dtype=torch.float32 if dtype == "int8" else getattr(torch, dtype))
    if not isinstance(model, Whisper):
        raise UserError(f"{weights} holds a {type(model).__name__}, not a Whisper; choose other --weights")
    model = model.to(place).eval()
    return model.for_int8_decoding() if dtype == "int8" else model, create_preprocessor(weights), weights


def _own_or_released() -> str:
    from zoo.shared.runs.folder import newest_weights
    from zoo.whisper.pretrained import tiny_en

    try:
        weights = newest_weights("whisper")
    except UserError:  # there is no run
        weights = tiny_en(progress=say)
        say("using OpenAI's tiny.en, as there are no --weights and no run; it knows English")
    else:
        say(f"using {weights}")
    return str(weights)


def number_or_none(text: str) -> float | None:
    """A number, or None for ``none``, which turns a threshold off."""
    return None if text.lower() == "none" else float(text)


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("--compile", action="store_true", help="compile the steps: slow at first, then fast on a GPU")
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


def find_recordings(words: Sequence[str]) -> list[str]:
    """The files that a user names, patterns filled in.

    Raises:
        UserError: One does not exist, or standard input is named twice.
    """
    found: list[str] = []
    for word in words:
        if word == _STDIN or Path(word).expanduser().is_file():
            found.append(word)
        elif Path(word).expanduser().is_dir():
            raise UserError(f"{word} is a folder; name its recordings, like '{Path(word) / '*.wav'}'")
        elif matches := sorted(glob.glob(str(Path(word).expanduser()), recursive=True)):
            found += [match for match in matches if Path(match).is_file()]
        else:
            raise UserError(f"no file fits {word!r}" if glob.has_magic(word) else f"no such file: {word}")
    if found.count(_STDIN) > 1:
        raise UserError("standard input can be read only once")
    return list(dict.fromkeys(found))


def _formats(args: argparse.Namespace, recordings: Sequence[str]) -> list[str]:
    """The files to write for each recording; none where the text is shown.

    Raises:
        UserError: There is no such format, or two recordings would be written to the same file.
    """
    if args.format is None and args.out is None:
        return []
    formats = list(WRITERS) if args.format is None else list(dict.fromkeys(args.format.replace(" ", "").split(",")))
    for name in formats:
        if name not in WRITERS:
            raise UserError(f"--format {name} is unknown; choose among {', '.join(WRITERS)}")
    owners: dict[str, str] = {}
    for recording in recordings:
        stem = Path(name_of(recording)).stem
        if stem in owners:
            raise UserError(f"{owners[stem]} and {recording} would both be written as {stem}.{formats[0]}; rename one")
        owners[stem] = recording
    return formats


def name_of(recording: str) -> str:
    """What a recording is called, standard input too."""
    return "stdin" if recording == _STDIN else recording


def transcribe(words: list[str]) -> int:
    """``zoo transcribe``: write down what is said."""
    args = _parser().parse_args(words)
    options, subtitles = read_options(args)
    recordings = find_recordings(args.audio)
    formats = _formats(args, recordings)
    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads {args.threads}: give at least one")
    if formats:
        from zoo.shared.files import check_writable

        check_writable(args.out or ".")
    model, preprocessor, weights = load_model(args.weights, args.device, args.dtype)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    from zoo.whisper.transcription.windows import check_options

    check_options(preprocessor.tokenizer, options)
    shown = not args.json and not formats
    run = _in_batches if args.batched or args.accounted else _in_sequence
    results = []
    for recording, result in run(args, model, preprocessor, options, recordings, shown):
        if formats:
            from zoo.whisper.writers import write

            files = write(result, name_of(recording), args.out or ".", formats, subtitles)
            if not args.json:
                sys.stdout.write("".join(f"wrote {file}\n" for file in files))
        results.append({"audio": name_of(recording), "weights": weights, **result})
    if args.json:
        give(results)
    return 2 if len(results) < len(recordings) else 0


def _in_sequence(
    args: argparse.Namespace,
    model: Whisper,
    preprocessor: WhisperPreprocessor,
    options: TranscriptionOptions,
    recordings: Sequence[str],
    shown: bool,
) -> Iterator[tuple[str, Result]]:
    """Each recording by itself, window after window, as the reference does it; text is shown as it comes."""
    from zoo.whisper.transcription.transcribe import transcribe as write_down
    from zoo.whisper.transcription.transcribe import write_line

    for recording in recordings:
        if shown and len(recordings) > 1:
            sys.stdout.write(f"{name_of(recording)}\n")
        try:
            with _progress(name_of(recording)) as progress:
                result = write_down(
                    model,
                    sys.stdin.buffer if recording == _STDIN else Path(recording).expanduser(),
                    preprocessor=preprocessor,
                    options=options,
                    on_segment=write_line if shown else None,
                    progress=progress,
                )
        except UserError as error:
            if len(recordings) == 1:
                raise
            say(f"skipped: {error}")  # the others are none the worse for it
            continue
        yield recording, result


def _in_batches(
    args: argparse.Namespace,
    model: Whisper,
    preprocessor: WhisperPreprocessor,
    options: TranscriptionOptions,
    recordings: Sequence[str],
    shown: bool,
) -> Iterator[tuple[str, Result]]:
    """Pieces of all recordings together; what could not be read is skipped."""
    from zoo.shared.audio.files import duration
    from zoo.whisper.transcription.accounting import transcribe_accounted
    from zoo.whisper.transcription.batched import transcribe_batched
    from zoo.whisper.transcription.transcribe import write_line

    sound: dict[str, Path | bytes] = {}
    for recording in recordings:
        source = sys.stdin.buffer.read() if recording == _STDIN else Path(recording).expanduser()
        try:
            duration(source)
        except UserError as error:
            if len(recordings) == 1:
                raise
            say(f"skipped: {error}")
        else:
            sound[recording] = source
    transcribe_all = transcribe_accounted if args.accounted else transcribe_batched
    found = transcribe_all(
        model, list(sound.values()), preprocessor=preprocessor, options=options, batch_size=args.batch_size
    )
    for recording, result in zip(sound, found, strict=True):
        if shown and len(recordings) > 1:
            sys.stdout.write(f"{name_of(recording)}\n")
        for segment in result["segments"] if shown else ():
            write_line(segment)
        if args.accounted and not args.json:
            _tell_account(result)
        yield recording, result


def _tell_account(result: Result) -> None:
    """Say what became of the recording's seconds, and where nobody should believe anything."""
    coverage = result["coverage"]
    parts = ", ".join(f"{kind} {coverage[kind]:g} s" for kind in ("text", "silence", "flagged"))
    share = coverage["speech_with_text"]
    say(
        f"of {coverage['seconds']:g} s: {parts}"
        + ("" if share is None else f"; {100 * share:.1f} % of speech has text")
    )
    for stretch in result["account"]:
        if stretch["kind"] == "flagged":
            text = f": {stretch['text'].strip()}" if stretch.get("text") else ""
            say(f"flagged {stretch['start']:.2f} to {stretch['end']:.2f} s, {stretch['reason']}{text}")


@contextmanager
def _progress(name: str) -> Iterator[Progress | None]:
    """A bar where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from zoo.whisper.transcription.show import progress_bar

    with progress_bar(name) as progress:
        yield progress
