"""Generated speech: sentences, their translations, the synthesiser's clips, the store, noise."""

from __future__ import annotations

import os
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.shared.errors import UserError
from zoo.whisper.speech import corpus, synthesis
from zoo.whisper.speech.corpus import HELD_OUT_VOICE, CorpusSize, generated_speech, silent_clips
from zoo.whisper.speech.noise import COLOURS, babble, noise
from zoo.whisper.speech.number_words import number_words
from zoo.whisper.speech.phrases import LANGUAGES
from zoo.whisper.speech.records import ArraySound, SpeechList, StoredSound, Utterance, mistakes
from zoo.whisper.speech.sentences import Meaning, different_sentences, is_held_out, sentence
from zoo.whisper.speech.sounds import samples_of, seconds_of
from zoo.whisper.speech.speaking import Speaker, trim
from zoo.whisper.speech.store import open_store
from zoo.whisper.speech.synthesis import speak_all


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero|null|cero|zéro|zero"),
        (11, "eleven|elf|once|onze|undici"),
        (21, "twenty-one|einundzwanzig|veintiuno|vingt et un|ventuno"),
        (28, "twenty-eight|achtundzwanzig|veintiocho|vingt-huit|ventotto"),
        (71, "seventy-one|einundsiebzig|setenta y uno|soixante et onze|settantuno"),
        (80, "eighty|achtzig|ochenta|quatre-vingts|ottanta"),
        (93, "ninety-three|dreiundneunzig|noventa y tres|quatre-vingt-treize|novantatré"),
        (100, "one hundred|einhundert|cien|cent|cento"),
        (
            581,
            "five hundred eighty-one|fünfhunderteinundachtzig|quinientos ochenta y uno|cinq cent quatre-vingt-un|"
            "cinquecentottantuno",
        ),
        (700, "seven hundred|siebenhundert|setecientos|sept cents|settecento"),
        (
            1001,
            "one thousand one|eintausendeins|mil uno|mille un|milleuno",
        ),
        (
            9316,
            "nine thousand three hundred sixteen|neuntausenddreihundertsechzehn|nueve mil trescientos dieciséis|"
            "neuf mille trois cent seize|novemilatrecentosedici",
        ),
    ],
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert [number_words(number, language) for language in LANGUAGES] == words.split("|")


def test_numbers_are_told_apart() -> None:
    for language in LANGUAGES:
        assert len({number_words(n, language) for n in range(10000)}) == 10000


@pytest.mark.parametrize(
    ("meaning", "texts"),
    [
        (
            Meaning("clock", (1, 21)),
            "It is one twenty-one.|Es ist ein Uhr einundzwanzig.|Es la una y veintiuno.|Il est une heure vingt et une.|"
            "È l'una e ventuno.",
        ),
        (
            Meaning("alarm", (8, 0)),
            "Wake me up at eight o'clock.|Weck mich um acht Uhr.|Despiértame a las ocho en punto.|"
            "Réveille-moi à huit heures.|Svegliami alle otto in punto.",
        ),
        (
            Meaning("meeting", (0, 7)),
            "The meeting is on the first of August.|Das Treffen ist am ersten August.|La reunión es el uno de agosto.|"
            "La réunion est le premier août.|La riunione è il primo agosto.",
        ),
        (
            Meaning("today", (0, 10, 0)),
            "Today is Monday, the eleventh of January.|Heute ist Montag, der elfte Januar.|Hoy es lunes, el once de "
            "enero.|Nous sommes lundi, le onze janvier.|Oggi è lunedì, l'undici gennaio.",
        ),
        (
            Meaning("switch", (1, 3, 1)),
            "Turn off the television in the bedroom.|Schalte den Fernseher im Schlafzimmer aus.|Apaga la televisión en "
            "el dormitorio.|Éteins la télévision dans la chambre.|Spegni la televisione in camera.",
        ),
        (
            Meaning("list", (12, 4)),
            "Add twelve bottles of water to the list.|Setz zwölf Flaschen Wasser auf die Liste.|Añade doce botellas de "
            "agua a la lista.|Ajoute douze bouteilles d'eau à la liste.|Aggiungi dodici bottiglie d'acqua alla lista.",
        ),
    ],
)
def test_a_meaning_in_five_languages(meaning: Meaning, texts: str) -> None:
    assert [meaning.text(language) for language in LANGUAGES] == texts.split("|")


