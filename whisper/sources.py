"""Opening speech by what the user wrote: a name, a path or a pattern."""

from __future__ import annotations

from pathlib import Path

from zoo.shared.data.samples import Progress
from zoo.shared.errors import UserError
from zoo.whisper.languages import language_code
from zoo.whisper.speech.pieces import cut_all
from zoo.whisper.speech.records import TASKS, SpeechList

GENERATED = "generated"
TONES = "tones"


def read_speech(
    source: str,
    *,
    language: str | None = None,
    silent_share: float = 1.0,
    progress: Progress = lambda line: None,
) -> SpeechList:
    """Open speech, cut into pieces of no more than 30 seconds.

    Args:
        source: A JSON-lines manifest, a LibriSpeech folder, a Common Voice folder or table, WebDataset tars, or
            telephone prompts: ``prompts-en``, ``prompts-es``, ``prompts-fr``, and ``prompts-es:translate``,
            ``prompts-fr:translate`` with English text.
        language: The spoken language where the source names none.
        silent_share: Share of the pieces without speech to keep.
        progress: Called with a line when something takes time.

    Raises:
        UserError: Nothing that is known stands there, or it has mistakes.
    """
    code = None if language is None else language_code(language)
    found = _open(source, code, progress)
    return cut_all(found.name, found, silent_share=silent_share, left_out=found.left_out, unreadable=found.unreadable)


def _open(source: str, language: str | None, progress: Progress) -> SpeechList:
    if source.startswith("prompts-"):
        return _prompts(source, progress)
    if source.endswith(".tar"):
        from zoo.whisper.speech.tars import read_tars

        return read_tars(source, language=language, progress=progress)
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(
            f"there is no speech at {source!r}; give a manifest, a folder, a tar pattern, prompts-en, {GENERATED} or "
            f"{TONES}"
        )
    if path.suffix == ".jsonl":
        from zoo.whisper.speech.manifest import read_manifest

        return read_manifest(path, language=language)
    from zoo.whisper.speech.folders import read_common_voice, read_librispeech

    if path.suffix == ".tsv" or (path.is_dir() and (path / "clips").is_dir()):
        return read_common_voice(path, language=language)
    if path.is_dir():
        return read_librispeech(path)
    raise UserError(f"{source} is no speech that zoo can read; give a .jsonl manifest, a .tsv table or a .tar")


def _prompts(source: str, progress: Progress) -> SpeechList:
    from zoo.whisper.speech.asterisk import read_prompts

    name, _, task = source.partition(":")
    for known in TASKS:
        if task in ("", known):
            return read_prompts(name.removeprefix("prompts-"), task=known, progress=progress)
    raise UserError(f"{source}: after the colon comes {' or '.join(TASKS)}")
