"""Transcripts' files against those of openai-whisper, byte for byte.

openai-whisper runs in a process of its own, started outside of the checkout, because of its import name.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys

import pytest

from zoo.whisper.writers import WRITERS, SubtitleOptions, clock, render, write

REFERENCE = """
import io, json, sys
from whisper.utils import format_timestamp, get_writer
asked, told = json.load(sys.stdin), []
for result, options in asked["cases"]:
    row = {}
    for name in asked["formats"]:
        file = io.StringIO()
        get_writer(name, ".").write_result(result, file, options)
        row[name] = file.getvalue()
    told.append(row)
clocks = [[format_timestamp(s, h, m) for h in (False, True) for m in ".,"] for s in asked["seconds"]]
get_writer("all", asked["folder"])(asked["cases"][0][0], "some/where/a talk.v2.mp3", {})
json.dump({"cases": told, "clocks": clocks}, sys.stdout)
"""
OPTIONS = [
    {"max_line_width": width, "max_line_count": count, "highlight_words": highlight, "max_words_per_line": words}
    for width, count, highlight, words in itertools.product(
        (None, 1, 12, 42), (None, 1, 2), (False, True), (None, 1, 3, 1000)
    )
]
WORDS = [
    " And", " so", " my", " fellow", " Americans,", " ask", " not", " what", "¿qué", " 今天", "天气", "。", "--",
    " -->", " <b>", " Donaudampfschifffahrtsgesellschaftskapitän", " ", "", " tab\tbed", " two\nlines", "\n", " end\n",
    " 👨‍👩‍👧", " it's", "\u3000x",
]  # fmt: skip


def segment(rng, index, start, *, words):
    spoken, at = [], start
    for _ in range(rng.choice([0, 1, 2, 7, 30])):
        length = rng.choice([0.0, 0.02, 0.3, 1.0])
        at += rng.choice([0.0, 0.0, 0.1, 3.0, 3.5])
        probability = rng.random()
        spoken.append({"word": rng.choice(WORDS), "start": round(at, 2), "end": round(at + length, 2)})
        spoken[-1]["probability"] = probability
        at += length
    text = "".join(word["word"] for word in spoken)
    row = {
        "id": index,
        "seek": int(start * 100),
        "start": round(start, 2),
        "end": round(at, 2),
        "text": text,
        "tokens": [50364, *(rng.randrange(50000) for _ in spoken), 50464],
        "temperature": rng.choice([0.0, 0.2]),
        "avg_logprob": -rng.random(),
        "compression_ratio": rng.random() * 3,
        "no_speech_prob": rng.random() / 7,
    }
    return row | ({"words": spoken} if words else {}), at


def result(seed, *, words, segments):
    rng, rows = random.Random(seed), []
    at = rng.choice([0.0, 1.5, 3590.0])
    for index in range(segments):
        row, at = segment(rng, index, at, words=words)
        rows.append(row)
    return {"text": "".join(row["text"] for row in rows), "segments": rows, "language": rng.choice(["en", "zh"])}


@pytest.fixture(scope="module")
def cases():
    rng = random.Random(0)
    results = [result(seed, words=seed % 4 > 0, segments=seed % 7) for seed in range(1, 40)]
    chosen = [(value, options) for value in results[:4] for options in OPTIONS]
    return chosen + [(value, options) for value in results[4:] for options in rng.sample(OPTIONS, 16)]


SECONDS = [0, 0.0004, 0.0005, 0.0015, 0.9995, 59.9994, 59.9996, 60, 3599.9999, 3600, 86399.123, 360000.5, 1 / 3, 29.98]


@pytest.fixture(scope="module")
def told(cases, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    given = {"cases": cases, "formats": list(WRITERS), "seconds": SECONDS, "folder": str(outside)}
    command = [sys.executable, "-P", "-c", REFERENCE]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, cwd=outside, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"files": {p.name: p.read_bytes() for p in outside.iterdir()}}


@pytest.mark.parametrize("format", WRITERS)
def test_every_format_with_every_option(format, cases, told):
    assert len(cases) > 900
    for (value, options), row in zip(cases, told["cases"], strict=True):
        assert render(value, format, SubtitleOptions(**options)) == row[format]


def test_times(told):
    own = [[clock(s, hours=hours, comma=comma) for hours in (False, True) for comma in (False, True)] for s in SECONDS]
    assert own == told["clocks"]


def test_files_and_their_names(cases, told, tmp_path):
    paths = write(cases[0][0], "some/where/a talk.v2.mp3", tmp_path)
    assert {path.name: path.read_bytes() for path in paths} == told["files"]
    assert len(told["files"]) == 5