def test_no_held_out_sentence_is_in_training_in_any_language() -> None:
    held_out = list(islice(different_sentences(3, "held-out"), 300))
    train = [sentence(seed, "train", k) for seed in (0, 3) for k in range(2000)]
    assert all(is_held_out(meaning) for meaning in held_out)
    assert not any(is_held_out(meaning) for meaning in train)
    assert len(set(held_out)) == 300
    for language in LANGUAGES:
        trained = {meaning.text(language) for meaning in train}
        assert not trained & {meaning.text(language) for meaning in held_out}
    assert len({m.kind for m in train}) == len({m.kind for m in held_out}) == 13
    by_english: dict[str, set[str]] = {}
    for meaning in train:
        by_english.setdefault(meaning.text("en"), set()).add(meaning.text("de"))
    assert all(len(texts) == 1 for texts in by_english.values()), "a sentence has one translation"


def test_sentences_are_functions_of_seed_part_and_number() -> None:
    numbers = list(range(40))
    one = {k: sentence(1, "train", k) for k in numbers}
    random.shuffle(numbers)
    assert all(sentence(1, "train", k) == one[k] for k in numbers)
    assert sum(sentence(2, "train", k) == one[k] for k in numbers) < 5


def clips(count: int) -> list[np.ndarray]:
    return [np.arange(10 * i + 1, dtype=np.int16) * (i + 1) for i in range(count)]


def test_a_store_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    wanted = clips(9)
    path = tmp_path / "cache" / "a.pcm"

    def killed(done: int):
        assert done == 0
        yield from wanted[:5]
        raise KilledError

    with pytest.raises(KilledError):
        open_store(path, killed, count=9)
    assert not path.exists()
    for name, torn in ((".part", b"\1\2\3"), (".lengths", b"\1\2\3")):  # written in half
        with path.with_suffix(name).open("ab") as opened:
            opened.write(torn)
    asked: list[int] = []

    def rest(done: int):
        asked.append(done)
        yield from wanted[done:]

    store = open_store(path, rest, count=9, notes={"a": 1})
    assert asked == [5]
    assert len(store) == 9
    assert all(np.array_equal(store.samples(i), wanted[i]) for i in range(9))
    again = open_store(path, rest, count=9)
    assert asked == [5]
    assert again.notes == {"a": 1}
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".json", ".lock", ".pcm"]


def test_a_store_whose_samples_are_lost_is_not_trusted(tmp_path: Path) -> None:
    """The ledger may have reached the disk before the samples did."""
    path = tmp_path / "a.pcm"
    path.with_suffix(".part").write_bytes(np.concatenate(clips(3)).tobytes()[:-4])
    path.with_suffix(".lengths").write_bytes(np.array([len(c) for c in clips(3)], dtype="<i8").tobytes())
    asked: list[int] = []

    def rest(done: int):
        asked.append(done)
        yield from clips(4)[done:]

    store = open_store(path, rest, count=4)
    assert asked == [2]
    assert all(np.array_equal(store.samples(i), clips(4)[i]) for i in range(4))


def test_silence_around_speech_is_cut() -> None:
    samples = np.zeros(16000, np.int16)
    samples[4000:8000] = 1000
    assert len(trim(samples)) == 4000 + 2 * 800
    assert len(trim(np.zeros(100, np.int16))) == 0


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory):
    """A small corpus, spoken once for all tests here."""
    before = os.environ.get("ZOO_CACHE")
    os.environ["ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    size = CorpusSize(train=60, held_out=3, unseen_voice=4, silent=0.1)
    yield {part: generated_speech(part, size, seed=5, workers=2) for part in ("train", "held-out", "unseen-voice")}
    os.environ.pop("ZOO_CACHE")
    if before is not None:
        os.environ["ZOO_CACHE"] = before


def test_the_corpus_has_the_papers_shares(spoken) -> None:
    train = [u for u in spoken["train"] if not u.no_speech]
    assert len(train) == 60
    kinds = [(u.task, u.language == "en") for u in train]
    assert [kinds.count(kind) for kind in (("transcribe", True), ("translate", False), ("transcribe", False))] == [
        39,
        11,
        10,
    ]
    assert sum(u.no_speech for u in spoken["train"]) == 6
    assert {u.language for u in train} == set(LANGUAGES)
    for part in spoken.values():
        for utterance in part:
            assert not list(mistakes(utterance, seconds=seconds_of(utterance.sound)))
    pairs = [(u, t) for u in train for t in train if u.sound == t.sound and u.task < t.task]
    assert len(pairs) == 10
    assert all(u.text != t.text for u, t in pairs)


def test_the_held_out_voice_is_never_heard_in_training(spoken) -> None:
    for part, voices in (("train", False), ("held-out", False), ("unseen-voice", True)):
        speaking = {u.voice for u in spoken[part] if not u.no_speech}
        assert (HELD_OUT_VOICE in speaking) is voices
    trained = {u.text for u in spoken["train"]}
    assert not trained & {u.text for part in ("held-out", "unseen-voice") for u in spoken[part] if u.text}


def test_clips_are_speech(spoken) -> None:
    for part in spoken.values():
        for utterance in part:
            samples = samples_of(utterance)
            if utterance.no_speech:
                assert isinstance(utterance.sound, ArraySound)
                continue
            assert isinstance(utterance.sound, StoredSound)
            assert 0.5 < len(samples) / 16000 < 6
            assert 0.02 < samples.square().mean().sqrt() < 0.3
            assert 0.2 < samples.abs().max() < 0.999, "nothing is clipped"
            frames = samples[: len(samples) // 400 * 400].view(-1, 400).square().mean(1).sqrt()
            assert (frames > 0.01).float().mean() > 0.4, "much of it is no silence"


def test_samples_do_not_depend_on_processes_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [(f"{text}.", Speaker(voice, pitch, 1.1)) for text in ("Seven", "Twenty three") for voice in
            ("en-US", "de-DE", "it-IT") for pitch in (0.8, 1.2)]  # fmt: skip
    monkeypatch.setattr(synthesis, "_TASK", 3)
    found = []
    for number, (workers, order) in enumerate(((1, jobs), (3, jobs[::-1]))):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / str(number)))
        store = speak_all(order, workers=workers)
        found.append({job: store.samples(i).tobytes() for i, job in enumerate(order)})
    assert found[0] == found[1]
    assert len(set(found[0].values())) == len(jobs)


