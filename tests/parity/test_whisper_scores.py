"""Normalisers against openai-whisper's, error rates against jiwer and torchmetrics."""

import json
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import jiwer
import pytest
from torchmetrics.functional.text import char_error_rate, word_error_rate

from zoo.whisper.evaluation.scores import Errors, basic, count_errors, english

NUMBERS = "zero one two three four five six seven eight nine ten eleven nineteen twenty fifty ninety oh"
SCALES = "hundred thousand million billion half quarter point and a double triple percent"
MONEY = "$20 £3.50 €1,000 ¥500 20¢ $2 dollars cents pounds euros 1960s 274th 32nd 50% 3.14 1,234,567 12:30"
SHORT = (
    "won't can't let's ain't y'all wanna gotta gonna i'ma mr mrs st dr capt gov hon rev jr sr esq he's_been "
    "they'd_gone it's_got she’s we_'ll you'd've I'm kinda sorta dunno cause"
)
WORDS = "colour centre realise grey analogue um uh hmm mm mhm mmm house garden [laughs] (sighs) <noise> naïve"
SIGNS = [",", ".", "!", "?", ";", "—", "'", '"', "&", "#", "%", "/", "-", "  ", "\t", "…"]


def lines() -> list[str]:
    """A thousand lines of numbers, money, contractions, spelling and unicode."""
    draw = random.Random(7)
    alphabet = [chr(code) for code in range(0x20, 0x3000) if unicodedata.category(chr(code))[0] in "LMNPSZ"]
    mixes = ((NUMBERS,), (NUMBERS, SCALES), (MONEY, NUMBERS, SCALES), (SHORT, WORDS), (WORDS, MONEY, SHORT, NUMBERS))
    kinds = [[word.replace("_", " ") for word in " ".join(mix).split()] for mix in mixes]
    found = []
    for number in range(1000):
        if number % 6 == 5:
            found.append("".join(draw.choice(alphabet) for _ in range(draw.randrange(1, 40))))
            continue
        words = [draw.choice(kinds[number % 6]) for _ in range(draw.randrange(1, 14))]
        words = [word.title() if draw.random() < 0.2 else word for word in words]
        found.append("".join(word + (draw.choice(SIGNS) if draw.random() < 0.15 else "") + " " for word in words))
    return found


def test_normalisers_equal_openais_on_a_thousand_lines(tmp_path: Path) -> None:
    script = """
import json, sys
from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer
normalisers = [EnglishTextNormalizer(), BasicTextNormalizer(), BasicTextNormalizer(split_letters=True),
               BasicTextNormalizer(remove_diacritics=True)]
lines = json.load(open(sys.argv[1]))
json.dump([[normalise(line) for line in lines] for normalise in normalisers], open(sys.argv[2], "w"))
"""
    told = lines()
    (tmp_path / "lines.json").write_text(json.dumps(told))
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "lines.json", "normal.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = json.loads((tmp_path / "normal.json").read_text())
    for normalise, theirs in zip(
        (english(), basic(), basic(letters=True), basic(diacritics=False)), expected, strict=True
    ):
        assert [normalise(line) for line in told] == theirs
    assert sum(a != b for a, b in zip(told, expected[0], strict=True)) > 950  # the lines are not normal already


def test_error_rates_equal_those_of_jiwer_and_torchmetrics() -> None:
    draw = random.Random(3)
    phrase = "press one to hear the message again please wait for an operator"
    words = phrase.split()
    said, written, total = [], [], Errors()
    for _ in range(200):
        said.append(" ".join(draw.choices(words, k=draw.randrange(1, 25))))
        kept = [word for word in said[-1].split() if draw.random() > 0.1]
        written.append(" ".join(draw.choice(words) if draw.random() < 0.2 else word for word in [*kept, "end"]))
        errors = count_errors(said[-1], written[-1], language="en", plain=True)
        assert errors.wer == pytest.approx(jiwer.wer(said[-1], written[-1]))
        assert errors.cer == pytest.approx(jiwer.cer(said[-1], written[-1]))
        total += errors
    assert total.wer == pytest.approx(float(word_error_rate(written, said)))
    assert total.cer == pytest.approx(float(char_error_rate(written, said)))
    assert 0.1 < (total.wer or 0) < 0.5
