"""Transcription against openai-whisper, which runs in a process of its own outside of the checkout: this very file.

Three kinds of proof: the seek loop with a decoder that gives both sides the same random texts and word times; alignment
of random matrices; real weights and real sound.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

FRAMES = 9_000
BEGIN, END = 50_363, 50_256  # 0.00 s and the end of text of the .en models
SENTENCES = (
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "She sold her old house in Boston last September, and moved to a smaller one by the sea.",
    "Please call me back tomorrow morning at half past nine.",
    "Mister Smith bought seventeen apples, two pears, and a bottle of milk.",
    "The train to London leaves from platform four, doesn't it?",
    "Nobody knew why the lights went out, but everyone was afraid.",
)
PIECES = (
    " hello",
    " wor",
    "ld",
    ",",
    ".",
    "!",
    "?",
    ' "',
    '"',
    " (",
    ")",
    " -",
    " 17",
    " A",
    ":",
    " it's",
    " naïve",
    " -,",
)


class Canned:
    """Texts and word times that follow from a seed and how many were asked for before."""

    def __init__(self, seed: int, pieces: list[list[int]]) -> None:
        self.seed = seed
        self.pieces = pieces
        self.calls: list[Any] = []

    def _random(self, *about: object) -> random.Random:
        return random.Random(f"{self.seed} {len(self.calls)} {about}")

    def decode(self, temperature: float, prompt: list[int]) -> dict[str, Any]:
        draw = self._random("decode")
        self.calls.append([temperature, list(prompt)[-223:]])
        assert len(self.calls) < 1000, "a loop without end"
        tokens: list[int] = []
        time = draw.choice([0, 0, 0, 25])
        for _ in range(draw.choice([0, 1, 1, 2, 3, 4])):
            start, end = time, draw.randint(time + 1, min(1500, time + draw.choice([20, 100, 600])))
            text = [token for _ in range(draw.randint(1, 9)) for token in draw.choice(self.pieces)]
            tokens += [BEGIN + start, *text, BEGIN + end]
            time = min(1499, end + draw.choice([0, 0, 30, 200]))
        shape = draw.random()
        if shape < 0.3 and tokens:  # the last phrase is cut off by the window
            tokens += [BEGIN + time, *draw.choice(self.pieces)]
        elif shape < 0.4:  # no times at all
            tokens = [token for token in tokens if token < BEGIN]
        elif shape < 0.5 and tokens:  # one start, no end
            tokens = [tokens[0], *(token for token in tokens if token < BEGIN)]
        elif shape < 0.6 and tokens:  # ends with the start of a phrase of which nothing is known
            tokens += [BEGIN + time]
        return {
            "tokens": tokens,
            "avg_logprob": draw.uniform(-1.4, -0.1),
            "no_speech_prob": draw.choice([0.1, 0.1, 0.7]),
            "compression_ratio": draw.uniform(0.5, 2.7),
            "temperature": temperature,
        }

    def words(self, count: int, frames: int) -> list[tuple[float, float, float]]:
        """Start, end and probability of some words, one after the other."""
        draw = self._random("words", frames)
        strange = draw.random() < 0.4
        time, found = draw.randint(0, 100), []
        for _ in range(count):
            end = time + draw.choice([0, 3, 200] if strange else [5, 15, 20, 30, 150])
            found.append((time / 50, end / 50, draw.uniform(0, 0.2) if strange else draw.uniform(0.1, 1)))
            time = end + (draw.choice([0, 0, 0, 150]) if strange else 0)
        return found


def loop_jobs(count: int) -> list[dict[str, Any]]:
    """Options for the seek loop, in all combinations that matter."""
    jobs = []
    for seed in range(count):
        draw = random.Random(seed)
        words = draw.random() < 0.7
        prompt = draw.choice([None, None, "Mister Smith, Boston."])
        options = {
            "temperature": draw.choice([[0.0], [0.0, 0.4, 0.8]]),
            "compression_ratio_threshold": draw.choice([2.4, None]),
            "logprob_threshold": draw.choice([-1.0, -1.0, None]),
            "no_speech_threshold": draw.choice([0.6, 0.6, None]),
            "condition_on_previous_text": draw.random() < 0.7,
            "initial_prompt": prompt,
            "carry_initial_prompt": prompt is not None and draw.random() < 0.5,
            "word_timestamps": words,
            "hallucination_silence_threshold": draw.choice([None, 0.5, 2.0]) if words else None,
            "clip_timestamps": draw.choice(["0", "0", "3.2", "1,20,31.5,70", "10,12,40", [5.0, 80.0]]),
        }
        jobs.append({"seed": seed, "options": options})
    return jobs


def reference(folder: Path, **request: Any) -> Any:
    """What openai-whisper makes of a request; see :func:`main`."""
    (folder / "request.json").write_text(json.dumps(request))
    done = subprocess.run(
        [sys.executable, "-P", __file__, "request.json", "answer.json"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "answer.json").read_text())


def test_seek_loop_with_the_same_texts(tmp_path, monkeypatch):
    """Segments, word times, prompts and temperatures of 150 recordings are exactly the reference's."""
    from zoo.whisper.configs import VARIANTS
    from zoo.whisper.decoding import DecodingResult
    from zoo.whisper.tokenizer import WhisperTokenizer
    from zoo.whisper.transcription import windows
    from zoo.whisper.transcription.options import TranscriptionOptions
    from zoo.whisper.transcription.segments import Word

    tokenizer = WhisperTokenizer.for_model(VARIANTS["whisper-tiny.en"])
    pieces = [tokenizer.encode(piece) for piece in PIECES]
    jobs = loop_jobs(150)
    theirs = reference(tmp_path, loop=jobs, pieces=pieces)
    canned: Canned

    def decode(model, tokenizer, states, options, prompts):
        text = canned.decode(options.temperature, prompts[0])
        return [DecodingResult(language="en", **text)]

    def find_words(model, tokenizer, states, texts, frames, *, language, task):
        (text,), (length,) = texts, frames
        spelled, parts = tokenizer.split_to_words([*text, tokenizer.eot], language)
        times = canned.words(len(parts) - 1, length) if text else []
        return [
            [
                Word(text=word, tokens=part, start=start, end=end, probability=probability)
                for word, part, (start, end, probability) in zip(spelled, parts, times, strict=False)
            ]
        ]

    monkeypatch.setattr(windows, "decode", decode)
    monkeypatch.setattr(windows, "find_words", find_words)
    monkeypatch.setattr(windows, "hear", lambda model, mel: mel)
    model = SimpleNamespace(config=SimpleNamespace(text_context=448, audio_context=1500))
    features = SimpleNamespace(frames=FRAMES, window=lambda start, stop: torch.zeros(80, stop - start))
    seen = {"segments": 0, "words": 0, "skipped": 0}
    for job, their in zip(jobs, theirs, strict=True):
        canned = Canned(job["seed"], pieces)
        options = TranscriptionOptions.of(None, job["options"])
        recording = windows.Recording(model, tokenizer, features, options, language="en")
        segments = [segment for found in recording.segments() for segment in found]
        mine = [segment.as_dict(index) for index, segment in enumerate(segments)]
        wanted = their["segments"]
        if not options.word_timestamps:  # the reference gives emptied segments words in any case
            for segment in wanted:
                segment.pop("words", None)
        assert mine == wanted, job
        assert tokenizer.decode(recording.history.written) == their["text"], job
        assert canned.calls == their["calls"], job
        seen["segments"] += len(mine)
        seen["words"] += sum(len(segment.get("words", ())) for segment in mine)
        seen["skipped"] += len(canned.calls) > len(mine)
    assert seen["segments"] > 700, seen
    assert seen["words"] > 1200, seen
    assert seen["skipped"] > 40, seen


