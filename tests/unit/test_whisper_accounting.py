"""Every second of a recording ends as text, silence or flagged."""

from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.whisper.pretrained import tiny_en
from zoo.whisper.speech.speaking import Speaker
from zoo.whisper.speech.synthesis import speak_all
from zoo.whisper.transcription.accounting import Measured, account, measure, transcribe_accounted
from zoo.whisper.transcription.hearing import LoudnessMeter, Skipped
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.transcribe import transcribe

OPTIONS = TranscriptionOptions(language="en")


def measured(*parts: tuple[str, float]) -> Measured:
    """A recording of parts: ``speech``, ``silence`` or ``noise``, with seconds."""
    kinds = np.concatenate([np.full(round(seconds * 1000), kind) for kind, seconds in parts])
    samples = 16 * len(kinds)
    voice = kinds[np.minimum(np.arange(samples // 512 + 1) * 32, len(kinds) - 1)] == "speech"
    loudness = np.select([kinds[::100] == "speech", kinds[::100] == "noise"], [-20.0, -40.0], -90.0)
    return Measured(samples=samples, voice=voice.astype(np.float32), loudness=loudness.astype(np.float32))


def result(*segments: tuple[float, float, str], **values: float) -> dict[str, Any]:
    plain = {"avg_logprob": -0.3, "compression_ratio": 1.2, **values}
    listed = [{"id": i, "start": s, "end": e, "text": t, **plain} for i, (s, e, t) in enumerate(segments)]
    return {"text": "".join(one["text"] for one in listed), "segments": listed, "language": "en"}


def told(found) -> list[tuple[float, float, str, str | None]]:
    return [(one.start, one.end, one.kind, one.reason) for one in found.stretches]


def test_text_and_silence_fill_the_recording() -> None:
    found = account(result((1.0, 3.1, " Hello.")), measured(("silence", 1), ("speech", 2), ("silence", 2)), OPTIONS)
    assert told(found) == [(0, 1.0, "silence", None), (1.0, 3.1, "text", None), (3.1, 5.0, "silence", None)]
    assert found.coverage() == {
        "seconds": 5.0, "text": 2.1, "silence": 2.9, "flagged": 0, "reasons": {},
        "speech": pytest.approx(2.0, abs=0.07), "speech_with_text": 1.0,
    }  # fmt: skip


def test_a_pause_within_a_segment_is_silence() -> None:
    recording = measured(("speech", 2), ("silence", 4), ("speech", 2))
    found = account(result((0.0, 8.0, " Hello. Goodbye.")), recording, OPTIONS)
    text, pause, more = told(found)
    assert pause == (pytest.approx(2.5, abs=0.07), pytest.approx(5.5, abs=0.07), "silence", None)
    assert (text[2], more[2], found.stretches[2].text) == ("text", "text", "")
    assert found.coverage()["speech_with_text"] == 1.0


def test_text_about_silence_is_flagged_and_left_out() -> None:
    given = result((0.0, 2.0, " Hello."), (20.0, 22.0, " You"))
    found = account(given, measured(("speech", 2), ("silence", 28)), OPTIONS)
    assert (20.0, 22.0, "flagged", "text without speech") in told(found)
    applied = found.applied(given)
    assert applied["text"] == " Hello."
    assert [one["id"] for one in applied["segments"]] == [0]
    assert [one["text"] for one in applied["account"] if one["kind"] == "flagged"] == ["You"]


def test_speech_without_text_is_flagged_unless_it_is_short() -> None:
    recording = measured(("speech", 2), ("silence", 1), ("speech", 3), ("silence", 1))
    missed = [one for one in told(account(result((0.0, 1.8, " Hello.")), recording, OPTIONS)) if one[2] == "flagged"]
    assert missed == [(pytest.approx(3.0, abs=0.07), pytest.approx(6.0, abs=0.07), "flagged", "speech without text")]
    window = Skipped(start=2.9, end=6.5, text="mumble")
    found = account(result((0.0, 1.8, " Hello.")), recording, OPTIONS, skipped=[window])
    assert [one.text for one in found.stretches if one.reason == "the model hears no speech"] == ["mumble"]
    assert found.coverage()["speech_with_text"] == pytest.approx(2 / 5, abs=0.02)


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"avg_logprob": -1.5}, "low log-probability"), ({"compression_ratio": 3.0}, "repetition")],
)
def test_doubtful_text_is_flagged(values: dict[str, float], reason: str) -> None:
    given = result((0.0, 3.0, " na na na na"), **values)
    found = account(given, measured(("speech", 3)), OPTIONS)
    assert told(found) == [(0, 3.0, "flagged", reason)]
    assert found.stretches[0].text == "na na na na"
    assert found.applied(given)["text"] == ""
    kept = TranscriptionOptions(logprob_threshold=None, compression_ratio_threshold=None)
    assert told(account(given, measured(("speech", 3)), kept)) == [(0, 3.0, "text", None)]


