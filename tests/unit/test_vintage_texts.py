"""Texts of a time: the dictionary, verse, Python's documentation, and the cutoff."""

from __future__ import annotations

import importlib
import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest

from zoo.gpt import sources
from zoo.gpt.configs import GptConfig
from zoo.gpt.data import GptDataModule
from zoo.shared.errors import UserError
from zoo.shared.text import python_docs, verse, webster
from zoo.shared.text.anachronism import TERMS, TermFilter
from zoo.shared.text.documents import Document, write_documents

DICTIONARY = r"""
00-database-info
   a header about a dictionary of 1913

Lamp \Lamp\ (l[a^]mp), n. [F. lampe. See {Light}.]
   1. A vessel that gives light.
      [1913 Webster]

   2. A thing that shines.
      [1913 Webster]

   A paragraph without a tag behind it.

Lamp \Lamp\, v. i.
   To shine. [Poetic] --Spenser.
   [Webster 1913 Suppl. 1913 Webster]

Laser \La"ser\, n.
   A source of coherent light.
   [PJC]

Late \Late\, a.
   Coming after the time.
   [1913 Webster]

   2. Deceased, of a person.
      [1913 Webster +PJC]

Lathe \Lathe\, n.
   A machine. Note: in 1998 they are run by numbers.
   [1913 Webster]
"""


def test_only_entries_whose_tags_all_say_1913_are_taken() -> None:
    found = list(webster.entries(DICTIONARY))
    assert [(entry.id, entry.year) for entry in found] == [("Lamp", 1913), ("Lamp/2", 1913)]
    assert found[0].text.endswith("A thing that shines.\n")
    assert "[F. lampe. See {Light}.]" in found[0].text
    assert "Webster" not in found[0].text + found[1].text


@pytest.mark.parametrize("late", ["penicillin", "the Soviet Union", "{Atomic bomb}", "quantum mechanics", "DNA"])
def test_an_entry_that_names_something_later_is_left_out(late: str) -> None:
    entry = "Lamp \\Lamp\\ (l[a^]mp), n.\n   A thing that shines{}.\n   [1913 Webster]\n\n"
    assert len(list(webster.entries(entry.format("")))) == 1
    assert list(webster.entries(entry.format(f", unlike {late}"))) == []


@pytest.mark.slow
def test_the_real_dictionary() -> None:
    train, held_out = webster.split()
    entries = {entry.id: entry for entry in [*train, *held_out]}
    assert len(entries) == len(train) + len(held_out) > 100_000
    assert "An instrument for reproducing sounds" in entries["Telephone"].text
    assert "Telephone exchange" not in entries  # its tag says +PJC
    whole = "".join(entry.text for entry in entries.values())
    assert "WordNet" not in whole
    assert "1913 Webster" not in whole
    assert TermFilter(TERMS, cutoff=1913).find(whole) == {}
    assert "Amel" in entries  # F. ['e]mail is no e-mail
    assert {one.id.partition("/")[0] for one in train}.isdisjoint(one.id.partition("/")[0] for one in held_out)


class _Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trapped"),))


def test_verse_is_read_without_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = [_Trap(), "pandas", "<", "A first line", "Smith &amp; Co", "iambic pentameter", "null", "a later column"]
    assert list(verse.lines(pickle.dumps(table, protocol=4))) == ["A first line", "Smith & Co"]
    assert not Path("trapped").exists()


@pytest.mark.slow
def test_the_real_verse() -> None:
    train, held_out = verse.split()
    lines = [line for one in [*train, *held_out] for line in one.text.splitlines()]
    assert 3_080_000 < len(lines) < 3_086_000
    assert 0.005 < len(held_out) / len(train) < 0.02
    assert not any("pandas" in line or line == "null" for line in lines)


