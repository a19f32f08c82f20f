"""What a trained GPT makes of held-out text: bits per byte, a page of it with its surprises, and a page of its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.baselines import primed_bits_per_byte
from zoo.gpt.data import GptDataModule
from zoo.gpt.generation import generate_texts
from zoo.gpt.pictures import surprise_sheet
from zoo.gpt.scoring import score_continuations, text_windows
from zoo.gpt.sources import SOURCES
from zoo.shared.files import write_text
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.runs.report import Figure, Report
from zoo.shared.text.tokens import Tokens

_TOKENS = 400_000  # of the held-out text that are measured
_BASELINE = 16 << 20  # bytes that xz reads at most
_SHOWN = 700  # tokens of the page


def report(task: Any, datamodule: GptDataModule, folder: Path) -> Report:
    """Measure a trained model on held-out text and write two pages.

    Args:
        task: The trained :class:`~zoo.gpt.task.GptTask`.
        datamodule: The data module of the run.
        folder: Where the pages go.
    """
    model, held_out = task.model, datamodule.held_out_tokens
    written = folder / "generated.txt"
    write_text(written, sample(model, datamodule))
    commands = ["zoo generate gpt --weights {weights} --prompt TEXT", "zoo eval gpt --weights {weights}"]
    if held_out is None or len(held_out) < 2:
        return Report(title=f"{datamodule.description}: nothing was held out, so nothing was measured",
                      next_commands=commands)  # fmt: skip
    nats, tokens, size = sliding_loss(model, held_out)
    page = folder / "surprise.png"
    draw_surprise(model, held_out, datamodule.preprocessor, page)
    return Report(
        title=f"{size:,} held-out bytes of {datamodule.description}",
        figures=[
            Figure(
                name="bits per byte (chance: xz that has read the training text)",
                key="bits_per_byte",
                value=nats / math.log(2) / size,
                chance=baseline(datamodule),
                percent=False,
            ),
            Figure(
                name="nats per token",
                key="loss",
                value=nats / tokens,
                percent=False,
                chance=math.log(model.config.vocab_size),
            ),
            *(
                Figure(
                    name=f"bits per byte of {SOURCES[name][1]}",
                    key=f"bits_per_byte/{name}",
                    value=bits_per_byte(model, tokens),
                    percent=False,
                )
                for name, tokens in datamodule.paired_tokens.items()
            ),
        ],
        pictures=[page],
        next_commands=commands,
    )


def bits_per_byte(model: Any, tokens: Tokens) -> float:
    """Bits per byte of packed text; see :func:`sliding_loss`."""
    nats, _, size = sliding_loss(model, tokens)
    return nats / math.log(2) / size


def sliding_loss(model: Any, tokens: Tokens, *, batch_size: int = 16) -> tuple[float, int, int]:
    """Nats, tokens and bytes of packed text, every token but the first predicted once.

    Windows overlap by half, so that each token is predicted from at least half a context, except at the beginning.
    """
    ids = tokens.read(0, min(len(tokens), _TOKENS))
    context = model.config.context
    windows = list(text_windows(ids.tolist(), context=context, stride=max(1, context // 2), start=None))
    scores = score_continuations(model, [w[0] for w in windows], [w[1] for w in windows], batch_size=batch_size)
    return float(scores.totals().sum()), len(ids) - 1, int(tokens.lengths[ids[1:]].sum())


def baseline(datamodule: GptDataModule) -> float | None:
    """Bits per byte of the same text for xz; None where the training text is too long for it."""
    train, held_out = datamodule.readers[0].tokens, datamodule.held_out_tokens  # type: ignore[attr-defined]
    if train.bytes > _BASELINE or held_out is None or datamodule.preprocessor is None:
        return None
    texts = [
        _bytes(datamodule, tokens.read(0, min(len(tokens), limit)))
        for tokens, limit in ((train, len(train)), (held_out, _TOKENS))
    ]
    return primed_bits_per_byte(*texts)


def _bytes(datamodule: GptDataModule, ids: np.ndarray) -> bytes:
    """The text of ids; ends of text, whose bytes the model does not count either, are left out."""
    assert datamodule.preprocessor is not None
    tokenizer = datamodule.preprocessor.tokenizer
    return tokenizer.decode_bytes(ids[ids != (-1 if tokenizer.end_of_text is None else tokenizer.end_of_text)])


def sample(model: Any, datamodule: GptDataModule) -> str:
    """What the model writes of itself."""
    options = GenerationOptions(max_new_tokens=min(400, model.config.context - 1), temperature=0.8, top_k=200, seed=1)
    assert datamodule.preprocessor is not None
    return generate_texts(model, datamodule.preprocessor, ["\n"], options)[0].text


def draw_surprise(model: Any, tokens: Tokens, preprocessor: Any, path: Path) -> None:
    """Draw the middle of the held-out text with the bits of each token."""
    context = model.config.context
    shown = min(_SHOWN, len(tokens) - 1)
    first = max(1, min(len(tokens) // 2, len(tokens) - shown))
    ids = tokens.read(max(0, first - context), first + shown)
    row = ids.tolist()
    windows = list(text_windows(row, context=context, stride=max(1, context // 2), start=None))
    losses = np.concatenate(score_continuations(model, [w[0] for w in windows], [w[1] for w in windows]).losses)
    pieces = zip(row[-shown:], losses[-shown:] / math.log(2), strict=True)
    surprise_sheet(
        [(preprocessor.decode([token]).replace("�", "·"), float(bits)) for token, bits in pieces],
        path,
        title="held-out text and the bits that each token costs the model",
    )
