"""``zoo data filter FAMILY``: GPT-3's quality filter and Talkie's filter of anachronisms, one or both."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.shared.errors import UserError
from zoo.shared.text.commands import (
    check_output,
    check_report,
    counted,
    give_report,
    open_files,
    open_side_files,
    progress,
    reading_parser,
    skipped_lines,
)
from zoo.shared.text.documents import Document, Documents, write_documents


def filter_command(words: list[str], *, family: str) -> int:
    """Keep what is like good documents, what is not too late, or both."""
    from zoo.shared.text import anachronism, quality

    parser = reading_parser("filter", family, "Keep documents that are like good ones, or not later than a year.")
    parser.add_argument("--out", required=True, metavar="FILE", help="what is kept; ends in .jsonl")
    good = parser.add_argument_group("quality (GPT-3, appendix A)")
    good.add_argument("--good", nargs="+", metavar="FILE", help="documents as they should be")
    good.add_argument(
        "--alpha", type=float, default=quality.ALPHA, metavar="A",
        help="Pareto shape: larger keeps less of what scores low (%(default)g)",
    )  # fmt: skip
    good.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (%(default)s)")
    date = parser.add_argument_group("anachronisms (Talkie)")
    date.add_argument("--cutoff", type=int, metavar="YEAR", help="last year that is allowed")
    date.add_argument("--terms", metavar="FILE", help="lines `term<TAB>year` instead of the built-in list; "
        "a term with capitals counts only as written or in capitals")  # fmt: skip
    date.add_argument("--modern", nargs="+", metavar="FILE", help="documents after the cutoff, dated or not")
    date.add_argument(
        "--threshold", type=float, default=anachronism.THRESHOLD, metavar="P",
        help="probability of being later from which on a document goes (%(default)g)",
    )  # fmt: skip
    parser.add_argument("--report", metavar="FILE", help="write the report to this .json file too")
    args = parser.parse_args(words)
    if (args.terms or args.modern) and args.cutoff is None:
        raise UserError("--terms and --modern need --cutoff YEAR")
    if not args.good and args.cutoff is None:
        raise UserError("name good documents with --good, or a year with --cutoff")
    if args.alpha <= 0:
        raise UserError(f"--alpha {args.alpha:g}: it must be above 0")
    if not 0 < args.threshold < 1:
        raise UserError(f"--threshold {args.threshold:g}: choose a probability between 0 and 1")
    documents = open_files(args, args.files)
    good_ones, modern = (
        open_side_files(args, files, column=args.text_column, option="--text-column") if files else None
        for files in (args.good, args.modern)
    )
    read: list[Documents | Path] = [documents, *(side for side in (good_ones, modern) if side is not None)]
    read += [Path(args.terms).expanduser()] if args.terms else []
    out = check_output(args.out, *read)
    check_report(args, *read)
    filters: dict[str, Any] = {}
    with progress(documents) as note:
        if args.cutoff is not None:
            terms = anachronism.read_terms(args.terms) if args.terms else anachronism.TERMS
            note("learning dates")
            classifier = anachronism.learn_dates(documents, cutoff=args.cutoff, modern=modern or (), seed=args.seed)
            filters["anachronism"] = anachronism.AnachronismFilter(
                args.cutoff, terms=terms, classifier=classifier, threshold=args.threshold
            )
        if good_ones is not None:
            note("learning quality")
            learnt = quality.learn_quality(good_ones, documents, seed=args.seed)
            filters["quality"] = quality.QualityFilter(learnt, alpha=args.alpha, seed=args.seed)
        stream: Iterable[Document] = counted(documents, note, "filtering")
        for keep in filters.values():
            stream = keep(stream)
        count = write_documents(out, stream)
    report: dict[str, Any] = {"out": str(out), "kept": count, "skipped": dict(documents.skipped)}
    report |= {name: used.report() for name, used in filters.items()}
    lines: list[str] = []
    if "anachronism" in report:
        lines += anachronism_lines(report["anachronism"])
    if "quality" in report:
        lines += quality_lines(report["quality"])
    give_report(report, args, [*lines, *skipped_lines(documents), f"wrote {count:,} documents to {out}"])
    return 0


def quality_lines(report: dict[str, Any]) -> list[str]:
    """The quality filter's report for people."""
    kept, dropped, learnt = report["kept"], report["dropped"], report["classifier"]
    total = kept["documents"] + dropped["documents"]
    lines = [
        f"quality: kept {kept['documents']:,} of {total:,} documents ({kept['bytes']:,} of "
        f"{kept['bytes'] + dropped['bytes']:,} bytes)",
        f"  the classifier tells {learnt['good']:,} good from {learnt['unfiltered']:,} unfiltered documents that it "
        f"has not seen with an accuracy of {100 * learnt['accuracy']:.1f} %, AUC {learnt['auc']:.3f}",
        "  score      kept  dropped",
    ]
    for place, (of_kept, of_dropped) in enumerate(zip(kept["histogram"], dropped["histogram"], strict=True)):
        lines.append(f"  {place / 10:.1f}-{(place + 1) / 10:.1f}  {of_kept:>7,}  {of_dropped:>7,}")
    for name, side, end in (
        ("dropped, low", dropped, "lowest"),
        ("dropped, high", dropped, "highest"),
        ("kept, low", kept, "lowest"),
        ("kept, high", kept, "highest"),
    ):
        for entry in side[end]:
            lines.append(f"  {name:<13} {entry['score']:.3f}  {entry['id']}: {entry['text'][:70]}")
    return lines


def anachronism_lines(report: dict[str, Any]) -> list[str]:
    """The report of the filter of anachronisms for people."""
    counts, learnt = report["counts"], report["classifier"]
    lines = [f"cutoff {report['cutoff']}: " + ", ".join(f"{number:,} {reason}" for reason, number in counts.items())]
    if learnt is None:
        lines.append("  no classifier: fewer than 10 documents are dated before or after; --modern gives later ones")
    else:
        lines.append(
            f"  the classifier tells {learnt['after']:,} later from {learnt['before']:,} earlier documents that it "
            f"has not seen with an accuracy of {100 * learnt['accuracy']:.1f} %, AUC {learnt['auc']:.3f}"
        )
        for entry in learnt["dropped"]["highest"]:
            lines.append(f"  dropped {entry['score']:.3f}  {entry['id']}: {entry['text'][:70]}")
    if report["terms"]:
        lines.append("  terms: " + ", ".join(f"{term} ({number:,})" for term, number in report["terms"].items()))
    for entry in report["examples"]:
        found = ", ".join(f"{term} {year}" for term, year in entry["terms"].items())
        lines.append(f"  {entry['id']} ({found}): {entry['text'][:90]}")
    return lines
