"""``zoo data prepare|filter|dedupe|overlap gpt``: what they write, and one clear line for every mistake."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.gpt.tokenizer import gpt2_tokenizer
from zoo.shared.text.documents import Document, open_documents, write_documents
from zoo.shared.text.plays import plays
from zoo.shared.text.token_files import TokenFile
from zoo.shared.text.tokenizer_files import load_tokenizer


@pytest.fixture(scope="module")
def scenes():
    """A few hundred pieces of plays as documents, with years."""
    found = []
    for play in plays()[:2]:
        pieces = play.text.split("\n\n**")
        for start in range(0, len(pieces), 6):
            found.append(Document("\n\n".join(pieces[start : start + 6]), f"{play.id}/{start}", 1600 + start % 30))
    return found


@pytest.fixture(scope="module")
def code():
    text = (Path(sysconfig.get_paths()["stdlib"]) / "argparse.py").read_text(encoding="utf-8")
    lines = text.split("\n")
    return [Document("\n".join(lines[i : i + 25]), f"code/{i}", 2001) for i in range(0, 2000, 25)]


@pytest.fixture
def files(tmp_path, scenes, code, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_documents("scenes.jsonl", scenes)
    write_documents("good.jsonl", scenes[::2])
    write_documents("mixed.jsonl", [*scenes[1::2], *code])
    return tmp_path


@pytest.fixture
def zoo_says(capsys):
    def run(*words: object):
        code = main([str(word) for word in ("data", *words)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def refused(zoo_says):
    def run(*words: object):
        code, out, err = zoo_says(*words)
        lines = err.strip().splitlines()
        assert (code, out) == (2, "")
        assert len(lines) == 1, err
        assert lines[0].startswith("zoo: ")
        return lines[0]

    return run


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["lst"], "there is no `zoo data lst`; choose list, get, "),
        (["get", "--fro"], "expected one argument"),
        (["list", "--yaml"], "unrecognized arguments: --yaml"),
        ([], "required"),
    ],
)
def test_misspelt_words_are_told_in_one_line(refused, words, match):
    assert match in refused(*words)


def test_the_families_that_have_the_word(zoo_says, refused):
    assert "prepare gpt" in zoo_says("prepare", "--help")[1]
    line = refused("prepare")
    assert "zoo data prepare gpt" in line
    assert "zoo data prepare clip" in line
    assert "clip has no `zoo data dedupe`" in refused("dedupe", "clip")
    assert "unknown family 'gtp'" in refused("prepare", "gtp")


def test_prepare(zoo_says, files, scenes):
    words = ("prepare", "gpt", "scenes.jsonl", "--out", "tokens", "--held-out", 0.2, "--workers", 1)
    code, out, _ = zoo_says(*words)
    assert code == 0
    tokenizer = gpt2_tokenizer()
    train, held_out = (TokenFile(f"tokens/{part}", tokenizer=tokenizer) for part in ("train", "held-out"))
    assert f"tokens/train: {len(train.documents)} documents, {len(train):,} tokens, {train.bytes:,} bytes" in out
    assert "tokens/s" in out
    assert len(train.documents) + len(held_out.documents) == len(scenes)
    by_id = {d.id: d for d in scenes}
    for part in (train, held_out):
        texts = [by_id[name].text for name in part.ids]
        assert tokenizer.decode(part.window(0, len(part)).tolist()) == "".join(t + "<|endoftext|>" for t in texts)
        assert part.documents["year"].tolist() == [by_id[name].year for name in part.ids]
    assert len(train.select(years=(None, 1610))) < len(train)
    code, out, _ = zoo_says(*words, "--json")
    report = json.loads(out)
    assert report["encoded"]["documents"] == 0
    assert report["train"]["bytes_per_token"] == pytest.approx(train.bytes / len(train))
    assert load_tokenizer("tokens/train").fingerprint == tokenizer.fingerprint


def test_prepare_with_a_tokenizer_of_its_own(zoo_says, refused, files):
    words = ("prepare", "gpt", "scenes.jsonl", "--out", "own", "--tokenizer", "train:400", "--workers", 1)
    assert zoo_says(*words)[0] == 0
    tokens = TokenFile("own/train", tokenizer=load_tokenizer("own/tokenizer"))
    assert tokens.vocab_size == 400
    assert tokens.lengths[tokens.window(0, len(tokens))].sum() == tokens.bytes
    assert "all of it was there already" in zoo_says(*words)[1]
    assert "another size" in refused("prepare", "gpt", "scenes.jsonl", "--out", "own", "--tokenizer", "train:500")
    again = ("prepare", "gpt", "good.jsonl", "--out", "again", "--tokenizer", "own/train", "--workers", 1)
    assert zoo_says(*again)[0] == 0
    assert TokenFile("again/train").fingerprint == tokens.fingerprint


def test_prepare_plain_text_with_a_separator_and_bad_bytes(zoo_says, refused, files):
    (files / "x.txt").write_bytes(b"one\n---\ntwo \xff\n---\nthree\n---\n")
    words = ("prepare", "gpt", "x.txt", "--out", "tokens", "--split-on=---", "--workers", 1)
    assert "x.txt is not UTF-8 at byte 12;" in refused(*words)
    code, out, _ = zoo_says("prepare", "gpt", "x.txt", "--out", "other", "--split-on=---", "--bad", "skip")
    assert code == 0
    assert "2 documents" in out
    assert "left out: 1 unreadable documents" in out
    assert "left out: 1 blank documents" in out


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["missing.txt", "--out", "o"], "no such file: missing.txt"),
        (["empty.txt", "--out", "o"], "no document with text in it"),
        (["scenes.jsonl"], "--out"),
        (["--out", "o"], "FILE"),
        (["scenes.jsonl", "--out", "o", "--text-column", "body"], "no column 'body'"),
        (["scenes.jsonl", "--out", "o", "--year-column", "date"], "no column 'date'"),
        (["scenes.jsonl", "--out", "o", "--tokenizer", "gpt9"], "--tokenizer gpt9"),
        (["scenes.jsonl", "--out", "o", "--tokenizer", "train:"], "train:8192"),
        (["scenes.jsonl", "--out", "o", "--tokenizer", "train:20"], "256 bytes"),
        (["scenes.jsonl", "--out", "o", "--tokenizer", "full"], "holds no tokenizer"),
        (["scenes.jsonl", "--out", "empty.txt"], "is a file, not a folder"),
        (["scenes.jsonl", "--out", "full"], "holds something else"),
        (["scenes.jsonl", "--out", "o", "--workers", "0"], "at least one"),
        (["scenes.jsonl", "--out", "o", "--held-out", "1"], "--held-out"),
        (["one.txt", "--out", "o", "--held-out", "0.5", "--workers", "1"], "nothing fell into"),
        (["scenes.jsonl", "--out", "o", "--colour"], "--colour"),
        (["scenes.jsonl", "--out", "o", "--bad", "mend"], "--bad"),
    ],
)
def test_prepare_mistakes(refused, files, words, match):
    (files / "empty.txt").write_text("")
    (files / "one.txt").write_text("one")
    (files / "full" / "train").mkdir(parents=True)
    (files / "full" / "train" / "notes").write_text("")
    assert match in refused("prepare", "gpt", *words)


def test_one_folder_holds_one_corpus(zoo_says, refused, files):
    words = ("--out", "tokens", "--workers", 1)
    assert zoo_says("prepare", "gpt", "good.jsonl", *words)[0] == 0
    assert "sources differ" in refused("prepare", "gpt", "scenes.jsonl", *words)
    assert "held_out differ" in refused("prepare", "gpt", "good.jsonl", *words, "--held-out", 0.1)


def test_filter_by_quality(zoo_says, files, scenes):
    words = ("filter", "gpt", "mixed.jsonl", "--good", "good.jsonl", "--out", "kept.jsonl", "--alpha", 3)
    code, out, _ = zoo_says(*words, "--report", "report.json")
    assert code == 0
    assert "AUC" in out
    assert "dropped, low" in out
    report = json.loads((files / "report.json").read_text())
    kept = list(open_documents("kept.jsonl"))
    assert report["kept"] == report["quality"]["kept"]["documents"] == len(kept)
    of_plays = sum(not d.id.startswith("code") for d in kept)
    assert of_plays > len(kept) / 2
    assert json.loads(zoo_says(*words, "--json")[1]) == report


def test_filter_by_date(zoo_says, files, scenes, code):
    (files / "terms.tsv").write_text("hermia\t1990\n")
    words = ("filter", "gpt", "mixed.jsonl", "--cutoff", 1900, "--terms", "terms.tsv", "--out", "old.jsonl")
    _, out, _ = zoo_says(*words, "--json")
    counts = json.loads(out)["anachronism"]["counts"]
    kept = list(open_documents("old.jsonl"))
    assert counts["dated after the cutoff"] == len(code)
    assert counts["kept"] == len(kept)
    named = sum("hermia" in d.text.lower() for d in scenes[1::2])
    assert counts["with late terms"] == named > 0
    assert all(d.year <= 1900 for d in kept)
    code_of_exit, out, _ = zoo_says("filter", "gpt", "good.jsonl", "--cutoff", 1900, "--out", "x.jsonl")
    assert code_of_exit == 0
    assert "no classifier" in out
    assert "AUC" in zoo_says(*words, "--modern", "mixed.jsonl")[1]


def test_dedupe(zoo_says, files, scenes):
    write_documents("twice.jsonl", [*scenes, *(Document(d.text + " lo", f"again/{d.id}") for d in scenes[:20])])
    code, out, _ = zoo_says("dedupe", "gpt", "twice.jsonl", "--out", "once.jsonl", "--threshold", 0.9, "--json")
    report = json.loads(out)
    kept = [d.id for d in open_documents("once.jsonl")]
    assert code == 0
    assert report["kept"] == len(kept)
    assert not any(name.startswith("again/") for name in kept)
    assert report["examples"][0]["jaccard"] >= 0.9
    assert "resemble an earlier one" in zoo_says("dedupe", "gpt", "twice.jsonl", "--out", "once.jsonl")[1]


def test_overlap(zoo_says, files, scenes, code):
    write_documents("test.jsonl", [scenes[5], *code[:10]])
    words = ("overlap", "gpt", "scenes.jsonl", "--benchmark", "test.jsonl")
    _, out, _ = zoo_says(*words, "--out", "clean.jsonl", "--json")
    report = json.loads(out)
    assert report["dirty_ids"] == [scenes[5].id]
    assert report["cleaned"]["cut"] + report["cleaned"]["dropped"] >= 1
    again = ("overlap", "gpt", "clean.jsonl", "--benchmark", "test.jsonl")
    assert json.loads(zoo_says(*again, "--json")[1])["dirty"] == 0
    code_of_exit, out, _ = zoo_says(*words, "--method", "bloom8")
    assert code_of_exit == 0
    assert "8-grams" in out
    assert "1 of 11 examples" in zoo_says(*words)[1]


def test_no_file_that_is_read_is_overwritten(refused, files):
    (files / "terms.jsonl").write_text("hermia\t1990\n")
    (files / "texts.json").write_text((files / "good.jsonl").read_text())
    (files / "saved").mkdir()
    (files / "saved" / "dataset_info.json").write_text("{}")
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    clean = ("overlap", "gpt", "mixed.jsonl", "--benchmark", "texts.json")
    select = ("filter", "gpt", "mixed.jsonl")
    for words, option in (
        (("overlap", "gpt", "mixed.jsonl", "--benchmark", "good.jsonl", "--out", "good.jsonl"), "--out"),
        ((*clean, "--report", "texts.json"), "--report"),
        (("dedupe", "gpt", "texts.json", "--out", "x.jsonl", "--report", "./texts.json"), "--report"),
        (("dedupe", "gpt", "saved", "--out", "x.jsonl", "--report", "saved/dataset_info.json"), "--report"),
        ((*select, "--good", "good.jsonl", "--out", "good.jsonl"), "--out"),
        ((*select, "--good", "texts.json", "--out", "x.jsonl", "--report", "texts.json"), "--report"),
        ((*select, "--cutoff", 1900, "--modern", "good.jsonl", "--out", "good.jsonl"), "--out"),
        ((*select, "--cutoff", 1900, "--terms", "terms.jsonl", "--out", "terms.jsonl"), "--out"),
    ):
        assert f"{option} {words[-1]} is one of the files that are read" in refused(*words)
    assert "--report good.jsonl: choose a name that ends in .json" in refused(
        "dedupe", "gpt", "good.jsonl", "--out", "x.jsonl", "--report", "good.jsonl"
    )
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


def test_other_documents_have_columns_of_their_own(zoo_says, refused, files, scenes, code):
    from pyarrow import Table, parquet

    texts = [d.text for d in (*scenes[1::2], *code)]
    dates = [f"{d.year}-05-01" for d in (*scenes[1::2], *code)]
    parquet.write_table(Table.from_pydict({"body": texts, "date": dates}), "dated.parquet")
    parquet.write_table(Table.from_pydict({"body": [d.text for d in code]}), "undated.parquet")
    parquet.write_table(Table.from_pydict({"body": [d.text for d in scenes[::2]]}), "good.parquet")
    parquet.write_table(Table.from_pydict({"question": [code[3].text]}), "test.parquet")
    columns = ("--text-column", "body", "--year-column", "date")
    words = ("filter", "gpt", "dated.parquet", *columns, "--cutoff", 1900, "--out", "old.jsonl")
    exit_code, out, _ = zoo_says(*words, "--modern", "undated.parquet", "--good", "good.parquet", "--json")
    report = json.loads(out)
    assert exit_code == 0
    assert report["anachronism"]["counts"]["dated after the cutoff"] == len(code)
    assert report["anachronism"]["classifier"]["after"] == 2 * len(code)
    assert report["quality"]["classifier"]["good"] == len(scenes[::2])
    words = ("overlap", "gpt", "dated.parquet", *columns, "--benchmark", "test.parquet")
    assert "name one with --benchmark-column" in refused(*words)
    assert json.loads(zoo_says(*words, "--benchmark-column", "question", "--json")[1])["dirty"] == 1


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["filter", "gpt", "mixed.jsonl", "--out", "x.jsonl"], "--good"),
        (["filter", "gpt", "mixed.jsonl", "--out", "x.txt", "--good", "good.jsonl"], "ends in .jsonl"),
        (["filter", "gpt", "mixed.jsonl", "--out", "mixed.jsonl", "--good", "good.jsonl"], "one of the files"),
        (["filter", "gpt", "mixed.jsonl", "--out", "x.jsonl", "--terms", "t"], "need --cutoff"),
        (["filter", "gpt", "mixed.jsonl", "--out", "x.jsonl", "--cutoff", "1900", "--terms", "t"], "cannot read t"),
        (["filter", "gpt", "mixed.jsonl", "--out", "x.jsonl", "--good", "none.jsonl"], "no such file"),
        (["filter", "gpt", "mixed.jsonl", "--out", "x.jsonl", "--good", "good.jsonl", "--alpha", "0"], "--alpha"),
        (["dedupe", "gpt", "mixed.jsonl", "--out", "x.jsonl", "--threshold", "2"], "--threshold"),
        (["dedupe", "gpt", "mixed.jsonl", "--out", "x.jsonl", "--rows", "3"], "--rows"),
        (["dedupe", "gpt", "bad.jsonl", "--out", "x.jsonl"], "not UTF-8 at byte 1"),
        (["overlap", "gpt", "mixed.jsonl"], "--benchmark"),
        (["overlap", "gpt", "mixed.jsonl", "--benchmark", "none.txt"], "no such file"),
        (["overlap", "gpt", "mixed.jsonl", "--benchmark", "bad.jsonl"], "not UTF-8"),
    ],
)
def test_other_mistakes(refused, files, words, match):
    (files / "bad.jsonl").write_bytes(b"{\xff}\n")
    assert match in refused(*words)
    assert not (files / "x.jsonl").exists()
