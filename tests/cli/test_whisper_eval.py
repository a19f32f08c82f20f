"""``zoo eval whisper``: every benchmark on files of one's own, and one clear line for every mistake."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import zoo
from zoo.cli import main
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.evaluation.command import BENCHMARKS, show
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.pretrained import tiny_en
from zoo.whisper.speech.speaking import Speaker
from zoo.whisper.speech.synthesis import speak_all
from zoo.whisper.vocabulary import train_tokenizer

SENTENCES = (
    "The train to London leaves from platform four at half past nine.",
    "She sold her old house last September and moved to the sea.",
    "Nobody knew why the lights went out, but everyone was afraid.",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of spoken sentences, one with the text of another language, and a silent clip."""
    folder = tmp_path_factory.mktemp("speech")
    store = speak_all([(text, Speaker("en-US")) for text in SENTENCES], workers=1)
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(SENTENCES):
        soundfile.write(folder / f"{number}.wav", store.samples(number), 16000)
        rows.append({"audio": f"{number}.wav", "text": text, "language": "en", "source": f"s{number % 2}"})
    soundfile.write(folder / "silence.wav", np.zeros(16000, np.int16), 16000)
    rows.append({"audio": "silence.wav", "text": "", "no_speech": True})
    (folder / "speech.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"audio": "0.wav", "text": SENTENCES[0], "language": "de", "task": "translate"}] * 2
    (folder / "translated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model that knows two languages and hears one second."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([" the cat sat on the mat"], 325, languages=("en", "de"), audio_context=50)
    config = WhisperConfig(
        audio_context=50, text_context=32, width=32, heads=2, audio_depth=1, text_depth=1,
        vocab_size=tokenizer.vocab_size, tokenizer="bpe",
    )  # fmt: skip
    model = Whisper(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    folder = tmp_path_factory.mktemp("weights") / "whisper"
    return str(zoo.save_weights(model, folder, preprocessor=WhisperPreprocessor(tokenizer, config)))


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main(["eval", "whisper", *map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_real_weights_recognise_spoken_sentences(
    files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = run(capsys, "--weights", tiny_en(), "--data", files / "speech.jsonl", "--out", tmp_path)
    result = found["result"]
    assert found["data"] == "speech.jsonl"
    assert (result["utterances"], result["words"]) == (3, 35)
    assert result["wer"] < 0.1
    assert result["by_language"]["en"]["words"] == 35
    assert {name: one["utterances"] for name, one in result["by_source"].items()} == {"s0": 2, "s1": 1}
    assert result["without_speech"]["utterances"] == 1
    assert 0 < result["real_time_factor"] < 60
    assert json.loads((tmp_path / "figures.json").read_text()) == found


def test_every_benchmark_answers(files: Path, weights: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "noise.png"
    cases: dict[str, list[object]] = {
        "recognition": ["speech", "--fallback", "--hotwords", "London"],
        "translation": ["translated", "--beam-size", 2],
        "language": ["speech", "--languages", "de"],
        "robustness": ["speech", "--snr", "10,0", "--plot", picture],
        "long-form": ["speech"],
    }
    assert set(cases) == set(BENCHMARKS)
    found = {}
    for name, (data, *rest) in cases.items():
        found[name] = run(
            capsys, "--weights", weights, "--data", files / f"{data}.jsonl", "--benchmark", name, "--limit", 2, *rest
        )
        show(found[name])
        assert capsys.readouterr().out.count("\n") > 2
    results = {name: one["result"] for name, one in found.items()}
    assert results["recognition"]["utterances"] == 2
    assert set(results["translation"]["by_language"]) == {"de"}
    assert 0 <= results["translation"]["bleu"] <= 100
    assert results["language"]["confusions"] == {"en>de": 2}
    assert results["robustness"]["snrs"] == [10.0, 0.0]
    assert [len(results["robustness"][kind]) for kind in ("white", "babble")] == [2, 2]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert results["long-form"]["recordings"] == 1
    assert results["long-form"]["coverage"][0]["seconds"] == pytest.approx(results["long-form"]["seconds"], abs=0.1)


def test_real_weights_rank_the_source_with_wrong_transcripts_worst(files: Path, tmp_path: Path) -> None:
    """``zoo data filter whisper --weights``: the paper's triage by error rate (Section 2.1)."""
    texts = {"sound": SENTENCES, "mixed_up": (SENTENCES[1], SENTENCES[2], SENTENCES[0])}
    for source, told in texts.items():
        rows = [
            {"audio": str(files / f"{number}.wav"), "text": text, "language": "en", "source": source}
            for number, text in enumerate(told)
        ]
        (tmp_path / f"{source}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifests = [str(tmp_path / f"{source}.jsonl") for source in texts]
    ranking = tmp_path / "ranking.json"
    words = ["--out", str(tmp_path / "kept.jsonl"), "--only", "language", "--triage", str(ranking)]
    assert main(["data", "filter", "whisper", *manifests, *words, "--weights", str(tiny_en())]) == 0
    worst, best = json.loads(ranking.read_text())
    assert (worst["source"], best["source"]) == ("mixed_up", "sound")
    assert best["error_rate"] < 0.2 < 0.7 < worst["error_rate"]
    assert len(worst["worst"]) == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--benchmark", "wer"], "there are recognition"),
        (["--snr", "10"], "--benchmark robustness"),
        (["--benchmark", "robustness", "--snr", "10,x"], "numbers with commas"),
        (["--benchmark", "robustness", "--snr", "10,10"], "different"),
        (["--benchmark", "robustness", "--plot", "curve.pdf"], "ends in .png"),
        (["--languages", "en"], "--benchmark language"),
        (["--limit", "0"], "at least 1"),
        (["--benchmark", "translation"], "prompts-es:translate"),
        (["--data", "nowhere"], "there is no speech at 'nowhere'"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    words: list[str], line: str, files: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["eval", "whisper", "--weights", weights, "--data", str(files / "speech.jsonl"), *words]
    assert main(given) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert line in told[0]


def test_unreadable_sounds_are_left_out_and_counted(
    files: Path, weights: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "good.wav").write_bytes((files / "0.wav").read_bytes())
    (clips / "bad.wav").write_bytes(b"no sound")
    (tmp_path / "test.tsv").write_text("path\tsentence\tlocale\ngood.wav\tone\ten\nbad.wav\ttwo\ten\n")
    assert main(["eval", "whisper", "--weights", weights, "--data", str(tmp_path / "test.tsv"), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["result"]["utterances"] == 1
    assert "left out" in told.err
    assert "bad.wav" in told.err
