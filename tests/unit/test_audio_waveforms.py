import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from zoo.shared.audio.log_mel import LogMel, mel_edges, warp_frequencies
from zoo.shared.audio.time_scale import change_tempo
from zoo.shared.audio.waveforms import (
    WaveformAugment,
    add_noise,
    augment_waveforms,
    babble_of,
    change_speed,
    telephone_band,
)
from zoo.shared.data.order import sample_rng

SECOND = 16000


def tone(hertz, seconds=3.0, level=0.3):
    return level * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * SECOND), dtype=torch.float64) / SECOND)


def voice(f0=120.0, seconds=3.0, syllables=4.0):
    """A harmonic sound that swells ``syllables`` times a second."""
    harmonics = sum(tone(f0 * k, seconds, 0.3 / k) for k in range(1, 12))
    swell = 0.5 - 0.5 * torch.cos(2 * torch.pi * syllables * torch.arange(len(harmonics)) / SECOND)
    return (0.5 * harmonics * swell).float()


def peak(audio):
    """The strongest frequency in Hz."""
    spectrum = torch.fft.rfft(audio.double() * torch.hann_window(len(audio), dtype=torch.float64), n=16 * len(audio))
    return float(spectrum.abs().argmax()) * SECOND / (16 * len(audio))


def rhythm(audio):
    """The strongest frequency in Hz of the loudness, between 1 and 12 Hz."""
    loudness = torch.nn.functional.avg_pool1d(audio.abs()[None], 160)[0]
    loudness = loudness - loudness.mean()
    spectrum = torch.fft.rfft(loudness * torch.hann_window(len(loudness)), n=8000).abs()  # 100 a second
    spectrum[:80] = 0
    return float(spectrum[:960].argmax()) / 80


def fundamental(audio):
    """The fundamental frequency in Hz by autocorrelation, between 70 and 300 Hz."""
    power = torch.fft.rfft(audio.double(), n=2 * len(audio)).abs().square()
    correlation = torch.fft.irfft(power)
    return SECOND / (SECOND // 300 + int(correlation[SECOND // 300 : SECOND // 70].argmax()))


def decibels(x):
    return 10 * float(torch.log10(x.double().square().mean()))


def collate(*draws):
    return default_collate(list(draws))


def drawn(**changes):
    """A draw that changes nothing but what is named."""
    rng = np.random.default_rng(0)
    one = WaveformAugment().draw(rng, samples=1, room=1)
    return {**one, **{key: torch.tensor(value, dtype=one[key].dtype) for key, value in changes.items()}}


def batch(*clips, room=4 * SECOND):
    padded = torch.stack([torch.nn.functional.pad(clip.float(), (0, room - len(clip))) for clip in clips])
    return padded, torch.tensor([len(clip) for clip in clips])


def test_speed_changes_length_pitch_and_rhythm():
    audio, samples = batch(voice(), voice(), voice())
    played, length = change_speed(audio, torch.tensor([18, 20, 22]), samples=samples)
    for row, factor in zip(range(3), (0.9, 1.0, 1.1), strict=True):
        assert int(length[row]) == int(3 * SECOND / factor)
        sound = played[row, : int(length[row])]
        assert fundamental(sound) == pytest.approx(120 * factor, rel=0.01)
        assert rhythm(sound) == pytest.approx(4 * factor, rel=0.02)
        assert played[row, int(length[row]) + 400 :].abs().max() < 1e-3
    assert torch.equal(played[1], audio[1])


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_tempo_changes_length_and_rhythm_but_not_pitch(factor):
    audio, samples = batch(voice(), tone(440))
    draws = collate(drawn(stretch=factor), drawn(stretch=factor))
    played, length = augment_waveforms(audio, draws, samples=samples)
    assert length.tolist() == [int(3 * SECOND / factor)] * 2
    sound = played[0, : int(length[0])]
    assert fundamental(sound) == pytest.approx(120, rel=0.01)
    assert rhythm(sound) == pytest.approx(4 * factor, rel=0.03)
    assert decibels(sound) == pytest.approx(decibels(audio[0, : 3 * SECOND]), abs=0.7)
    assert played[0, int(length[0]) :].abs().max() == 0
    assert peak(played[1, : int(length[1])]) == pytest.approx(440, rel=0.005)


def test_pitch_changes_pitch_alone():
    audio, samples = batch(voice(), voice())
    for factor in (0.9, 1.1):
        resample = round(20 * factor)
        draws = collate(*[drawn(resample=resample, stretch=1 / factor)] * 2)
        played, length = augment_waveforms(audio, draws, samples=samples)
        assert abs(int(length[0]) - 3 * SECOND) <= 2
        assert fundamental(played[0]) == pytest.approx(120 * factor, rel=0.01)
        assert rhythm(played[0, : 3 * SECOND]) == pytest.approx(4, rel=0.02)


def test_a_tempo_of_one_changes_nothing():
    audio, _ = batch(voice(), torch.randn(2 * SECOND) * 0.1)
    torch.testing.assert_close(change_tempo(audio, torch.ones(2)), audio, atol=1e-6, rtol=0)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 10.0, 30.0])
