"""``zoo eval whisper``: error rates, BLEU, languages, robustness to noise, and long recordings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.registry import resolve
from zoo.shared.command_line import Parser, add_model_options, console, give, say
from zoo.shared.errors import UserError
from zoo.whisper.loading import DTYPES, load_model


@dataclass(frozen=True)
class Benchmark:
    """What can be asked for.

    Attributes:
        target: ``module:function`` from an ``Exam`` to a dictionary.
        help: What it measures.
    """

    target: str
    help: str


BENCHMARKS: Mapping[str, Benchmark] = {
    "recognition": Benchmark("zoo.whisper.evaluation.benchmarks:recognition", "errors of words and characters"),
    "translation": Benchmark("zoo.whisper.evaluation.benchmarks:translation", "BLEU of English text of other speech"),
    "language": Benchmark("zoo.whisper.evaluation.benchmarks:language", "how often the language is told"),
    "robustness": Benchmark("zoo.whisper.evaluation.robustness:noise_curve", "errors over white noise and babble"),
    "long-form": Benchmark("zoo.whisper.evaluation.benchmarks:long_form", "3 minutes: in sequence against in batches"),
}


def evaluate(words: list[str]) -> int:
    """``zoo eval whisper``: measure a Whisper on speech with texts."""
    parser = Parser(
        prog="zoo eval whisper",
        description="Measure a Whisper on speech with texts, normalised as in the paper. Greedy, without times, each "
        "utterance by itself, unless said otherwise.",
        epilog="Benchmarks: " + "; ".join(f"{name}: {one.help}" for name, one in BENCHMARKS.items()) + ".",
    )
    add: Callable[..., Any] = parser.add_argument
    add("--benchmark", default="recognition", metavar="NAME", help=f"{', '.join(BENCHMARKS)} (default: the first)")
    add(
        "--data", required=True, metavar="DATA",
        help="JSON-lines manifest, LibriSpeech or Common Voice folder, tar pattern, prompts-en, prompts-es ...",
    )  # fmt: skip
    add("--language", metavar="L", help="what is spoken, where the data does not say it")
    add("--languages", metavar="L,L", help="tell apart these languages only")
    add("--limit", type=int, metavar="N", help="use at most N utterances, evenly spread")
    add("--batch-size", type=int, default=16, metavar="B", help="windows at once (default %(default)s)")
    add("--beam-size", type=int, default=1, metavar="K", help="beams (default 1: greedy)")
    add("--fallback", action="store_true", help="decode bad text again at higher temperatures")
    add("--timestamps", action="store_true", help="let the model write times too")
    add("--hotwords", metavar="TEXT", help="words to expect")
    add("--snr", metavar="D,D", help="robustness: signal to noise in dB (default 40,20,10,5,0,-5)")
    add("--seed", type=int, default=0, metavar="S", help="seed of noise and pauses (default %(default)s)")
    add("--plot", metavar="FILE", help="robustness: draw the curve into this .png")
    add("--out", metavar="DIR", help="folder for figures.json")
    add_model_options(parser, title="Whisper, else OpenAI's tiny.en")
    add("--dtype", choices=DTYPES, default="float32", help="of the weights; int8 is for CPUs (default %(default)s)")
    args = parser.parse_args(words)
    _check(args)
    from zoo.shared.files import check_writable, write_json
    from zoo.whisper.evaluation.exam import Exam
    from zoo.whisper.sources import read_speech
    from zoo.whisper.transcription.options import TEMPERATURES, TranscriptionOptions

    out = check_writable(args.out) if args.out else None
    if args.plot:
        check_writable(Path(args.plot).expanduser().parent)
    options = TranscriptionOptions.of(
        None,
        {
            "languages": args.languages,
            "temperature": TEMPERATURES if args.fallback else 0.0,
            "beam_size": args.beam_size if args.beam_size > 1 else None,
            "without_timestamps": not args.timestamps,
            "hotwords": args.hotwords,
            "seed": args.seed,
        },
    )
    source = read_speech(args.data, language=args.language, progress=say)
    for reason, count in source.left_out.items():
        say(f"{count:,} of {source.name} are left out: {reason}")
    for name, reason in source.unreadable.items():
        say(f"{name} is left out: {reason}")
    model, preprocessor, weights = load_model(args.weights, args.device, args.dtype)
    snrs = {} if args.snr is None else {"snrs": _numbers(args.snr)}
    exam = Exam(
        model=model, preprocessor=preprocessor, source=source, options=options, batch_size=args.batch_size,
        limit=args.limit, seed=args.seed, say=say, **snrs,
    )  # fmt: skip
    found = resolve(BENCHMARKS[args.benchmark].target)(exam)
    results: dict[str, Any] = {
        "weights": weights,
        "data": source.name,
        "benchmark": args.benchmark,
        "protocol": {
            "beams": args.beam_size, "fallback": args.fallback, "timestamps": args.timestamps, "seed": args.seed,
        },
        "result": found,
    }  # fmt: skip
    if args.plot:
        from zoo.whisper.evaluation.robustness import draw_curve

        draw_curve(found, Path(args.plot).expanduser(), title=f"{Path(weights).name} on {source.name}")
        results["picture"] = args.plot
    if out:
        write_json(out / "figures.json", results)
    if args.json:
        give(results)
    else:
        show(results)
    return 0


def _check(args: Any) -> None:
    """Refuse what cannot work before the weights are read."""
    if args.benchmark not in BENCHMARKS:
        raise UserError(f"unknown benchmark {args.benchmark!r}; there are {', '.join(BENCHMARKS)}")
    for option in ("snr", "plot"):
        if getattr(args, option) is not None and args.benchmark != "robustness":
            raise UserError(f"--{option} is for --benchmark robustness; leave it out")
    if args.languages is not None and args.benchmark != "language":
        raise UserError("--languages is for --benchmark language; otherwise the model is told what is spoken")
    for option, least in (("limit", 1), ("batch_size", 1), ("beam_size", 1), ("seed", 0)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise UserError(f"--{option.replace('_', '-')} {value}: it must be at least {least}")
    if args.plot is not None and not args.plot.lower().endswith(".png"):
        raise UserError(f"--plot {args.plot}: choose a name that ends in .png")
    if args.snr is not None:
        from zoo.whisper.evaluation.robustness import check_snrs

        check_snrs(_numbers(args.snr))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--snr {text}: give numbers with commas between, such as 20,10,0") from error


def show(results: Mapping[str, Any]) -> None:
    """Print results for people."""
    from rich.markup import escape
    from rich.table import Table

    found = results["result"]
    heading = escape(f"{results['weights']} on {results['data']}: {results['benchmark']}")
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns, rows = _TABLES[results["benchmark"]](found)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    shown = console()
    shown.print(table)
    if (factor := found.get("real_time_factor")) is not None:
        shown.print(f"[dim]{found['seconds']:,.0f} s of sound at {1 / factor:.1f} times real time[/]")
    if silent := found.get("without_speech", {}).get("utterances"):
        wrote = found["without_speech"]["with_text"]
        shown.print(f"[dim]without speech: text was written for {wrote} of {silent} clips[/]")
    for name, reason in list(found.get("unreadable", {}).items())[:5]:
        say(f"left out {name}: {reason}")
    if "picture" in results:
        sys.stdout.write(f"picture  {results['picture']}\n")


Rows = tuple[list[str], list[list[str]]]


def _rate(value: float | None, error: float | None = None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if error is None else f"{100 * value:.1f} ± {100 * error:.1f} %"


def _recognition(found: Mapping[str, Any]) -> Rows:
    def row(name: str, one: Mapping[str, Any]) -> list[str]:
        counts = [f"{one[key]:,}" for key in ("substitutions", "deletions", "insertions", "words", "utterances")]
        return [name, _rate(one["wer"], one["wer_error"]), _rate(one["cer"]), *counts]

    groups = [(name, one) for key in ("by_language", "by_source") for name, one in found[key].items() if name]
    columns = ["", "WER", "CER", "substituted", "left out", "added", "words", "utterances"]
    return columns, [row("all", found), *(row(name, one) for name, one in groups)]


def _translation(found: Mapping[str, Any]) -> Rows:
    groups = [("all", found), *found["by_language"].items()]
    return ["", "BLEU", "utterances"], [[name, f"{one['bleu']:.1f}", f"{one['utterances']:,}"] for name, one in groups]


def _language(found: Mapping[str, Any]) -> Rows:
    rows = [["all", _rate(found["accuracy"])], *([name, _rate(one)] for name, one in found["by_language"].items())]
    return ["language", "told"], [*rows, *([name, f"{count} times"] for name, count in found["confusions"].items())]


def _robustness(found: Mapping[str, Any]) -> Rows:
    rows = [["none", *[_rate(found["clean"]["wer"], found["clean"]["wer_error"])] * 2]]
    for place, snr in enumerate(found["snrs"]):
        points = [found[kind][place] for kind in ("white", "babble")]
        rows.append([f"{snr:g} dB", *(_rate(point["wer"], point["wer_error"]) for point in points)])
    return ["signal to noise", "WER, white noise", "WER, babble"], rows


def _long_form(found: Mapping[str, Any]) -> Rows:
    rows = []
    for name in ("in_sequence", "batched"):
        one = found[name]
        speed = f"{1 / one['real_time_factor']:.1f}"
        rows.append([name.replace("_", " "), _rate(one["wer"]), f"{one['words']:,}", speed])
    for one in found["differences"]:
        where = f"{one['recording']}, {one['start']:.1f} to {one['end']:.1f} s"
        rows.append([where, one["expected"] or "-", one["found"] or "-", ""])
    for one in found["coverage"]:
        share = _rate(one["speech_with_text"])
        rows.append([f"{one['recording']}, speech with text", share, f"flagged {one['flagged']:.1f} s", ""])
    return ["", "WER", "words", "times real time"], rows


_TABLES: Mapping[str, Callable[[Mapping[str, Any]], Rows]] = {
    "recognition": _recognition,
    "translation": _translation,
    "language": _language,
    "robustness": _robustness,
    "long-form": _long_form,
}
