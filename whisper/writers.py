"""Transcripts as text, subtitles, tables and JSON, in the files that openai-whisper writes.

A result is ``{"text", "segments": [{"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob",
"compression_ratio", "no_speech_prob", "words"?: [{"word", "start", "end", "probability"}]}], "language"}``, times in
seconds. Files are UTF-8 and have Unix's ends of lines on every system.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path

_UNLIMITED = 1000
_LONG_PAUSE = 3.0
_WORD = re.compile(r"(\s*)(.*?)(\n?)")

Result = Mapping[str, Any]
Cue = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class SubtitleOptions:
    """How words become subtitles; only results with word times obey. None: no limit."""

    max_line_width: int | None = None
    """Characters of a line. Together with ``max_line_count``, subtitles may also cross segments."""
    max_line_count: int | None = None
    """Lines of a subtitle."""
    highlight_words: bool = False
    """Show a subtitle once for each word, which is underlined while it is spoken."""
    max_words_per_line: int | None = None
    """Words of a subtitle; without effect if both limits above are given."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "highlight_words" and value is not None and value < 1:
                raise UserError(f"{field.name} must be at least 1, not {value}")


def clock(seconds: float, *, hours: bool = False, comma: bool = False) -> str:
    """A time as subtitles spell it: ``01:02.345``, with hours from the first one on.

    Args:
        seconds: From the start of the recording.
        hours: Spell the hours even if there are none.
        comma: Put a comma before the milliseconds.
    """
    assert seconds >= 0, f"a time cannot be {seconds} s"
    whole, thousandths = divmod(round(seconds * 1000.0), 1000)
    minutes, rest = divmod(whole, 60)
    before = f"{minutes // 60:02d}:" if hours or minutes >= 60 else ""
    return f"{before}{minutes % 60:02d}:{rest:02d}{',' if comma else '.'}{thousandths:03d}"


def _has_words(result: Result) -> bool:
    return bool(result["segments"]) and "words" in result["segments"][0]


def _first_start(segments: Sequence[Mapping[str, Any]]) -> float:
    """When the first word starts; the first segment, where there is no word at all."""
    starts = (word["start"] for segment in segments for word in segment["words"])
    found = next(starts, segments[0]["start"] if segments else None)
    return found or 0.0


def _groups(result: Result, options: SubtitleOptions) -> Iterator[list[dict[str, Any]]]:
    """Words of one subtitle after the other, with the line breaks in them."""
    width, count = options.max_line_width or _UNLIMITED, options.max_line_count
    # Only who limits both wants subtitles of even size, whatever the segments are.
    by_segment = count is None or options.max_line_width is None
    lot = options.max_words_per_line or _UNLIMITED
    group: list[dict[str, Any]] = []
    used, lines, last = 0, 1, _first_start(result["segments"])
    for segment in result["segments"]:
        for index, spoken in enumerate(segment["words"]):
            word = dict(spoken)
            paused = not by_segment and word["start"] - last > _LONG_PAUSE
            ended = index % lot == 0 and bool(group) and by_segment
            if used > 0 and used + len(word["word"]) <= width and not paused and not ended:
                used += len(word["word"])
            else:
                text = word["word"] = word["word"].strip()
                if ended or (group and count is not None and (paused or lines >= count)):
                    yield group
                    group, lines = [], 1
                elif used > 0:
                    lines += 1
                    word["word"] = f"\n{text}"
                used = len(text)
            group.append(word)
            last = word["start"]
    if group:
        yield group


def _underlined(word: str) -> str:
    found = _WORD.fullmatch(word)
    return f"{found[1]}<u>{found[2]}</u>{found[3]}" if found else word


def _cues(result: Result, options: SubtitleOptions, spell: Callable[[float], str]) -> Iterator[Cue]:
    """Start, end and text of each subtitle."""
    if not _has_words(result):
        for segment in result["segments"]:
            # "-->" would be read as the mark between the times
            yield spell(segment["start"]), spell(segment["end"]), segment["text"].strip().replace("-->", "->")
        return
    for group in _groups(result, options):
        start, end = spell(group[0]["start"]), spell(group[-1]["end"])
        words = [word["word"] for word in group]
        text = "".join(words)
        if not options.highlight_words:
            yield start, end, text
            continue
        last = start
        for index, word in enumerate(group):
            start, end = spell(word["start"]), spell(word["end"])
            if last != start:
                yield last, start, text
            yield start, end, "".join([*words[:index], _underlined(words[index]), *words[index + 1 :]])
            last = end


def _txt(result: Result, options: SubtitleOptions) -> str:
    return "".join(f"{segment['text'].strip()}\n" for segment in result["segments"])


def _vtt(result: Result, options: SubtitleOptions) -> str:
    return "WEBVTT\n\n" + "".join(f"{a} --> {b}\n{text}\n\n" for a, b, text in _cues(result, options, clock))


def _srt(result: Result, options: SubtitleOptions) -> str:
    cues = _cues(result, options, lambda seconds: clock(seconds, hours=True, comma=True))
    return "".join(f"{number}\n{a} --> {b}\n{text}\n\n" for number, (a, b, text) in enumerate(cues, start=1))


def _tsv(result: Result, options: SubtitleOptions) -> str:
    rows = ["start\tend\ttext\n"]
    for segment in result["segments"]:
        start, end = round(1000 * segment["start"]), round(1000 * segment["end"])
        rows.append(f"{start}\t{end}\t{segment['text'].strip().replace(chr(9), ' ')}\n")
    return "".join(rows)


def _json(result: Result, options: SubtitleOptions) -> str:
    return json.dumps(result)


WRITERS: dict[str, Callable[[Result, SubtitleOptions], str]] = {
    "txt": _txt,
    "vtt": _vtt,
    "srt": _srt,
    "tsv": _tsv,
    "json": _json,
}


def render(result: Result, format: str, options: SubtitleOptions | None = None) -> str:
    """A result in one of the formats.

    Args:
        result: What the module's head describes.
        format: ``txt`` (a segment a line), ``vtt``, ``srt``, ``tsv`` (milliseconds) or ``json``.
        options: How words become subtitles.

    Raises:
        UserError: There is no such format.
    """
    if format not in WRITERS:
        raise UserError(f"format {format!r} is unknown; use {', '.join(WRITERS)}")
    return WRITERS[format](result, options or SubtitleOptions())


def write(
    result: Result,
    recording: str | Path,
    folder: str | Path,
    formats: Iterable[str] = tuple(WRITERS),
    options: SubtitleOptions | None = None,
) -> list[Path]:
    """Write a result into files that are called like the recording; none appears before it is whole.

    Args:
        result: What the module's head describes.
        recording: The file that was transcribed; only its name counts.
        folder: Where to write.
        formats: See :func:`render`; all of them by default.
        options: How words become subtitles.

    Returns:
        The files.

    Raises:
        UserError: There is no such format, or the folder cannot be written.
    """
    texts = {format: render(result, format, options) for format in formats}
    written = []
    for format, text in texts.items():
        path = Path(folder) / f"{os.path.splitext(Path(recording).name)[0]}.{format}"
        with atomic_path(path) as temporary:
            temporary.write_bytes(text.encode("utf-8"))
        written.append(path)
    return written
