"""Token files: what is written comes back, a killed run goes on, damage is found."""

from __future__ import annotations

import hashlib
import json
import pickle
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.documents import Document, open_documents, write_documents
from zoo.shared.text.plays import plays, split
from zoo.shared.text.prepare import cut, is_held_out, prepare
from zoo.shared.text.token_files import TokenFile, from_texts
from zoo.shared.text.token_writer import TokenWriter


class Bytes:
    """A tokenizer of single bytes: id = byte, and an end-of-text."""

    fingerprint = "bytes"

    def __init__(self, vocab_size=257, end_of_text=256):
        self.vocab_size, self.end_of_text = vocab_size, end_of_text

    def encode_batch(self, texts):
        return [list(text.encode()) for text in texts]

    def token_lengths(self):
        return np.array([1] * 256 + [0] * (self.vocab_size - 256), dtype=np.int64)

    def save(self, folder):
        (Path(folder) / "tokenizer.json").write_text("{}")


DOCUMENTS = [
    Document("alpha beta", "a", 1800), Document("é", "b", None), Document("gamma", "c\n1", 1930),
    Document("delta", "d", 1931), Document("epsilon zeta", "e", 1700),
]  # fmt: skip
WHOLE = b"".join(d.text.encode() + b"\0" for d in DOCUMENTS)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "tokens")


def write(folder, tokenizer=None, shard_tokens=12):
    writer = TokenWriter(folder, tokenizer=tokenizer or Bytes(), plan={"sources": []}, shard_tokens=shard_tokens)
    for document in DOCUMENTS[writer.done :]:
        data = document.text.encode()
        writer.add(document.id, np.frombuffer(data, dtype=np.uint8), size=len(data), year=document.year)
    writer.finish()
    return folder


def spelled(tokens):
    return bytes(0 if token == 256 else token for token in tokens)


def tree(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("where", ["file", "memory"])
def test_windows_and_views_against_plain_bytes(folder, where):
    tokens = TokenFile(folder) if where == "file" else from_texts(DOCUMENTS, Bytes())
    assert len(tokens) == len(WHOLE)
    assert tokens.bytes == len(WHOLE) - 5
    assert tokens.ids == [d.id for d in DOCUMENTS]
    assert tokens.documents["year"].tolist() == [1800, -1, 1930, 1931, 1700]
    assert tokens.lengths[tokens.window(0, len(tokens))].sum() == tokens.bytes
    for start in range(len(WHOLE)):
        for length in range(len(WHOLE) - start + 1):
            window = tokens.window(start, length)
            assert window.dtype == np.int64
            assert spelled(window) == WHOLE[start : start + length]
    for chosen, kept in (
        ({"years": (None, 1930)}, "ac\n1e"), ({"years": (1800, 1930)}, "ac\n1"), ({"documents": ["b", "e"]}, "be"),
        ({"years": (None, 1900), "documents": ["a", "d"]}, "a"), ({}, "abc\n1de"),
    ):  # fmt: skip
        view = tokens.select(**chosen)
        assert "".join(view.ids) == kept
        expected = b"".join(d.text.encode() + b"\0" for d in DOCUMENTS if d.id in view.ids)
        assert len(view) == len(expected)
        assert view.bytes == len(expected) - len(view.ids)
        for start in range(len(expected)):
            assert spelled(view.window(start, len(expected) - start)) == expected[start:]
        assert spelled(view.select(documents=view.ids[-1:]).window(0, 2)) == expected[view.documents["start"][-1] :][:2]
    for start, length in ((-1, 2), (0, len(WHOLE) + 1), (len(WHOLE), 1), (3, -1)):
        with pytest.raises(IndexError):
            tokens.window(start, length)


def test_many_random_documents_across_shards(tmp_path):
    rng = np.random.default_rng(0)
    documents = [Document("x" * int(n) + str(i), f"d{i}", int(i % 50)) for i, n in enumerate(rng.integers(1, 60, 400))]
    writer = TokenWriter(tmp_path / "t", tokenizer=Bytes(), plan={}, shard_tokens=500)
    for document in documents:
        writer.add(document.id, np.frombuffer(document.text.encode(), dtype=np.uint8), size=0, year=document.year)
    index = writer.finish()
    assert len(index["shards"]) > 10
    view = TokenFile(tmp_path / "t").select(years=(10, 19))
    expected = b"".join(d.text.encode() + b"\0" for d in documents if 10 <= d.year <= 19)
    assert len(view) == len(expected)
    for start in rng.integers(0, len(expected) - 100, 200).tolist():
        assert spelled(view.window(start, 100)) == expected[start : start + 100]


def test_a_file_travels_to_other_processes(folder):
    tokens = TokenFile(folder)
    tokens.window(0, 5)
    data = pickle.dumps(tokens.select(documents=["d"]))
    assert len(data) < 20_000  # names and tables travel, tokens do not
    assert spelled(pickle.loads(data).window(0, 5)) == b"delta"


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    big = Bytes(vocab_size=70_000, end_of_text=69_999)
    tokens = TokenFile(write(tmp_path / "t", big))
    assert tokens.index["dtype"] == "uint32"
    assert tokens.window(10, 1).tolist() == [69_999]
    assert TokenFile(write(tmp_path / "u", Bytes(1 << 16))).index["dtype"] == "uint16"


def test_no_end_of_text(tmp_path):
    tokens = TokenFile(write(tmp_path / "t", Bytes(vocab_size=256, end_of_text=None)))
    assert spelled(tokens.window(0, len(tokens))) == WHOLE.replace(b"\0", b"")


def cut_short(folder):
    path = folder / "tokens-00001.bin"
    path.write_bytes(path.read_bytes()[:-2])


def edit_index(**changes):
    def edit(folder):
        path = folder / "index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (cut_short, r"tokens-00001.bin: \d+ of \d+ bytes"),
        (lambda f: (f / "tokens-00000.bin").unlink(), "tokens-00000.bin: missing"),
        (lambda f: (f / "documents-00000.npy").write_bytes(b"x"), "documents-00000.npy cannot be read"),
        (lambda f: (f / "documents-00000.npy").write_bytes((f / "documents-00001.npy").read_bytes()), "does not fit"),
        (lambda f: (f / "index.json").unlink(), "no token file"),
        (lambda f: (f / "lengths.npy").unlink(), "lengths.npy"),
        (edit_index(format=9), "format"),
        (edit_index(dtype="uint32"), "cannot be of type"),
        (edit_index(tokens=3), "differ"),
        (edit_index(vocab_size=100), "beyond its vocabulary"),
    ],
)
def test_damage_is_one_line(folder, damage, match):
    damage(folder)
    with pytest.raises(UserError, match=match) as caught:
        TokenFile(folder)
    assert "\n" not in str(caught.value)