def test_the_cache_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    said: list[str] = []
    jobs = [("Seven.", Speaker("en-US"))]
    first = speak_all(jobs, workers=1, progress=said.append)
    monkeypatch.setattr(synthesis, "find_spec", lambda name: None)  # not even the engine is needed
    assert speak_all(jobs, progress=said.append).path == first.path
    assert said == ["speaking 1 sentences with 1 processes"]


def test_no_engine_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(synthesis, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'paper-zoo\[speech\]'$"):
        speak_all([("Seven.", Speaker("en-US"))])
    monkeypatch.setattr(synthesis.platform, "system", lambda: "Darwin")
    with pytest.raises(UserError, match="exists for Linux x86-64 alone and not for Darwin"):
        speak_all([("Seven.", Speaker("en-US"))])


@pytest.mark.parametrize(
    "changes", [{"languages": ("de",)}, {"languages": ("en", "ja")}, {"train": 0}, {"silent": 1.0}]
)
def test_sizes_that_cannot_be(changes: dict) -> None:
    with pytest.raises(UserError):
        CorpusSize(**changes)


def test_english_alone_is_all_english() -> None:
    plan = list(corpus._PARTS["train"](CorpusSize(train=30, languages=("en",)), 0))
    assert [targets[0][:2] for _, targets in plan] == [("transcribe", "en")] * 30


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_of_noise(colour: str) -> None:
    drawn = noise(np.random.default_rng(0), 160000, colour=colour)
    assert drawn.dtype == np.float32
    assert abs(float(np.sqrt(np.mean(drawn.astype(np.float64) ** 2))) - 1) < 1e-3
    power = np.abs(np.fft.rfft(drawn)) ** 2
    low, high = power[1000:2000].mean(), power[4000:8000].mean()  # 100 to 200 Hz, 400 to 800 Hz: two octaves up
    fall = {"white": 1, "pink": 4, "brown": 16}[colour]
    assert low / high == pytest.approx(fall, rel=0.15)


def test_clips_without_speech_differ_and_repeat() -> None:
    one, two = (silent_clips("train", 5, seed=seed) for seed in (0, 1))
    again = silent_clips("train", 3, seed=0)
    for a, b in zip(one, again, strict=False):
        assert torch.equal(samples_of(a), samples_of(b))
    assert len({samples_of(u).numpy().tobytes() for u in one + two}) == 10
    assert all(u.no_speech and not u.text and u.language is None for u in one)


def test_babble_leaves_out_who_speaks_above_it() -> None:
    def tone(name: str, hertz: float) -> Utterance:
        time = np.arange(16000) / 16000
        sound = ArraySound(np.sin(2 * np.pi * hertz * time).astype(np.float32))
        return Utterance(id=name, sound=sound, text=name, language="en")

    source = SpeechList("tones", (tone("a", 500), tone("b", 1000), *silent_clips("train", 2, seed=0)), {})
    mixed = babble(source, np.random.default_rng(0), 16000, but=["a"], voices=3)
    assert mixed.square().mean().sqrt() == pytest.approx(1, abs=1e-3)
    power = torch.fft.rfft(mixed).abs()
    assert int(power.argmax()) == 1000
    assert power[500] < 1e-2 * power[1000]
