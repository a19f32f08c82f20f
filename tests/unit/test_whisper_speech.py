"""Records of speech and what reads them: manifests, folders, tars, telephone prompts, and pieces of long recordings."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from zoo.shared.audio.files import read_audio
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.whisper.speech import asterisk
from zoo.whisper.speech.folders import read_common_voice, read_librispeech
from zoo.whisper.speech.manifest import manifest_mistakes, read_manifest, write_manifest
from zoo.whisper.speech.pieces import TOO_LONG, cut, cut_all
from zoo.whisper.speech.records import ArraySound, FileSound, Segment, Utterance, mistakes
from zoo.whisper.speech.sounds import read_sound, samples_of, seconds_of
from zoo.whisper.speech.tars import read_tars


def sound(path: Path, seconds: float = 2.0, rate: int = 16000) -> Path:
    """A file with a rising tone; its format is that of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.4 * np.sin(2 * np.pi * (200 + 50 * time) * time), rate)
    return path


def lines(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_a_manifest_is_read_and_written_again(tmp_path: Path) -> None:
    sound(tmp_path / "clips" / "a.wav")
    sound(tmp_path / "b.flac", 5.0, 8000)
    row = {
        "audio": "b.flac", "language": "de", "task": "translate", "prompt": "before", "start": 0.5, "end": 4.5,
        "segments": [{"start": 0.1, "end": 1.9, "text": " One."}, {"start": 1.9, "end": 4.0, "text": "Two."}],
    }  # fmt: skip
    path = lines(
        tmp_path / "m.jsonl",
        {"audio": "clips/a.wav", "text": "Hello.", "language": "en"},
        row,
        {"audio": "clips/a.wav", "no_speech": True},
    )
    first, second, third = read = read_manifest(path)
    assert (first.text, first.language, first.task, first.source) == ("Hello.", "en", "transcribe", "m")
    assert second.text == "One. Two."
    assert second.segments == (Segment(0.1, 1.9, "One."), Segment(1.9, 4.0, "Two."))
    assert third.no_speech
    assert third.language is None
    assert len(samples_of(second)) == 4 * 16000
    copy = tmp_path / "copy.jsonl"
    assert write_manifest(copy, read) == 3
    assert [replace(u, id="") for u in read_manifest(copy)] == [replace(u, id="", sound=u.sound) for u in read]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"language": "german"}, "language 'german' is unknown; did you mean de?"),
        ({"language": "xx"}, "language 'xx' is unknown; codes are such as en, de or zh"),
        ({"language": None}, "it has no language; give the code of the language that is spoken, such as en"),
        ({"task": "sing"}, "task 'sing' is unknown; choose transcribe or translate"),
        ({"task": "translate"}, "English speech is transcribed, not translated; leave out the task"),
        ({"text": " "}, "it has no text; say `no_speech` where nothing is said"),
        ({"audio": "b.wav"}, "no such file: {folder}/b.wav"),
        ({"start": 1.5, "end": 1.0}, "it ends at 1 s, which is not after its start at 1.5 s"),
        ({"start": -1}, "it starts at -1 s, before its sound does"),
        ({"start": 2.5}, "it starts at 2.5 s, but its sound lasts 2.00 s"),
        ({"end": 2.5}, "it ends at 2.5 s, but its sound lasts 2.00 s"),
        ({"start": "0"}, "start must be a number of seconds, not '0'"),
        ({"end": True}, "end must be a number of seconds, not True"),
        ({"txet": "a"}, "unknown field 'txet'; did you mean text?"),
        ({"segments": [{"start": 0, "text": "a"}]}, "segment 1 must be an object with start, end and text"),
        (
            {"segments": [{"start": 0, "end": 1, "text": "a"}, {"start": 0.5, "end": 2, "text": "b"}]},
            "segment 2 starts at 0.5 s, before the one before it ends at 1 s",
        ),
        (
            {"segments": [{"start": 1, "end": 3, "text": "a"}]},
            "segment 1 ends at 3 s, outside of the sound, which lasts 2.00 s",
        ),
        (
            {"segments": [{"start": 1, "end": 1, "text": "a"}]},
            "segment 1 ends at 1 s, which is not after its start at 1 s",
        ),
        ({"segments": [{"start": 0, "end": 1, "text": ""}]}, "segment 1 has no text"),
        ({"no_speech": True}, "it is marked `no_speech` but has text"),
    ],
)
def test_mistakes_in_a_manifest(tmp_path: Path, change: dict, line: str) -> None:
    sound(tmp_path / "a.wav")
    good = {"audio": "a.wav", "text": "Hello.", "language": "en"}
    path = lines(tmp_path / "m.jsonl", good, {**good, **change})
    wanted = f"m.jsonl line 2: {line.format(folder=tmp_path)}"
    if line.startswith("no such file"):  # what cannot be read is left out and named
        assert read_manifest(path).unreadable == {"b.wav (m.jsonl line 2)": line.format(folder=tmp_path)}
        assert len(manifest_mistakes(path)) == 1
        return
    assert manifest_mistakes(path) == [wanted]
    with pytest.raises(UserError) as caught:
        read_manifest(path)
    assert str(caught.value) == wanted


