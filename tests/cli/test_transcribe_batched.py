"""``zoo transcribe --batched`` and ``--accounted`` with the real tiny.en."""

import json

import numpy as np
import pytest
import soundfile

from zoo.cli import main
from zoo.whisper.pretrained import tiny_en


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """A spoken sentence, then six seconds in which nobody speaks."""
    import py_nanotts

    sentence = np.frombuffer(py_nanotts.NanoTTS().speak("Please call me back tomorrow.", voice="en-US"), dtype=np.int16)
    noise = (np.random.default_rng(0).standard_normal(6 * 16_000) * 30).astype(np.int16)
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, np.concatenate([sentence, noise]), 16_000)
    return path


def words(*more: str) -> list[str]:
    return ["transcribe", *more, "--weights", str(tiny_en()), "--beam-size", "1", "--threads", "1"]


def test_every_second_is_accounted_for(talk, capsys):
    assert main(words(str(talk), "--accounted", "--word-timestamps", "--json")) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["text"].strip().rstrip(".").casefold() == "please call me back tomorrow"
    coverage = result["coverage"]
    assert coverage["seconds"] == pytest.approx(soundfile.info(talk).duration, abs=0.02)
    assert coverage["text"] + coverage["silence"] + coverage["flagged"] == pytest.approx(coverage["seconds"], abs=0.03)
    assert coverage["silence"] + coverage["flagged"] > 4.5


def test_unreadable_recordings_are_skipped(talk, tmp_path, capsys):
    (tmp_path / "bad.wav").write_text("no sound")
    assert main(words(str(talk), str(tmp_path / "bad.wav"), "--batched")) == 2
    said = capsys.readouterr()
    assert "call me back" in said.out
    assert "skipped" in said.err
    assert "bad.wav" in said.err


def test_an_empty_batch_is_refused(talk, capsys):
    assert main(words(str(talk), "--batched", "--batch-size", "0")) == 2
    assert "--batch-size 0: give at least one" in capsys.readouterr().err
