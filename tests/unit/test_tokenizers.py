"""Tokenizers: special tokens, files, training, and the mistakes that users make."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch

from zoo.gpt.tokenizer import GptTokenizer, gpt2_tokenizer, talkie_chat
from zoo.shared.errors import UserError
from zoo.shared.text import words
from zoo.shared.text.base import TextTokenizer
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.bytes import byte_alphabet, spell, unspell
from zoo.shared.text.end_of_word import EndOfWordTokenizer
from zoo.shared.text.ranks import format_ranks
from zoo.shared.text.tokenizer import ByteLevelTokenizer
from zoo.shared.text.tokenizer_files import load_tokenizer

TEXTS = [
    "the cat sat on the mat, and the other cat sat on that hat. " * 3,
    "Naïve café; 1,234 cats!\n\n\tThe end. Whose woods these are I think I know; his house is in the village.",
] * 4


@dataclasses.dataclass
class Config:
    """What the tokenizer asks of a model's config."""

    tokenizer: str
    vocab_size: int
    classes: int = 0


@pytest.fixture(scope="module")
def own():
    return train_byte_level_bpe(TEXTS, 300)


def ranks(tokenizer):
    return {tokenizer.decode_bytes([i]): i for i in range(tokenizer.vocab_size - 1)}


def gpt1():
    vocab = ["<unk>", "a", "b", "c", "a</w>", "b</w>", "c</w>", "ab</w>", "\n</w>"]
    return EndOfWordTokenizer({token: i for i, token in enumerate(vocab)}, [("a", "b</w>")], words="bert")


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_alphabet_spells_every_byte_with_its_own_printable_character():
    alphabet = byte_alphabet()
    assert len(set(alphabet)) == 256
    assert all(character.isprintable() and character != " " for character in alphabet)
    assert (alphabet[ord("a")], alphabet[0], alphabet[ord(" ")], alphabet[ord("\n")]) == ("a", "Ā", "Ġ", "Ċ")
    assert unspell(spell(bytes(range(256)))) == bytes(range(256))


def test_training_is_deterministic_and_ends_with_the_end_of_text(own):
    again = train_byte_level_bpe(iter(TEXTS), 300)
    assert again.fingerprint == own.fingerprint
    assert (own.vocab_size, own.end_of_text, own.name) == (300, 299, "bpe")
    assert own.fingerprint != train_byte_level_bpe(TEXTS, 301).fingerprint
    assert own.fingerprint != train_byte_level_bpe(TEXTS, 300, split="talkie").fingerprint
    assert {own.decode_bytes([i]) for i in range(256)} == {bytes([i]) for i in range(256)}
    assert len(own.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_training_says_when_texts_are_too_few():
    with pytest.raises(UserError, match="smaller vocab_size"):
        train_byte_level_bpe(["abc"], 1000)
    with pytest.raises(UserError, match="257"):
        train_byte_level_bpe(["abc"], 256)
    with pytest.raises(UserError, match="gpt2 or talkie"):
        train_byte_level_bpe(["abc"], 300, split="words")


def test_a_special_token_in_a_text_stays_text_unless_asked_for(own):
    talkie = ByteLevelTokenizer.from_ranks(ranks(own), split="talkie", specials={"<|endoftext|>": 299}, name="talkie")
    for tokenizer in (own, gpt2_tokenizer(), talkie, talkie_chat(talkie)):
        text = "".join(tokenizer.specials)
        specials = list(tokenizer.specials.values())
        assert not set(tokenizer.encode(text)) & set(specials)
        assert not set(tokenizer.encode_batch([text])[0]) & set(specials)
        assert not set(tokenizer.encode_bytes(text.encode())) & set(specials)
        assert tokenizer.encode(text, specials=True) == specials
        assert tokenizer.decode(specials) == text
    tokenizer = gpt1().with_specials()
    assert tokenizer.encode("_start_ ab _classify_", specials=True) == [9, 7, 11]
    assert not {9, 11} & set(tokenizer.encode("_start_ ab _classify_"))


def test_chat_marks_of_talkie_follow_its_end_of_text(own):
    talkie = ByteLevelTokenizer.from_ranks(ranks(own), split="talkie", specials={"<|endoftext|>": 299}, name="talkie")
    chat = talkie_chat(talkie)
    assert (chat.name, chat.vocab_size, chat.end_of_text) == ("talkie-chat", 304, 299)
    assert list(chat.specials.items())[1:] == [
        ("<|end|>", 300),
        ("<|user|>", 301),
        ("<|assistant|>", 302),
        ("<|system|>", 303),
    ]
    turn = "<|user|>Who are you?<|end|>"
    assert chat.decode(chat.encode(turn, specials=True)) == turn


def test_decoding_takes_lists_arrays_and_tensors_and_mends_bad_utf8(own):
    ids = own.encode("naïve 😀")
    assert own.decode(ids) == own.decode(np.array(ids)) == own.decode(torch.tensor(ids)) == "naïve 😀"
    assert own.decode(own.encode_bytes(b"a\xff\xfeb")) == "a\ufffd\ufffdb"
    assert own.decode([]) == ""
    assert own.encode("") == own.encode_bytes(b"") == []
    assert own.encode("a\ud800b") == own.encode("a\ufffdb")
    assert own.encode_batch(["x", "a\ud800b"]) == [own.encode("x"), own.encode("a\ufffdb")]


@pytest.mark.parametrize("index", [-1, 300, 10**12])
def test_decoding_an_id_of_another_vocabulary_names_it(own, index):
    with pytest.raises(UserError) as error:
        own.decode([1, index])
    assert f"token id {index} " in one_line(error)
    assert "300" in str(error.value)


def test_tokenizers_can_be_sent_to_workers(own):
    for tokenizer in (own, gpt1()):
        again = pickle.loads(pickle.dumps(tokenizer))
        assert again.encode("the cab") == tokenizer.encode("the cab")
        assert again.fingerprint == tokenizer.fingerprint


def test_gpt1_knows_line_ends_and_unknown_characters(monkeypatch):
    tokenizer = gpt1()
    assert tokenizer.encode("AB é ☃ cab") == [7, 0, 0, 3, 7]
    assert tokenizer.end_of_text is None
    assert tokenizer.decode([7, 3, 7]) == "ab cab"
    assert tokenizer.decode_bytes([7, 3, 7]) == b"ab cab "
    assert tokenizer.token_lengths().tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 2]
    assert tokenizer.with_specials().with_specials().specials == tokenizer.with_specials().specials


