"""Log-mel features against openai-whisper's and transformers', on speech where it is at hand and on what is hard."""

import pytest
import torch
from transformers import WhisperFeatureExtractor

from zoo.shared.audio.log_mel import CHUNK_SAMPLES, LogMel, mel_filters, pad_or_trim, plain_log_mel
from zoo.shared.audio.long_form import LongLogMel
from zoo.shared.errors import UserError
from zoo.whisper.bench_audio import hum
from zoo.whisper.peers import openai_whisper


def spoken():
    """A few seconds of synthetic speech at 16 kHz."""
    import numpy as np
    from py_nanotts import NanoTTS

    pcm = NanoTTS().speak("The quick brown fox jumps over the lazy dog, and nobody minds at all.", voice="en-GB")
    return torch.from_numpy(np.frombuffer(pcm, np.int16).astype(np.float32) / 32768)


def chirp(seconds=5):
    time = torch.arange(seconds * 16000) / 16000
    return 0.5 * torch.sin(2 * torch.pi * (100 * time + 700 * time**2))


SOUNDS = {
    "speech": spoken,
    "hum": lambda: hum(40),
    "noise": lambda: 0.3 * torch.randn(16000 * 7 + 77),
    "chirp": chirp,
    "clicks": lambda: (torch.arange(48000) % 4001 == 0).float(),
    "silence": lambda: torch.zeros(16000),
    "faint": lambda: 1e-6 * torch.randn(16000),
    "201 samples": lambda: torch.randn(201),
}


@pytest.fixture(scope="module")
def reference():
    return openai_whisper("audio")


@pytest.mark.parametrize("bins", [80, 128])
def test_the_filters_are_the_references_and_librosas(reference, bins):
    import librosa

    assert reference.__name__ == "openai_whisper.audio"
    torch.testing.assert_close(mel_filters(bins), reference.mel_filters("cpu", bins), atol=1e-8, rtol=0)
    theirs = torch.from_numpy(librosa.filters.mel(sr=16000, n_fft=400, n_mels=bins))
    torch.testing.assert_close(mel_filters(bins), theirs, atol=1e-8, rtol=0)
    torch.testing.assert_close(mel_filters(bins, torch.ones(2))[1], theirs, atol=1e-8, rtol=0)


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("name", SOUNDS)
def test_features_equal_openai_whispers(reference, name, bins):
    audio = SOUNDS[name]()
    for padding in (0, CHUNK_SAMPLES):
        theirs = reference.log_mel_spectrogram(audio, n_mels=bins, padding=padding)
        ours = LogMel(bins=bins)(audio, maximum="tensor", padding=padding)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        assert (ours - theirs).abs().mean() < 1e-6
    torch.testing.assert_close(plain_log_mel(audio, bins=bins), LogMel(bins=bins)(audio), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bins", [80, 128])
def test_batches_equal_transformers(bins):
    clips = [spoken(), hum(40), chirp(3)]
    theirs = WhisperFeatureExtractor(feature_size=bins)(
        [clip.numpy() for clip in clips], sampling_rate=16000, return_tensors="pt"
    )
    ours = LogMel(bins=bins)(torch.stack([pad_or_trim(clip) for clip in clips]))
    assert ours.shape == (3, bins, 3000)
    torch.testing.assert_close(ours, theirs["input_features"], atol=1e-4, rtol=0)


def test_every_length_ends_as_the_definition_says():
    audio = torch.randn(2, 1300)
    for samples in range(201, 1300):
        rows = audio[:, :samples]  # not contiguous
        ours = LogMel()(rows)
        torch.testing.assert_close(ours[1], plain_log_mel(rows[1], bins=80), atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [999, 16000, 480000])
@pytest.mark.parametrize("bins", [80, 128])
def test_long_form_equals_the_reference_on_the_whole_file(reference, bins, block):
    # Loud only at its end, so that the maximum comes last.
    audio = torch.cat([0.02 * hum(50), hum(17), 0.7 * torch.randn(1234)])
    theirs = reference.log_mel_spectrogram(audio, n_mels=bins, padding=CHUNK_SAMPLES)
    with LongLogMel(iter(audio.split(block)), log_mel=LogMel(bins=bins)) as ours:
        assert ours.frames == theirs.shape[1] - 3000
        assert ours.samples == len(audio)
        for start in (0, 2999, ours.frames - 3000, ours.frames - 5, ours.frames):
            torch.testing.assert_close(
                ours.window(start, start + 3000), theirs[:, start : start + 3000], atol=1e-4, rtol=0
            )
        with pytest.raises(ValueError, match="within"):
            ours.window(0, ours.frames + 3001)


@pytest.mark.parametrize("samples", [1, 16, 200, 201, 641])
def test_long_form_of_next_to_nothing(reference, samples):
    audio = torch.randn(samples)
    theirs = reference.log_mel_spectrogram(audio, padding=CHUNK_SAMPLES)
    with LongLogMel(iter(audio.split(7)), log_mel=LogMel()) as ours:
        torch.testing.assert_close(ours.window(0, ours.frames + 3000), theirs, atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="no samples"):
        LongLogMel(iter([]), log_mel=LogMel())


def test_an_item_depends_on_its_neighbours_only_where_asked():
    batch = torch.stack([hum(3), 0.001 * hum(3)])
    alone = torch.stack([LogMel()(row) for row in batch])
    assert torch.equal(LogMel()(batch), alone)
    assert not torch.equal(LogMel()(batch, maximum="tensor")[1], alone[1])


def test_half_precision_models_and_autocast_change_nothing():
    audio = hum(3)
    wanted = LogMel()(audio)
    assert torch.equal(LogMel().bfloat16()(audio), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LogMel()(audio), wanted)
    rounded = audio.bfloat16()
    assert torch.equal(LogMel()(rounded), LogMel()(rounded.float()))


def test_the_runs_matmul_precision_changes_nothing_and_is_left_as_it_was():
    wanted = LogMel()(hum(3))
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(LogMel()(hum(3)), wanted)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_what_cannot_be_framed_is_said():
    with pytest.raises(ValueError, match="too few"):
        LogMel()(torch.randn(200))
    with pytest.raises(ValueError, match="floats"):
        LogMel()(torch.zeros(1000, dtype=torch.int16))
    with pytest.raises(ValueError, match="80 or 128"):
        LogMel(bins=64)
    assert LogMel()(torch.randn(0, 1000)).shape == (0, 80, 6)
