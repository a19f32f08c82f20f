"""The files of a transcript, by hand."""

from __future__ import annotations

import json

import pytest

from zoo.shared.errors import UserError
from zoo.whisper.writers import SubtitleOptions, render, write


def spoken(*words):
    return [{"word": word, "start": start, "end": end, "probability": 1.0} for word, start, end in words]


SPEECH = {
    "text": " Hello there. Bye!",
    "segments": [
        {
            "start": 0.0,
            "end": 1.5,
            "text": " Hello there.",
            "words": spoken((" Hello", 0.0, 0.5), (" there.", 0.7, 1.5)),
        },
        {"start": 2.0, "end": 2.5, "text": " Bye!", "words": spoken((" Bye!", 2.0, 2.5))},
    ],
    "language": "en",
}
PLAIN = {
    "text": " a --> b",
    "segments": [{"start": 3599.0, "end": 3600.25, "text": " a --> b\tc "}],
    "language": "en",
}
NOTHING = {"text": "", "segments": [], "language": "en"}


def test_without_words():
    assert render(PLAIN, "txt") == "a --> b\tc\n"
    assert render(PLAIN, "vtt") == "WEBVTT\n\n59:59.000 --> 01:00:00.250\na -> b\tc\n\n"
    assert render(PLAIN, "srt") == "1\n00:59:59,000 --> 01:00:00,250\na -> b\tc\n\n"
    assert render(PLAIN, "tsv") == "start\tend\ttext\n3599000\t3600250\ta --> b c\n"
    assert json.loads(render(PLAIN, "json")) == PLAIN


def test_silence():
    assert [render(NOTHING, name) for name in ("txt", "vtt", "srt", "tsv")] == [
        "",
        "WEBVTT\n\n",
        "",
        "start\tend\ttext\n",
    ]


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (SubtitleOptions(), ["Hello there.", "Bye!"]),
        (SubtitleOptions(max_line_width=6), ["Hello\nthere.", "Bye!"]),
        (SubtitleOptions(max_line_width=6, max_line_count=1), ["Hello", "there.", "Bye!"]),
        (SubtitleOptions(max_line_width=42, max_line_count=2), ["Hello there. Bye!"]),
        (SubtitleOptions(max_words_per_line=1), ["Hello", "there.", "Bye!"]),
        (
            SubtitleOptions(highlight_words=True),
            ["<u>Hello</u> there.", "Hello there.", "Hello <u>there.</u>", "<u>Bye!</u>"],
        ),
    ],
)
def test_words_become_subtitles(options, texts):
    cues = render(SPEECH, "srt", options).removesuffix("\n\n").split("\n\n")
    assert [cue.split("\n", 2)[2] for cue in cues] == texts


def test_the_result_is_left_as_it_was():
    before = json.dumps(SPEECH)
    render(SPEECH, "vtt", SubtitleOptions(max_line_width=3, highlight_words=True))
    assert json.dumps(SPEECH) == before


def test_files_are_called_like_the_recording(tmp_path):
    paths = write(SPEECH, "/elsewhere/talk.final.mp3", tmp_path / "new", ["srt", "txt"])
    assert [path.name for path in paths] == ["talk.final.srt", "talk.final.txt"]
    assert paths[1].read_bytes() == b"Hello there.\nBye!\n"
    assert len(list((tmp_path / "new").iterdir())) == 2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda folder: render(SPEECH, "doc"), "use txt, vtt, srt, tsv, json"),
        (lambda folder: write(SPEECH, "a.wav", folder, ["txt", "doc"]), "use txt"),
        (lambda folder: SubtitleOptions(max_line_width=0), "max_line_width must be at least 1, not 0"),
    ],
)
def test_mistakes(call, says, tmp_path):
    with pytest.raises(UserError, match=says):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []
