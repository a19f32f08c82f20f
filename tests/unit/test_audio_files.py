import io
import os
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest
import soundfile
import soxr
import torch

from zoo.shared.audio.files import duration, from_array, read_audio, stream_audio
from zoo.shared.errors import UserError


def tone(hertz=440.0, *, seconds=1.0, rate=16000, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds=3.0, rate=16000, seed=0):
    return (np.random.default_rng(seed).standard_normal(round(seconds * rate)) * 0.1).astype(np.float32)


def decibels(x):
    return 10 * np.log10(np.mean(np.square(np.asarray(x, dtype=np.float64))) + 1e-30)


def encode(path, samples, *, rate, codec, container=None):
    """A file as PyAV writes it; samples (S,)."""
    import av

    with av.open(str(path), "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        fifo = av.AudioFifo()
        for converted in resampler.resample(frame):
            fifo.write(converted)
        size = stream.codec_context.frame_size or 1024
        while (piece := fifo.read(size, partial=True)) is not None:
            for packet in stream.encode(piece):
                opened.mux(packet)
        for packet in stream.encode(None):
            opened.mux(packet)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [("wav", "PCM_16", 3.1e-5), ("wav", "FLOAT", 0), ("flac", "PCM_16", 3.1e-5), ("aiff", "PCM_24", 1e-6)],
)
def test_lossless_files_at_16_khz_come_back_as_they_were(tmp_path, suffix, subtype, tolerance):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(), 16000, subtype=subtype)
    heard = read_audio(path)
    assert heard.dtype == torch.float32
    torch.testing.assert_close(heard, torch.from_numpy(noise()), atol=tolerance, rtol=0)
    assert duration(path) == 3.0
    assert torch.equal(read_audio(path.read_bytes()), heard)
    with path.open("rb") as file:
        assert torch.equal(read_audio(file), heard)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "m4a", "mp4", "webm", "aac", "mkv"])
def test_lossy_files_keep_the_tone(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    sound = tone(440, seconds=2, rate=48000)
    if suffix in ("mp3", "ogg"):
        soundfile.write(path, sound, 48000)
    else:
        encode(path, sound, rate=48000, codec="libopus" if suffix in ("webm", "mkv") else "aac",
               container={"m4a": "mp4", "aac": "adts", "mkv": "matroska"}.get(suffix))  # fmt: skip
    heard = read_audio(path).numpy()
    assert len(heard) == pytest.approx(32000, abs=2600)  # lossy codecs pad by a frame or two
    assert duration(path) == pytest.approx(2.0, abs=0.15)
    middle = heard[8000:24000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) == 440  # one hertz a bin
    assert decibels(middle) == pytest.approx(decibels(sound), abs=0.5)
    assert np.array_equal(heard, torch.cat(list(stream_audio(path, block_seconds=0.37))).numpy())


def test_the_name_decides_nothing(tmp_path):
    for name in ("a.txt", "b.raw", "c.mp3", "d"):
        path = tmp_path / name
        soundfile.write(path, noise(), 16000, format="WAV")
        assert len(read_audio(str(path))) == 48000


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 192000])
def test_blocks_are_what_resampling_at_once_gives(tmp_path, rate):
    path = tmp_path / "a.wav"
    sound = noise(9.7, rate)
    soundfile.write(path, np.stack([sound, sound], 1), rate, subtype="FLOAT")  # several decoded pieces at 192 kHz
    blocks = list(stream_audio(path, block_seconds=1.0))
    assert [len(block) for block in blocks[:-1]] == [16000] * 9
    at_once = soxr.resample(sound, rate, 16000, quality="HQ")
    torch.testing.assert_close(torch.cat(blocks), torch.from_numpy(at_once).clip(-1, 1), atol=1e-6, rtol=0)
    assert abs(sum(map(len, blocks)) - 9.7 * 16000) <= 1
    assert torch.equal(torch.cat(blocks), read_audio(path))


def test_resampling_neither_aliases_nor_dulls():
    for hertz in (8500, 10_000, 14_000, 20_000):
        heard = from_array(tone(hertz, seconds=2, rate=48000, level=1.0), rate=48000)[800:-800]
        assert decibels(heard) < -80 + decibels(tone(1000, level=1.0)), hertz
    for hertz in (100, 1000, 5000, 7000):
        heard = from_array(tone(hertz, seconds=2, rate=48000), rate=48000)[800:-800]
        assert decibels(heard) == pytest.approx(decibels(tone(1000)), abs=0.05), hertz


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "eight.wav"
    channels = np.stack([noise(seed=i) for i in range(8)], 1)
    soundfile.write(path, channels, 16000, subtype="FLOAT")
    torch.testing.assert_close(read_audio(path), torch.from_numpy(channels.mean(1)), atol=1e-7, rtol=0)
    torch.testing.assert_close(from_array(channels.T), torch.from_numpy(channels.mean(1)), atol=1e-7, rtol=0)


