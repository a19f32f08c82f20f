"""The word of the command line that is Whisper's: ``transcribe``."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.shared.command_line import give, say
from zoo.shared.errors import UserError
from zoo.whisper.command_options import read_options, transcribe_parser
from zoo.whisper.loading import load_model
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.writers import WRITERS

if TYPE_CHECKING:
    from zoo.whisper.model import Whisper
    from zoo.whisper.preprocessing import WhisperPreprocessor
    from zoo.whisper.transcription.transcribe import Progress, Result

_STDIN = "-"


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
    args = transcribe_parser().parse_args(words)
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
