"""Finding speech, and transcribing many recordings in batches."""

import math
import sys

import faster_whisper.vad
import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.shared.errors import UserError
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.decoding import DecodingResult
from zoo.whisper.evaluation.differences import word_differences
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.pretrained import tiny_en
from zoo.whisper.speech.speaking import Speaker
from zoo.whisper.speech.synthesis import speak_all
from zoo.whisper.transcription import batched, hearing, together, voice_activity
from zoo.whisper.transcription.accounting import transcribe_accounted
from zoo.whisper.transcription.batched import transcribe_batched
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.transcribe import transcribe
from zoo.whisper.transcription.voice_activity import (
    Span,
    VoiceMeter,
    VoiceOptions,
    merge_spans,
    speech_probabilities,
    speech_spans,
)
from zoo.whisper.vocabulary import train_tokenizer

SENTENCES = (
    "The train to London leaves from platform four at half past nine.",
    "She sold her old house last September and moved to the sea.",
    "Nobody knew why the lights went out, but everyone was afraid.",
    "Please bring two pears and a bottle of milk.",
)


@pytest.fixture(scope="module")
def speech() -> list[torch.Tensor]:
    """The sentences, spoken."""
    store = speak_all([(text, Speaker("en-US")) for text in SENTENCES], workers=1)
    return [torch.from_numpy(store.samples(i) / np.float32(32768)).float() for i in range(len(store))]


def joined(clips: list[torch.Tensor], *, pause: float = 0.8) -> torch.Tensor:
    return torch.cat([part for clip in clips for part in (clip, torch.zeros(round(16000 * pause)))])