@pytest.mark.slow  # the reference compiles its code first
def test_warping_and_median_filter(tmp_path):
    """Paths through random matrices, ties among them, and medians are exactly the reference's."""
    from zoo.whisper.transcription.alignment import median_filter, warp

    draw = np.random.default_rng(0)
    matrices = []
    for number in range(120):
        shape = draw.integers(1, 30), draw.integers(1, 70)
        matrix = draw.standard_normal(shape) if number % 2 else draw.integers(0, 3, shape)
        matrices.append(matrix.astype(np.float64).tolist())
    theirs = reference(tmp_path, warp=matrices)
    for matrix, path, medians in zip(matrices, theirs["paths"], theirs["medians"], strict=True):
        assert np.array_equal(np.stack(warp(np.array(matrix))), np.array(path))
        assert torch.equal(median_filter(torch.tensor(matrix), 7), torch.tensor(medians, dtype=torch.float32))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The real tiny.en, its preprocessor, and its weights in a file of the reference's."""
    import zoo
    from zoo.whisper.pretrained import tiny_en

    file = tmp_path_factory.mktemp("tiny") / "tiny.en.pt"
    model = zoo.load(tiny_en())
    zoo.save_weights(model, file, "openai")
    return model, zoo.create_preprocessor(tiny_en()), file


