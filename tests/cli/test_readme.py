"""Every command and the Python of the READMEs run, on small stand-ins for what a reader has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.cli import main
from zoo.gpt.tokenizer import GptTokenizer
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.sentences import sentences
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.tokenizer import WhisperTokenizer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GPT_README = (ROOT / "gpt" / "README.md").read_text()
DCGAN_README = (ROOT / "dcgan" / "README.md").read_text()
WHISPER_README = (ROOT / "whisper" / "README.md").read_text()
ELSEWHERE = {"scale": "test_scale.py", "verify": "test_verify.py"}  # what takes longer is run whole there
FAST = ["--trainer.max_steps", "2", "--trainer.max_epochs", "-1", "--trainer.accelerator", "cpu", "--compare", "{}"]

# open_clip's default bfloat16 and transformers' loaders warn of their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str = README) -> list[str]:
    lines = [line for block in blocks("sh", text) for line in block.splitlines()]
    found = [line.split(" #")[0].strip() for line in lines if line.startswith("zoo ")]
    return [line for line in found if line.split()[1] not in ELSEWHERE]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, pairs and weights, in which the commands are run."""
    folder = tmp_path_factory.mktemp("reader")
    drawn = zoo.create_datamodule("clip-debug", source="shapes").train_source
    for kind in ("photos/red", "photos/blue", "pairs"):
        (folder / kind).mkdir(parents=True)
    for i in range(24):
        drawn.image(i).resize((60, 50)).save(folder / "photos" / ("red", "blue")[i % 2] / f"{i}.png")
    drawn.image(0).save(folder / "photo.jpg")
    write_tar(folder / "pairs" / "00000.tar", drawn)
    model = zoo.create_model("clip-debug")
    zoo.save_weights(model, folder / "weights")
    zoo.save_weights(model, folder / "hub", format="hf")
    zoo.save_weights(zoo.create_model("dcgan-nano"), folder / "dcgan")
    write_texts(folder)
    write_speech(folder)
    return folder


def write_speech(folder: Path) -> None:
    """Recordings, and a Whisper with a tokenizer of its own."""
    from dataclasses import replace

    import soundfile

    samples = 0.1 * np.sin(np.arange(24_000) / 10)
    for name in ("talk.wav", "talk.mp3", "walk.flac"):
        soundfile.write(folder / name, samples, 16_000)
    ranks = {bytes([value]): value for value in range(256)}
    tokenizer = WhisperTokenizer(ranks, languages=("en", "de"), multilingual=True, timestamps=51)
    config = replace(zoo.get_config("whisper-debug"), vocab_size=tokenizer.vocab_size)
    model = zoo.create_model("whisper-debug", vocab_size=tokenizer.vocab_size)
    zoo.save_weights(model, folder / "whisper", preprocessor=WhisperPreprocessor(tokenizer, config))


def write_texts(folder: Path) -> None:
    """Texts, and a GPT with the tokenizer that was trained on them."""
    for place in ("texts", "books"):
        (folder / place).mkdir()
        for number, document in enumerate(sentences(60)):
            (folder / place / f"{number:02}.txt").write_text(document.text)
    tokenizer = GptTokenizer(train_byte_level_bpe((d.text for d in sentences(60)), 300))
    model = zoo.create_model("gpt-debug", vocab_size=300, context=256)
    zoo.save_weights(model, folder / "gpt", preprocessor=tokenizer)
    words = ["data", "prepare", "gpt", str(folder / "texts"), "--out", str(folder / "tokens"), "--tokenizer"]
    assert main([*words, "train:300"]) == 0
    zoo.save_weights(model, folder / "gpt-hub", format="hf", preprocessor=tokenizer)