@pytest.mark.parametrize("name", ["textwrap", "fractions", "argparse"])
def test_docstrings_are_those_that_python_shows(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    text = python_docs.module_text(Path(module.__file__))
    shown = [inspect.cleandoc(module.__doc__ or "")]
    for thing in vars(module).values():
        if inspect.isclass(thing) or inspect.isfunction(thing):
            own = [thing, *vars(thing).values()] if inspect.isclass(thing) else [thing]
            shown += [
                inspect.cleandoc(one.__doc__)
                for one in own
                if getattr(one, "__module__", None) == name and isinstance(one.__doc__, str)
            ]
    found = " ".join(text.split())
    assert len(shown) > 1
    assert all(" ".join(one.split()) in found for one in shown)


def test_help_topics_are_those_of_pydoc() -> None:
    from pydoc_data.topics import topics

    path = inspect.getsourcefile(importlib.import_module("pydoc_data.topics"))
    assert path is not None
    assert dict(python_docs.topics(Path(path))) == topics


def test_sources_are_joined_and_misspellings_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "other", (f"{__name__}:_other", "other texts"))
    train, held_out = sources.named("sentences+other")
    assert (len(train), len(held_out)) == (217, 25)
    monkeypatch.chdir(tmp_path)
    assert sources.is_named("sentences+other")
    assert not sources.is_named("folder/a+b.txt")
    Path("texts").mkdir()
    assert not sources.is_named("texts")
    assert sources.in_words("sentences+other") == "generated sentences and other texts"
    with pytest.raises(UserError, match="did you mean webster-1913"):
        sources.named("webster1913")
    with pytest.raises(UserError, match="twice"):
        sources.named("sentences+sentences")


def _other() -> sources.Split:
    return [Document("one", "1")], [Document("two", "2")]


def test_equal_shares_are_equal_in_bytes() -> None:
    parts = [[Document("a" * 10, str(i)) for i in range(1000)], [Document("b" * 100, str(i)) for i in range(20)]]
    texts = sources.equal_shares(parts)
    assert sum(map(len, texts[:-20])) == sum(map(len, texts[-20:])) == 2000


def test_nothing_late_or_undated_reaches_a_batch(tmp_path: Path) -> None:
    early = [Document(f"old lamp number {i} shines quietly. " * 4, f"e{i}", 1800 + i) for i in range(120)]
    late = [Document(f"rocket zx{i} qj flies. " * 4, f"l{i}", 1931 + i % 60) for i in range(120)]
    undated = [Document(f"wug vk{i} wug. " * 4, f"u{i}") for i in range(120)]
    mixed = [one for three in zip(early, late, undated, strict=True) for one in three]
    write_documents(tmp_path / "texts.jsonl", mixed)
    config = GptConfig(vocab_size=340, context=16, width=8, depth=1, heads=1, tokenizer="bpe")
    module = GptDataModule(
        config, source=str(tmp_path / "texts.jsonl"), year_column="year", cutoff=1930, held_out=0.2, batch_size=4
    )
    train, held_out = module.open()
    assert held_out is not None
    generator = np.random.default_rng(0)
    read = ""
    for reader in (train, held_out):
        read += "".join(module.preprocessor.decode(reader.read(i, generator)["tokens"]) for i in range(len(reader)))
    assert "lamp" in read
    assert not any(word in read for word in ("rocket", "qj", "wug", "vk"))
    ids = range(module.preprocessor.vocab_size)  # the vocabulary knows no later word either
    assert not any(word in module.preprocessor.decode([token]) for token in ids for word in ("rocket", "flies", "wug"))
    kept = sum(len(tokens.documents) for tokens in (train.tokens, held_out.tokens))
    assert kept == len(early)
    years = np.concatenate([train.tokens.documents["year"], held_out.tokens.documents["year"]])
    assert sorted(years.tolist()) == [1800 + i for i in range(120)]
    with pytest.raises(UserError, match=r"no document has a known year in \.\.\. to 1500"):
        GptDataModule(config, source=str(tmp_path / "texts.jsonl"), year_column="year", cutoff=1500).open()
