"""Documents from every kind of file, and one clear line for what cannot be read."""

from __future__ import annotations

import datetime
import gzip
import json

import pytest

from zoo.shared.errors import UserError
from zoo.shared.text.documents import Document, open_documents, write_documents

ROWS = [
    {"id": "a", "text": "eins zwei", "year": 1850},
    {"id": "b", "text": "drei – vier\nfünf", "year": None},
    {"id": "c", "text": "sechs", "year": 1931},
]
EXPECTED = [Document(row["text"], row["id"], row["year"]) for row in ROWS]


def write_rows(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_plain_text_files_folders_and_patterns(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\r\n")
    (tmp_path / "sub" / "c.md").write_text("third")
    (tmp_path / "code.py").write_text("fourth")
    texts = [d.text for d in open_documents(tmp_path)]
    assert texts == ["first\r\n", "second", "third"]  # in order, without the byte order mark; no .py in a folder
    assert [d.text for d in open_documents(f"{tmp_path}/*.py")] == ["fourth"]  # but by name
    found = open_documents([tmp_path / "b.txt", tmp_path])  # a file that is named twice is read once
    assert [d.text for d in found] == ["second", "first\r\n", "third"]
    assert found.bytes_read == found.size == 6 + 10 + 5
    assert [d.id for d in open_documents(tmp_path / "b.txt")] == [str(tmp_path / "b.txt")]
    assert len(list(found)) == 3  # a second reading


def test_a_line_parts_documents(tmp_path):
    path = tmp_path / "all.txt"
    path.write_text("one\nmore\n---\n\n---\nthree\n --- \nfour")
    found = open_documents(path, split_on="---")
    assert [(d.text, d.id) for d in found] == [
        ("one\nmore\n", f"{path}:0"), ("three\n", f"{path}:2"), ("four", f"{path}:3")
    ]  # fmt: skip
    assert found.skipped == {"blank": 1}


@pytest.mark.parametrize("kind", ["jsonl", "json.gz", "jsonl.zst", "parquet", "datasets"])
def test_rows_of_every_kind(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)
    elif kind == "datasets":
        import datasets

        datasets.Dataset.from_list(ROWS).save_to_disk(path)
    else:
        data = write_rows(tmp_path / "plain").read_bytes()
        if kind.endswith("zst"):
            import pyarrow

            with pyarrow.CompressedOutputStream(str(path), "zstd") as opened:
                opened.write(data)
        else:
            path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    assert list(open_documents(path)) == EXPECTED
    with pytest.raises(UserError, match=r"no column 'body'; it has id, text, year.*--text-column"):
        list(open_documents(path, text_column="body"))
    with pytest.raises(UserError, match=r"no column 'published'.*--year-column"):
        list(open_documents(path, year_column="published"))


def test_the_hub(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, *, split, streaming):
        asked.append((name, split, streaming))
        return datasets.Dataset.from_list(ROWS).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(open_documents("hf:owner/name:validation")) == EXPECTED
    assert asked == [("owner/name", "validation", True)]
    monkeypatch.undo()
    with pytest.raises(UserError, match="cannot open hf:owner/none"):  # tests are offline
        list(open_documents("hf:owner/none"))


def test_years(tmp_path):
    values = [1850, 1850.0, "1850-02-03", "c. 1850", "[1850?]", "18500", "long ago", None, True, float("nan")]
    path = write_rows(tmp_path / "x.jsonl", [{"text": "t", "date": value} for value in values])
    years = [d.year for d in open_documents(path, year_column="date")]
    assert years == [1850] * 5 + [None] * 5
    from zoo.shared.text.document_readers import Reading, read_year

    assert read_year({"year": datetime.datetime(1850, 1, 1)}, Reading()) == 1850


def test_what_cannot_be_read_stops_or_is_counted(tmp_path):
    path = tmp_path / "x.jsonl"
    good = json.dumps({"text": "gut"}).encode()
    lines = [
        good,
        b'{"text": "\xff"}',
        b"{",
        b"[]",
        b'{"text": 3}',
        b'{"text": null}',
        b'{"text": "\\ud800"}',
        b"",
        good,
    ]
    path.write_bytes(b"\n".join(lines) + b"\n" + b'{"other": 1}')
    place = len(good) + 1 + 10
    with pytest.raises(UserError, match=rf"x.jsonl is not UTF-8 at byte {place};.*--bad skip"):
        list(open_documents(path))
    found = open_documents(path, bad="skip")
    assert [d.text for d in found] == ["gut", "gut"]
    assert [d.id for d in found] == [f"{path}:1", f"{path}:9"]
    assert found.skipped == {"unreadable": 6, "blank": 1}
    for number, line in enumerate(lines):
        path.write_bytes(good + b"\n" + line)
        if line in (good, b"", lines[5]):
            assert list(open_documents(path))
        else:
            with pytest.raises(UserError, match=r"x\.jsonl") as caught:
                list(open_documents(path))
            assert "line 2" in str(caught.value) or "byte" in str(caught.value), number


def test_bytes_that_are_no_text_are_named_by_their_offset(tmp_path):
    path = tmp_path / "big.txt"
    path.write_bytes(b"a" * 3_000_000 + b"\n---\nabc\x80def")
    with pytest.raises(UserError, match="not UTF-8 at byte 3,000,008"):
        list(open_documents(path))
    with pytest.raises(UserError, match="not UTF-8 at byte 3,000,008"):
        list(open_documents(path, split_on="---"))
    found = open_documents(path, split_on="---", bad="skip")
    assert [len(d.text) for d in found] == [3_000_001]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: p / "missing.txt", "no such file"),
        (lambda p: f"{p}/*.none", "no file fits"),
        (lambda p: p, "holds no text files"),
        (lambda p: touch(p / "x.csv", b"a"), "no text file"),
        (lambda p: touch(p / "x.txt", b" \n"), "no document with text in it .1 blank."),
        (lambda p: touch(p / "x.jsonl", b""), "no document with text"),
        (lambda p: touch(p / "x.txt.gz", b"nonsense"), "cannot read"),
        (lambda p: touch(p / "x.jsonl.zst", b"nonsense"), "cannot read"),
        (lambda p: touch(p / "x.txt.gz", gzip.compress(b"a" * 10_000)[:-10]), "cannot read"),
        (lambda p: touch(p / "x.parquet", b"nonsense"), "cannot read"),
    ],
)
def test_mistakes(tmp_path, make, match):
    with pytest.raises(UserError, match=match) as caught:
        list(open_documents(make(tmp_path)))
    assert "\n" not in str(caught.value)