def write_tar(path: Path, source) -> None:
    import io
    import tarfile

    with tarfile.open(path, "w") as tar:
        for i in range(64):
            image = io.BytesIO()
            source.image(i).save(image, "PNG")
            for suffix, data in (("png", image.getvalue()), ("txt", source.title(i).encode())):
                info = tarfile.TarInfo(f"{i:05}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def stand_in(line: str, place: Path) -> list[str]:
    """The words of a README line with what a reader has replaced by what the test has, and cut short."""
    line = line.replace("hf:openai/clip-vit-base-patch32", str(place / "hub"))
    line = line.replace("runs/clip-nano/DATE/weights", str(place / "weights"))
    line = line.replace("hf:openai-community/gpt2", str(place / "gpt-hub"))
    line = line.replace("runs/gpt-nano/DATE/weights", str(place / "gpt"))
    line = line.replace("runs/dcgan-nano/DATE/weights", str(place / "dcgan"))
    line = line.replace("runs/whisper-nano/DATE/weights", str(place / "whisper"))
    line = line.replace("hf:openai/whisper-small", str(place / "whisper")).replace(" out/ ", f" out-{hash(line)}/ ")
    line = line.replace("train:16000", "train:300").replace("--held-out 0.01", "--held-out 0.2")
    line = line.replace("--recipe finetune", "--recipe finetune-smoke")
    line = line.replace("{00000..00099}.tar", "00000.tar").replace("--trainer.devices 8", "--trainer.devices 1")
    line = line.replace("7 - 1 + 0", "7,8,9 - 1,2,3 + 0,4,5").replace(
        "turn 1 7", "turn 1,2 7,8"
    )  # by class: test_sample
    words = shlex.split(line)[1:]
    if "--resume" in words:
        return ["train", "--resume", interrupted(place)]
    if words[0] == "train":
        words += [*FAST, "--out", str(place / f"run-{abs(hash(line))}"), "--data.batch_size", "16"]
        words += ["--trainer.precision", "32-true"]
        if "clip-vit-b-32" in words:  # the real size takes a minute to save
            words += ["--model.vision_depth", "1", "--model.text_depth", "1", "--model.image_size", "64", "--no-audit"]
        words += ["--data.workers", "0"]
        if words[1].startswith("dcgan"):
            words += ["--report", "false", "--model.width", "8", "--trainer.limit_val_batches", "1"]
        if "photos/" in words:  # the stand-ins for a reader's pictures are small
            words += ["--model.image_size", "32"]
        if words[1].startswith("gpt"):
            words += ["--report", "false", "--trainer.limit_val_batches", "0", "--trainer.accumulate_grad_batches", "1"]
        if words[1] == "gpt2":
            words += ["--model.depth", "1", "--model.width", "64", "--model.heads", "1", "--model.context", "32"]
        if "books/*.txt" in words:
            words += ["--model.vocab_size", "300"]
    elif words[:2] == ["data", "prepare"]:
        words[words.index("--out") + 1] = f"tokens-{abs(hash(line))}"
    elif words[0] == "transcribe":
        words += ["--temperature", "0", *([] if "--weights" in words else ["--weights", str(place / "whisper")])]
    elif words[0] in ("classify", "search"):
        words += ["--weights", str(place / "weights")]
    elif words[0] == "sample" or words[:2] == ["eval", "dcgan"]:
        words += ["--weights", str(place / "dcgan")]
        words += ["--labels", "10,20", "--draws", "2"] if "probe" in words else []
        words += ["--source", "mnist"] if "features" in words else []
    elif words[:2] == ["eval", "clip"]:
        words += ["--benchmark", "retrieval"]
    elif words[:2] == ["eval", "gpt"]:
        if "lambada_test.jsonl" in words:
            Path("lambada_test.jsonl").write_text('{"text": "The king sees the queen and the queen sees the king"}\n')
        else:
            words += ["--benchmark", "arithmetic"]
        words += ["--limit", "2", *([] if "--weights" in words else ["--weights", str(place / "gpt")])]
    elif words[0] == "generate":
        words += ["--weights", str(place / "gpt"), "--max-new-tokens", "4"]
    elif words[0] == "ablate":
        words += ["gpt-debug", "--source", "sentences", "--items", "64", "--epochs", "1", "--pretrain-steps", "2"]
    return words


def interrupted(place: Path) -> str:
    """The folder of a run that has one of its two steps."""
    run = str(place / "interrupted")
    words = ["train", "clip", "--recipe", "smoke", *FAST, "--out", run, "--checkpoint_every", "1"]
    assert main(words) == 0
    for late in ("metrics.json", "checkpoints/00000002.ckpt"):
        (place / "interrupted" / late).unlink()
    return run


FAMILY_READMES = (DCGAN_README, GPT_README, WHISPER_README)


@pytest.mark.parametrize("line", dict.fromkeys(line for text in (README, *FAMILY_READMES) for line in commands(text)))
def test_readme_command(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert main(stand_in(line, place)) == 0


def test_readme_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save("cat.jpg")
    Image.fromarray(np.full((40, 30, 3), 255, np.uint8)).save("dog.jpg")
    original = zoo.train

    def briefly(name: str, **settings) -> object:
        settings["trainer"] = {"max_steps": 2, "accelerator": "cpu"}
        return original(name, recipe="smoke", out="from-python", **settings)

    monkeypatch.setattr(zoo, "train", briefly)
    (code,) = blocks("python")
    code = code.replace('zoo.create_model("clip-vit-b-32", weights="openai")', 'zoo.load("hub")')
    code = code.replace('zoo.create_preprocessor("clip-vit-b-32")', 'zoo.create_preprocessor("hub")')
    with torch.no_grad():
        exec(compile(code, "README.md", "exec"), {})
    assert (place / "for-transformers" / "model.safetensors").exists()
    assert (place / "out" / "open_clip_config.json").exists()
    run = place / "from-python"
    assert (run / "weights" / "model.safetensors").exists()


def test_there_are_commands_to_run() -> None:
    assert len(commands()) >= 6
    assert len(commands(DCGAN_README)) >= 12
    assert len(commands(GPT_README)) >= 8
    assert len(commands(WHISPER_README)) >= 4
    assert all((ROOT / "tests" / "cli" / name).is_file() for name in ELSEWHERE.values())
