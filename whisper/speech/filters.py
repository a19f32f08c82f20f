"""``zoo data filter whisper``: leave out speech whose transcripts are no good, and say which sources to look at."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.shared.command_line import Parser
from zoo.shared.errors import UserError
from zoo.shared.files import check_writable
from zoo.whisper.speech.records import FileSound, SpeechList, Utterance

FILTERS = ("machine", "language", "duplicates")


def filter_speech(words: list[str]) -> int:
    """Keep speech with good transcripts (Section 2.1), and rank its sources by a model's errors."""
    args = _parser().parse_args(words)
    if (args.weights or args.hypotheses) and args.triage is None:
        raise UserError("--weights and --hypotheses rank sources; name the file that gets the ranking with --triage")
    if args.triage and not (args.weights or args.hypotheses):
        raise UserError("--triage needs a model: --weights W, or its transcripts: --hypotheses FILE")
    if args.weights and args.hypotheses:
        raise UserError("--weights makes the transcripts that --hypotheses reads; give one of them")
    from zoo.shared.text.commands import give_report
    from zoo.whisper.speech.manifest import write_manifest

    _check_outputs(args)
    speech, report, kept = _filtered(args)
    report["out"] = args.out
    if args.triage:
        report["triage"] = _triage(args, kept)
    write_manifest(args.out, kept)
    report["kept"], report["read"] = len(kept), len(speech)
    give_report(report, args, report_lines(report, args.out))
    return 0


def _parser() -> Parser:
    from zoo.whisper.speech.transcript_filters import SIMILARITY

    parser = Parser(prog="zoo data filter whisper", description=filter_speech.__doc__)
    parser.add_argument(
        "speech", nargs="+", metavar="SPEECH", help="manifests, folders of LibriSpeech or Common Voice, tars"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="manifest of what is kept; ends in .jsonl")
    parser.add_argument("--language", metavar="L", help="language of speech that does not say it")
    parser.add_argument(
        "--only", nargs="+", choices=FILTERS, default=list(FILTERS), metavar="FILTER",
        help="machine (transcripts that machines made), language (text in another one than is spoken), duplicates; "
        "default: all",
    )  # fmt: skip
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="SPEECH", help="evaluation sets to keep out of training"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=SIMILARITY,
        metavar="J",
        help="Jaccard similarity of duplicates (%(default)s)",
    )
    triage = parser.add_argument_group("ranking sources by error rate and size")
    triage.add_argument("--triage", metavar="FILE", help="gets the ranking; ends in .json")
    triage.add_argument("--weights", metavar="W", help="a model that transcribes what is kept")
    triage.add_argument("--device", metavar="D", help="where it runs; default: the GPU if there is one")
    triage.add_argument("--hypotheses", metavar="FILE", help="its transcripts instead: JSON lines of id and text")
    parser.add_argument("--report", metavar="FILE", help="write the report to this .json file too")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse what cannot be written before anything is read."""
    endings = (("--out", args.out, ".jsonl"), ("--triage", args.triage, ".json"), ("--report", args.report, ".json"))
    read = {Path(name).expanduser().resolve() for name in (*args.speech, *args.against, args.hypotheses or "")}
    for option, name, ending in endings:
        if name is None:
            continue
        path = Path(name).expanduser()
        if path.suffix != ending:
            raise UserError(f"{option} {name}: choose a name that ends in {ending}")
        if path.is_dir() or path.resolve() in read:
            raise UserError(f"{option} {name} is a folder or one of the files that are read; choose another")
        check_writable(path.absolute().parent)


def _filtered(args: argparse.Namespace) -> tuple[list[Utterance], dict[str, Any], list[Utterance]]:
    """All utterances, what each filter did, and what is kept."""
    from zoo.whisper.speech.transcript_filters import DuplicateFilter, LanguageFilter, MachineMadeFilter

    against = [utterance for name in args.against for utterance in _read(name, args.language)]
    makers: dict[str, Callable[[], Any]] = {
        "machine": MachineMadeFilter,
        "language": LanguageFilter,
        "duplicates": lambda: DuplicateFilter(against, threshold=args.threshold),
    }
    if args.against and "duplicates" not in args.only:
        raise UserError("--against is compared by the filter of duplicates; add it to --only")
    filters = {name: makers[name]() for name in FILTERS if name in args.only}
    speech: list[Utterance] = []
    report: dict[str, Any] = {"left_out": {}}
    for name in args.speech:
        found = _read(name, args.language)
        if not all(isinstance(utterance.sound, FileSound) for utterance in found):
            raise UserError(f"{name} has no audio files, so what is kept could not be named in {args.out}")
        speech += found
        report["left_out"] |= {f"{name}: {reason}": count for reason, count in found.left_out.items()}
    kept = speech
    for name, keep in filters.items():
        with _progress(kept, f"filtering: {name}") as stream:
            kept = list(keep(stream))
        report[name] = keep.report()
    if not kept:
        raise UserError("no utterance passed the filters; --only takes fewer of them")
    return speech, report, kept


def _read(name: str, language: str | None) -> SpeechList:
    from zoo.whisper.sources import read_speech

    return read_speech(name, language=language)


@contextmanager
def _progress(utterances: list[Utterance], what: str) -> Iterator[list[Utterance]]:
    """A bar for going through utterances, where standard error is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        yield utterances
        return

    class Tracked(list[Utterance]):
        def __iter__(self) -> Iterator[Utterance]:
            return iter(track(utterances, description=what, console=console, transient=True))

    yield Tracked(utterances)


