"""Speech listed in a JSON-lines manifest: one object per utterance, checked before anything is trained on.

Fields: ``audio`` (a path, taken from the manifest's folder), ``text``, ``language``; and where they apply ``task``,
``start``, ``end``, ``segments`` (objects with ``start``, ``end``, ``text``), ``prompt``, ``voice``, ``source``,
``no_speech``, and ``offset`` and ``size``, the bytes of a sound that lies in an archive.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path
from zoo.whisper.speech.records import FileSound, Segment, SpeechList, Utterance, mistakes
from zoo.whisper.speech.sounds import seconds_of

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "audio": ((str,), "a path"),
    "text": ((str,), "a text"),
    "language": ((str, type(None)), "the code of a language"),
    "task": ((str,), "transcribe or translate"),
    "start": ((int, float), "a number of seconds"),
    "end": ((int, float, type(None)), "a number of seconds"),
    "segments": ((list,), "a list of objects with start, end and text"),
    "prompt": ((str,), "a text"),
    "voice": ((str, type(None)), "a text"),
    "source": ((str,), "a text"),
    "no_speech": ((bool,), "true or false"),
    "id": ((str,), "a text"),
    "offset": ((int,), "a number of bytes"),
    "size": ((int,), "a number of bytes"),
}
Unreadable = tuple[str, str]
"""A recording's name, and why it cannot be used."""

_PLAIN = {field.name: field.default for field in fields(Utterance)}
_PASSED = ("task", "start", "end", "prompt", "voice", "source", "no_speech")


def read_manifest(path: str | Path, *, language: str | None = None) -> SpeechList:
    """Utterances of a manifest; recordings that are missing or damaged are left out and named.

    Args:
        path: The ``.jsonl`` file.
        language: Code of the language where a line names none.

    Raises:
        UserError: It cannot be read, or has mistakes: the first, and how many more there are.
    """
    path = Path(path).expanduser()
    found: list[Utterance] = []
    wrong: list[str] = []
    unreadable: dict[str, str] = {}
    for entry in _entries(path, language):
        if isinstance(entry, str):
            wrong.append(entry)
        elif isinstance(entry, tuple):
            unreadable[entry[0]] = entry[1]
        else:
            found.append(entry)
    if wrong:
        more = f" (and {len(wrong) - 1:,} more mistakes in it)" if len(wrong) > 1 else ""
        raise UserError(wrong[0] + more)
    if not found:
        reason = next((f"no recording can be used: {one}" for one in unreadable.values()), "it is empty")
        raise UserError(f"{path}: {reason}; each line must be a JSON object with audio, text and language")
    return SpeechList(path.name, tuple(found), {}, unreadable)


def manifest_mistakes(path: str | Path, *, language: str | None = None) -> list[str]:
    """Everything that is wrong with a manifest, a line each; empty where nothing is.

    Raises:
        UserError: It cannot be read at all.
    """
    entries = _entries(Path(path).expanduser(), language)
    said = [": ".join(entry) if isinstance(entry, tuple) else entry for entry in entries]
    return [entry for entry in said if isinstance(entry, str)]


def _entries(path: Path, language: str | None) -> Iterator[Utterance | str | Unreadable]:
    lengths: dict[FileSound, float | str] = {}
    try:
        with path.open(encoding="utf-8-sig") as opened:
            for number, line in enumerate(opened, 1):
                if line.strip():
                    where = f"{path.name} line {number}"
                    yield from _entry(line, where, path, language, lengths)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _entry(
    line: str, where: str, path: Path, language: str | None, lengths: dict[FileSound, float | str]
) -> Iterator[Utterance | str | Unreadable]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        yield f"{where}: no JSON: {error}"
        return
    wrong = list(mistakes_of_fields(row))
    if isinstance(row, dict) and "audio" not in row:
        wrong.insert(0, "it names no `audio`")
    if wrong:
        yield from (f"{where}: {mistake}" for mistake in wrong)
        return
    utterance = _utterance(row, where, path, language)
    assert isinstance(utterance.sound, FileSound)
    seconds = _length(utterance.sound, lengths)
    wrong = list(mistakes(utterance, seconds=None if isinstance(seconds, str) else seconds))
    if wrong:
        yield from (f"{where}: {mistake}" for mistake in wrong)
    elif isinstance(seconds, str):
        yield utterance.id, seconds
    else:
        yield utterance