def test_every_mistake_is_told_and_the_first_raised(tmp_path: Path) -> None:
    path = lines(tmp_path / "m.jsonl", "{", "[]", {"text": "a"})
    told = manifest_mistakes(path)
    assert [line.partition(": ")[0] for line in told] == [f"m.jsonl line {n}" for n in (1, 2, 3)]
    with pytest.raises(UserError, match=r"line 1: no JSON.*\(and 2 more mistakes in it\)$"):
        read_manifest(path)
    with pytest.raises(UserError, match="is empty"):
        read_manifest(lines(tmp_path / "empty.jsonl"))


def test_damaged_sound_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF nothing")
    path = lines(tmp_path / "m.jsonl", {"audio": "a.wav", "text": "Hello.", "language": "en"})
    assert len(manifest_mistakes(path)) == 1


def test_librispeech(tmp_path: Path) -> None:
    chapter = tmp_path / "dev-clean" / "84" / "121123"
    for number in range(2):
        sound(chapter / f"84-121123-000{number}.flac")
    lines(chapter / "84-121123.trans.txt", "84-121123-0000 GO DO YOU HEAR", "84-121123-0001 BUT IN LESS")
    first, second = read_librispeech(tmp_path)
    assert (first.text, first.prompt, first.voice, first.source) == ("GO DO YOU HEAR", "", "84", "dev-clean")
    assert (second.text, second.prompt, second.language) == ("BUT IN LESS", "GO DO YOU HEAR", "en")
    assert seconds_of(first.sound) == 2.0
    (chapter / "84-121123-0001.flac").unlink()
    with pytest.raises(UserError, match=r"line 2: there is no audio file 84-121123-0001\.flac"):
        read_librispeech(tmp_path)
    with pytest.raises(UserError, match="holds no"):
        read_librispeech(tmp_path / "nothing")


def test_librispeech_is_read_as_torchaudio_reads_it(tmp_path: Path) -> None:
    from torchaudio.datasets import LIBRISPEECH

    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121123"
    sound(chapter / "84-121123-0000.flac")
    lines(chapter / "84-121123.trans.txt", "84-121123-0000 GO DO YOU HEAR")
    path, _, text, speaker, *_ = LIBRISPEECH(tmp_path, "dev-clean").get_metadata(0)
    (ours,) = read_librispeech(tmp_path / "LibriSpeech")
    assert isinstance(ours.sound, FileSound)
    assert ours.sound.path == tmp_path / "LibriSpeech" / path
    assert (ours.text, ours.voice) == (text, str(speaker))