def _triage(args: argparse.Namespace, kept: list[Utterance]) -> list[dict[str, Any]]:
    from zoo.shared.files import write_json
    from zoo.whisper.speech.triage import rank_sources, read_hypotheses

    hypotheses: Mapping[str, str]
    hypotheses = read_hypotheses(args.hypotheses) if args.hypotheses else _transcripts(args, kept)
    ranked = [asdict(errors) for errors in rank_sources(kept, hypotheses)]
    write_json(args.triage, ranked)
    return ranked


def _transcripts(args: argparse.Namespace, kept: list[Utterance]) -> dict[str, str]:
    """What a model writes for the utterances, greedily and without times."""
    from zoo.factory import create_preprocessor
    from zoo.shared.command_line import pick_device
    from zoo.shared.data.images import BadSample
    from zoo.weights import load
    from zoo.whisper.model import Whisper
    from zoo.whisper.speech.sounds import samples_of
    from zoo.whisper.transcription.transcribe import transcribe

    model = load(args.weights)
    if not isinstance(model, Whisper):
        raise UserError(f"--weights {args.weights} is no Whisper")
    model = model.to(pick_device(args.device)).eval()
    preprocessor = create_preprocessor(args.weights)
    found: dict[str, str] = {}
    with _progress(kept, "transcribing") as stream:
        for utterance in stream:
            if utterance.no_speech:
                continue
            try:
                samples = samples_of(utterance)
            except BadSample:
                continue
            written = transcribe(
                model, samples, preprocessor=preprocessor, language=utterance.language, task=utterance.task,
                temperature=(0.0,), without_timestamps=True, condition_on_previous_text=False,
            )  # fmt: skip
            found[utterance.id] = written["text"]
    return found


def report_lines(report: dict[str, Any], out: str) -> list[str]:
    """The report for people."""
    lines = [f"left out while reading: {count:,} {reason}" for reason, count in report["left_out"].items()]
    for name in FILTERS:
        if name in report:
            lines += _lines_of(name, report[name])
    for row in report.get("triage", [])[:10]:
        lines.append(
            f"  {row['source']}: {100 * row['error_rate']:.1f} % errors in {row['utterances']:,} utterances, "
            f"{row['hours']:.2f} h, {row['wrong_hours']:.2f} h of them wrong"
        )
        lines += [f"    {worst['id']}: {worst['text'][:60]} | {worst['model'][:60]}" for worst in row["worst"][:1]]
    return [*lines, f"kept {report['kept']:,} of {report['read']:,} utterances; wrote {out}"]


def _lines_of(name: str, part: dict[str, Any]) -> list[str]:
    total = sum(part["counts"].values())
    lines = [f"{name}: dropped {total:,} utterances"]
    for reason, count in part["counts"].items():
        lines.append(f"  {count:,} {reason}")
        lines += [f"    {entry['id']}: {entry['text'][:80]}" for entry in part["examples"][reason][:2]]
    if translations := part.get("translations"):
        for reason, count in translations["counts"].items():
            lines.append(f"  {count:,} became translations: {reason}")
            lines += [f"    {entry['id']}: {entry['text'][:80]}" for entry in translations["examples"][reason][:2]]
    if part.get("too_short") or part.get("unsure"):
        lines.append(f"  not judged: {part['too_short']:,} too short, {part['unsure']:,} of unsure language")
    return lines