def mistakes_of_fields(row: Any, *, strict: bool = True) -> Iterator[str]:
    """What is wrong with the form of a line's fields.

    Args:
        row: The line, parsed.
        strict: Whether unknown fields are mistakes.
    """
    if not isinstance(row, dict):
        yield "it must be a JSON object"
        return
    if "text" not in row and "segments" not in row and not row.get("no_speech"):
        yield "it has neither `text` nor `segments`; say `no_speech` where nothing is said"
    for name, value in row.items():
        if name not in _KINDS:
            if strict:
                close = difflib.get_close_matches(name, _KINDS, n=1)
                yield f"unknown field {name!r}" + (f"; did you mean {close[0]}?" if close else "")
        elif not _fits(value, _KINDS[name][0]):
            yield f"{name} must be {_KINDS[name][1]}, not {value!r:.60}"
        elif name == "segments":
            yield from _mistakes_of_segments(value)


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _mistakes_of_segments(segments: list[Any]) -> Iterator[str]:
    for number, segment in enumerate(segments, 1):
        if not isinstance(segment, dict) or set(segment) != {"start", "end", "text"}:
            yield f"segment {number} must be an object with start, end and text"
            continue
        numbers = all(_fits(segment[name], (int, float)) for name in ("start", "end"))
        if not numbers or not isinstance(segment["text"], str):
            yield f"segment {number} must have numbers for start and end, and a text"


def fields_of(row: dict[str, Any], *, language: str | None) -> dict[str, Any]:
    """A line's fields as those of :class:`Utterance`, all but ``id`` and ``sound``.

    Args:
        row: A line without mistakes.
        language: Code of the language where the line names none.
    """
    segments = tuple(Segment(float(s["start"]), float(s["end"]), s["text"].strip()) for s in row.get("segments", ()))
    values = {name: row[name] for name in _PASSED if name in row}
    text = row.get("text")
    values["text"] = " ".join(segment.text for segment in segments) if text is None else text.strip()
    values["segments"] = segments
    values["language"] = row.get("language", None if values.get("no_speech") else language)
    return values


def _utterance(row: dict[str, Any], where: str, path: Path, language: str | None) -> Utterance:
    audio = path.parent / Path(row["audio"]).expanduser()
    values = fields_of(row, language=language)
    values.setdefault("source", path.stem)
    sound = FileSound(audio, row.get("offset", 0), row.get("size"))
    return Utterance(id=row.get("id", f"{row['audio']} ({where})"), sound=sound, **values)


def _length(sound: FileSound, lengths: dict[FileSound, float | str]) -> float | str:
    """Seconds of a file, or what is wrong with it; each file is opened once."""
    if sound not in lengths:
        try:
            lengths[sound] = seconds_of(sound)
        except BadSample as error:
            lengths[sound] = str(error)
    return lengths[sound]


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Write utterances as a manifest; returns how many.

    Raises:
        UserError: A sound lies neither in a file nor in an archive.
    """
    path = Path(path).expanduser()
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as opened:
        for utterance in utterances:
            opened.write(json.dumps(_row(utterance, path.parent), ensure_ascii=False) + "\n")
            count += 1
    return count


def _row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    sound = utterance.sound
    if not isinstance(sound, FileSound):
        raise UserError(f"the sound of {utterance.id} is in no audio file, so a manifest cannot name it")
    row: dict[str, Any] = {"id": utterance.id, "audio": str(_seen_from(folder, sound.path))}
    if sound.size is not None:
        row |= {"offset": sound.offset, "size": sound.size}
    row |= {"text": utterance.text, "language": utterance.language}
    row |= {name: getattr(utterance, name) for name in _PASSED if getattr(utterance, name) != _PLAIN[name]}
    if utterance.segments:
        row["segments"] = [{"start": s.start, "end": s.end, "text": s.text} for s in utterance.segments]
    return row


def _seen_from(folder: Path, path: Path) -> Path:
    """A path as the manifest in ``folder`` names it: relative where it lies below."""
    folder, path = folder.resolve(), path.resolve()
    return path.relative_to(folder) if path.is_relative_to(folder) else path