def touch(path, data):
    path.write_bytes(data)
    return path


def test_written_documents_come_back(tmp_path):
    path = tmp_path / "out.jsonl"
    assert write_documents(path, EXPECTED) == 3
    assert list(open_documents(path)) == EXPECTED


def test_memory_is_bounded_by_a_document(tmp_path):
    import tracemalloc

    path = tmp_path / "many.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as opened:
        for _ in range(300):
            opened.write(json.dumps({"text": "x" * 100_000}) + "\n")
    tracemalloc.start()
    count = sum(len(d.text) for d in open_documents(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000_000
    assert peak < 8_000_000


def test_the_plays():
    from zoo.shared.text.plays import HELD_OUT, plays, split

    train, held_out = split()
    assert (len(train), len(held_out)) == (34, 4)
    assert {d.id for d in held_out} == set(HELD_OUT)
    assert [d.id for d in plays()] == sorted(d.id for d in train + held_out)
    assert sum(len(d.text.encode()) for d in train) == 4_658_148
    assert sum(len(d.text.encode()) for d in held_out) == 441_074
    macbeth = next(d.text for d in held_out if d.id == "macbeth")
    assert "**First Witch**\nWhen shall we three meet again\nIn thunder" in macbeth
    assert not any(line != line.rstrip() for d in train for line in d.text.split("\n"))