def test_other_mistakes(folder, tmp_path):
    other = Bytes()
    other.fingerprint = "other"
    with pytest.raises(UserError, match="another tokenizer"):
        TokenFile(folder, tokenizer=other)
    assert len(TokenFile(folder, tokenizer=Bytes()))
    with pytest.raises(UserError, match=r"made in another way .fingerprint"):
        TokenWriter(folder, tokenizer=other, plan={"sources": []}, shard_tokens=12)
    with pytest.raises(UserError, match=r"made in another way .sources"):
        TokenWriter(folder, tokenizer=Bytes(), plan={"sources": ["x"]}, shard_tokens=12)
    with pytest.raises(UserError, match="no folder"):
        TokenFile(tmp_path / "none")
    folder.rename(tmp_path / "train")
    with pytest.raises(UserError, match=r"did you mean .*train"):
        TokenFile(tmp_path)
    tokens = from_texts(DOCUMENTS, Bytes())
    with pytest.raises(UserError, match=r"no document has a known year in 2000 to .*: 4 of 5 documents have a year"):
        tokens.select(years=(2000, None))
    with pytest.raises(UserError, match="no document 'zz'"):
        tokens.select(documents=["a", "zz"])


def test_a_writer_goes_on_behind_the_last_whole_shard(tmp_path):
    whole = tree(write(tmp_path / "whole"))
    for stop in range(len(DOCUMENTS)):
        part = tmp_path / f"part-{stop}"
        writer = TokenWriter(part, tokenizer=Bytes(), plan={"sources": []}, shard_tokens=12)
        for document in DOCUMENTS[:stop]:
            data = document.text.encode()
            writer.add(document.id, np.frombuffer(data, dtype=np.uint8), size=len(data), year=document.year)
        (part / ".tokens-00000.bin.x.part").write_bytes(b"half")  # what a kill leaves behind
        with pytest.raises(UserError, match="unfinished"):
            TokenFile(part)
        assert tree(write(part)) == whole


@pytest.fixture(scope="module")
def tokenizer():
    return train_byte_level_bpe((d.text for d in split()[1]), 512)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "plays.jsonl"
    scenes = [
        Document(scene, f"{play.id}/{number}", 1600)
        for play in plays()[:6]
        for number, scene in enumerate(play.text.split("\n### "))
    ]
    write_documents(path, [*scenes, plays()[20]])
    return path


