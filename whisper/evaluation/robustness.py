"""Error rate over noise (Radford et al. 2022, arXiv:2212.04356, section 3.7 and figure 5).

Differs from the paper in: babble is made of the set's own other utterances, where the paper had a pub's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.shared.audio.waveforms import add_noise
from zoo.shared.errors import UserError
from zoo.whisper.evaluation.benchmarks import errors_of, summary
from zoo.whisper.evaluation.exam import Change, Exam, write_all
from zoo.whisper.speech.noise import babble, noise

KINDS = ("white", "babble")
_BABBLE = 7  # apart from the generator of white noise


def noise_curve(exam: Exam) -> dict[str, Any]:
    """WER under white noise and babble at each ratio, and without noise.

    The noise of an utterance is the same at every ratio, and follows from the seed and the utterance's number.
    """
    numbers = exam.chosen(
        lambda one: one.task == "transcribe" and not one.no_speech, otherwise="give speech with text in its language"
    )
    if len(exam.source) < 2:
        raise UserError("babble is made of other utterances; give speech with two of them or more")
    changes = {"white": _white, "babble": _babble}
    clean = write_all(exam, numbers)
    result: dict[str, Any] = {
        "clean": summary(list(errors_of(exam, list(clean.texts), clean.texts).values())),
        "snrs": list(exam.snrs),
    }
    for kind in KINDS:
        curve = []
        for snr in exam.snrs:
            exam.say(f"{kind} noise at {snr:g} dB")
            work = write_all(exam, numbers, change=changes[kind](exam, snr))
            curve.append(summary(list(errors_of(exam, list(work.texts), work.texts).values())))
        result[kind] = curve
    return {**result, "unreadable": clean.unreadable}


def _white(exam: Exam, snr: float) -> Change:
    def change(number: int, samples: Tensor) -> Tensor:
        return _mixed(samples, torch.from_numpy(noise(_generator(exam, number, 0), len(samples))), snr)

    return change


def _babble(exam: Exam, snr: float) -> Change:
    def change(number: int, samples: Tensor) -> Tensor:
        draw = _generator(exam, number, _BABBLE)
        return _mixed(samples, babble(exam.source, draw, len(samples), but=[exam.source[number].id]), snr)

    return change


def _mixed(samples: Tensor, under: Tensor, snr: float) -> Tensor:
    """Speech ``(S,)`` with noise ``(S,)`` under it; made quieter where it would leave [-1, 1]."""
    length = torch.tensor([len(samples)])
    mixed = add_noise(samples[None], under[None], snr=torch.tensor([snr]), samples=length)[0]
    return mixed / mixed.abs().max().clamp_min(1)


def _generator(exam: Exam, number: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[exam.seed, stream], counter=[0, 0, 0, number]))


def draw_curve(result: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Draw error rates over the ratio, which falls to the right as in the paper.

    Args:
        result: Of :func:`noise_curve`.
        path: The PNG file.
        title: Heading.
    """
    import matplotlib.figure

    from zoo.shared.files import save_atomically

    figure = matplotlib.figure.Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for kind in KINDS:
        heights = [_percent(point["wer"]) for point in result[kind]]
        errors = [_percent(point["wer_error"]) for point in result[kind]]
        axes.errorbar(result["snrs"], heights, yerr=errors, marker="o", markersize=4, capsize=2, label=f"{kind} noise")
    axes.axhline(_percent(result["clean"]["wer"]), color="grey", linewidth=0.8, linestyle="--", label="no noise")
    axes.invert_xaxis()
    axes.set(xlabel="signal to noise in dB", ylabel="word error rate in %")
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(fontsize=8)
    save_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


def _percent(share: float | None) -> float:
    return 100 * (share or 0.0)


def check_snrs(values: Sequence[float]) -> None:
    """Refuse ratios that cannot be drawn.

    Raises:
        UserError: None, or not numbers, or one of them twice.
    """
    if not values or len(set(values)) < len(values) or not all(-60 <= value <= 100 for value in values):
        raise UserError("--snr takes different ratios in dB from -60 to 100 with commas between, such as 20,10,0")