def test_sound_without_speech_is_flagged_and_a_click_is_not() -> None:
    recording = measured(("speech", 1), ("silence", 2), ("noise", 3), ("silence", 2), ("noise", 0.2), ("silence", 2))
    found = account(result((0.0, 1.0, " Hi.")), recording, OPTIONS)
    assert [one for one in told(found) if one[2] == "flagged"] == [(3.0, 6.0, "flagged", "no speech found")]


def test_any_transcript_is_accounted_for_to_the_last_second() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        kinds = draw.choice(["speech", "silence", "noise"], 12)
        recording = measured(*[(str(kind), round(float(draw.uniform(0.1, 4)), 1)) for kind in kinds])
        seconds = recording.samples / 16000
        starts = np.sort(draw.uniform(0, seconds, 6))
        given = result(*[(float(s), float(s + draw.uniform(0, 5)), f" {i}") for i, s in enumerate(starts)])
        for segment in given["segments"]:
            segment["avg_logprob"] = float(draw.uniform(-1.5, 0))
        found = account(given, recording, OPTIONS)
        assert found.stretches[0].start == 0
        assert found.stretches[-1].end == seconds
        for one, other in zip(found.stretches, found.stretches[1:], strict=False):
            assert one.end == other.start
            assert one.start < one.end
            assert (one.reason is None) == (one.kind != "flagged")
        coverage = found.coverage()
        assert coverage["text"] + coverage["silence"] + coverage["flagged"] == pytest.approx(seconds, abs=0.02)
        assert sum(coverage["reasons"].values()) == pytest.approx(coverage["flagged"], abs=0.05)


def test_loudness_is_measured_in_decibels_of_full_scale() -> None:
    meter = LoudnessMeter()
    time = torch.arange(16000) / 16000
    whole = torch.cat(
        [torch.sin(2 * np.pi * 440 * time), 0.1 * torch.sin(2 * np.pi * 440 * time[:8000]), torch.zeros(999)]
    )
    for block in whole.split(777):
        meter.add(block)
    found = meter.finish()
    assert found[:10] == pytest.approx(-3.01, abs=0.01)
    assert found[10:15] == pytest.approx(-23.01, abs=0.01)
    assert found[15:] == pytest.approx(-100)
    assert len(found) == 16


def test_real_weights_write_nothing_about_silence_and_noise() -> None:
    folder = str(tiny_en())
    model, preprocessor = zoo.load(folder).eval(), zoo.create_preprocessor(folder)
    store = speak_all(
        [("The train to London leaves from platform four at half past nine.", Speaker("en-US"))], workers=1
    )
    speech = torch.from_numpy(store.samples(0) / np.float32(32768)).float()
    draw = torch.Generator().manual_seed(0)
    silence = torch.zeros(15 * 16000)
    recordings = [silence, torch.cat([speech, silence, torch.randn(5 * 16000, generator=draw) * 0.01])]
    options = TranscriptionOptions(language="en", temperature=0.0)
    given = transcribe(model, silence, preprocessor=preprocessor, options=options)
    assert given["text"].strip().lower() == "you"  # as the reference
    kept = account(given, measure(silence), options)
    assert kept.kept == []
    assert kept.coverage()["reasons"] == {"text without speech": 2.0}
    quiet, mixed = transcribe_accounted(model, recordings, preprocessor=preprocessor, options=options)
    assert (quiet["text"], quiet["coverage"]["silence"]) == ("", 15.0)
    assert mixed["text"].count("platform") == 1
    assert mixed["coverage"]["speech_with_text"] > 0.95
    assert mixed["account"][-1]["reason"] == "no speech found"
    assert mixed["coverage"]["reasons"]["no speech found"] == pytest.approx(5, abs=0.2)
