"""Speech in folders as LibriSpeech and Common Voice are handed out."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from zoo.shared.errors import UserError
from zoo.whisper.languages import LANGUAGES
from zoo.whisper.speech.records import FileSound, SpeechList, Utterance, unknown_language

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")

_OTHER_CODES = {
    "sv-SE": "sv",
    "zh-CN": "zh",
    "zh-TW": "zh",
    "zh-HK": "yue",
    "ga-IE": None,
    "nb-NO": "no",
    "he-IL": "he",
}


def read_librispeech(folder: str | Path) -> SpeechList:
    """LibriSpeech (Panayotov 2015): ``*.trans.txt`` beside ``.flac`` files, or folders of such.

    Transcripts are in capitals without punctuation, as they are handed out. Chapters follow one another, so the text
    before an utterance is its prompt.

    Raises:
        UserError: No transcripts, or a line without audio.
    """
    folder = Path(folder).expanduser()
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        raise UserError(f"{folder} holds no *.trans.txt; name a folder as LibriSpeech is unpacked")
    found: list[Utterance] = []
    for transcript in transcripts:
        source = (
            transcript.relative_to(folder).parts[0] if len(transcript.relative_to(folder).parts) > 1 else folder.name
        )
        before = ""
        for number, line in enumerate(transcript.read_text(encoding="utf-8").splitlines(), 1):
            key, _, text = line.strip().partition(" ")
            if not key:
                continue
            if not text.strip():
                raise UserError(f"{transcript} line {number}: {key} has no text; delete the line")
            audio = _audio_of(transcript.parent / key)
            if audio is None:
                raise UserError(f"{transcript} line {number}: there is no audio file {key}.flac; unpack the set again")
            found.append(
                Utterance(
                    id=key, sound=FileSound(audio), text=text.strip(), language="en", prompt=before,
                    voice=key.split("-")[0], source=source,
                )
            )  # fmt: skip
            before = text.strip()
    return SpeechList(folder.name, tuple(found), {})


def _audio_of(stem: Path) -> Path | None:
    names = (stem.with_name(stem.name + suffix) for suffix in AUDIO_SUFFIXES)
    return next((name for name in names if name.is_file()), None)


def read_common_voice(table: str | Path, *, language: str | None = None) -> SpeechList:
    """Common Voice (Ardila 2019, arXiv:1912.06670): a table such as ``train.tsv`` beside a folder ``clips``.

    Args:
        table: The table, or its folder, of which ``train.tsv`` is read.
        language: Code of the language; that of the table's column ``locale``, or the folder's name, by default.

    Raises:
        UserError: The table is missing or of another form, or its language is unknown.
    """
    path = Path(table).expanduser()
    path = path / "train.tsv" if path.is_dir() else path
    clips = path.parent / "clips"
    if not path.is_file() or not clips.is_dir():
        raise UserError(f"{table} is no Common Voice set; it needs {path.name} beside a folder clips")
    found: list[Utterance] = []
    left_out: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="") as opened:
        rows = csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"path", "sentence"} <= set(rows.fieldnames or ()):
            raise UserError(f"{path} has no columns path and sentence")
        for number, row in enumerate(rows, 2):
            code = language or _language(row.get("locale") or path.parent.name)
            if code is None:
                raise UserError(f"{path} line {number}: {unknown_language(row.get('locale') or path.parent.name)}")
            text = (row["sentence"] or "").strip()
            audio = clips / (row["path"] or "")
            if not text or not audio.is_file():
                left_out["without text" if not text else "without a file"] += 1
                continue
            found.append(
                Utterance(
                    id=row["path"], sound=FileSound(audio), text=text, language=code, voice=row.get("client_id"),
                    source=f"{path.parent.name}/{path.stem}",
                )
            )  # fmt: skip
    if not found:
        raise UserError(f"{path} names no clip that is there; unpack the clips beside it")
    return SpeechList(f"{path.parent.name}/{path.name}", tuple(found), dict(left_out))


def _language(locale: str) -> str | None:
    """Whisper's code for Common Voice's."""
    if locale in _OTHER_CODES:
        return _OTHER_CODES[locale]
    code = locale.split("-")[0]
    return code if code in LANGUAGES else None
