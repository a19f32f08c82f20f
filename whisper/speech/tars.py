"""Speech in WebDataset tars: local ones, read at random through the index of offsets that all tars of zoo have.

Files that share a name up to the first dot are one sample: its sound, and ``.txt`` with the text or ``.json`` with the
fields of a manifest's line (and ``text``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.shared.data.samples import Progress
from zoo.shared.data.tars import Members, find_tars, tar_index
from zoo.shared.errors import UserError
from zoo.whisper.speech.folders import AUDIO_SUFFIXES
from zoo.whisper.speech.manifest import fields_of, mistakes_of_fields
from zoo.whisper.speech.records import FileSound, SpeechList, Utterance, mistakes

_AUDIO = tuple(suffix[1:] for suffix in AUDIO_SUFFIXES)


def read_tars(pattern: str, *, language: str | None = None, progress: Progress = lambda line: None) -> SpeechList:
    """Utterances of local tars. Samples that cannot be used are left out and counted by reason.

    Args:
        pattern: Tar files: a path, a shell pattern, or a range in braces as in ``data/{000..009}.tar``.
        language: Code of the language where a sample names none.
        progress: Called with a line for each tar that is indexed.

    Raises:
        UserError: No such files, one is no tar, or no sample can be used.
    """
    found: list[Utterance] = []
    left_out: Counter[str] = Counter()
    unreadable: dict[str, str] = {}
    example = ""
    for path in find_tars(pattern):
        entries, broken = tar_index(path, progress=progress)
        if broken is not None:
            unreadable[path.name] = broken
        with path.open("rb") as opened:

            def read(place: list[int]) -> bytes:
                opened.seek(place[0])  # called before the file is closed
                return opened.read(place[1])

            for key, members in entries:
                taken = _utterance(path, key, members, read, language)
                if isinstance(taken, str):
                    left_out[taken] += 1
                    example = example or f"{path.name}/{key}: {taken}"
                else:
                    found.append(taken)
    if not found:
        raise UserError(f"{pattern} holds no speech that can be used" + (f"; {example}" if example else ""))
    return SpeechList(Path(pattern).name, tuple(found), dict(left_out), unreadable)


def _utterance(
    path: Path, key: str, members: Members, read: Callable[[list[int]], bytes], language: str | None
) -> Utterance | str:
    """The utterance of a sample, or why it is none."""
    sound = next((members[name] for name in _AUDIO if name in members), None)
    if sound is None:
        return "no sound"
    row: dict[str, Any] = {}
    try:
        if "json" in members:
            row = json.loads(read(members["json"]))
        if "txt" in members:
            row = {"text": read(members["txt"]).decode("utf-8").strip()} | row
    except ValueError:
        return "unreadable text"
    # Files of other people have fields of their own; those that are known must be right.
    wrong = list(mistakes_of_fields(row, strict=False))
    if wrong:
        return wrong[0]
    values = fields_of(row, language=language)
    values.setdefault("source", path.stem)
    utterance = Utterance(id=f"{path.name}/{key}", sound=FileSound(path, sound[0], sound[1]), **values)
    return next(mistakes(utterance), utterance)
