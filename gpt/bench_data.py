"""The rows of ``zoo bench`` on the way of text into a GPT."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from zoo.gpt.tokenizer import gpt2_tokenizer
from zoo.shared import bench_wait
from zoo.shared.bench import Case, Setting, Side, import_peer
from zoo.shared.text.plays import plays


def prepare_tokenize(side: Side, setting: Setting) -> Case:
    """Plays to ids, all of them at once."""
    texts = [play.text for play in plays()[: 1 if setting.quick else None]]
    tokenizer = gpt2_tokenizer()
    if side == "zoo":

        def call() -> list[list[int]]:
            return tokenizer.encode_batch(texts)
    else:
        transformers = import_peer("transformers", package="transformers")
        with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
            tokenizer.save(folder)
            theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"))

        def call() -> list[list[int]]:
            return theirs(texts)["input_ids"]

    return Case(
        call=call,
        result=lambda: {"ids": torch.tensor([token for row in call() for token in row])},
        samples=sum(len(text.encode()) for text in texts),
        note=f"{len(texts)} plays",
    )


def data_wait(quick: bool) -> float:
    """Percent of the time that a short run waits for tokens."""
    recipe, steps = ("smoke", 4) if quick else ("default", 20)
    return bench_wait.data_wait("gpt", "--recipe", recipe, steps=steps)