def test_pieces_of_a_text_encode_like_the_whole(tokenizer):
    from zoo.gpt.tokenizer import gpt2_tokenizer

    rng = np.random.default_rng(0)
    strange = "".join(rng.choice(list("ab1 '\n\r\t.,/é²中_-\u0301"), 30_000).tolist())
    for text in (
        plays()[3].text,
        plays()[4].text.replace("\n", "\r\n"),
        "   \n\n".join(plays()[5].text.split("\n")[:1500]),
        strange,
    ):
        for size in (50, 1000):
            pieces = cut(text, size)
            assert "".join(pieces) == text
            assert len(pieces) > len(text) / size / 10
            for one in (tokenizer, gpt2_tokenizer()):
                assert list(chain(*one.encode_batch(pieces))) == one.encode_batch([text])[0]
    assert cut("中" * 1000, 100) == ["中" * 1000]  # no safe place


def test_pieces_encode_like_the_whole_with_talkies_words():
    tokenizer = train_byte_level_bpe((d.text for d in split()[1]), 512, split="talkie")
    text = plays()[3].text + "x's\n/y. Foo\nBar's 1234 abc\r\nDef" * 300
    assert list(chain(*tokenizer.encode_batch(cut(text, 40)))) == tokenizer.encode_batch([text])[0]


def test_the_number_of_processes_does_not_matter(corpus, tokenizer, tmp_path):
    reports = {}
    shards = {"shard_tokens": 100_000}
    for workers in (1, 3):
        reports[workers] = prepare(
            open_documents(corpus),
            tokenizer,
            tmp_path / str(workers),
            held_out=0.1,
            workers=workers,
            shard_tokens=100_000,
        )
    assert tree(tmp_path / "1") == tree(tmp_path / "3")
    documents = list(open_documents(corpus))
    train, held_out = TokenFile(tmp_path / "1" / "train"), TokenFile(tmp_path / "1" / "held-out")
    assert held_out.ids == [d.id for d in documents if is_held_out(d.text, 0.1)]
    assert len(train.documents) + len(held_out.documents) == len(documents)
    plain = from_texts([d for d in documents if d.id in set(train.ids)], tokenizer)
    assert np.array_equal(plain.window(0, len(plain)), train.window(0, len(train)))
    assert plain.bytes == train.bytes == reports[1]["train"]["bytes"]
    assert len(train.index["shards"]) > 3
    again = prepare(open_documents(corpus), tokenizer, tmp_path / "1", held_out=0.1, **shards)
    assert again["encoded"]["documents"] == 0


def test_the_held_out_share():
    assert sum(is_held_out(f"text {i}", 0.1) for i in range(20_000)) == pytest.approx(2000, abs=150)
    assert not any(is_held_out(f"text {i}", 0.0) for i in range(1000))


CHILD = """
import sys
from zoo.shared.text.documents import open_documents
from zoo.shared.text.prepare import prepare
from zoo.shared.text.tokenizer_files import load_tokenizer
if __name__ == "__main__":
    corpus, tokenizer, out, workers = sys.argv[1:]
    options = {"held_out": 0.1, "workers": int(workers), "shard_tokens": 20_000}
    prepare(open_documents(corpus), load_tokenizer(tokenizer), out, **options)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_and_leaves_the_same_bytes(corpus, tokenizer, tmp_path, workers):
    (tmp_path / "bpe").mkdir()
    tokenizer.save(tmp_path / "bpe")
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), str(corpus), str(tmp_path / "bpe"), str(tmp_path / "killed"), str(workers)]
    shards = 0
    for wanted in (1, 4):
        child = subprocess.Popen(command)
        train = tmp_path / "killed" / "train"
        while child.poll() is None and len(list(train.glob("tokens-*.bin"))) < wanted:
            time.sleep(0.002)
        assert child.poll() is None, "it ended before it could be killed"
        child.send_signal(signal.SIGKILL)
        child.wait()
        shards = len(list(train.glob("tokens-*.bin")))
    assert shards >= 4
    with pytest.raises(UserError, match="unfinished"):
        TokenFile(train)
    report = prepare(open_documents(corpus), tokenizer, tmp_path / "killed", held_out=0.1, shard_tokens=20_000)
    assert 0 < report["encoded"]["documents"] < report["train"]["documents"] + report["held-out"]["documents"]
    prepare(open_documents(corpus), tokenizer, tmp_path / "whole", held_out=0.1, shard_tokens=20_000)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_a_changed_corpus_is_not_gone_on_with(tokenizer, tmp_path):
    path = tmp_path / "x.jsonl"
    write_documents(path, DOCUMENTS)
    with pytest.raises(RuntimeError, match="enough"):
        prepare(open_documents(path), tokenizer, tmp_path / "out", shard_tokens=3, progress=stop_at(2))
    time.sleep(0.01)
    write_documents(path, [DOCUMENTS[1], DOCUMENTS[0], *DOCUMENTS[2:]])
    with pytest.raises(UserError, match="changed differ"):
        prepare(open_documents(path), tokenizer, tmp_path / "out", shard_tokens=3)


def stop_at(number):
    def progress(documents, tokens, done):
        if documents == number:
            raise RuntimeError("enough")

    return progress
