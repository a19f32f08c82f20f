"""``zoo data prepare|filter|dedupe|overlap`` for the families that read text; a family adds its tokenizers."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.shared.command_line import Parser, give
from zoo.shared.errors import UserError
from zoo.shared.files import check_writable, write_json
from zoo.shared.text.documents import Document, Documents, open_documents, write_documents
from zoo.shared.text.tokens import Tokenizer


@dataclass(frozen=True)
class TrainingTexts:
    """What a family may train a tokenizer on.

    Attributes:
        texts: Gives the texts that are not held out.
        made_of: What decides them, to recognise a tokenizer that was trained on the same.
    """

    texts: Callable[[], Iterator[str]]
    made_of: dict[str, Any]


OpenTokenizer = Callable[[str, TrainingTexts, Path], Tokenizer]


def reading_parser(word: str, family: str, description: str) -> Parser:
    """A parser with what all commands over documents share."""
    parser = Parser(prog=f"zoo data {word} {family}", description=description)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="texts: files, folders and patterns of .txt, .jsonl, .parquet (also .gz, .zst), or hf:owner/name",
    )
    parser.add_argument("--text-column", default="text", metavar="C", help="a table's column of texts (%(default)s)")
    parser.add_argument("--year-column", metavar="C", help="a table's column of years (`year` where there is one)")
    parser.add_argument("--split-on", metavar="LINE", help="a line that parts the documents of a plain text file")
    parser.add_argument(
        "--bad", choices=("stop", "skip"), default="stop", help="what becomes of unreadable documents (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def open_files(args: argparse.Namespace, files: list[str]) -> Documents:
    """Documents as the options say."""
    return open_documents(
        files, text_column=args.text_column, year_column=args.year_column, split_on=args.split_on, bad=args.bad
    )


def open_side_files(args: argparse.Namespace, files: list[str], *, column: str, option: str) -> Documents:
    """Documents beside those that the command is about: these need no year, and may have a column of their own.

    Args:
        args: The options.
        files: What the user names.
        column: Column of the texts.
        option: The option that sets it.
    """
    return open_documents(files, text_column=column, text_option=option, split_on=args.split_on, bad=args.bad)


@contextmanager
def progress(documents: Documents) -> Iterator[Callable[[str], None]]:
    """A bar over the bytes of the sources, and a function that sets the words beside it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=documents.size or None)
        said = 0.0

        def note(words: str) -> None:
            nonlocal said
            if time.monotonic() - said > 0.1:
                said = time.monotonic()
                bar.update(task, completed=documents.bytes_read, description=words)

        yield note


def counted(documents: Iterable[Document], note: Callable[[str], None], what: str) -> Iterator[Document]:
    """The documents, with the bar moved along."""
    for number, document in enumerate(documents, 1):
        note(f"{what}: {number:,} documents")
        yield document


def give_report(report: dict[str, Any], args: argparse.Namespace, lines: Iterable[str]) -> None:
    """Write a report, as JSON or for people, and to ``--report`` where that is given."""
    if getattr(args, "report", None):
        write_json(args.report, report)
    if args.json:
        give(report)
    else:
        sys.stdout.write("".join(line + "\n" for line in lines))


def skipped_lines(documents: Documents) -> list[str]:
    """What was left out while reading, for people."""
    return [f"left out: {number:,} {reason} documents" for reason, number in documents.skipped.items()]


def check_output(path: str, *read: Documents | Path, option: str = "--out", ending: str = ".jsonl") -> Path:
    """A file that can be written and is none of those that are read.

    Args:
        path: What the user names.
        read: All that the command reads.
        option: Where the user names it.
        ending: What the name must end in.

    Raises:
        UserError: It cannot be.
    """
    out = Path(path).expanduser()
    if out.suffix.lower() != ending:
        raise UserError(f"{option} {path}: choose a name that ends in {ending}")
    if out.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file in it")
    paths: list[Path | None] = []
    for group in read:
        paths += [source.path for source in group.sources] if isinstance(group, Documents) else [group]
    target = out.resolve()
    if any(one is not None and one.resolve() in (target, *target.parents) for one in paths):
        raise UserError(f"{option} {path} is one of the files that are read; choose another")
    check_writable(out.absolute().parent)
    return out


