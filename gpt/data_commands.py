"""``zoo data prepare|filter|dedupe|overlap gpt``: the words that :mod:`zoo.shared.text.commands` has, for GPT."""

from __future__ import annotations

from pathlib import Path

from zoo.shared.errors import UserError
from zoo.shared.files import check_writable, read_json, write_json
from zoo.shared.text.commands import TrainingTexts, dedupe_command, overlap_command, prepare_command
from zoo.shared.text.filter_command import filter_command
from zoo.shared.text.tokens import Tokenizer


def prepare(words: list[str]) -> int:
    """Encode texts into token files."""
    return prepare_command(
        words,
        family="gpt",
        tokenizers="gpt2 (the default), a folder with a tokenizer or weights, or train:VOCAB",
        open_tokenizer=open_tokenizer,
    )


def filter_texts(words: list[str]) -> int:
    """Keep good documents, or those that are not too late."""
    return filter_command(words, family="gpt")


def dedupe(words: list[str]) -> int:
    """Leave out documents that resemble an earlier one."""
    return dedupe_command(words, family="gpt")


def overlap(words: list[str]) -> int:
    """Find a benchmark in training text."""
    return overlap_command(words, family="gpt")


def open_tokenizer(name: str, training: TrainingTexts, out: Path) -> Tokenizer:
    """The tokenizer behind ``--tokenizer``.

    Args:
        name: ``gpt2``, a folder, or ``train:VOCAB``.
        training: What a new tokenizer is trained on.
        out: A new tokenizer is kept in ``tokenizer`` in it, and found there by a run that goes on.

    Raises:
        UserError: It is none of these.
    """
    from zoo.shared.text.tokenizer_files import load_tokenizer

    if name == "gpt2":
        from zoo.gpt.tokenizer import gpt2_tokenizer

        return gpt2_tokenizer()
    if name.startswith("train:"):
        return _trained(name, training, out / "tokenizer")
    if Path(name).expanduser().is_dir():
        return load_tokenizer(Path(name).expanduser())
    raise UserError(f"--tokenizer {name}: choose gpt2, train:VOCAB such as train:8192, or a folder with a tokenizer")


def _trained(name: str, training: TrainingTexts, folder: Path) -> Tokenizer:
    from zoo.shared.text.bpe_training import train_byte_level_bpe
    from zoo.shared.text.tokenizer_files import load_tokenizer

    size = name.removeprefix("train:")
    if not size.isdigit():
        raise UserError(f"--tokenizer {name}: the size of the vocabulary is missing; write train:8192")
    note = folder / "trained.json"  # written last
    made_of = {"tokenizer": name, **training.made_of}
    if note.is_file():
        if read_json(note) != made_of:
            raise UserError(
                f"{folder} holds a tokenizer of another size or of other texts; choose another --out, or delete it"
            )
        return load_tokenizer(folder)
    if folder.parent.is_dir() and any(folder.parent.iterdir()) and not folder.is_dir():
        raise UserError(f"{folder.parent} holds something else; choose another --out")
    tokenizer = train_byte_level_bpe(training.texts(), int(size))
    tokenizer.save(check_writable(folder))
    write_json(note, made_of)
    return tokenizer
