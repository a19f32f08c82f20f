"""``zoo generate gpt`` and ``zoo chat``: what they write, and one clear line for every mistake."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.gpt.chat import ChatTemplate, Conversation, PlainTemplate, Turn
from zoo.gpt.tokenizer import GptTokenizer, talkie_chat
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.tokenizer import ByteLevelTokenizer

TEXTS = ["The cat sat on the mat. The dog ate the cat's dinner, and the cat ate the dog's.\n"] * 3
Says = Callable[..., tuple[int, str, str]]


def shaken(**overrides: Any) -> Any:
    torch.manual_seed(1)
    model = zoo.create_model("gpt-debug", **overrides)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def tokenizer() -> ByteLevelTokenizer:
    return train_byte_level_bpe(TEXTS, 280)


@pytest.fixture(scope="module")
def weights(tokenizer: ByteLevelTokenizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("weights") / "gpt"
    zoo.save_weights(shaken(vocab_size=320, context=64), folder, preprocessor=GptTokenizer(tokenizer))
    return str(folder)


@pytest.fixture(scope="module")
def chatty(tokenizer: ByteLevelTokenizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("weights") / "chat"
    marked = talkie_chat(tokenizer)
    model = shaken(layout="talkie", vocab_size=marked.vocab_size, context=64, tokenizer="talkie-chat")
    zoo.save_weights(model, folder, preprocessor=GptTokenizer(marked))
    return str(folder)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def zoo_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """Run a command; returns exit code, standard output and standard error."""

    def run(*words: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def refused(zoo_says: Says) -> Callable[..., str]:
    """Run a command that must fail; returns its one line."""

    def run(*words: object, **more: Any) -> str:
        code, out, err = zoo_says(*words, **more)
        assert (code, out) == (2, "")
        lines = [line for line in err.strip().splitlines() if "leaves room" not in line]
        assert len(lines) == 1, err
        return lines[0]

    return run


def test_a_text_goes_on_and_is_the_same_every_time(zoo_says: Says, weights: str) -> None:
    words = ("generate", "gpt", "--weights", weights, "--prompt", "The cat", "--max-new-tokens", 12)
    code, out, err = zoo_says(*words)
    assert (code, err) == (0, "")
    assert out.startswith("The cat")
    assert out.endswith("\n")
    assert zoo_says(*words)[1] == out
    assert zoo_says(*words, "--seed", 1)[1] != out
    assert zoo_says(*words, "--stream")[1] == out


def test_json_names_everything(zoo_says: Says, weights: str, tokenizer: ByteLevelTokenizer) -> None:
    words = ("generate", "gpt", "--weights", weights, "--max-new-tokens", 8, "--json", "--temperature", 0)
    code, out, _ = zoo_says(*words, "--prompt", "The cat", "--prompt", "A dog")
    found = json.loads(out)
    assert code == 0
    assert [one["prompt"] for one in found] == ["The cat", "A dog"]
    assert {"prompt", "text", "finish", "tokens", "log_probability", "weights"} == set(found[0])
    model = zoo.load(weights)
    ids = tokenizer.encode("The cat")
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(model(torch.tensor([ids]))[0, -1, : tokenizer.vocab_size].argmax()))
    assert found[0]["text"] == tokenizer.decode(ids[len(tokenizer.encode("The cat")) :])


def test_samples_prompts_and_files(zoo_says: Says, weights: str, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("The mat")
    code, out, _ = zoo_says(
        "generate", "gpt", "--weights", weights, "--prompt", "-", "--prompt-file", tmp_path / "one.txt",
        "--samples", 3, "--max-new-tokens", 6, "--json", "--top-p", 0.9, "--top-k", 0, "--top-p-convention", "gpt2",
        "--repetition-penalty", 1.2, "--batch-size", 2, stdin=b"The dog",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert [one["prompt"] for one in found] == ["The dog"] * 3 + ["The mat"] * 3
    assert len({one["text"] for one in found}) > 3
    shown = zoo_says("generate", "gpt", "--weights", weights, "--samples", 2, "--max-new-tokens", 3, "--prompt", "The")
    assert "=== 2 of 2 ===" in shown[1]


def test_beams_and_stop_texts(zoo_says: Says, weights: str) -> None:
    words = ("generate", "gpt", "--weights", weights, "--prompt", "The cat", "--max-new-tokens", 20, "--json")
    beams = json.loads(zoo_says(*words, "--beams", 4, "--length-penalty", 0.6, "--length-convention", "gnmt")[1])[0]
    greedy = json.loads(zoo_says(*words, "--temperature", 0)[1])[0]
    assert beams["log_probability"] >= greedy["log_probability"] - 1e-4
    letter = next(letter for letter in greedy["text"][2:] if letter.isprintable() and letter != "\ufffd")
    stopped = json.loads(zoo_says(*words, "--temperature", 0, "--stop", letter)[1])[0]
    assert stopped["finish"] == "stop"
    assert stopped["text"] == greedy["text"][: greedy["text"].index(letter)]


def test_an_empty_prompt_starts_from_the_end_of_text(zoo_says: Says, weights: str) -> None:
    words = ("generate", "gpt", "--weights", weights, "--max-new-tokens", 5, "--json")
    assert json.loads(zoo_says(*words)[1])[0]["tokens"] == 5
    assert zoo_says(*words, "--dtype", "bfloat16")[0] == 0


def test_the_context_ends_a_text_and_the_command_says_so(zoo_says: Says, weights: str) -> None:
    code, out, err = zoo_says(
        "generate", "gpt", "--weights", weights, "--prompt", "x" * 60, "--max-new-tokens", 9, "--json"
    )
    assert code == 0
    assert json.loads(out)[0]["tokens"] == 4
    assert err == "zoo: the context of 64 tokens leaves room for 4 new ones, not 9\n"


def test_the_newest_run_is_used(zoo_says: Says, refused: Any, weights: str, tmp_path: Path) -> None:
    assert "no finished run of gpt under runs/" in refused("generate", "gpt", "--prompt", "x")
    run = tmp_path / "runs" / "gpt-debug" / "2026-01-01-000000"
    run.mkdir(parents=True)
    (run / "weights").symlink_to(weights)
    (run / "metrics.json").write_text(json.dumps({"family": "gpt"}))
    code, _, err = zoo_says("generate", "gpt", "--prompt", "The", "--max-new-tokens", 2)
    assert code == 0
    assert err == "zoo: using runs/gpt-debug/2026-01-01-000000/weights\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "x" * 70], "the prompt has 70 tokens, 6 more than the context of 64 holds"),
        (["--temperature", "-1"], "temperature must be 0"),
        (["--top-p", "0"], "top_p must be above 0 and at most 1"),
        (["--top-p", "1.5"], "top_p must be above 0 and at most 1"),
        (["--top-k", "-3"], "top_k must be at least 1"),
        (["--beams", "4", "--temperature", "0.7"], "beam search does not sample"),
        (["--stop", ""], "a stop text must not be empty"),
        (["--max-new-tokens", "0"], "max_new_tokens must be at least 1"),
        (["--samples", "0"], "ask for at least one text"),
        (["--samples", "2", "--temperature", "0"], "the same text"),
        (["--stream", "--json"], "leave out --json"),
        (["--top-p-convention", "mine"], "invalid choice: 'mine'"),
        (["--stop-rule", "line"], "unrecognized arguments: --stop-rule line"),
        (["--prompt", "-", "--prompt-file", "-"], "only once"),
        (["--prompt-file", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--prompt-file", "latin.txt"], "latin.txt is no UTF-8 text"),
        (["--device", "cuda:99"], "cannot be used here"),
    ],
)
def test_mistakes(refused: Any, weights: str, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "latin.txt").write_bytes("ein Märchen".encode("latin-1"))
    assert message in refused("generate", "gpt", "--weights", weights, *words)


def test_weights_that_do_not_belong(refused: Any, weights: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    zoo.save_weights(zoo.create_model("clip-debug"), clip)
    assert "holds a CLIP, not a GPT" in refused("generate", "gpt", "--weights", clip)
    small = tmp_path / "small"
    zoo.save_weights(shaken(vocab_size=200), small)
    for file in Path(weights).glob("*"):
        if file.name not in ("config.json", "model.safetensors", "README.md"):
            (small / file.name).write_bytes(file.read_bytes())
    line = refused("generate", "gpt", "--weights", small, "--prompt", "The")
    assert "ids but the model only 200; use the tokenizer that the model was trained with" in line


# zoo chat


def test_a_conversation(zoo_says: Says, chatty: str) -> None:
    words = ("chat", "--weights", chatty, "--max-new-tokens", 8, "--system", "Be kind.")
    code, out, err = zoo_says(*words, "--json", stdin=b"The cat\n\nThe dog\n/reset\nThe cat\n/dance\n/quit\nThe mat\n")
    said = json.loads(out)
    assert code == 0
    assert [turn["user"] for turn in said] == ["The cat", "The dog", "The cat"]
    assert said[0] == said[2]
    assert "the conversation starts anew" in err
    assert "unknown command /dance" in err
    code, out, _ = zoo_says(*words, stdin=b"The cat\n")
    assert code == 0
    assert out.strip() == said[0]["assistant"]


def test_the_template_is_talkies_and_typed_marks_are_text(tokenizer: ByteLevelTokenizer) -> None:
    marked = talkie_chat(tokenizer)
    template = ChatTemplate(GptTokenizer(marked))
    ids = template.ids("Be kind.", [Turn("Who?", "I.")], "<|end|>?")
    text = marked.decode(ids)
    assert text == (
        "<|system|>Be kind.<|end|><|user|>Who?<|end|><|assistant|>I.<|end|><|user|><|end|>?<|end|><|assistant|>"
    )
    assert ids.count(marked.specials["<|end|>"]) == 4  # the one that was typed is spelled out
    typed = text.index("<|end|>?")
    assert ids == marked.encode(text[:typed], specials=True) + marked.encode("<|end|>?") + ids[-2:]


def test_old_turns_are_forgotten_as_the_context_fills(chatty: str) -> None:
    model, preprocessor = zoo.load(chatty), zoo.create_preprocessor(chatty)
    options = GenerationOptions(max_new_tokens=10, temperature=1.0)
    talk = Conversation(model, preprocessor, ChatTemplate(preprocessor), options, system="Be kind.")  # type: ignore[arg-type]
    forgotten = 0
    for _ in range(8):
        talk.ask("The cat sat on the mat.")
        forgotten += talk.forgotten
    assert forgotten
    assert len(talk.turns) == 8 - forgotten
    ids = talk.template.ids(talk.system, talk.turns[:-1], "The cat sat on the mat.")
    assert len(ids) <= 54
    assert preprocessor.decode(ids).startswith("<|system|>Be kind.")


def test_models_without_a_chat_format(zoo_says: Says, refused: Any, weights: str) -> None:
    line = refused("chat", "--weights", weights, stdin=b"The cat\n")
    assert "has no chat marks" in line
    assert "--plain" in line
    code, out, _ = zoo_says(
        "chat", "--weights", weights, "--plain", "--max-new-tokens", 5, "--json", stdin=b"The cat\n"
    )
    assert code == 0
    assert json.loads(out)[0]["user"] == "The cat"
    assert "more than the context" in refused("chat", "--weights", weights, "--plain", stdin=b"x" * 90)


def test_the_plain_template(tokenizer: ByteLevelTokenizer) -> None:
    template = PlainTemplate(GptTokenizer(tokenizer))
    found = tokenizer.decode(template.ids("A tale.", [Turn("Who?", "I.")], "Why?"))
    assert found == "A tale.\nQ: Who?\nA: I.\nQ: Why?\nA:"