def check_report(args: argparse.Namespace, *read: Documents | Path) -> None:
    """Refuse a ``--report`` that cannot be written, before anything is read.

    Raises:
        UserError: It cannot be, or is one of the files that are read.
    """
    if args.report:
        check_output(args.report, *read, option="--report", ending=".json")


def share(text: str) -> float:
    """A share for ``--held-out``: from 0 to less than 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; choose from 0 to less than 1")
    return value


def prepare_command(words: list[str], *, family: str, tokenizers: str, open_tokenizer: OpenTokenizer) -> int:
    """``zoo data prepare FAMILY``: token files.

    Args:
        words: The command's words.
        family: Name of the family.
        tokenizers: What ``--tokenizer`` takes, for people; the first word is the default.
        open_tokenizer: Called with the value of ``--tokenizer``, the texts to train one on, and the folder in which a
            trained tokenizer may be kept for a run that goes on.
    """
    parser = reading_parser("prepare", family, "Encode texts into token files that training maps into memory.")
    parser.add_argument("--out", required=True, metavar="DIR", help="gets train/ and, with --held-out, held-out/")
    parser.add_argument("--tokenizer", default=tokenizers.split()[0].strip(","), metavar="T", help=tokenizers)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (%(default)s)")
    parser.add_argument("--held-out", type=share, default=0.0, metavar="SHARE", help="share of documents to hold out")
    args = parser.parse_args(words)
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least one is needed")
    from zoo.shared.text.prepare import plan_of, prepare, training_texts

    documents = open_files(args, args.files)
    out = Path(args.out).expanduser()
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file, not a folder; choose another")
    with progress(documents) as note:

        def texts() -> Iterator[str]:
            for number, text in enumerate(training_texts(documents, args.held_out), 1):
                note(f"training a tokenizer: {number:,} documents")
                yield text

        made_of = {**plan_of(documents), "held_out": args.held_out}
        tokenizer = open_tokenizer(args.tokenizer, TrainingTexts(texts, made_of), out)
        began = time.monotonic()

        def show(count: int, tokens: int, size: int) -> None:
            seconds = max(time.monotonic() - began, 1e-9)
            note(f"{count:,} documents  {tokens / seconds:,.0f} tokens/s  {size / 1e6 / seconds:.1f} MB/s")

        report = prepare(documents, tokenizer, out, held_out=args.held_out, workers=args.workers, progress=show)
    lines = []
    for part in ("train", "held-out"):
        if part in report:
            row = report[part]
            lines.append(
                f"{out / part}: {row['documents']:,} documents, {row['tokens']:,} tokens, {row['bytes']:,} bytes, "
                f"{row['bytes_per_token']:.2f} bytes per token"
            )
    encoded, seconds = report["encoded"], report["seconds"]
    if encoded["documents"]:
        rates = f"{report['tokens_per_second']:,.0f} tokens/s, {report['bytes_per_second'] / 1e6:.1f} MB/s"
        lines.append(f"encoded {encoded['documents']:,} documents in {seconds:.1f} s ({rates})")
    else:
        lines.append("all of it was there already")
    give_report(report, args, lines + skipped_lines(documents))
    return 0


def dedupe_command(words: list[str], *, family: str) -> int:
    """``zoo data dedupe FAMILY``: leave out documents that resemble an earlier one."""
    from zoo.shared.text import duplicates

    parser = reading_parser("dedupe", family, "Leave out documents that resemble an earlier one (GPT-3, appendix A).")
    parser.add_argument("--out", required=True, metavar="FILE", help="what is kept; ends in .jsonl")
    parser.add_argument(
        "--threshold", type=float, default=duplicates.THRESHOLD, metavar="J", help="Jaccard similarity (%(default)s)"
    )
    parser.add_argument("--hashes", type=int, default=duplicates.HASHES, metavar="N", help="MinHashes (%(default)s)")
    parser.add_argument(
        "--rows", type=int, default=1, metavar="N", help="hashes per band; more compares fewer pairs (%(default)s)"
    )
    parser.add_argument("--ngram", type=int, default=1, metavar="N", help="words per element of a set (%(default)s)")
    parser.add_argument("--report", metavar="FILE", help="write the report to this .json file too")
    args = parser.parse_args(words)
    filtering = duplicates.Deduplicator(threshold=args.threshold, hashes=args.hashes, rows=args.rows, ngram=args.ngram)
    documents = open_files(args, args.files)
    out = check_output(args.out, documents)
    check_report(args, documents)
    with progress(documents) as note:
        write_documents(out, filtering(counted(documents, note, "comparing")))
    report = {"out": str(out), **filtering.report(), "skipped": dict(documents.skipped)}
    lines = [
        f"kept {report['kept']:,} of {report['documents']:,} documents; {report['dropped']:,} "
        f"({100 * report['dropped_share']:.1f} %) resemble an earlier one with a Jaccard similarity of "
        f"{args.threshold:g} or more; {report['pairs_compared']:,} pairs were compared"
    ]
    for pair in report["examples"]:
        lines.append(f"  {pair['jaccard']:.2f}  {pair['dropped']}: {pair['dropped_text'][:80]}")
        lines.append(f"        {pair['kept']}: {pair['kept_text'][:80]}")
    give_report(report, args, [*lines, *skipped_lines(documents), f"wrote {out}"])
    return 0


def overlap_command(words: list[str], *, family: str) -> int:
    """``zoo data overlap FAMILY``: find a benchmark in the training text, and cut it out."""
    from zoo.shared.text import overlap

    parser = reading_parser("overlap", family, "Find a benchmark's text in training text, and cut it out with --out.")
    parser.add_argument(
        "--benchmark", nargs="+", required=True, metavar="FILE", help="the examples, in any form that FILE takes"
    )
    parser.add_argument(
        "--benchmark-column", default="text", metavar="C", help="column of the examples' texts (%(default)s)"
    )
    parser.add_argument(
        "--method", choices=("ngram", "bloom8"), default="ngram",
        help="ngram: GPT-3's analysis by example; bloom8: GPT-2's share of 8-grams (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="the cleaned training text; ends in .jsonl")
    parser.add_argument("--report", metavar="FILE", help="write the report to this .json file too")
    args = parser.parse_args(words)
    documents = open_files(args, args.files)
    benchmark = open_side_files(args, args.benchmark, column=args.benchmark_column, option="--benchmark-column")
    out = check_output(args.out, documents, benchmark) if args.out else None
    check_report(args, documents, benchmark)
    with progress(documents) as note:
        training = _Again(documents, note, "comparing")
        measure = overlap.bloom_overlap if args.method == "bloom8" else overlap.find_dirty
        report: dict[str, Any] = measure(training, benchmark)
        if out is not None:
            cutter = overlap.OverlapCutter(training, benchmark)
            report["cleaned"] = {"out": str(out), "documents": write_documents(out, cutter(training))}
            report["cleaned"] |= cutter.report()
    if args.method == "bloom8":
        lines = [
            f"{report['found']:,} of {report['ngrams']:,} 8-grams ({100 * report['share']:.2f} %) of "
            f"{report['examples']:,} examples are in the training text"
        ]
        lines += [f"  {100 * o['share']:.1f} %  {o['example']}: {o['overlap']}" for o in report["overlaps"]]
    else:
        lines = [
            f"{report['dirty']:,} of {report['examples']:,} examples ({100 * report['dirty_share']:.1f} %) share "
            f"{report['n']} words in a row with the training text"
        ]
        lines += [f"  {o['example']} in {o['training']}: {o['overlap']}" for o in report["overlaps"]]
    if report["shorter"]:
        lines.append(f"{report['shorter']:,} examples have fewer than {report['n']} words")
    if cleaned := report.get("cleaned"):
        lines.append(
            f"wrote {cleaned['documents']:,} documents to {out}: {cleaned['untouched']:,} untouched, "
            f"{cleaned['cut']:,} cut into {cleaned['pieces']:,} pieces, {cleaned['dropped']:,} dropped, "
            f"{cleaned['common_ngrams_ignored']:,} common 13-grams ignored"
        )
    give_report(report, args, lines + skipped_lines(documents))
    return 0


class _Again:
    """Documents that move the bar whenever they are read."""

    def __init__(self, documents: Documents, note: Callable[[str], None], what: str) -> None:
        self.documents, self.note, self.what = documents, note, what

    def __iter__(self) -> Iterator[Document]:
        return counted(self.documents, self.note, self.what)
