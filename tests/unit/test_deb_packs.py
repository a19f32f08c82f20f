"""Packs from Debian, on a tiny package that the test writes; and the bar while something is fetched."""

import gzip
import hashlib
import io
import lzma
import shutil
import sys
import tarfile
import time

import pytest

from zoo.shared.data import deb, fetch_bar
from zoo.shared.data.deb import DebReader
from zoo.shared.data.packs import PACKS, Pack
from zoo.shared.data.samples import cached, fetch, open_pack
from zoo.shared.errors import UserError


def write_deb(path, files, *, ending="xz", pack=lzma.compress):
    def tar(members):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as opened:
            for name, contents in members.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(contents)
                opened.addfile(info, io.BytesIO(contents))
        return out.getvalue()

    members = {
        "debian-binary": b"2.0\n",
        f"control.tar.{ending}": pack(tar({"control": b"Package: tiny\n"})),
        f"data.tar.{ending}": pack(tar(files)),
    }
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, contents in members.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(contents):<10}`\n".encode())
            out.write(contents + b"\n" * (len(contents) % 2))
    return path


FILES = {"usr/share/tiny/a.txt": b"ant", "usr/share/tiny/b.txt": b"a bee"}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with a tiny package, which the table knows."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "shelf"
    folder.mkdir()
    path = write_deb(folder / "tiny-words_1%3a1.2-1_all.deb", FILES)
    pack = Pack(
        name="tiny-deb",
        package="tiny-words",
        version="1:1.2-1",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        licence="none",
        holds="two words",
        files=("usr/share/tiny/",),
        kind="deb",
    )
    monkeypatch.setitem(PACKS, pack.name, pack)
    return folder


def test_a_package_is_cached_and_read_without_installing(shelf):
    fetch(["tiny-deb"], from_dir=shelf)
    with open_pack("tiny-deb") as pack:
        assert pack.names() == list(FILES)
        assert {name: pack.read(name) for name in pack.names()} == FILES
        with pytest.raises(UserError, match="no file nothing"):
            pack.read("nothing")


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_compressions(tmp_path, ending, pack):
    path = write_deb(tmp_path / "a.deb", FILES, ending=ending, pack=pack)
    assert DebReader(path, name="a").read("usr/share/tiny/b.txt") == b"a bee"


def test_what_cannot_be_opened_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = write_deb(tmp_path / "a.deb", FILES, ending="zst")
    with pytest.raises(UserError, match="pip install zstandard"):
        DebReader(path, name="a").names()
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="no Debian package"):
        DebReader(path, name="a")


def test_another_package_is_refused(shelf):
    write_deb(next(shelf.glob("*.deb")), {"usr/share/tiny/a.txt": b"cat"})
    with pytest.raises(UserError, match="does not have the hash"):
        fetch(["tiny-deb"], from_dir=shelf)
    assert cached("tiny-deb") is None


def test_without_apt_one_line_says_so(shelf, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"no apt-get.*--from DIR.*tiny-words_1%3a1\.2-1_\*\.deb") as caught:
        open_pack("tiny-deb")
    assert "\n" not in str(caught.value)


def test_stale_lists_are_replaced_by_fresh_ones_of_our_own(shelf, monkeypatch):
    calls = []

    def apt(words, folder):
        calls.append(words[-1])
        if len(calls) == 1:
            return "Version '1:1.2-1' for 'tiny-words' was not found"
        if words[-1] != "update":
            shutil.copy(next(shelf.glob("*.deb")), folder)
        return None

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(deb, "_apt", apt)
    assert fetch(["tiny-deb"])["tiny-deb"].is_file()
    assert calls == ["tiny-words=1:1.2-1", "update", "tiny-words=1:1.2-1"]
    monkeypatch.setattr(deb, "_apt", lambda words, folder: "Failed to fetch")
    cached("tiny-deb").unlink()
    with pytest.raises(UserError, match=r"cannot be fetched \(Failed to fetch\)"):
        fetch(["tiny-deb"])


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_and_nothing_elsewhere(tmp_path, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with fetch_bar.size_bar("tiny", tmp_path, size=2_000_000):
        (tmp_path / "part").write_bytes(b"x" * 1_000_000)
        time.sleep(0.4)
    shown = capsys.readouterr().err
    assert ("1.0/2.0 MB" in shown) == terminal
    assert bool(shown) == terminal
