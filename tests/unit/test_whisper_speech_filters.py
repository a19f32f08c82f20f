"""The filters of Whisper's training data, the ranking of sources, and `zoo data filter whisper`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoo.shared.errors import UserError
from zoo.whisper.speech.filters import filter_speech
from zoo.whisper.speech.manifest import read_manifest
from zoo.whisper.speech.records import ArraySound, Utterance
from zoo.whisper.speech.sentences import sentence
from zoo.whisper.speech.transcript_filters import (
    DuplicateFilter,
    LanguageFilter,
    MachineMadeFilter,
    machine_made,
    text_language,
)
from zoo.whisper.speech.triage import rank_sources, read_hypotheses

SECOND = ArraySound(np.zeros(16000, np.int16))


def said(text: str, language: str = "en", source: str = "s", number: int = 0, **more) -> Utterance:
    return Utterance(
        id=f"{source}/{number}", sound=SECOND, text=text, language=language, source=source, no_speech=not text, **more
    )


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["THE QUICK BROWN FOX JUMPS OVER THE LAZY DOGS, AND SLEEPS!"], "all upper case"),
        (["the quick brown fox jumps", "over the lazy dogs and sleeps till noon"], "all lower case"),
        (["So we went on. " * 40], "no commas, exclamation or question marks"),
        (["So we went on. " * 10], None),  # too few words to say
        (["OK"], None),
        (["Well, we went on. " * 40], None),
        (["我们走了，很远。" * 40], None),  # a script without case
        (["Мы пошли дальше. " * 30 + "Да?"], None),
        (["МЫ ПОШЛИ ДАЛЬШЕ И ДАЛЬШЕ " * 3], "all upper case"),
        ([], None),
    ],
)
def test_transcripts_that_machines_made(texts: list[str], reason: str | None) -> None:
    assert machine_made(texts) == reason


def test_sources_are_judged_as_wholes() -> None:
    """A short sentence in lower case is not suspicious, many of them are."""
    people = [said("ok", number=0), said("Well, hello there to all of you out there.", number=1)]
    machines = [said("so we went on", source="m", number=n) for n in range(5)] + [said("", source="m", number=9)]
    keep = MachineMadeFilter()
    assert keep([*people, *machines]) == [*people, machines[-1]]
    report = keep.report()
    assert report["counts"] == {"all lower case": 5}
    assert report["sources"] == {"m": "all lower case"}
    assert report["examples"]["all lower case"][0] == {"id": "m/0", "text": "so we went on"}


def test_the_language_of_the_text_must_be_that_of_the_speech() -> None:
    answers = {
        "Das ist ein deutscher Satz.": ("de", 1.0),
        "This is an English sentence.": ("en", 0.99),
        "Wer weiß schon, was das ist?": ("nl", 0.6),
    }
    german, english, unsure = answers
    keep = LanguageFilter(detect=lambda text: answers[text])
    speech = [
        said(german, "de", number=0), said(german, "fr", number=1), said(english, "de", number=2),
        said(english, "de", number=3, task="translate"), said(german, "de", number=4, task="translate"),
        said(unsure, "de", number=5), said("kurz", "de", number=6), said("", number=7),
    ]  # fmt: skip
    kept = list(keep(speech))
    assert [(u.id, u.task) for u in kept] == [
        ("s/0", "transcribe"), ("s/2", "translate"), ("s/3", "translate"), ("s/5", "transcribe"),
        ("s/6", "transcribe"), ("s/7", "transcribe"),
    ]  # fmt: skip
    report = keep.report()
    assert report["counts"] == {"fr expected, de written": 1, "en expected, de written": 1}
    assert report["translations"]["counts"] == {"de speech, English text": 1}
    assert (report["too_short"], report["unsure"]) == (1, 1)


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "it"])
def test_languages_of_generated_sentences_are_told(language: str) -> None:
    texts = [meaning.text(language) for k in range(60) if (meaning := sentence(0, "train", k)).kind != "code"]
    told = [text_language(text) for text in texts]
    assert np.mean([code == language for code, _ in told]) > 0.9
    assert np.mean([code != language and sure >= 0.9 for code, sure in told]) < 0.06


def test_languages_that_cannot_be_told_are_kept() -> None:
    """The detector has no Hawaiian, and must not take it for a mistake."""
    keep = LanguageFilter()
    hawaiian = said("Ua mau ke ea o ka aina i ka pono, wahi a ke alii i kona poe kanaka.", "haw")
    norwegian = said("Jeg vet ikke hvorfor de gjorde det, men det er for sent å snu nå.", "nn")
    assert list(keep([hawaiian, norwegian])) == [hawaiian, norwegian]


def test_codes_are_whispers() -> None:
    assert text_language("Aku arep lunga menyang pasar tuku sayuran lan iwak karo ibuku.")[0] in ("jw", "id")
    assert text_language("Jeg vet ikke hvorfor de gjorde det, men det er for sent å snu nå.")[0] in ("no", "nn", "da")


def test_duplicates_go_and_evaluation_sets_stay_out() -> None:
    text = "The meeting will be held on the third floor of the old town hall at nine"
    speech = [
        said(f"{text}.", number=0), said(f"{text}!", number=1), said(f"{text}.", "de", number=2, task="translate"),
        said("Something else was said here, in a few words of its own.", number=3), said("", number=4),
        said("", number=5),
    ]  # fmt: skip
    keep = DuplicateFilter()
    assert [u.id for u in keep(speech)] == ["s/0", "s/2", "s/3", "s/4", "s/5"]
    report = keep.report()
    assert report["counts"] == {"resembles an earlier text": 1}
    assert report["pairs"]["transcribe"][0]["kept"] == "s/0"
    keep = DuplicateFilter([said(f"{text} sharp.", source="test")])
    assert [u.id for u in keep(speech)] == ["s/3", "s/4", "s/5"]


def test_sources_are_ranked_by_error_rate_and_size() -> None:
    good = [said("Call Anna at nine.", source="good", number=n) for n in range(50)]
    small = [said("one two three", source="small", number=0)]
    large = [said("one two three four", source="large", number=n) for n in range(10)]
    chinese = [said("我们走了", "zh", source="zh", number=0)]
    told = {u.id: "call anna at 9" for u in good} | {u.id: "four" for u in small}
    told |= {u.id: "1 2 5 4" for u in large} | {"zh/0": "我们来了"}
    first, second, third, last = rank_sources([*good, *small, *large, *chinese, said("unheard", source="other")], told)
    assert [r.source for r in (first, second, third, last)] == ["large", "small", "zh", "good"]
    assert first.hours == pytest.approx(10 / 3600)
    assert (second.error_rate, third.error_rate, last.error_rate) == (1.0, 0.25, 0.0)
    assert second.worst == ({"id": "small/0", "text": "one two three", "model": "four"},)
    assert last.worst == ()
    with pytest.raises(UserError, match="no utterance has a transcript"):
        rank_sources(good, {})


def test_error_rates_are_those_of_jiwer() -> None:
    import jiwer

    rng = np.random.default_rng(0)
    words = ["red", "green", "blue", "black"]
    pairs = [(" ".join(rng.choice(words, 6)), " ".join(rng.choice(words, int(rng.integers(1, 9))))) for _ in range(30)]
    speech = [said(reference, number=n) for n, (reference, _) in enumerate(pairs)]
    (ours,) = rank_sources(speech, {f"s/{n}": hypothesis for n, (_, hypothesis) in enumerate(pairs)})
    assert ours.error_rate == pytest.approx(jiwer.wer([r for r, _ in pairs], [h for _, h in pairs]))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """People, a machine, a wrong language, and two sentences that are the same."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    texts = [
        ("people", "en", "Well, I did not know what to say to her after that."),
        ("people", "en", "Well, I did not know what to say to her after that!"),
        ("people", "de", "Er sagte nichts, aber er lächelte und ging langsam davon."),
        ("people", "fr", "Er sagte, dass es draußen schon wieder regnet und kalt ist."),
        ("people", "es", "She said that it was raining again, and that it was cold outside."),
        ("machine", "en", "and then we went on and on until the night came down on us"),
    ]
    path = tmp_path / "m.jsonl"
    rows = [
        {"id": str(n), "audio": "a.wav", "text": text, "language": language, "source": source}
        for n, (source, language, text) in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard = tmp_path / "heard.jsonl"
    heard.write_text("".join(json.dumps({"id": str(n), "text": "well"}) + "\n" for n in range(6)))
    out, ranking, report = (tmp_path / name for name in ("kept.jsonl", "ranking.json", "report.json"))
    words = [str(manifest), "--out", str(out), "--triage", str(ranking), "--hypotheses", str(heard)]
    assert filter_speech([*words, "--report", str(report)]) == 0
    assert [(u.id, u.language, u.task) for u in read_manifest(out)] == [
        ("0", "en", "transcribe"), ("2", "de", "transcribe"), ("4", "es", "translate"),
    ]  # fmt: skip
    printed = capsys.readouterr().out
    for line in (
        "machine: dropped 1 utterances",
        "1 all lower case",
        "1 fr expected, de written",
        "1 became translations: es speech, English text",
        "1 resembles an earlier text",
        f"kept 3 of 6 utterances; wrote {out}",
    ):
        assert line in printed
    assert json.loads(ranking.read_text())[0]["source"] == "people"
    assert json.loads(report.read_text())["machine"]["sources"] == {"machine": "all lower case"}


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--out", "kept.txt"], "choose a name that ends in .jsonl"),
        (["--out", "{m}"], "one of the files that are read"),
        (["--out", "k.jsonl", "--triage", "t.json"], "--triage needs a model"),
        (["--out", "k.jsonl", "--hypotheses", "h"], "name the file that gets the ranking with --triage"),
        (["--out", "k.jsonl", "--only", "machine", "--against", "{m}"], "add it to --only"),
        (["--out", "k.jsonl", "--only", "duplicates", "--against", "{m}"], "no utterance passed the filters"),
        (["--out", "k.jsonl", "--only", "spelling"], "invalid choice"),
        (["--out", "k.jsonl", "--only", "duplicates", "--threshold", "2"], "choose a similarity"),
    ],
)
def test_mistakes_of_the_command(manifest: Path, more: list[str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(manifest.parent)
    with pytest.raises(UserError, match=line) as caught:
        filter_speech([str(manifest), *(word.format(m=manifest) for word in more)])
    assert "\n" not in str(caught.value)
    assert not Path("k.jsonl").exists()


def test_transcripts_of_a_model(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n\n{"id": "b"}\n')
    with pytest.raises(UserError, match="line 3: it must be an object with id and text"):
        read_hypotheses(path)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        read_hypotheses(path)
