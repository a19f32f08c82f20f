"""Edits, error rates and what is made of them."""

import itertools
import random
import sys

import pytest

from zoo.shared.errors import UserError
from zoo.whisper.evaluation.differences import Difference, timed_words, word_differences
from zoo.whisper.evaluation.edits import align, distance
from zoo.whisper.evaluation.scores import Errors, bleu, count_errors, language_accuracy, normaliser, wer_error


def plain_distance(left, right) -> int:
    """By the definition, cell by cell."""
    table = [[i + j for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i, j in itertools.product(range(1, len(left) + 1), range(1, len(right) + 1)):
        pair = table[i - 1][j - 1] + (left[i - 1] != right[j - 1])
        table[i][j] = min(pair, table[i - 1][j] + 1, table[i][j - 1] + 1)
    return table[-1][-1]


@pytest.mark.parametrize("letters", ["ab", "abcdefg"])
def test_edits_are_the_fewest_and_lead_from_one_text_to_the_other(letters: str) -> None:
    draw = random.Random(letters)
    for _ in range(300):
        left, right = ([draw.choice(letters) for _ in range(draw.randrange(14))] for _ in range(2))
        edits = align(left, right)
        assert distance(left, right) == plain_distance(left, right) == sum(edit.kind != "hit" for edit in edits)
        assert [edit.reference for edit in edits if edit.reference is not None] == list(range(len(left)))
        assert [edit.hypothesis for edit in edits if edit.hypothesis is not None] == list(range(len(right)))
        for edit in edits:
            if edit.kind in ("hit", "substitution"):
                assert edit.reference is not None
                assert edit.hypothesis is not None
                assert (left[edit.reference] == right[edit.hypothesis]) == (edit.kind == "hit")


def test_errors_are_counted_by_kind_after_normalising() -> None:
    errors = count_errors("Mr. Smith paid twenty dollars, um, today.", "mister smith payed $20 to day", language="en")
    assert errors == Errors(
        words=5, substitutions=2, deletions=0, insertions=1, characters=27, character_errors=3
    )  # mister smith paid $20 today
    assert errors.wer == 3 / 5
    assert errors.cer == 3 / 27
    assert count_errors("colour", "color", language="en").wer == 0
    assert count_errors("colour", "color", language="en", plain=True).wer == 1


def test_errors_add_up_and_silence_has_no_rate() -> None:
    spoken = count_errors("one two three", "one three", language="en", plain=True)
    silent = count_errors("", "thank you", language="en")
    assert (silent.wer, silent.cer, silent.insertions) == (None, None, 2)
    both = spoken + silent
    assert (both.words, both.word_errors, both.wer) == (3, 3, 1.0)
    assert both.as_dict()["insertions"] == 2


def test_languages_without_spaces_count_characters_as_words() -> None:
    errors = count_errors("今天天气好。", "今天天汽好", language="zh")
    assert (errors.words, errors.substitutions) == (5, 1)
    assert normaliser("de")("Größe, (lacht) ÄRGER!") == "größe ärger "
    assert normaliser(None)("isn't it") == "is not it"
    assert normaliser("en")("kinda cause dunno sorta") == "kinda cause dunno sorta"  # OpenAI leaves them


def test_standard_error_is_that_of_drawing_utterances_again() -> None:
    draw = random.Random(0)
    counts = [Errors(words=draw.randrange(5, 30), substitutions=draw.randrange(4)) for _ in range(300)]
    rates = []
    for _ in range(800):
        drawn = draw.choices(counts, k=len(counts))
        rates.append(sum(one.word_errors for one in drawn) / sum(one.words for one in drawn))
    mean = sum(rates) / len(rates)
    spread = (sum((rate - mean) ** 2 for rate in rates) / len(rates)) ** 0.5
    assert wer_error(counts) == pytest.approx(spread, rel=0.1)
    assert wer_error(counts[:1]) is None


def test_bleu_says_how_it_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bleu(["the cat sat on the mat today"], ["the cat sat on the mat today"])
    assert found["bleu"] == pytest.approx(100)
    assert "tok:13a" in found["signature"]
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(UserError, match=r"paper-zoo\[eval\]"):
        bleu(["a"], ["a"])


def test_confusions_of_languages_are_counted() -> None:
    found = language_accuracy([("es", "es"), ("es", "pt"), ("es", "pt"), ("fr", "fr")])
    assert found["accuracy"] == 0.5
    assert found["by_language"] == {"es": pytest.approx(1 / 3), "fr": 1.0}
    assert found["confusions"] == {"es>pt": 2}
    with pytest.raises(ValueError, match="no language"):
        language_accuracy([])


def result(*segments, language="en"):
    return {"language": language, "segments": [dict(zip(("start", "end", "text"), s, strict=True)) for s in segments]}


def test_differences_come_with_their_times() -> None:
    expected = result((0.0, 4.0, " Press one now."), (10.0, 12.0, " Good bye"))
    found = result((0.0, 4.0, " press two now"), (10.0, 11.0, " Good"), (30.0, 31.0, " you"))
    assert word_differences(expected, found) == [
        Difference(start=1.67, end=2.91, expected="one", found="2"),
        Difference(start=11.14, end=31.0, expected="bye", found="you"),
    ]
    assert word_differences(expected, expected) == []


def test_words_have_their_own_times_where_there_are_some() -> None:
    segment = {
        "start": 0.0, "end": 9.0, "text": " Hi, there",
        "words": [{"word": " Hi,", "start": 1.0, "end": 1.5}, {"word": " there", "start": 7.0, "end": 8.0}],
    }  # fmt: skip
    assert [(w.text, w.start, w.end) for w in timed_words({"language": "en", "segments": [segment]})] == [
        ("hi", 1.0, 1.5),
        ("there", 7.0, 8.0),
    ]
    assert [word.text for word in timed_words(result((0.0, 1.0, "你好"), language="zh"))] == ["你", "好"]