def test_common_voice(tmp_path: Path) -> None:
    folder = tmp_path / "cv" / "sv-SE"
    sound(folder / "clips" / "a.mp3")
    lines(
        folder / "train.tsv",
        "client_id\tpath\tsentence\tlocale",
        'x\ta.mp3\tHan sa "nej\tsv-SE',
        "x\tb.mp3\tBorta\tsv-SE",
        "y\ta.mp3\t\tsv-SE",
    )
    found = read_common_voice(folder)
    (only,) = found
    assert (only.text, only.language, only.voice, only.source) == ('Han sa "nej', "sv", "x", "sv-SE/train")
    assert found.left_out == {"without a file": 1, "without text": 1}
    assert abs(seconds_of(only.sound) - 2.0) < 0.1
    with pytest.raises(UserError, match="language 'xx' is unknown"):
        read_common_voice(lines(folder / "dev.tsv", "path\tsentence\tlocale", "a.mp3\tHej\txx"))
    with pytest.raises(UserError, match="no columns path and sentence"):
        read_common_voice(lines(folder / "test.tsv", "a\tb"))


def test_tars_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    wav = sound(tmp_path / "x.wav", 1.0, 22050).read_bytes()
    with tarfile.open(tmp_path / "s-000.tar", "w") as tar:
        for name, data in (
            ("a.wav", wav),
            ("a.txt", b" Hello. \n"),
            ("b.wav", wav),
            ("b.json", json.dumps({"text": "Hallo.", "language": "de", "start": 0.25, "extra": 1}).encode()),
            ("c.txt", b"no sound"),
            ("d.wav", wav),
            ("d.json", b'{"text": "x", "language": "klingon"}'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = read_tars(str(tmp_path / "s-{000..000}.tar"), language="en")
    first, second = found
    assert (first.id, first.text, first.language) == ("s-000.tar/a", "Hello.", "en")
    assert (second.text, second.language) == ("Hallo.", "de")
    assert found.left_out["no sound"] == 1
    assert sum(found.left_out.values()) == 2
    whole = read_audio(wav)
    assert torch.equal(samples_of(first), whole)
    torch.testing.assert_close(samples_of(second), whole[4000:], atol=2e-3, rtol=0)
    again = tmp_path / "kept.jsonl"
    write_manifest(again, found)
    assert torch.equal(samples_of(read_manifest(again)[0]), whole)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_part_of_a_file_is_what_the_whole_has_there(tmp_path: Path, rate: int) -> None:
    path = FileSound(sound(tmp_path / "a.wav", 6.0, rate))
    whole = read_sound(path)
    for start, end in ((1.234, 3.5), (0.0, 2.0), (4.1, None)):
        part = read_sound(path, start, end)
        wanted = whole[round(start * 16000) : None if end is None else round(end * 16000)]
        assert len(part) == len(wanted)
        torch.testing.assert_close(part, wanted, atol=2e-3, rtol=0)
    with pytest.raises(BadSample, match="empty"):
        samples_of(Utterance(id="a", sound=path, text="a", language="en", start=7.0))


def told(start: float, end: float | None, text: str) -> Segment:
    return Segment(start, end, text)


def test_long_recordings_are_cut_at_segments() -> None:
    """The paper's rules: only the start of a cut segment, where the next piece begins; the text before as prompt."""
    segments = (told(1, 12, "One."), told(12, 25, "Two."), told(28, 35, "Three."), told(36, 40, "Four."))
    long = Utterance(
        id="a",
        sound=ArraySound(np.zeros(100 * 16000, np.int16)),
        text="",
        language="en",
        segments=segments,
        prompt="P.",
    )
    first, second, third, fourth = cut(long, seconds=100.0)
    assert (first.start, first.end, first.text, first.prompt) == (0.0, 30.0, "One. Two.", "P.")
    assert first.segments == (told(1, 12, "One."), told(12, 25, "Two."), told(28, None, ""))
    assert (second.start, second.end, second.prompt) == (28.0, 58.0, "P. One. Two.")
    assert second.segments == (told(0, 7, "Three."), told(8, 12, "Four."))
    for silent, start, end in ((third, 58.0, 88.0), (fourth, 88.0, 100.0)):
        assert (silent.start, silent.end, silent.no_speech, silent.language) == (start, end, True, None)
    for piece in (first, second, third, fourth):
        assert not list(mistakes(piece, seconds=100.0))
        assert len(samples_of(piece)) == round((piece.end - piece.start) * 16000)


def test_what_cannot_be_cut_is_counted() -> None:
    def silence(seconds: float) -> ArraySound:
        return ArraySound(np.zeros(round(seconds * 16000), np.int16))

    whole = Utterance(id="a", sound=silence(31), text="a", language="en")
    short = Utterance(id="b", sound=silence(30), text="b", language="en")
    missing = Utterance(id="c", sound=FileSound(Path("nowhere.wav")), text="c", language="en")
    hidden = Utterance(id="d", sound=silence(65), text="", language="en", segments=(told(1, 40, "Too long."),))
    quiet = Utterance(id="e", sound=silence(300), text="", language=None, no_speech=True)
    found = cut_all("x", [whole, short, missing, hidden, quiet], silent_share=0.0)
    assert [u.id for u in found] == ["b"]
    assert found.left_out == {TOO_LONG: 1, "without speech": 11}
    assert list(found.unreadable) == ["c"]
    assert [u.id for u in cut_all("x", [hidden])] == ["d#2"], (
        "where the long segment speaks there is no silence to learn"
    )


TEXTS = """; a comment: with a colon
agent-pass: Please enter your password (simple tone sound plays) followed by the pound key.
beep: [this is a simple beep tone]
silence/1: (1 second of silence)
digits/1: one
demo: Very long.
only-text: Nobody says this.
empty:
"""


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Packs with a few prompts of the same form as the real ones."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    texts = {"en": TEXTS, "es": TEXTS.replace("one", "uno").replace("empty:", "empty: lleno")}
    keys = {"agent-pass": 1.0, "beep": 0.2, "silence/1": 1.0, "digits/1": 0.4, "demo": 31.0, "empty": 0.5}

    class Reader:
        def __init__(self, name: str) -> None:
            self.name = name
            self.folder = asterisk.get_pack(name).files[0]

        def names(self) -> list[str]:
            return [f"{self.folder}{key}.wav" for key in keys] + ["usr/share/doc/changelog.gz"]

        def read(self, path: str) -> bytes:
            if not self.name.endswith("-wav"):
                return gzip.compress(texts[self.name[-2:]].encode())
            key = path.removeprefix(self.folder).removesuffix(".wav")
            return sound(tmp_path / "one.wav", keys[key], 8000).read_bytes()

    monkeypatch.setattr(asterisk, "open_pack", lambda name, progress=None: Reader(name))
    asterisk._transcripts.cache_clear()
    yield
    asterisk._transcripts.cache_clear()


@pytest.mark.usefixtures("prompts")
def test_prompts_without_traps() -> None:
    english = asterisk.read_prompts("en")
    assert [(u.id, u.text) for u in english] == [
        ("en/agent-pass", "Please enter your password followed by the pound key."),
        ("en/digits/1", "one"),
    ]
    assert english.left_out == {"no speech": 2, "longer than 30 s": 1, "no text": 1, "no sound": 1}
    assert len(samples_of(english[1])) == round(0.4 * 16000)
    assert english[0].voice == "en_US_f_Allison"
    spanish = asterisk.read_prompts("es", task="translate")
    assert [(u.text, u.language, u.task) for u in spanish][1] == ("one", "es", "translate")
    assert spanish.left_out["no text"] == 1, "the English text is missing"
    assert len(asterisk.read_prompts("es")) == 3
    assert [u.id for u in asterisk.read_prompts("es", symbols=False)] == ["es/agent-pass", "es/empty"]
    with pytest.raises(UserError, match="translate in es, fr, not in en"):
        asterisk.read_prompts("en", task="translate")


@pytest.mark.slow
@pytest.mark.parametrize(("language", "paired", "translated"), [("en", 551, None), ("es", 477, 451), ("fr", 509, 508)])
def test_real_prompts_are_all_there(language: str, paired: int, translated: int | None) -> None:
    for task, count in (("transcribe", paired), ("translate", translated)):
        if count is not None:
            found = asterisk.read_prompts(language, task=task)
            assert len(found) + found.left_out.get("longer than 30 s", 0) == count
            assert not any(list(mistakes(u, seconds=seconds_of(u.sound))) for u in found)
