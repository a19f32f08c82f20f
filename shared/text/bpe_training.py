"""Training a byte-level BPE of one's own."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.shared.errors import UserError
from zoo.shared.text.base import END_OF_TEXT, well_formed
from zoo.shared.text.bytes import byte_alphabet
from zoo.shared.text.tokenizer import PATTERNS, ByteLevelTokenizer, Split


def train_byte_level_bpe(texts: Iterable[str], vocab_size: int, *, split: Split = "gpt2") -> ByteLevelTokenizer:
    """Merge the most frequent pairs until the vocabulary is full; the same texts give the same tokenizer.

    Args:
        texts: Read once, so an iterator over a corpus will do.
        vocab_size: Ids wanted: the 256 bytes, the merges, and ``<|endoftext|>`` as the last one.
        split: Which pattern cuts text into words.

    Raises:
        UserError: Fewer than 257 ids are wanted, or the texts have too few pairs for that many.
    """
    import json

    from tokenizers import Regex, Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    if vocab_size < 257:
        raise UserError(f"vocab_size={vocab_size}: the 256 bytes and {END_OF_TEXT} alone take 257")
    if split not in PATTERNS:
        raise UserError(f"split={split!r} is unknown; use {' or '.join(PATTERNS)}")
    rust = Tokenizer(BPE())
    words = pre_tokenizers.Split(Regex(PATTERNS[split]), behavior="isolated")
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    rust.pre_tokenizer = pre_tokenizers.Sequence([words, spelling])
    trainer = BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=list(byte_alphabet()), show_progress=False, min_frequency=1
    )
    rust.train_from_iterator((well_formed(text) for text in texts), trainer)
    model = json.loads(rust.to_str())["model"]
    found = len(model["vocab"])
    if found < vocab_size - 1:
        raise UserError(f"the texts give only {found + 1} ids, not {vocab_size}; use more text or a smaller vocab_size")
    merges = [(left, right) for left, right in model["merges"]]
    return ByteLevelTokenizer(model["vocab"], merges, split=split, specials={END_OF_TEXT: vocab_size - 1})
