"""Telephone prompts of Asterisk (CC BY-SA 3.0): real speech of one voice in each of English, Spanish and French.

Keys name the same prompt in all three, so Spanish and French speech has English text: pairs for translation, freely
translated. The sounds are 8 kHz; they are resampled once and kept in the user's cache.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from zoo.shared.data.samples import Progress, cache_folder, get_pack, open_pack
from zoo.shared.errors import UserError
from zoo.whisper.speech.records import WINDOW, SpeechList, StoredSound, Task, Utterance
from zoo.whisper.speech.store import SAMPLE_RATE, ClipStore, Samples, open_store

LANGUAGES = ("en", "es", "fr")

_NO_SPEECH = ("[", "(", "<")  # what begins the description of a sound that is no speech
_UNHEARD = re.compile(r"\s*(\([^)]*\)|\.\.\.)\s*")
_VERSION = 1
# Folders of clips that say single symbols: their texts name the symbol, and make trivial translations.
_SYMBOLS = ("digits/", "letters/", "phonetic/")


def read_prompts(
    language: str, *, task: Task = "transcribe", symbols: bool = True, progress: Progress = lambda line: None
) -> SpeechList:
    """The prompts in a language.

    Left out and counted: sounds without speech (beeps, monkeys), without text, without sound, and those longer than
    the 30 seconds that the model hears at once.

    Args:
        language: en, es or fr.
        task: ``translate`` gives Spanish and French speech its English text.
        symbols: Whether to give single digits, letters and code words too.
        progress: Called with a line when packs are fetched and sounds resampled.

    Raises:
        UserError: No such language, or a pack that cannot be had.
    """
    if language not in LANGUAGES or (task == "translate" and language == "en"):
        have = ", ".join(LANGUAGES if task == "transcribe" else LANGUAGES[1:])
        raise UserError(f"the prompts can be had to {task} in {have}, not in {language}")
    spoken, written = _texts(language, progress), _texts("en" if task == "translate" else language, progress)
    store, keys, voice = _sounds(language, progress)
    places = {key: number for number, key in enumerate(keys)}
    found: list[Utterance] = []
    left_out: Counter[str] = Counter()
    for key in dict.fromkeys([*keys, *spoken]):
        reason = _unusable(key, places, spoken, written, store)
        if reason is None and not symbols and key.startswith(_SYMBOLS):
            reason = "single symbols"
        if reason is not None:
            left_out[reason] += 1
            continue
        sound = StoredSound(store.path, *store.place(places[key]))
        found.append(
            Utterance(
                id=f"{language}/{key}", sound=sound, text=clean_text(written[key]), language=language, task=task,
                voice=voice, source=f"prompts-{language}",
            )
        )  # fmt: skip
    name = f"prompts-{language}" + ("" if task == "transcribe" else ", translated")
    return SpeechList(name, tuple(found), dict(left_out))


def _unusable(
    key: str, places: dict[str, int], spoken: dict[str, str], written: dict[str, str], store: ClipStore
) -> str | None:
    """Why a prompt is left out, or None."""
    if key not in places:
        return "no sound"
    for texts in (spoken, written):
        if not texts.get(key, ""):
            return "no text"
        if not clean_text(texts[key]):
            return "no speech"
    if store.place(places[key])[1] > WINDOW * SAMPLE_RATE:
        return "longer than 30 s"
    return None


def clean_text(text: str) -> str:
    """What is said, without stage directions in round brackets and without the dots of a sentence that other prompts
    begin or end, which nobody hears; empty where a line describes a sound.
    """
    if text.startswith(_NO_SPEECH):
        return ""
    return _UNHEARD.sub(" ", text).strip()


def parse_texts(contents: str) -> dict[str, str]:
    """Keys and texts of a file of transcripts: lines ``key: text``, and comments after ``;`` at a line's beginning."""
    texts: dict[str, str] = {}
    for line in contents.splitlines():
        key, colon, text = line.partition(":")
        if colon and not line.startswith(";"):
            texts[key.strip()] = text.strip()
    return texts


@cache
def _transcripts(language: str) -> dict[str, str]:
    name = f"prompts-{language}"
    pack = open_pack(name)
    return parse_texts(gzip.decompress(pack.read(get_pack(name).files[0])).decode("utf-8"))


def _texts(language: str, progress: Progress) -> dict[str, str]:
    open_pack(f"prompts-{language}", progress=progress)
    return _transcripts(language)


def _sounds(language: str, progress: Progress) -> tuple[ClipStore, list[str], str]:
    """All sounds of a pack at 16 kHz, their keys, and the voice's name."""
    name = f"prompts-{language}-wav"
    pack = get_pack(name)
    folder = pack.files[0]
    identity = hashlib.sha256(f"{_VERSION}:{pack.sha256}".encode()).hexdigest()[:16]
    path: Path = cache_folder() / "speech" / f"{name}-{identity}.pcm"
    if not path.with_suffix(".json").exists():
        reader = open_pack(name, progress=progress)
        keys = sorted(p.removeprefix(folder).removesuffix(".wav") for p in reader.names() if _is_sound(p, folder))
        progress(f"resampling {len(keys)} sounds of {name}")

        def clips(done: int) -> Iterator[Samples]:
            from zoo.shared.audio.files import read_audio

            for key in keys[done:]:
                samples = read_audio(reader.read(f"{folder}{key}.wav")).numpy()
                yield np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)

        open_store(path, clips, count=len(keys), notes={"pack": name, "keys": keys})
    store = ClipStore(path)
    return store, store.notes["keys"], folder.rstrip("/").rpartition("/")[2]


def _is_sound(path: str, folder: str) -> bool:
    return path.startswith(folder) and path.endswith(".wav")