def test_gpt1_standardises_punctuation_and_white_space():
    assert words.standardise("a—b…c´d") == "a - b...c'd"
    assert words.standardise('say "yes"!!, (or no)') == 'say " yes " !! , ( or no )'
    assert words.standardise("\t one \u00a0 two\n\n \n three  ") == "one two \n three"
    assert words.standardise("x\\y") == "x\\y"


def test_gpt1_names_spacy_when_it_is_needed_and_missing(monkeypatch, tmp_path):
    gpt1().save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == gpt1().fingerprint
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    monkeypatch.setattr(words, "has_spacy", lambda: False)
    monkeypatch.setattr("zoo.shared.text.end_of_word.has_spacy", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)  # importing it fails
    words._english.cache_clear()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"zoo_words": "spacy"}))
    with pytest.raises(UserError, match=r"pip install 'paper-zoo\[spacy\]'"):
        load_tokenizer(tmp_path).encode("a")
    del settings["zoo_words"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.warns(UserWarning, match="spaCy is not installed"):
        assert load_tokenizer(tmp_path).fingerprint == gpt1().fingerprint


def saved(own, folder, name, change):
    """Save, and keep only vocabulary and merges, with one of the files changed."""
    own.save(folder)
    (folder / "tokenizer.json").unlink()
    path = folder / name
    path.write_text(change(path.read_text()))


def without_token(text, token):
    return json.dumps({key: index for key, index in json.loads(text).items() if key != token})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vocab.json", lambda text: text[:-20], "cannot read .*vocab.json as JSON"),
        ("vocab.json", lambda text: "[1, 2]", "no vocabulary"),
        ("vocab.json", lambda text: without_token(text, "th"), "must come from the same tokenizer"),
        ("vocab.json", lambda text: without_token(text, "a"), "lacks 1 of the 256 single bytes"),
        ("vocab.json", lambda text: text.replace(": 256", ": 257"), "one id to two tokens"),
        ("vocab.json", lambda text: text.replace(": 256", ': "x"'), "whole number"),
        ("merges.txt", lambda text: text + "a b c\n", "not a pair"),
        ("merges.txt", lambda text: text[: len(text) // 2].rsplit("\n", 1)[0], "no merge makes the token"),
        ("merges.txt", lambda text: text + "z q\n", "needs the token 'zq'"),
        ("tokenizer_config.json", lambda text: "[]", "does not hold settings"),
    ],
)
def test_damaged_files_are_one_line(own, tmp_path, name, change, message):
    saved(own, tmp_path, name, change)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in one_line(error)


def test_missing_files_are_named(own, tmp_path):
    with pytest.raises(UserError, match="holds no tokenizer") as error:
        load_tokenizer(tmp_path)
    assert "vocab.bpe" in one_line(error)
    own.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"has vocab\.json without merges\.txt"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["model"].update(type="WordPiece"), "WordPiece"),
        (lambda value: value["model"].pop("merges"), "damaged"),
        (lambda value: value.update(model=None), "damaged"),
        (lambda value: value.update(normalizer={"type": "Lowercase"}), "cuts or normalises"),
        (lambda value: value.update(pre_tokenizer=None), "cuts or normalises"),
        (lambda value: value["pre_tokenizer"].update(add_prefix_space=True), "cuts or normalises"),
        (lambda value: value["model"]["merges"].append(["z"]), "not a pair"),
    ],
)
def test_a_foreign_tokenizer_json_is_refused(own, tmp_path, change, message):
    own.save(tmp_path)
    value = json.loads((tmp_path / "tokenizer.json").read_text())
    change(value)
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in one_line(error)