def spoken(*sentences: str, pause: float = 0.5, speed: float = 1.0, pitch: float = 1.0) -> np.ndarray:
    """Sentences with pauses between them, at 16 kHz."""
    from py_nanotts import NanoTTS

    speaker, silence = NanoTTS(), np.zeros(round(16_000 * pause), dtype=np.float32)
    parts = []
    for sentence in sentences:
        pcm = np.frombuffer(speaker.speak(sentence, voice="en-US", speed=speed, pitch=pitch), dtype=np.int16)
        parts += [pcm.astype(np.float32) / 32_768, silence]
    return np.concatenate(parts)


def prompts(seconds: float) -> np.ndarray:
    """Telephone prompts, spoken by a person, one after the other."""
    from zoo.shared.audio.files import read_audio
    from zoo.shared.data.samples import open_pack

    pack = open_pack("prompts-en-wav")
    spelled = ("/digits/", "/letters/", "/phonetic/", "/silence/")
    names = sorted(n for n in pack.names() if n.endswith(".wav") and not any(part in n for part in spelled))
    random.Random(3).shuffle(names)
    parts, length = [], 0
    while length < 16_000 * seconds:
        samples = read_audio(pack.read(names.pop())).numpy()
        if len(samples) > 1.5 * 16_000:
            parts += [samples, np.zeros(6_000, dtype=np.float32)]
            length += len(samples) + 6_000
    return np.concatenate(parts)[: round(16_000 * seconds)]


