"""CLIP's tokenizer against open_clip's."""

from __future__ import annotations

import json
import pickle
import random
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.clip.tokenizer import END, START, ClipTokenizer, encode, to_rust, vocabulary
from zoo.shared.errors import UserError

# fmt: off
ODD = [
    "&amp;", "&amp;lt;", "&#x27;", "&eacute;", "&lt;b&gt;", "&#xD800;", "&nbsp;", "&bogus;", "<end_of_text>",
    "<START_OF_TEXT>", "<ſtart_of_text>", "<|endoftext|>", "'ſ", "'S", "'LL", "'Ve", "İ", "ı", "ẞ", "ß", "ﬁ",
    "Å", "K", "ς", "Σ", "Ǆ", "schön", "â€™", "Ã©", "Ã¼", "</w>", "½", "²", "Ⅷ", "٣", "१", "the", "photo",
    "2024", "…", "“quoted”", "‘s", "’s",
]
# fmt: on
SPACES = ["\u200d", "\u00a0", "\u2028", "\x85", "\x1c", "\x1b[31m", "\ufeff", "\u3000", " ", " ", " "]


def random_text(rng: random.Random) -> str:
    """Draw from a few of: ASCII, control, Latin, combining, any plane, emoji, CJK, right-to-left, odd pieces."""
    pools = (
        lambda: chr(rng.randrange(0x20, 0x7F)),
        lambda: chr(rng.randrange(0x20)),
        lambda: chr(rng.randrange(0x80, 0x600)),
        lambda: chr(rng.randrange(0x300, 0x370)),
        lambda: chr(rng.choice([rng.randrange(0x600, 0xD800), rng.randrange(0xE000, 0x110000)])),
        lambda: chr(rng.randrange(0x1F300, 0x1FB00)),
        lambda: chr(rng.randrange(0x4E00, 0xA000)),
        lambda: chr(rng.randrange(0x590, 0x700)),
        lambda: rng.choice(ODD + SPACES),
    )
    chosen = rng.sample(pools, rng.randint(1, 4))
    return "".join(rng.choice(chosen)() for _ in range(rng.randint(0, 30)))


@pytest.fixture(scope="module")
def reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # open_clip's imports, timm among them, warn of their own deprecations
        from open_clip.tokenizer import SimpleTokenizer
    return SimpleTokenizer()


@pytest.fixture
def tokenizer():
    return ClipTokenizer()


def quietly(tokenizer, texts):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tokens were cut off")
        return tokenizer(texts)


def test_ten_thousand_random_strings(reference, tokenizer):
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(10_000)]
    ours, theirs = quietly(tokenizer, texts), reference(texts)
    wrong = [ascii(text) for text, row in zip(texts, (ours != theirs).any(dim=1), strict=True) if row]
    assert not wrong


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text(reference, text):
    assert encode(text) == reference.encode(text)


@pytest.mark.parametrize("text", ["a photo of a cat", "İstanbul ẞ", "it's 2024 & 3 < 4", "", "  \n\t ", *ODD, *SPACES])
def test_words(reference, tokenizer, text):
    assert tokenizer(text).tolist() == reference(text).tolist()


def test_shape_padding_and_ends(tokenizer):
    ids = tokenizer(["a cat", ""])
    assert ids.shape == (2, 77)
    assert ids.dtype == torch.int64
    assert ids[0, :4].tolist() == [START, 320, 2368, END]
    assert ids[1, :3].tolist() == [START, END, 0]
    assert tokenizer([]).shape == (0, 77)
    assert (tokenizer.start, tokenizer.end, tokenizer.vocab_size) == (START, END, 49408)


def test_too_long_is_cut_and_told_once(reference):
    tokenizer = ClipTokenizer(context=8)
    with pytest.warns(UserWarning, match="94 tokens were cut off") as told:
        ids = tokenizer(["cat " * 100, "dog " * 100])
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert ids.tolist() == reference(["cat " * 100, "dog " * 100], context_length=8).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer("cat " * 100)  # told already
        tokenizer("one two three four five six")  # exactly fits


def test_too_long_is_an_error():
    with pytest.raises(UserError, match="exceeds the context of 8 by 1 tokens"):
        ClipTokenizer(context=8, policy="error")("a b c d e f g")


@pytest.mark.parametrize("text", ["&#" + "9" * 5000 + ";", "\ud800 lone", "\x00" * 500, "a" * 20_000, "&" * 5000])
def test_hostile_text(tokenizer, text):
    assert quietly(tokenizer, text).shape == (1, 77)


def test_bad_arguments(tokenizer):
    with pytest.raises(UserError, match="string"):
        tokenizer([b"bytes"])
    with pytest.raises(UserError, match="context"):
        ClipTokenizer(context=2)
    with pytest.raises(UserError, match="truncate or error"):
        ClipTokenizer(policy="cut")


def test_pickles(tokenizer):
    data = pickle.dumps(tokenizer)
    assert len(data) < 500  # the vocabulary is not sent to every worker
    assert pickle.loads(data)("a cat").equal(tokenizer("a cat"))


def test_decode(tokenizer):
    assert tokenizer.decode(tokenizer("A photo, naïve 🐱!")[0]) == "a photo , naïve 🐱!"
    assert tokenizer.decode([320, 2368]) == "a cat"
    with pytest.raises(UserError, match="49408"):
        tokenizer.decode([49408])


def test_vocabulary(reference):
    vocab, merges = vocabulary()
    assert list(vocab)[:-2] == list(reference.encoder)[:-2]
    assert merges == list(reference.bpe_ranks)
    assert list(vocab.values()) == list(range(49408))


def test_save_and_load(tmp_path):
    from tokenizers import Tokenizer

    ClipTokenizer(context=20, policy="error").save(tmp_path)
    loaded = ClipTokenizer.load(tmp_path)
    assert (loaded.context, loaded.policy) == (20, "error")
    rust = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "A photo of  a cat's toy, 2024 — naïve ½"
    assert rust.encode(text).ids == [START, *encode(text), END]
    assert rust.encode(text).ids == to_rust().encode(text).ids


def test_load_of_other_folders(tmp_path):
    assert ClipTokenizer.load(tmp_path).context == 77
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"model_max_length": 1e30, "tokenizer_class": "CLIPTokenizer"}))
    assert ClipTokenizer.load(tmp_path).context == 77
    path.write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    with pytest.raises(UserError, match="GPT2Tokenizer"):
        ClipTokenizer.load(tmp_path)
    path.write_text("[")
    with pytest.raises(UserError, match="JSON"):
        ClipTokenizer.load(tmp_path)