def test_other_libraries_vocabularies_are_refused(tmp_path):
    from zoo.clip.tokenizer import vocabulary

    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nthe\n")  # BERT's
    with pytest.raises(UserError, match=r"line 1 of .*no token in base64"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("YQ== 0\nYQ== 1\n")
    with pytest.raises(UserError, match="twice"):
        load_tokenizer(tmp_path)
    vocab, merges = vocabulary()
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("\n".join(f"{a} {b}" for a, b in merges))
    with pytest.raises(UserError, match="as CLIP's"):
        load_tokenizer(tmp_path)


def test_the_preprocessor_of_a_gpt_is_saved_and_loaded(own, tmp_path):
    config = Config("bpe", 320)  # padded
    GptTokenizer(own).save(tmp_path)
    loaded = GptTokenizer.load(tmp_path, config)
    assert isinstance(loaded.tokenizer, TextTokenizer)
    assert loaded.encode("the cat") == own.encode("the cat")
    assert loaded.encode_batch(["the cat"]) == own.encode_batch(["the cat"])
    assert loaded.decode(own.encode("the cat")) == "the cat"
    assert (loaded.vocab_size, loaded.end_of_text) == (300, 299)
    with pytest.raises(UserError, match=r"bpe has 300 ids but the model only 299"):
        GptTokenizer.load(tmp_path, Config("bpe", 299))
    with pytest.raises(UserError, match="but the model reads gpt1's"):
        GptTokenizer.load(tmp_path, Config("gpt1", 40478))


def test_the_standard_tokenizer_of_a_model_comes_by_its_name(tmp_path):
    made = GptTokenizer.for_model(Config("gpt2", 50304))
    assert (made.tokenizer.name, made.vocab_size) == ("gpt2", 50257)
    assert GptTokenizer.load(None, Config("gpt2", 50257)).tokenizer is made.tokenizer
    assert GptTokenizer.load(tmp_path, Config("gpt2", 50257)).tokenizer is made.tokenizer
    with pytest.raises(UserError, match="50257 ids but the model only 50000"):
        GptTokenizer.for_model(Config("gpt2", 50000))
    for name in ("gpt1", "talkie", "talkie-chat", "bpe"):
        with pytest.raises(UserError, match="comes with its weights"):
            GptTokenizer.for_model(Config(name, 70000))


def test_ranks_alone_become_a_chat_tokenizer_if_the_model_chats(own, tmp_path):
    (tmp_path / "vocab.txt").write_text(format_ranks(ranks(own)))
    assert GptTokenizer.load(tmp_path, Config("talkie", 300)).tokenizer.name == "talkie"
    chat = GptTokenizer.load(tmp_path, Config("talkie-chat", 304))
    assert (chat.tokenizer.name, chat.vocab_size) == ("talkie-chat", 304)
    chat.save(tmp_path / "saved")
    assert (
        GptTokenizer.load(tmp_path / "saved", Config("talkie-chat", 304)).tokenizer.fingerprint
        == chat.tokenizer.fingerprint
    )