def test_192_khz_and_a_millisecond(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1000, rate=192000), 192000)
    heard = read_audio(path)
    assert len(heard) == 16000
    np.testing.assert_allclose(heard[500:-500], tone(1000)[500:-500], atol=2e-4)
    soundfile.write(path, noise(0.001), 16000)
    assert len(read_audio(path)) == 16
    soundfile.write(path, noise(0.001, 48000), 48000)
    assert len(read_audio(path)) == 16


def test_arrays_of_every_type_mean_the_same():
    sound = tone()
    for array in (
        sound,
        torch.from_numpy(sound).double(),
        (sound * 2**15).round().astype(np.int16),
        torch.from_numpy((sound * 2.0**31).astype(np.int32)),
        (sound * 128 + 128).round().astype(np.uint8),
        torch.from_numpy(sound).bfloat16(),
    ):
        torch.testing.assert_close(from_array(array), torch.from_numpy(sound), atol=5e-3, rtol=0)
    assert len(from_array(tone(rate=8000), rate=8000)) == 16000
    for array, words in (
        (np.zeros((48000, 2)), "transpose"),
        (np.zeros(10, bool), "floats"),
        (np.zeros(0), "no samples"),
    ):
        with pytest.raises(UserError, match=words):
            from_array(array)


def float_wav(path, sound):
    soundfile.write(path, sound, 16000, subtype="FLOAT")


def fake_rate(path):
    soundfile.write(path, noise(), 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = (5).to_bytes(4, "little")
    path.write_bytes(content)


def damaged_flac(path):
    soundfile.write(path, noise(20), 16000, format="FLAC")
    content = bytearray(path.read_bytes())
    content[50000:80000] = bytes(30000)
    path.write_bytes(content)


def silent_video(path):
    import av

    with av.open(str(path), "w", format="mp4") as opened:
        stream = opened.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            for packet in stream.encode(picture):
                opened.mux(packet)
        for packet in stream.encode(None):
            opened.mux(packet)


def holed(value):
    sound = noise()
    sound[24000] = value
    return sound


BAD = {
    "no such file": lambda path: None,
    "is a folder": lambda path: path.mkdir(),
    "is empty": lambda path: path.write_bytes(b""),
    "is not audio": lambda path: path.write_text("these are words " * 500),
    "is not audio that": lambda path: path.write_bytes(np.random.default_rng(0).bytes(50000)),
    "holds no samples": partial(float_wav, sound=np.zeros(0, np.float32)),
    "not numbers, the first at 1.50 s": partial(float_wav, sound=holed(np.nan)),
    "not numbers, the first at 1.50": partial(float_wav, sound=holed(np.inf)),
    "full scale is 1": partial(float_wav, sound=noise() * 30000),
    "5 samples a second": fake_rate,
    "is damaged": damaged_flac,
    "has no sound in it": silent_video,
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_no_audio_gives_one_line(tmp_path, words):
    path = tmp_path / "file.wav"
    BAD[words](path)
    with pytest.raises(UserError, match=words) as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_cut_wav_gives_what_is_there(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(), 16000)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 16000])
    assert len(read_audio(path)) == 16000


def test_without_pyav_the_line_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.m4a"
    encode(path, tone(rate=48000), rate=48000, codec="aac", container="mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (read_audio, duration):
        with pytest.raises(UserError, match=r"pip install 'paper-zoo\[media\]'"):
            use(path)


def test_a_pipe_is_read_like_a_file():
    kept = io.BytesIO()
    soundfile.write(kept, noise(), 16000, format="WAV", subtype="FLOAT")
    receiver, sender = os.pipe()

    def write():
        with os.fdopen(sender, "wb") as pipe:
            pipe.write(kept.getvalue())

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(receiver, "rb") as pipe:
        heard = read_audio(pipe)
    writer.join()
    torch.testing.assert_close(heard, torch.from_numpy(noise()), atol=0, rtol=0)


LONG = """
import resource, sys
from zoo.shared.audio.files import stream_audio
from zoo.shared.audio.log_mel import LogMel
from zoo.shared.audio.long_form import LongLogMel
import torch
torch.set_num_threads(1)
LongLogMel(stream_audio(sys.argv[1]), log_mel=LogMel()).close()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with LongLogMel(stream_audio(sys.argv[2]), log_mel=LogMel()) as features:
    features.window(features.frames - 3000, features.frames)
    print(features.frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_length_of_the_file(tmp_path):
    minute = noise(60, 8000)
    for name, minutes in (("short.wav", 40), ("long.wav", 160)):
        with soundfile.SoundFile(tmp_path / name, "w", 8000, 1) as file:
            for _ in range(minutes):
                file.write(minute)
    result = subprocess.run(
        [sys.executable, "-c", LONG, str(tmp_path / "short.wav"), str(tmp_path / "long.wav")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    frames, growth = map(int, result.stdout.split())
    assert frames == 160 * 6000
    assert growth < 60_000  # kB; the samples alone are 614,000 and the features 307,000
