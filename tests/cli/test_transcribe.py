"""``zoo transcribe``: what it writes, and one clear line for every mistake."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import zoo
from zoo.cli import main
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.vocabulary import train_tokenizer

FAST = ("--temperature", "0", "--beam-size", "1", "--logprob-threshold", "none", "--no-speech-threshold", "none")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random model of English with a window of one second, which writes much about nothing."""
    torch.manual_seed(0)
    texts = [" the cat sat on the mat", " a dog, a cat and a mouse", " is it so? it is so."]
    tokenizer = train_tokenizer(texts, 340, audio_context=50)
    config = WhisperConfig(
        audio_context=50, text_context=40, width=32, heads=2, audio_depth=1, text_depth=2,
        vocab_size=tokenizer.vocab_size, tokenizer="bpe",
    )  # fmt: skip
    model = Whisper(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    folder = tmp_path_factory.mktemp("weights") / "whisper"
    zoo.save_weights(model, folder, preprocessor=WhisperPreprocessor(tokenizer, config))
    return str(folder)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def talk(tmp_path):
    samples = np.random.default_rng(0).standard_normal(40_000) * 0.1
    soundfile.write(tmp_path / "talk.wav", samples, 16_000)
    return "talk.wav"


@pytest.fixture
def says(capsys):
    """Run ``zoo transcribe``; returns exit code, standard output and standard error."""

    def run(*words: object):
        code = main(["transcribe", *map(str, words)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def refused(says):
    """Run a command that must fail; returns its one line."""

    def run(*words: object) -> str:
        code, out, err = says(*words)
        assert (code, out) == (2, ""), (out, err)
        line = err.strip().splitlines()[-1]
        assert line.startswith("zoo: ")
        return line

    return run


def test_shows_text_with_times(says, talk, weights):
    code, out, _ = says(talk, "--weights", weights, *FAST)
    assert code == 0
    assert out.startswith("[00:00.")
    assert len(out.splitlines()) >= 2
    _, again, _ = says(talk, "--weights", weights, *FAST, "--json")
    (result,) = json.loads(again)
    assert result["audio"] == "talk.wav"
    assert (result["language"], result["weights"]) == ("en", weights)
    shown = [line.split("] ", 1)[1] for line in out.splitlines()]
    assert shown == [segment["text"].strip() for segment in result["segments"] if segment["text"].strip()]


def test_writes_every_format(says, talk, weights, tmp_path):
    code, out, _ = says(talk, "--weights", weights, *FAST, "--out", "texts", "--word-timestamps")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "texts").iterdir()) == [
        "talk.json", "talk.srt", "talk.tsv", "talk.txt", "talk.vtt",
    ]  # fmt: skip
    assert out.count("wrote texts/talk.") == 5
    assert (tmp_path / "texts" / "talk.vtt").read_text().startswith("WEBVTT\n\n00:00.")
    assert any(segment["words"] for segment in json.loads((tmp_path / "texts" / "talk.json").read_text())["segments"])
    code, out, _ = says(
        talk, "--weights", weights, *FAST, "--format", "srt", "--word-timestamps", "--max-words-per-line", 1
    )
    assert out == "wrote talk.srt\n"
    assert "00:00:00," in (tmp_path / "talk.srt").read_text()


def test_several_recordings_and_patterns(says, talk, weights, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    code, out, err = says("*.wav", talk, "--weights", weights, *FAST)
    assert code == 2, "one could not be read"
    assert "skipped: bad.wav" in err.replace(str(tmp_path) + "/", "")
    assert out.count("talk.wav\n") == 1
    assert "[00:00." in out


def test_reads_standard_input(says, talk, weights, tmp_path, monkeypatch):
    _, expected, _ = says(talk, "--weights", weights, *FAST)
    pipe = io.BytesIO((tmp_path / talk).read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
    assert says("-", "--weights", weights, *FAST)[:2] == (0, expected)


def test_int8_and_other_types(says, talk, weights):
    for dtype in ("int8", "bfloat16"):
        code, out, _ = says(talk, "--weights", weights, *FAST, "--dtype", dtype, "--device", "cpu")
        assert code == 0
        assert out.startswith("[00:00.")


def test_prompts_clips_and_fallback(says, talk, weights):
    options = ("--initial-prompt", "a cat", "--carry-initial-prompt", "--hotwords", "mouse")
    code, out, _ = says(
        talk, "--weights", weights, *options, "--clip-timestamps", "0.5,1.5", "--temperature", "0,1", "--best-of", 2,
        "--no-condition-on-previous-text", "--compression-ratio-threshold", "0.1", "--json", "--beam-size", 2,
        "--patience", 1.5, "--length-penalty", 0.5, "--suppress-tokens", "1,2", "--seed", 3,
    )  # fmt: skip
    assert code == 0
    (result,) = json.loads(out)
    for segment in result["segments"]:
        assert segment["temperature"] == 1.0
        assert 50 <= segment["seek"] < 150
        assert not {1, 2} & set(segment["tokens"])


def test_the_released_model_is_used_where_there_is_no_other(says, tmp_path):
    from py_nanotts import NanoTTS

    pcm = NanoTTS().speak("Please call me back tomorrow morning at half past nine.", voice="en-US")
    soundfile.write(tmp_path / "call.wav", np.frombuffer(pcm, dtype=np.int16), 16_000)
    code, out, err = says("call.wav")
    assert code == 0
    assert "tiny.en" in err
    assert "call me back tomorrow morning at half past" in out.lower()
    code, _, err = says("call.wav", "--task", "translate")
    assert code == 2
    assert "english only" in err
    assert "multilingual" in err


@pytest.mark.parametrize(
    ("words", "says_so"),
    [
        (("no-such.wav",), "no such file: no-such.wav"),
        (("*.mp3",), "no file fits '*.mp3'"),
        ((".",), "is a folder"),
        (("-", "-"), "only once"),
        (("talk.wav", "--format", "doc"), "choose among txt"),
        (("talk.wav", "other/talk.wav", "--out", "x"), "would both be written"),
        (("talk.wav", "--max-line-width", "40"), "--max-line-width needs --word-timestamps"),
        (("talk.wav", "--hallucination-silence-threshold", "2"), "needs --word-timestamps"),
        (("talk.wav", "--word-timestamps", "--max-line-count", "2"), "needs --max-line-width"),
        (("talk.wav", "--carry-initial-prompt"), "needs --initial-prompt"),
        (("talk.wav", "--beam-size", "0"), "count from 1"),
        (("talk.wav", "--patience", "2", "--beam-size", "1"), "give --beam-size 2"),
        (("talk.wav", "--temperature", "warm"), "must be numbers"),
        (("talk.wav", "--clip-timestamps", "9,3"), "must rise"),
        (("talk.wav", "--language", "klingon"), "no language"),
        (("talk.wav", "--threads", "0"), "at least one"),
        (("talk.wav", "--dtype", "int4"), "invalid choice"),
        (("talk.wav", "--weights", "nowhere"), "nowhere"),
        (("talk.wav", "--weights", "WEIGHTS", "--language", "de"), "english only"),
        (("talk.wav", "--weights", "WEIGHTS", "--languages", "de,fr"), "english only"),
        (("talk.wav", "--weights", "WEIGHTS", "--task", "translate"), "english only"),
        (("talk.wav", "--weights", "WEIGHTS", "--length-penalty", "3"), "length_penalty"),
        (("talk.wav", "--out", "talk.wav"), "is a file"),
        ((), "required"),
    ],
)
def test_mistakes_get_one_line(refused, talk, weights, tmp_path, words, says_so):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "talk.wav").write_bytes((tmp_path / talk).read_bytes())
    assert says_so in refused(*(weights if word == "WEIGHTS" else word for word in words))


def test_weights_of_another_family_are_refused(refused, talk, tmp_path):
    zoo.save_weights(zoo.create_model("clip-debug"), tmp_path / "clip")
    assert "not a Whisper" in refused(talk, "--weights", tmp_path / "clip")


def test_help(says, capsys):
    with pytest.raises(SystemExit):
        says("--help")
    assert "--hallucination-silence-threshold" in capsys.readouterr().out
