"""Whisper's languages, special ids, small vocabularies, BPE dropout, and the files that vocabularies are read from."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.shared.errors import UserError
from zoo.whisper import vocabulary
from zoo.whisper.dropout import drop_merges
from zoo.whisper.hf_tokenizer import hf_tokenizer_files
from zoo.whisper.languages import ALIASES, LANGUAGES, UNSPACED, language_code
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.tokens import SpecialTokens, special_tokens_in, special_tokens_of
from zoo.whisper.vocabulary import english_ranks, standard_tokenizer, train_tokenizer

TEXTS = [
    " Please hold the line while I try that extension.",
    " The person at extension three four is not available right now.",
    " You have two new messages; press one to listen, press seven to delete.",
    " ¿Cómo está usted? Ahora no está disponible, señor.",
    " Le numéro demandé n'est pas attribué, veuillez réessayer.",
]


@pytest.fixture(scope="module")
def small():
    return train_tokenizer(TEXTS, 560, languages=("en", "es", "fr"), audio_context=200)


# Languages and special ids


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("en", "en"), ("EN", "en"), ("English", "en"), (" german ", "de"), ("castilian", "es"), ("pt-BR", "pt"),
        ("en_US", "en"), ("zh-Hant-TW", "zh"), ("zh-yue", "yue"), ("Haitian Creole", "ht"), ("haitian_creole", "ht"),
        ("jv", "jw"), ("nb-NO", "no"), ("Farsi", "fa"), ("iw", "he"), ("yue", "yue"), ("haw", "haw"),
    ],
)  # fmt: skip
def test_what_people_type(typed, code):
    assert language_code(typed) == code


@pytest.mark.parametrize(("typed", "says"), [("englsh", "english"), ("klingon", "use a code"), ("", "use a code")])
def test_unknown_languages(typed, says):
    with pytest.raises(UserError, match=says):
        language_code(typed)


def test_the_table_of_languages_is_whole():
    assert len(LANGUAGES) == 100
    assert len(set(LANGUAGES.values())) == 100
    assert set(ALIASES.values()) <= set(LANGUAGES)
    assert not set(ALIASES) & (set(LANGUAGES) | set(LANGUAGES.values()))
    assert set(LANGUAGES) >= UNSPACED


@pytest.mark.parametrize(
    ("vocab_size", "ids"),
    [
        (51_864, (50256, 50257, 50258, 50356, 50357, 50358, 50359, 50360, 50361, 50362, 50363)),
        (51_865, (50257, 50258, 50259, 50357, 50358, 50359, 50360, 50361, 50362, 50363, 50364)),
        (51_866, (50257, 50258, 50259, 50358, 50359, 50360, 50361, 50362, 50363, 50364, 50365)),
    ],
)
def test_ids_of_the_released_models(vocab_size, ids):
    s = special_tokens_of(vocab_size)
    first, last = s.language_ids[0], s.language_ids[-1]
    own = (s.eot, s.sot, first, last, s.translate, s.transcribe, s.sot_lm, s.sot_prev, s.no_speech, s.no_timestamps)
    assert (*own, s.timestamp_begin) == ids
    assert s.vocab_size == vocab_size
    assert len(s.names) == len(set(s.names)) == vocab_size - s.eot
    assert (s.names[0], s.names[-1]) == ("<|endoftext|>", "<|30.00|>")
    assert (s.language_id("en"), s.language_of(first + 1)) == (first, "zh")


def test_every_timestamp_has_its_time():
    s = special_tokens_of(51_866)
    for index in range(s.timestamp_begin, s.vocab_size):
        assert s.timestamp(s.seconds(index)) == index
        assert s.names[index - s.eot] == f"<|{s.seconds(index):.2f}|>"
    assert s.timestamp(1.089) == s.timestamp_begin + 54
    for mistake in (lambda: s.timestamp(30.02), lambda: s.timestamp(-0.02), lambda: s.seconds(s.no_timestamps)):
        with pytest.raises(UserError):
            mistake()


def test_early_files_name_things_otherwise():
    modern = special_tokens_of(51_865)
    renamed = {"<|he|>": "<|iw|>", "<|nospeech|>": "<|nocaptions|>"}
    early = [renamed.get(name, name) for name in modern.names[:-1501]]
    assert special_tokens_in(["x"] * modern.text_ids + early) == modern


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda names: names[1:], "is missing"),
        (lambda names: [*names[:5], *names[7:5:-1], *names[8:]], "where Whisper has"),
        (lambda names: names[:-2], "special tokens are not"),
        (lambda names: [*names, "<|more|>"], "special tokens are not"),
        (lambda names: [name.replace("fr", "xx") for name in names], "'xx' is no code"),
    ],
)
def test_special_tokens_of_others_are_refused(change, says):
    names = ["a", "b", "c", *SpecialTokens(text_ids=3, languages=("en", "fr"), timestamps=1).names]
    assert special_tokens_in(names).vocab_size == len(names)
    with pytest.raises(UserError, match=says):
        special_tokens_in([*"abc", *change(names[3:])])


# A vocabulary of one's own


def test_a_small_vocabulary(small):
    assert small.vocab_size == 560
    assert small.multilingual
    assert small.languages == ("en", "es", "fr")
    assert small.vocab_size - small.timestamp_begin == 201
    assert small.seconds(559) == 4.0
    assert small.encode(TEXTS[0]) == train_tokenizer(iter(TEXTS), 560, audio_context=200, languages=("en",)).encode(
        TEXTS[0]
    )
    for text in [*TEXTS, "<|endoftext|><|0.00|>", "日本語 😀\n\x00", ""]:
        ids = small.encode(text)
        assert small.decode(ids) == text
        assert all(index < small.eot for index in ids)
        assert small.decode([small.sot, *ids, small.timestamp(1), small.eot]) == text
    assert len(small.encode(TEXTS[1])) < len(TEXTS[1]) / 2
    assert small.decode_with_timestamps([small.sot, small.timestamp(1.5)]) == "<|startoftranscript|><|1.50|>"
    assert small.decode_bytes(np.array(small.encode("é")[:1])) in (b"\xc3", b"\xc3\xa9")
    again = pickle.loads(pickle.dumps(small))
    assert (again.encode(TEXTS[2]), again.specials) == (small.encode(TEXTS[2]), small.specials)


def test_prompts(small):
    a, text = small.specials, small.encode(" yes")
    assert small.prompt("fr") == [a.sot, small.language_id("French"), a.transcribe]
    assert small.prompt("es", "translate", timestamps=False) == [
        *(a.sot, small.language_id("es"), a.translate, a.no_timestamps)
    ]
    assert small.prompt("en", previous="yes ", prefix=" yes") == [a.sot_prev, *text, *small.sot_sequence("en"), *text]
    assert small.prompt("en", previous="  ", prefix="") == list(small.sot_sequence("en"))
    long = small.prompt("en", previous=list(range(250)))
    assert long[:4] == [a.sot_prev, 27, 28, 29]
    assert long.index(a.sot) == 224
    assert small.prompt("en", previous=list(range(250)), context=64).index(a.sot) == 32


def test_the_signs_that_a_small_vocabulary_suppresses_leave_speech_alone(small):
    signs = {small.decode_bytes([index]) for index in small.non_speech_ids}
    assert {b"[", b"(", b"#", b'"'} <= signs
    assert not {b" ", b"-", b"'", b"\xe2", b" \xe2", b"."} & signs


def test_one_language_needs_no_language():
    tokenizer = train_tokenizer(TEXTS, 400, audio_context=50)
    assert not tokenizer.multilingual
    assert tokenizer.sot_sequence(None) == tokenizer.sot_sequence("English") == (tokenizer.sot,)
    for language, task in ((None, "translate"), ("fr", "transcribe")):
        with pytest.raises(UserError, match="transcribes english only"):
            tokenizer.sot_sequence(language, task)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda t: t.sot_sequence(None), "told the language"),
        (lambda t: t.sot_sequence("de"), "no language 'de'; it has en, es, fr"),
        (lambda t: t.sot_sequence("en", "sing"), "use transcribe or translate"),
        (lambda t: t.decode([3, 560]), "token id 560 is not in the vocabulary of 560 ids"),
        (lambda t: t.decode_with_timestamps([-1]), "token id -1"),
        (lambda t: t.language_of(5), "id 5 is no language"),
        (lambda t: t.timestamp(5), "window of 4.00 s"),
        (lambda t: t.encode("a", dropout=0.1), "needs a generator"),
        (lambda t: t.encode("a", dropout=1.5, generator=np.random.default_rng(0)), "between 0 and 1"),
        (lambda t: train_tokenizer(TEXTS, 300, audio_context=200), "take 466"),
        (lambda t: train_tokenizer(["a"], 700, audio_context=200), "use more text"),
        (lambda t: train_tokenizer(TEXTS, 560, languages=("en", "en")), "twice"),
        (lambda t: train_tokenizer(TEXTS, 560, languages=("english",)), "no code"),
        (lambda t: WhisperTokenizer({b"a": 1}, languages=1, multilingual=True), "not 0 to 0"),
        (lambda t: WhisperTokenizer({b"a": 0}, languages=1, multilingual=True), "255 of the 256 single bytes"),
        (lambda t: WhisperTokenizer({b"a": 0}, languages=0, multilingual=True), "needs languages"),
        (lambda t: WhisperTokenizer.for_model(SimpleNamespace(tokenizer="bpe")), "comes with its weights"),
        (lambda t: standard_tokenizer(50_257), "no released Whisper has 50257 ids"),
    ],
)
def test_mistakes(small, call, says):
    with pytest.raises(UserError, match=says):
        call(small)


def test_words_of_ids_are_all_of_the_ids(small):
    rng = np.random.default_rng(0)
    for language in ("en", "zh", None):
        for _ in range(300):
            ids = rng.integers(small.vocab_size, size=rng.integers(0, 15)).tolist()
            words, groups = small.split_to_words(ids, language)
            assert [index for group in groups for index in group] == ids
            assert len(words) == len(groups)
    words, _ = small.split_to_words([*small.encode(" Hold it, señor"), small.eot], "es")
    assert words == [" Hold", " it", ",", " señor", "<|endoftext|>"]


# BPE dropout


def chances(pieces, ranks, rate):
    """How likely each outcome is, by going through every set of merges that could be left out at every step."""
    pairs = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(pieces)) if pair in ranks]
    found = {}
    for kept in itertools.product([False, True], repeat=len(pairs)):
        chance = np.prod([1 - rate if keep else rate for keep in kept], initial=1.0)
        left = [pair for pair, keep in zip(pairs, kept, strict=True) if keep]
        outcomes = {pieces: 1.0}
        if left:
            at = min(left)[1]
            outcomes = chances((*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]), ranks, rate)
        for outcome, share in outcomes.items():
            found[outcome] = found.get(outcome, 0.0) + chance * share
    return found


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_draws_what_the_paper_says(rate):
    merges = [(b"a", b"b"), (b"b", b"a"), (b"ab", b"ab"), (b"ab", b"a"), (b"c", b"ab"), (b"c", b"a"), (b"abab", b"a")]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    expected = chances((b"c", b"a", b"b", b"a", b"b", b"a"), ranks, rate)
    assert sum(expected.values()) == pytest.approx(1)
    generator, draws = np.random.default_rng(1), 20_000
    found = {}
    for _ in range(draws):
        outcome = tuple(drop_merges(b"cababa", ranks, rate, generator))
        found[outcome] = found.get(outcome, 0) + 1
    assert set(found) <= set(expected)
    for outcome, chance in expected.items():
        error = np.sqrt(chance * (1 - chance) / draws)
        assert abs(found.get(outcome, 0) / draws - chance) < 5 * error + 1 / draws, outcome


def test_dropout_keeps_the_text_and_repeats_itself(small):
    for tokenizer in (small, standard_tokenizer(51_864)):
        for text in [*TEXTS, "", " 日本語 \ud800 😀\n\x00  ", "<|en|>"]:
            draws = [tokenizer.encode(text, dropout=0.1, generator=np.random.default_rng(seed)) for seed in (0, 0, 1)]
            assert draws[0] == draws[1]
            assert {tokenizer.decode(ids) for ids in draws} == {text.replace("\ud800", "\ufffd")}
        pieces = [len(tokenizer.encode(TEXTS[0], dropout=p, generator=np.random.default_rng(0))) for p in (0.1, 0.5, 1)]
        assert len(tokenizer.encode(TEXTS[0])) < pieces[0] < pieces[1] < pieces[2] == len(TEXTS[0])
        rare = {"dropout": 1e-12, "generator": np.random.default_rng(0)}
        assert all(tokenizer.encode(text, **rare) == tokenizer.encode(text) for text in TEXTS)


# Files


def saved(tokenizer, folder, *names):
    for name, text in hf_tokenizer_files(tokenizer).items():
        if name in names:
            (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "names",
    [
        ("tokenizer.json", "tokenizer_config.json"),
        ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"),
        ("vocab.json", "added_tokens.json"),
    ],
)
def test_each_set_of_files_is_enough(small, names, tmp_path):
    saved(small, tmp_path, *names)
    again = WhisperTokenizer.load(tmp_path, SimpleNamespace(vocab_size=560))
    assert (again.pieces, again.specials, again.multilingual) == (small.pieces, small.specials, True)
    assert [again.encode(text) for text in TEXTS] == [small.encode(text) for text in TEXTS]


@pytest.mark.parametrize("name", ["vocabulary.json", "vocabulary.txt"])
def test_lists_of_tokens_are_enough(small, name, tmp_path):
    spelled = json.loads(hf_tokenizer_files(small)["vocab.json"])
    tokens = [*list(spelled)[: small.eot], *small.specials.names]
    text = json.dumps(tokens) if name.endswith("json") else "\n".join([*tokens, ""])
    (tmp_path / name).write_text(text, encoding="utf-8")
    again = WhisperTokenizer.load(tmp_path)
    assert (again.pieces, again.specials) == (small.pieces, small.specials)
    assert [again.encode(text) for text in TEXTS] == [small.encode(text) for text in TEXTS]


def test_saving_writes_all_of_them(small, tmp_path):
    small.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(hf_tokenizer_files(small))
    assert WhisperTokenizer.load(tmp_path).merges == small.merges


def test_whether_there_are_languages_is_remembered(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 400, audio_context=50)
    saved(tokenizer, tmp_path, "tokenizer.json")
    assert WhisperTokenizer.load(tmp_path).multilingual
    (tmp_path / "generation_config.json").write_text('{"is_multilingual": false}')
    assert not WhisperTokenizer.load(tmp_path).multilingual
    saved(tokenizer, tmp_path, "tokenizer_config.json")
    assert not WhisperTokenizer.load(tmp_path).multilingual


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tokenizer.json", "{", "cannot read .* as JSON"),
        ("tokenizer.json", "[]", "damaged"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}}}', "damaged"),
        ("tokenizer.json", '{"model": {"type": "WordPiece"}}', "WordPiece; Whisper's is BPE"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0, "b": 2}, "merges": []}}', "gaps"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0, "b": 1}, "merges": []}}', "not Whisper's tokens"),
        ("vocabulary.json", '{"a": 1}', "no list of tokens"),
        ("vocabulary.txt", "a\n<|endoftext|>\n", "not Whisper's tokens"),
        ("vocab.json", '{"a": 0}', "not Whisper's tokens"),
        ("vocab.json", '{"a": "x"}', "gaps|damaged"),
    ],
)
def test_damaged_files_are_named(name, text, says, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        WhisperTokenizer.load(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_without_or_of_another_model(small, tmp_path):
    with pytest.raises(UserError, match=r"needs tokenizer\.json, vocab\.json, vocabulary\.json or"):
        WhisperTokenizer.load(tmp_path)
    with pytest.raises(UserError, match="name the one"):
        WhisperTokenizer.load(None)
    english = SimpleNamespace(vocab_size=51_864, tokenizer="english")
    assert WhisperTokenizer.load(tmp_path, english).vocab_size == 51_864
    assert WhisperTokenizer.load(None, english).vocab_size == 51_864
    small.save(tmp_path)
    with pytest.raises(UserError, match="has 560 ids, but the model 51864"):
        WhisperTokenizer.load(tmp_path, english)


def test_without_openai_whisper(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    expected = english_ranks()
    monkeypatch.setattr(vocabulary, "distribution", missing)
    assert vocabulary.english_ranks.__wrapped__() == expected  # from the sample pack
    with pytest.raises(UserError, match=r"pip install 'paper-zoo\[whisper-vocab\]'"):
        vocabulary.multilingual_ranks.__wrapped__()


@pytest.mark.parametrize(("data", "says"), [(b"IQ== 0\nIg== 1\n", "50257 pieces"), (b"?? 0\n", "line 1")])
def test_damaged_files_of_openai_whisper(data, says, monkeypatch):
    monkeypatch.setattr(vocabulary, "_asset", lambda name: data)
    with pytest.raises(UserError, match=says):
        vocabulary.multilingual_ranks.__wrapped__()


def test_languages_and_special_ids_need_no_torch():
    code = (
        "import sys, zoo.whisper.languages, zoo.whisper.tokens, zoo.whisper.writers; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