@pytest.mark.parametrize("kind", [1, 2])
def test_noise_has_the_asked_ratio_of_powers(snr, kind):
    audio, samples = batch(voice(seconds=2.0) * 0.1, voice(200, seconds=3.3) * 0.02)
    babble = torch.stack([babble_of([voice(90), voice(150)], sample_rng(0, 0, k), samples=4 * SECOND) for k in (0, 1)])
    draws = collate(*[drawn(noise=kind, snr=snr, place=1000 * k) for k in (3, 7)])
    noisy, length = augment_waveforms(audio, draws, samples=samples, babble=babble)
    assert torch.equal(length, samples)
    for row, end in enumerate(samples.tolist()):
        added = (noisy - audio)[row, :end]
        assert decibels(audio[row, :end]) - decibels(added) == pytest.approx(snr, abs=0.1)
        assert noisy[row, end:].abs().max() == 0


def test_white_noise_is_white_and_differs_between_samples():
    audio, samples = batch(voice(), voice())
    noisy, _ = augment_waveforms(
        audio, collate(*[drawn(noise=1, snr=20, place=p) for p in (5, 90000)]), samples=samples
    )
    added = (noisy - audio)[:, : 3 * SECOND]
    power = torch.fft.rfft(added).abs().square()[:, :24000].view(2, 8, 3000).mean(-1)  # eight bands of 1 kHz
    torch.testing.assert_close(power / power.mean(1, keepdim=True), torch.ones(2, 8), atol=0.1, rtol=0)
    assert abs(float(torch.corrcoef(added)[0, 1])) < 0.02


def test_silence_gets_no_noise_and_babble_must_be_there():
    audio, samples = batch(torch.zeros(SECOND), voice())
    noisy = add_noise(audio, torch.randn_like(audio), snr=torch.zeros(2), samples=samples)
    assert noisy.isfinite().all()
    assert noisy[0].abs().max() == 0
    with pytest.raises(ValueError, match="babble"):
        augment_waveforms(audio, collate(drawn(noise=2), drawn()), samples=samples)
    assert babble_of([torch.zeros(5), torch.zeros(0)], np.random.default_rng(0), samples=10).abs().max() == 0


def test_the_telephone_keeps_its_band_alone():
    for hertz, change in ((60, -40), (150, -30), (400, 0), (1000, 0), (3200, 0), (3700, -35), (6000, -50)):
        sound = tone(hertz).float()[None]
        heard = telephone_band(sound)
        assert heard.shape == sound.shape
        loss = decibels(heard[0, 2000:-2000]) - decibels(sound[0, 2000:-2000])
        assert loss == pytest.approx(0, abs=0.3) if change == 0 else loss < change, hertz
    sound = tone(1000).float()[None]
    torch.testing.assert_close(
        telephone_band(sound)[0, 2000:-2000], sound[0, 2000:-2000], atol=3e-3, rtol=0
    )  # no delay


