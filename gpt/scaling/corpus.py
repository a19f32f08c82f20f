"""The one corpus of a grid of runs: encoded once, with the same held-out excerpts for every run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from zoo.gpt.configs import GptConfig
from zoo.gpt.data import GptDataModule
from zoo.gpt.scaling.grid import GridSettings
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json
from zoo.shared.text.token_writer import TokenWriter
from zoo.shared.text.tokenizer_files import load_tokenizer

MOST_PASSES = 4  # over the corpus; up to here repeated text is worth nearly as much as new (arXiv:2305.16264)
_EXCERPTS, _EXCERPT = 16, 1024  # pieces of the held-out text, and tokens of each


def prepare_corpus(settings: GridSettings, out: Path) -> dict[str, Any]:
    """Encode the source once, and lay its training text and excerpts of its held-out text into ``out/tokens``.

    Returns:
        Tokens and bytes of both, the size of the vocabulary, and the passes of the largest budget.

    Raises:
        UserError: Nothing is held out, the largest budget needs too many passes, or the folder holds another corpus.
    """
    folder, known = out / "tokens", out / "corpus.json"
    data = dict(settings.data)
    made_with = json.loads(json.dumps({"data": data, "vocab_size": settings.vocab_size}))
    if known.is_file():
        kept = read_json(known)
        if kept.get("made_with", made_with) != made_with:
            raise UserError(f"{out} holds the corpus of other settings; choose another --out, or delete it")
        return {**kept, "passes_of_the_largest_budget": _passes(settings, kept["tokens"])}
    there = [Path(data["source"]).expanduser() / part for part in ("train", "")]
    prepared = next((path for path in there if (path / "index.json").is_file()), None)
    own = Path(data["tokenizer"]).expanduser() if data.get("tokenizer") else prepared
    vocab_size = settings.vocab_size if own is None else load_tokenizer(own).vocab_size
    config = GptConfig(
        vocab_size=vocab_size, context=settings.context, width=8, depth=1, heads=1, tokenizer="bpe"
    )  # fmt: skip
    opened = GptDataModule(config, **(data | {"batch_size": settings.batch_size}))
    train, held_out = opened.readers[0].tokens, opened.held_out_tokens  # type: ignore[attr-defined]
    if held_out is None or len(held_out) < 2 * settings.context:
        raise UserError("no text is held out to measure on; give a larger --data.held_out, or more text")
    assert opened.preprocessor is not None
    tokenizer = opened.preprocessor.tokenizer
    passes, plan = _passes(settings, len(train)), {"made_by": "zoo scale gpt", "made_with": made_with}
    writer = TokenWriter(folder / "train", tokenizer=tokenizer, plan=plan)
    if not writer.finished:
        _copy(train, writer)
        writer.finish()
    writer = TokenWriter(folder / "held-out", tokenizer=tokenizer, plan=plan)
    if not writer.finished:
        pieces = min(_EXCERPTS, max(1, len(held_out) // _EXCERPT))
        length = min(_EXCERPT, len(held_out) // pieces)
        for number, start in enumerate(np.linspace(0, len(held_out) - length, pieces).astype(int)):
            if number >= writer.done:
                ids = held_out.read(int(start), int(start) + length)
                writer.add(f"excerpt-{number}", ids, size=int(held_out.lengths[ids].sum()))
        writer.finish()
    corpus = {
        "source": opened.description,
        "tokens": len(train),
        "bytes": train.bytes,
        "vocab_size": vocab_size,
        "held_out_tokens": read_json(folder / "held-out" / "index.json")["tokens"],
        "passes_of_the_largest_budget": passes,
        "made_with": made_with,
    }
    write_json(known, corpus)
    return corpus


def _passes(settings: GridSettings, tokens: int) -> float:
    """How often the largest budget goes over so many tokens."""
    passes = settings.tokens / tokens
    if passes > MOST_PASSES:
        raise UserError(
            f"the corpus has {tokens:,} tokens, and the largest budget of {settings.tokens:,} would go over it "
            f"{passes:.1f} times, more than {MOST_PASSES}; give more text or --tokens {MOST_PASSES * tokens}"
        )
    return passes


def _copy(tokens: Any, writer: Any) -> None:
    """Hand over the documents that the writer has not yet; it adds the end of text again."""
    end = 0 if tokens.end_of_text is None else 1
    for row, name in list(zip(tokens.documents, tokens.ids, strict=True))[writer.done :]:
        start, count = int(row["start"]), int(row["tokens"])
        writer.add(name, tokens.read(start, start + count - end), size=int(row["bytes"]))
