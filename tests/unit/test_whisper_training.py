"""Targets of every task, what a batch holds, and the classic ways in which training speech recognition goes wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.whisper.audit import audit
from zoo.whisper.configs import VARIANTS, WhisperConfig
from zoo.whisper.data import WhisperDataModule
from zoo.whisper.model import Whisper, sinusoids
from zoo.whisper.speech.records import ArraySound, Segment, Utterance
from zoo.whisper.speech.tones import DialledNumbers
from zoo.whisper.targets import IGNORED, TargetOptions, write_targets
from zoo.whisper.task import WhisperTask
from zoo.whisper.tokenizer import WhisperTokenizer

DEBUG = VARIANTS["whisper-debug"]
OPTIONS = TargetOptions(context=32, window=1.0, timestamps=0.0, previous=0.0)


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    ranks = {bytes([value]): value for value in range(256)}
    return WhisperTokenizer(ranks, languages=("en", "de"), multilingual=True, timestamps=51)


def utterance(**changes) -> Utterance:
    sound = ArraySound(np.zeros(16_000, dtype=np.float32))
    return replace(Utterance(id="one", sound=sound, text="hi", language="de"), **changes)


def written(
    one: Utterance, tokenizer: WhisperTokenizer, *, timed: bool = False, **changes
) -> tuple[list[str], list[str | None]]:
    """Tokens and targets, spelled."""
    rng = np.random.default_rng(0)
    tokens, targets = write_targets(one, tokenizer, replace(OPTIONS, **changes), rng, timed=timed, seconds=0.8)
    spell = [piece.decode("latin1") for piece in tokenizer.pieces]
    return [spell[t] for t in tokens], [None if t == IGNORED else spell[t] for t in targets]


START = "<|startoftranscript|>"


def test_transcript_without_times(tokenizer):
    tokens, targets = written(utterance(), tokenizer)
    assert tokens == [START, "<|de|>", "<|transcribe|>", "<|notimestamps|>", " ", "h", "i"]
    assert targets == [*tokens[1:], "<|endoftext|>"]


def test_translation_and_times(tokenizer):
    segments = (Segment(0.0, 0.5, "a"), Segment(0.5, 0.72, "b"))
    tokens, targets = written(utterance(task="translate", segments=segments, text=""), tokenizer, timed=True)
    body = ["<|0.00|>", " ", "a", "<|0.50|>", "<|0.50|>", " ", "b", "<|0.72|>"]
    assert tokens == [START, "<|de|>", "<|translate|>", *body]
    assert targets == [*tokens[1:], "<|endoftext|>"]


def test_a_text_without_segments_lasts_as_long_as_its_sound(tokenizer):
    assert written(utterance(), tokenizer, timed=True)[0][3:] == ["<|0.00|>", " ", "h", "i", "<|0.80|>"]


def test_a_segment_that_the_window_cuts_has_only_its_beginning(tokenizer):
    segments = (Segment(0.0, 0.5, "a"), Segment(0.6, None, ""))
    assert written(utterance(segments=segments), tokenizer, timed=True)[0][-1] == "<|0.60|>"


def test_times_follow_the_speed(tokenizer):
    rng = np.random.default_rng(0)
    one = utterance(segments=(Segment(0.2, 0.4, "a"),))
    tokens, _ = write_targets(one, tokenizer, OPTIONS, rng, timed=True, seconds=0.8, stretch=1.5)
    assert [tokenizer.seconds(t) for t in tokens if t >= tokenizer.specials.timestamp_begin] == [0.3, 0.6]


def test_nobody_speaks(tokenizer):
    tokens, targets = written(utterance(no_speech=True, text="", language=None), tokenizer)
    assert (tokens, targets) == ([START, "<|nospeech|>"], ["<|nospeech|>", "<|endoftext|>"])


def test_previous_text_is_told_and_not_learnt(tokenizer):
    tokens, targets = written(utterance(prompt="ab"), tokenizer, previous=1.0)
    assert tokens[:5] == ["<|startofprev|>", " ", "a", "b", START]
    assert targets[:4] == [None] * 4
    assert targets[4] == "<|de|>"


def test_previous_text_makes_way(tokenizer):
    """Half of the context at most, from its end; none where the text needs the room."""
    tokens, _ = written(utterance(prompt="x" * 40), tokenizer, previous=1.0)
    assert tokens[0] == "<|startofprev|>"
    assert tokens.count("x") == 15
    tokens, _ = written(utterance(prompt="x" * 40, text="y" * 24), tokenizer, previous=1.0)
    assert tokens[0] == START


def test_what_does_not_fit_is_a_bad_sample(tokenizer):
    with pytest.raises(BadSample, match="more than the context of 32"):
        written(utterance(text="y" * 40), tokenizer)
    with pytest.raises(BadSample, match="cannot transcribe the language fr"):
        written(utterance(language="fr"), tokenizer)


def test_english_model_has_no_language_in_its_texts():
    ranks = {bytes([value]): value for value in range(256)}
    english = WhisperTokenizer(ranks, languages=("en",), multilingual=False, timestamps=51)
    tokens, targets = written(utterance(language="en"), english)
    assert tokens == [START, "<|notimestamps|>", " ", "h", "i"]
    assert targets[-1] == "<|endoftext|>"


def batch_of(data: WhisperDataModule, count: int = 4):
    return data.peek(count)


def test_a_batch_holds_spectrograms_and_texts():
    data = WhisperDataModule(DEBUG, source="tones", utterances=60)
    batch = batch_of(data)
    assert batch["mel"].shape == (4, 80, 100)
    assert batch["tokens"].shape == batch["targets"].shape
    assert (batch["targets"] != IGNORED).sum(0)[-1] > 0  # cut at the longest text
    for row, wanted in zip(batch["tokens"], batch["targets"], strict=True):  # nobody learns padding
        end = wanted.tolist().index(data.preprocessor.tokenizer.specials.eot)
        assert (wanted[end + 1 :] == IGNORED).all()
        assert (wanted[:end] == row[1 : end + 1]).all()  # shifted once
    assert data.count(batch)["tokens"] == int((batch["targets"] != IGNORED).sum())


def test_augmentation_changes_sound_and_times_only():
    plain = WhisperDataModule(DEBUG, source="tones", utterances=60, timestamps=1.0)
    changed = WhisperDataModule(
        DEBUG, source="tones", utterances=60, timestamps=1.0, speed=(0.8, 0.8), noise=1.0, babble=0.5,
        spec_augment="LB", vocal_tract=(0.9, 0.9),
    )  # fmt: skip
    one, other = batch_of(plain), batch_of(changed)
    assert not torch.allclose(one["mel"], other["mel"])
    tokenizer = plain.preprocessor.tokenizer
    texts = [[tokenizer.decode(row) for row in batch["tokens"]] for batch in (one, other)]
    assert texts[0] == texts[1]
    ends = [[tokenizer.seconds(int(row[row >= tokenizer.specials.timestamp_begin].max())) for row in batch["tokens"]
             if (row >= tokenizer.specials.timestamp_begin).any()] for batch in (one, other)]  # fmt: skip
    for before, after in zip(*ends, strict=True):
        assert after == pytest.approx(before / 0.8, abs=0.03) or after == before  # what would not fit keeps its speed


def mistaken(data: WhisperDataModule, change) -> str:
    """What the audit says when the targets are written wrongly."""
    task = WhisperTask(Whisper(DEBUG))
    reader = data.readers[0]
    read = reader.read

    def wrong(index, rng):
        item = read(index, rng)
        change(item, data.preprocessor.tokenizer)
        return item

    reader.read = wrong
    failed = [check.name for check in audit(task, data) if not check.passed]
    return ", ".join(failed)


def shifted_twice(item, tokenizer):
    item["targets"] = item["targets"].roll(-1)


def padding_counts(item, tokenizer):
    item["targets"][item["targets"] == IGNORED] = tokenizer.specials.eot


def no_start(item, tokenizer):
    item["tokens"] = item["tokens"].roll(-1)
    item["targets"] = item["targets"].roll(-1)


@pytest.mark.parametrize("change", [shifted_twice, padding_counts, no_start])
def test_the_audit_finds_classic_mistakes(change):
    data = WhisperDataModule(DEBUG, source="tones", utterances=60)
    assert "targets" in mistaken(data, change)


def test_the_audit_passes_otherwise():
    data = WhisperDataModule(DEBUG, source="tones", utterances=60)
    assert mistaken(data, lambda item, tokenizer: None) == ""


def test_dialled_numbers_are_held_out_by_what_is_said():
    train = {one.text for one in (DialledNumbers(count=300, seed=0)[i] for i in range(300))}
    away = {one.text for one in (DialledNumbers(count=60, seed=0, held_out=True)[i] for i in range(60))}
    assert train & away <= {""}


def test_manifest_is_trained_on(tmp_path):
    import soundfile

    lines = []
    for number in range(12):
        one = DialledNumbers(count=40, seed=3)[number]
        soundfile.write(tmp_path / f"{number}.wav", one.sound.samples, 16_000)
        lines.append(json.dumps({"audio": f"{number}.wav", "text": one.text or "nothing", "language": "en"}))
    (tmp_path / "speech.jsonl").write_text("\n".join(lines))
    data = WhisperDataModule(replace(DEBUG, vocab_size=330), source=str(tmp_path / "speech.jsonl"), held_out=0.0)
    assert len(data.readers[0]) == 12
    assert data.readers[1] is None


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"held_out": 2.0}, "held_out is a share"),
        ({"utterances": 0}, "utterances must be at least 1"),
        ({"speed": (1.2, 0.8)}, "must rise"),
        ({"source": "nowhere.jsonl"}, "no speech at"),
    ],
)
def test_what_is_refused(settings, line):
    with pytest.raises(UserError, match=line):
        WhisperDataModule(DEBUG, **{"source": "tones", **settings}).readers  # noqa: B018


def test_too_long_for_the_window_is_a_bad_sample():
    data = WhisperDataModule(DEBUG, source="tones", utterances=60)
    reader = data.readers[0]
    reader.config = replace(DEBUG, audio_context=5)
    with pytest.raises(BadSample, match=r"hears 0\.1 s at once"):
        reader.read(0, np.random.default_rng(0))


def test_positions_are_the_papers():
    """First half sines, second half cosines, wavelengths from 2 pi to 10,000 times that (its released code)."""
    table = sinusoids(1500, 384)
    assert table[0, :192].abs().max() == 0
    assert (table[0, 192:] == 1).all()
    assert table[1, 0] == pytest.approx(np.sin(1))
    assert table[1, 191] == pytest.approx(np.sin(1e-4))


def test_configs_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="multiple of heads"):
        WhisperConfig(width=100, heads=6)
    with pytest.raises(ValueError, match="no head 7 in a block 1"):
        WhisperConfig(alignment_heads=((1, 7),))
    assert WhisperConfig(alignment_heads=[[1, 2]]).alignment_heads == ((1, 2),)