class TestFindingSpeech:
    def test_spans_of_any_probabilities_equal_faster_whispers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        draw = np.random.default_rng(0)
        for _ in range(500):
            count = int(draw.integers(1, 600))
            samples = count * 512 - int(draw.integers(1, 513))
            steps = np.cumsum(draw.normal(0, draw.choice([0.05, 0.2, 0.5]), count))
            drawn = (steps + draw.random() + draw.normal(0, 0.1, count)).clip(0, 1).astype(np.float32)
            monkeypatch.setattr(faster_whisper.vad, "get_vad_model", lambda drawn=drawn: lambda audio: drawn)
            threshold, longest = float(draw.choice([0.3, 0.5, 0.7])), float(draw.choice([math.inf, 2, 5, 15]))
            padding, silence, shortest = (int(draw.choice(of)) for of in ([0, 30, 400], [0, 100, 2000], [0, 100, 250]))
            theirs = faster_whisper.vad.get_speech_timestamps(
                np.zeros(samples, np.float32),
                faster_whisper.vad.VadOptions(
                    threshold=threshold, min_speech_duration_ms=shortest, max_speech_duration_s=longest,
                    min_silence_duration_ms=silence, speech_pad_ms=padding,
                ),
            )  # fmt: skip
            options = VoiceOptions(
                threshold=threshold, min_speech=shortest / 1000, longest=longest, min_silence=silence / 1000,
                padding=padding / 1000,
            )  # fmt: skip
            assert speech_spans(drawn, samples, options) == [(one["start"], one["end"]) for one in theirs]

    def test_spans_of_speech_equal_faster_whispers(self, speech: list[torch.Tensor]) -> None:
        draw = torch.Generator().manual_seed(0)
        noise = torch.randn(16000 * 4, generator=draw)
        clips = [
            joined(speech),
            joined(speech, pause=2.7),
            torch.cat([noise * 0.02, speech[0], noise * 0.002, speech[1]]),
        ]
        for clip in clips:
            clip = clip[: len(clip) // 512 * 512 + 300]
            probabilities = speech_probabilities(clip)
            for silence, longest in ((2000, math.inf), (160, math.inf), (500, 4.0)):
                theirs = faster_whisper.vad.get_speech_timestamps(
                    clip.numpy(),
                    faster_whisper.vad.VadOptions(min_silence_duration_ms=silence, max_speech_duration_s=longest),
                )
                options = VoiceOptions(min_silence=silence / 1000, longest=longest)
                found = speech_spans(probabilities, len(clip), options)
                assert found == [(one["start"], one["end"]) for one in theirs]
                assert found

    def test_blocks_are_measured_like_the_whole(
        self, speech: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(voice_activity, "_WINDOWS", 40)
        meter = VoiceMeter()
        for block in speech[0].split(7777):
            meter.add(block)
        pieces = meter.finish()
        monkeypatch.undo()
        assert np.allclose(pieces, speech_probabilities(speech[0]), atol=1e-5)
        assert len(pieces) == len(speech[0]) // 512 + 1

    def test_neighbours_are_merged_and_what_is_too_long_is_cut(self) -> None:
        spans = [Span(0, 10), Span(20, 60), Span(70, 101), Span(300, 520)]
        assert merge_spans(spans, longest=100) == [(0, 60), (70, 101), (300, 373), (373, 446), (446, 520)]

    def test_what_makes_no_sense_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for wrong in ({"threshold": 1.5}, {"padding": -1}, {"longest": 0.5}):
            with pytest.raises(UserError):
                VoiceOptions(**wrong)
        voice_activity._network.cache_clear()
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(UserError, match=r"paper-zoo\[speech\]"):
            VoiceMeter()


@pytest.fixture(scope="module")
def random_model() -> tuple[Whisper, WhisperPreprocessor]:
    """A random model that hears one second at once, with a tokenizer of its own."""
    torch.manual_seed(0)
    texts = [" the cat sat on the mat", " a dog, a cat and a mouse", " is it so? it is so."]
    tokenizer = train_tokenizer(texts, 340, languages=("en", "de"), audio_context=50)
    config = WhisperConfig(
        audio_context=50, text_context=64, width=32, heads=2, audio_depth=1, text_depth=2,
        vocab_size=tokenizer.vocab_size, tokenizer="bpe",
    )  # fmt: skip
    model = Whisper(config)
    for parameter in model.parameters():  # larger weights, so that texts differ
        nn.init.normal_(parameter, std=0.15)
    return model.eval(), WhisperPreprocessor(tokenizer, config)


class LoudMeter:
    """Takes what is loud for speech, in the place of the network."""

    def __init__(self) -> None:
        self.blocks: list[torch.Tensor] = []

    def add(self, block: torch.Tensor) -> None:
        self.blocks.append(block)

    def finish(self) -> np.ndarray:
        samples = torch.cat(self.blocks)
        padded = torch.nn.functional.pad(samples, (0, 512 - len(samples) % 512))
        return (padded.view(-1, 512).abs().mean(1) > 0.01).float().numpy()


OPTIONS = TranscriptionOptions(language="en", temperature=0.0, no_speech_threshold=None, logprob_threshold=None)


class TestBatches:
    @pytest.fixture(autouse=True)
    def _loud(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hearing, "VoiceMeter", LoudMeter)

    @staticmethod
    def recording(seed: int, *bursts: tuple[float, float], seconds: float = 5.0) -> torch.Tensor:
        """Silence with bursts of noise."""
        samples = torch.zeros(round(seconds * 16000))
        draw = torch.Generator().manual_seed(seed)
        for start, end in bursts:
            place = slice(round(start * 16000), round(end * 16000))
            samples[place] = torch.randn(place.stop - place.start, generator=draw) * 0.1
        return samples

    @pytest.mark.parametrize("ahead", [1, 8])
    def test_a_recording_gets_the_same_text_in_any_company(
        self, ahead: int, random_model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batched, "_AHEAD", ahead)
        model, preprocessor = random_model
        recordings = [
            self.recording(1, (0.5, 1.0), (3.0, 4.9)),
            self.recording(2, (0.0, 2.5)),
            self.recording(3),
            self.recording(4, (1.0, 1.5), (2.5, 3.0), (4.0, 4.5)),
        ]
        alone = [
            next(transcribe_batched(model, [one], preprocessor=preprocessor, options=OPTIONS, batch_size=1))
            for one in recordings
        ]
        for batch_size in (2, 16):
            found = list(
                transcribe_batched(model, recordings, preprocessor=preprocessor, options=OPTIONS, batch_size=batch_size)
            )
            assert [one["text"] for one in found] == [one["text"] for one in alone]
            for one, other in zip(found, alone, strict=True):
                assert [(s["start"], s["end"], s["tokens"]) for s in one["segments"]] == [
                    (s["start"], s["end"], s["tokens"]) for s in other["segments"]
                ]
        assert [bool(one["text"]) for one in alone] == [True, True, False, True]

    def test_times_are_those_of_the_recording(self, random_model) -> None:
        model, preprocessor = random_model
        (found,) = transcribe_batched(
            model, [self.recording(5, (2.0, 2.5))], preprocessor=preprocessor, options=OPTIONS,
            voice=VoiceOptions(padding=0.0, min_silence=0.3),
        )  # fmt: skip
        assert found["segments"]
        for segment in found["segments"]:
            assert 1.9 < segment["start"] < segment["end"] < 3.1
            assert 190 <= segment["seek"] <= 260
        assert [segment["id"] for segment in found["segments"]] == list(range(len(found["segments"])))
        assert set(found) == {"text", "segments", "language"}

    def test_only_the_clips_that_are_wanted_are_decoded(self, random_model) -> None:
        model, preprocessor = random_model
        options = TranscriptionOptions.of(OPTIONS, {"clip_timestamps": "2.2,2.6"})
        recording = self.recording(6, (0.0, 1.0), (2.0, 3.0))
        (found,) = transcribe_batched(model, [recording], preprocessor=preprocessor, options=options)
        assert {segment["seek"] for segment in found["segments"]} <= set(range(220, 260))
        assert found["segments"]

    def test_language_is_sought_among_those_allowed(self, random_model) -> None:
        model, preprocessor = random_model
        for code in ("en", "de"):
            options = TranscriptionOptions.of(OPTIONS, {"language": None, "languages": code})
            (found,) = transcribe_batched(
                model, [self.recording(7, (0.0, 1.0))], preprocessor=preprocessor, options=options
            )
            assert found["language"] == code

    def test_hotwords_reach_every_window(self, random_model, monkeypatch: pytest.MonkeyPatch) -> None:
        model, preprocessor = random_model
        told = []
        decode = together.decode
        monkeypatch.setattr(
            together, "decode", lambda *given, prompts: told.extend(prompts) or decode(*given, prompts=prompts)
        )
        options = TranscriptionOptions.of(OPTIONS, {"hotwords": "a mouse"})
        recording = self.recording(8, (0.0, 0.5), (2.0, 2.5))
        list(transcribe_batched(model, [recording], preprocessor=preprocessor, options=options))
        assert len(told) >= 2
        assert all(preprocessor.tokenizer.decode(prompt) == " a mouse" for prompt in told)

    def test_an_unfinished_phrase_is_decoded_again_from_its_start(
        self, random_model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, preprocessor = random_model
        tokenizer = preprocessor.tokenizer
        time, a, b = tokenizer.timestamp, *(tokenizer.encode(text) for text in (" a cat", " a dog"))
        texts = [[time(0.0), *a, time(0.4), time(0.4), *b], [time(0.0), *b, time(0.5)]]
        answers = iter(
            DecodingResult(language="en", tokens=tokens, text="so", avg_logprob=-0.1, compression_ratio=1.0)
            for tokens in texts
        )
        monkeypatch.setattr(together, "decode", lambda *given, prompts: [next(answers)])
        (found,) = transcribe_batched(
            model, [self.recording(9, (2.0, 3.0))], preprocessor=preprocessor, options=OPTIONS,
            voice=VoiceOptions(padding=0.0),
        )  # fmt: skip
        assert next(answers, None) is None
        first = found["segments"][0]["start"]
        assert first == pytest.approx(2.0, abs=0.04)
        assert [(one["start"], one["end"], one["text"]) for one in found["segments"]] == [
            (pytest.approx(first), pytest.approx(first + 0.4), " a cat"),
            (pytest.approx(first + 0.4), pytest.approx(first + 0.9), " a dog"),
        ]
        assert found["text"] == " a cat a dog"

    def test_windows_without_speech_are_skipped(self, random_model, monkeypatch: pytest.MonkeyPatch) -> None:
        model, preprocessor = random_model
        nobody = DecodingResult(
            language="en", tokens=[5], text=" you", avg_logprob=-2.0, no_speech_prob=0.9, compression_ratio=1.0
        )
        monkeypatch.setattr(together, "decode", lambda *given, prompts: [nobody for _ in prompts])
        options = TranscriptionOptions(language="en")
        recording = self.recording(10, (1.0, 2.0))
        (found,) = transcribe_batched(model, [recording], preprocessor=preprocessor, options=options)
        assert (found["text"], found["segments"]) == ("", [])
        (told,) = transcribe_accounted(model, [recording], preprocessor=preprocessor, options=options)
        flagged = [one for one in told["account"] if one["kind"] == "flagged"]  # of each window one
        assert {(one["reason"], one.get("text")) for one in flagged} == {("the model hears no speech", "you")}
        assert told["coverage"]["flagged"] == pytest.approx(told["coverage"]["speech"])

    def test_what_batches_cannot_do_is_refused(self, random_model) -> None:
        model, preprocessor = random_model
        options = TranscriptionOptions(word_timestamps=True, hallucination_silence_threshold=1.0)
        with pytest.raises(UserError, match="in sequence"):
            next(transcribe_batched(model, [], preprocessor=preprocessor, options=options))
        with pytest.raises(UserError, match="batch_size"):
            next(transcribe_batched(model, [], preprocessor=preprocessor, batch_size=0))


def test_real_weights_write_the_same_words_in_batches_and_in_sequence(speech: list[torch.Tensor]) -> None:
    folder = str(tiny_en())
    model, preprocessor = zoo.load(folder).eval(), zoo.create_preprocessor(folder)
    recording = joined(speech)
    options = TranscriptionOptions(language="en", word_timestamps=True, temperature=0.0)
    expected = transcribe(model, recording, preprocessor=preprocessor, options=options)
    (found,) = transcribe_batched(
        model, [recording], preprocessor=preprocessor, options=options, voice=VoiceOptions(longest=8.0, min_silence=0.5)
    )
    assert word_differences(expected, found) == []
    assert "platform" in found["text"]
    times = [(word["start"], word["end"]) for segment in found["segments"] for word in segment["words"]]
    others = [(word["start"], word["end"]) for segment in expected["segments"] for word in segment["words"]]
    assert len(times) == len(others) > 35
    assert np.median(np.abs(np.array(times) - np.array(others))) < 0.1
