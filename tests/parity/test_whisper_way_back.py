"""Weights that zoo wrote, opened by the programs that people use: each hears real speech as zoo does."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoo.cli import main
from zoo.whisper.pretrained import tiny_en
from zoo.whisper.speech.asterisk import read_prompts
from zoo.whisper.speech.sounds import samples_of

PROGRAMS = {
    "openai": """
        import soundfile, whisper
        model = whisper.load_model("weights/model.pt", device="cpu")
        samples = soundfile.read("talk.wav", dtype="float32")[0]
        print(model.transcribe(samples, temperature=0.0, beam_size=None, fp16=False, language="en")["text"])
    """,
    "hf": """
        import numpy, soundfile, torch, transformers
        listener = transformers.pipeline("automatic-speech-recognition", "weights", dtype=torch.float32)
        sound = {"raw": soundfile.read("talk.wav", dtype="float32")[0], "sampling_rate": 16000}
        print(listener(sound, return_timestamps=True)["text"])
    """,
    "ctranslate2": """
        import faster_whisper
        model = faster_whisper.WhisperModel("weights", device="cpu", compute_type="float32", cpu_threads=1)
        segments, _ = model.transcribe("talk.wav", language="en", beam_size=1, temperature=0.0)
        print("".join(segment.text for segment in segments))
    """,
}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 20 seconds of a person's voice."""
    prompts = [one for one in read_prompts("en") if 4 < len(samples_of(one)) / 16_000 < 6]
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, np.concatenate([samples_of(one).numpy() for one in prompts[3:19:4]]), 16_000)
    return path


@pytest.fixture(scope="module")
def heard(talk: Path) -> str:
    out = talk.parent / "ours"
    assert main(["transcribe", str(talk), "--weights", str(tiny_en()), "--beam-size", "1", "--temperature", "0",
                 "--format", "txt", "--out", str(out)]) == 0  # fmt: skip
    return plain((out / "talk.txt").read_text())


def plain(text: str) -> str:
    """Without capitals: of two spellings that are as likely to the model, rounding decides."""
    return re.sub(r"\s+", " ", text).strip().casefold()


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_hears_what_zoo_hears(program: str, talk: Path, heard: str, tmp_path: Path) -> None:
    place = tmp_path / "weights"
    assert main(["convert", str(tiny_en()), str(place / "model.pt" if program == "openai" else place),
                 "--to", program]) == 0  # fmt: skip
    (tmp_path / "talk.wav").symlink_to(talk)
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(PROGRAMS[program])],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=offline(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(heard) > 150
    assert plain(done.stdout) == heard


def offline() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
