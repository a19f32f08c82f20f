"""English sentences for voices of other languages."""

import re

import numpy as np
import pytest
import torch

import zoo
from zoo.whisper.evaluation.scores import count_errors
from zoo.whisper.pretrained import tiny_en
from zoo.whisper.speech import phrases
from zoo.whisper.speech.accents import VOICES, accented
from zoo.whisper.speech.corpus import ACCENTED, HELD_OUT_VOICE, CorpusSize, _train
from zoo.whisper.speech.sentences import sentence
from zoo.whisper.speech.speaking import Speaker, speak
from zoo.whisper.transcription.transcribe import transcribe


@pytest.mark.parametrize(
    ("british", "spoken"),
    [
        (False, """<phoneme ph='"touni'/> <phoneme ph='"Tert'/>."""),
        (True, """<phoneme ph='"touni'/> <phoneme ph='"Tet'/>."""),
    ],
)
def test_r_after_a_vowel_is_american(monkeypatch: pytest.MonkeyPatch, british: bool, spoken: str) -> None:
    from zoo.whisper.speech import accents

    accents._spoken.cache_clear()
    monkeypatch.setattr(accents, "_words", lambda: {"tony": ["T", "OW1", "N", "IY"], "thirt": ["TH", "ER1", "T"]})
    assert accented("Tony thirt!", "es-ES", british=british) == spoken
    accents._spoken.cache_clear()


def test_r_before_a_vowel_is_spoken_everywhere() -> None:
    assert accented("Zero, four, on.", "it-IT", british=True) == (
        "<phoneme ph='\"ziro'/> <phoneme ph='\"fo'/> <phoneme ph='on'/>."
    )


def test_every_word_of_the_sentences_can_be_said() -> None:
    texts = {
        sentence(seed, part, k).text("en") for seed in (0, 1) for part in ("train", "held-out") for k in range(3000)
    }
    rows = (*phrases.WEEKDAYS, *phrases.MONTHS, *phrases.ROOMS, *phrases.ITEMS, *phrases.DEVICES)
    for text in texts | {row["en"] for row in rows} | set(phrases.NAMES):
        for voice in VOICES:
            words = re.findall(r"ph='([^']+)'", accented(text, voice, british=True))
            assert len(words) == len(re.findall(r"[a-z']+", text.lower()))


def test_voices_of_other_languages_speak_english_in_training() -> None:
    plan = [(speaker.voice, targets[0][1]) for (_, speaker), targets in _train(CorpusSize(train=2000), 0)]
    english = [voice for voice, language in plan if language == "en"]
    assert sum(voice != "en-US" for voice in english) / len(english) == pytest.approx(ACCENTED, abs=0.05)
    assert set(english) == {"en-US", *VOICES}
    assert HELD_OUT_VOICE not in {voice for voice, _ in plan}
    assert all(voice[:2] == language for voice, language in plan if language != "en")


@pytest.mark.slow
@pytest.mark.parametrize("voice", VOICES)
def test_a_model_that_knows_english_understands_it(voice: str) -> None:
    """OpenAI's tiny.en writes more than half of the words; of the same texts read by foreign rules it does not."""
    texts = [sentence(3, "train", k).text("en") for k in range(6)]
    model = zoo.load(str(tiny_en()))
    rates = []
    for written in ([accented(text, voice) for text in texts], texts):
        clips = [np.pad(clip, (0, 8000)) for clip in speak([(text, Speaker(voice)) for text in written])]
        heard = transcribe(model, torch.from_numpy(np.concatenate(clips).astype(np.float32) / 32768))["text"]
        rates.append(count_errors(" ".join(texts), heard, language="en").wer)
    assert rates[0] < min(0.75, rates[1])