def compare(tiny, tmp_path, jobs: list[tuple[np.ndarray, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Transcribe on both sides: texts, times and tokens are the same, word times within 20 ms."""
    from zoo.whisper.transcription.transcribe import transcribe

    model, preprocessor, file = tiny
    asked = []
    for number, (samples, options) in enumerate(jobs):
        np.save(tmp_path / f"{number}.npy", samples)
        asked.append({"audio": f"{number}.npy", "options": options})
    heads = model.config.alignment_heads
    theirs = reference(tmp_path, weights=str(file), heads=heads, recordings=asked)
    results = []
    for (samples, options), their in zip(jobs, theirs, strict=True):
        mine = transcribe(model, samples, preprocessor=preprocessor, **options)
        assert mine["text"] == their["text"]
        assert mine["language"] == their["language"] == "en"
        for one, other in zip(mine["segments"], their["segments"], strict=True):
            for name in ("id", "seek", "text", "tokens", "temperature"):
                assert one[name] == other[name], name
            for name in ("avg_logprob", "no_speech_prob", "compression_ratio"):
                assert one[name] == pytest.approx(other[name], abs=1e-3), name
            # With word times, a segment starts and ends with its words.
            close = 0.0201 if options.get("word_timestamps") else 1e-9
            assert one["start"] == pytest.approx(other["start"], abs=close)
            assert one["end"] == pytest.approx(other["end"], abs=close)
            for word, twin in zip(one.get("words", ()), other.get("words", ()), strict=True):
                assert word["word"] == twin["word"]
                assert word["start"] == pytest.approx(twin["start"], abs=0.0201)
                assert word["end"] == pytest.approx(twin["end"], abs=0.0201)
                assert word["probability"] == pytest.approx(twin["probability"], abs=1e-2)
        results.append(mine)
    return results


def test_real_weights_and_speech(tiny, tmp_path):
    silence = np.zeros(16_000 * 5, dtype=np.float32)
    one = spoken(*SENTENCES[:2])
    quiet, words, *_ = compare(
        tiny,
        tmp_path,
        [
            (silence, {"temperature": 0.0}),
            (one, {"temperature": 0.0, "word_timestamps": True, "beam_size": 5}),
            (
                one,
                {
                    "temperature": 0.0,
                    "without_timestamps": True,
                    "suppress_tokens": "11,13",
                    "initial_prompt": "A fox.",
                },
            ),
        ],
    )
    assert quiet["text"].strip() in ("", "You")
    assert "quick brown fox" in words["text"]
    assert sum(len(segment["words"]) for segment in words["segments"]) > 25


@pytest.mark.slow
def test_real_weights_and_long_speech(tiny, tmp_path):
    long = prompts(185)
    noise = np.random.default_rng(0).standard_normal(16_000 * 12).astype(np.float32) * 1e-3
    gap = np.concatenate([spoken(SENTENCES[3]), np.zeros(16_000 * 20, np.float32), spoken(SENTENCES[4], pause=12)])
    greedy = {"temperature": 0.0}
    results = compare(
        tiny,
        tmp_path,
        [
            (long, greedy),
            (noise, {**greedy, "beam_size": 5}),
            (long, {**greedy, "beam_size": 5, "word_timestamps": True}),
            (
                long,
                {
                    **greedy,
                    "condition_on_previous_text": False,
                    "carry_initial_prompt": True,
                    "initial_prompt": "Hi.",
                },
            ),
            (long, {**greedy, "clip_timestamps": "12,50.5,100", "best_of": 5}),
            (spoken(*SENTENCES, *SENTENCES, speed=1.2, pitch=0.9), {**greedy, "beam_size": 5, "patience": 2.0}),
            (gap, {**greedy, "word_timestamps": True, "hallucination_silence_threshold": 2.0}),
        ],
    )
    assert len(results[0]["segments"]) > 15
    assert sum(len(segment["words"]) for segment in results[2]["segments"]) > 250


def main(request: str, answer: str) -> None:
    """The reference's side: ``loop`` (jobs with ``pieces``), ``warp`` (matrices) or ``recordings``."""
    import whisper
    from whisper import timing

    asked = json.loads(Path(request).read_text())
    torch.set_num_threads(1)
    found: Any
    if "loop" in asked:
        found = [reference_loop(job, asked["pieces"]) for job in asked["loop"]]
    elif "warp" in asked:
        matrices = [np.array(matrix) for matrix in asked["warp"]]
        found = {
            "paths": [timing.dtw_cpu(matrix).tolist() for matrix in matrices],
            "medians": [timing.median_filter(torch.tensor(m, dtype=torch.float32), 7).tolist() for m in matrices],
        }
    else:
        saved = torch.load(asked["weights"], weights_only=True)
        model = whisper.model.Whisper(whisper.model.ModelDimensions(**saved["dims"]))
        model.load_state_dict(saved["model_state_dict"])
        heads = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
        for block, head in asked["heads"]:
            heads[block, head] = True
        model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
        model.eval()
        found = [
            whisper.transcribe(model, np.load(job["audio"]), fp16=False, **job["options"])
            for job in asked["recordings"]
        ]
    Path(answer).write_text(json.dumps(found))


def reference_loop(job: dict[str, Any], pieces: list[list[int]]) -> dict[str, Any]:
    """The reference's seek loop around texts and word times that were drawn."""
    from whisper import timing
    from whisper.decoding import DecodingResult

    code = sys.modules["whisper.transcribe"]
    canned = Canned(job["seed"], pieces)

    def decode(mel, options):
        text = canned.decode(options.temperature, options.prompt or [])
        return DecodingResult(audio_features=None, language="en", **text)

    def find_alignment(model, tokenizer, text_tokens, mel, num_frames, **rest):
        if not text_tokens:
            return []
        spelled, parts = tokenizer.split_to_word_tokens([*text_tokens, tokenizer.eot])
        times = canned.words(len(parts) - 1, num_frames)
        return [timing.WordTiming(w, p, *t) for w, p, t in zip(spelled, parts, times, strict=False)]

    timing.find_alignment = find_alignment
    code.log_mel_spectrogram = lambda audio, mels, padding: torch.zeros(mels, FRAMES + 3000)
    model = SimpleNamespace(
        dims=SimpleNamespace(n_mels=80, n_audio_ctx=1500, n_text_ctx=448),
        device=torch.device("cpu"), is_multilingual=False, num_languages=99, decode=decode,
    )  # fmt: skip
    result = code.transcribe(model, None, fp16=False, **job["options"])
    return {**result, "calls": canned.calls}


if __name__ == "__main__":
    main(*sys.argv[1:])