def test_gain_is_in_decibels_and_clips():
    audio, samples = batch(tone(300, level=0.1), tone(300, level=0.9))
    louder, _ = augment_waveforms(audio, collate(drawn(gain=6.0), drawn(gain=6.0)), samples=samples)
    assert decibels(louder[0]) - decibels(audio[0]) == pytest.approx(6, abs=0.01)
    assert louder.abs().max() == 1


@pytest.mark.parametrize("bins", [80, 128])
def test_the_vocal_tract_moves_spectral_peaks_and_leaves_the_ends(bins):
    hertz = torch.tensor([600.0, 1500.0, 3000.0])
    sounds = torch.stack([tone(h, 1.0).float() for h in hertz.tolist()])
    centres = mel_edges(bins)[1:-1].float()

    def centre_of_mass(features):  # in Hz, of the powers
        power = 10 ** (features.mean(-1) * 4 - 4)
        return (power * centres).sum(-1) / power.sum(-1)

    for factor in (0.9, 1.1):
        warped = LogMel(bins=bins)(sounds, warp=torch.full((3,), factor))
        moved = centre_of_mass(warped) / centre_of_mass(LogMel(bins=bins)(sounds))
        torch.testing.assert_close(moved, torch.full((3,), factor), atol=0.03, rtol=0)
        line = warp_frequencies(torch.tensor([0.0, 1000.0, 7000.0, 8000.0]), torch.tensor([factor]))[0]
        assert line[[0, 1, 3]].tolist() == pytest.approx([0, 1000 * factor, 8000])
        assert (line.diff() > 0).all()


def test_draws_are_a_function_of_their_key_and_reach_their_limits():
    augment = WaveformAugment(
        speed=(0.9, 1.1), tempo=(0.8, 1.2), pitch=(0.9, 1.1), warp=(0.9, 1.1), noise=0.5, babble=0.5, snr=(0, 20),
        telephone=0.3, gain=(-6, 6),
    )  # fmt: skip
    draws = [augment.draw(sample_rng(0, 1, k), samples=SECOND, room=4 * SECOND) for k in range(3000)]
    again = augment.draw(sample_rng(0, 1, 7), samples=SECOND, room=4 * SECOND)
    assert all(torch.equal(again[key], draws[7][key]) for key in again)
    table = default_collate(draws)
    assert set((table["noise"]).tolist()) == {0, 1, 2}
    assert (table["noise"] > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert table["telephone"].float().mean() == pytest.approx(0.3, abs=0.03)
    for key, low, high in (("warp", 0.9, 1.1), ("snr", 0, 20), ("gain", -6, 6), ("resample", 16, 24)):
        assert low <= table[key].min() <= low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) <= table[key].max() <= high
    # A sample that would outgrow its room keeps its speed.
    tight = [augment.draw(sample_rng(0, 1, k), samples=SECOND, room=SECOND) for k in range(300)]
    assert all(int(d["resample"]) / 20 * float(d["stretch"]) >= 1 for d in tight)
    for bad in ({"speed": (1.1, 0.9)}, {"noise": 1.5}, {"tempo": (0.1, 1.0)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            WaveformAugment(**bad)


def test_a_sample_depends_on_no_other():
    augment = WaveformAugment(
        speed=(0.9, 1.1), tempo=(0.9, 1.1), pitch=(0.95, 1.05), noise=0.7, telephone=0.5, gain=(-3, 3)
    )
    audio, samples = batch(*[voice(100 + 9 * k, 1 + 0.3 * k) for k in range(6)])
    draws = default_collate(
        [augment.draw(sample_rng(3, 0, k), samples=int(s), room=64000) for k, s in enumerate(samples)]
    )
    before = audio.clone()
    together, lengths = augment_waveforms(audio, draws, samples=samples)
    assert torch.equal(audio, before)
    for k in range(6):
        one = {key: value[k : k + 1] for key, value in draws.items()}
        alone, length = augment_waveforms(audio[k : k + 1], one, samples=samples[k : k + 1])
        assert torch.equal(length, lengths[k : k + 1])
        torch.testing.assert_close(alone, together[k : k + 1], atol=1e-5, rtol=0)
