"""Whisper's rows of ``zoo bench`` on the way of sound into the model."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from zoo.shared.audio.log_mel import SAMPLE_RATE, LogMel
from zoo.shared.bench import Case, Limit, Row, Setting, Side, import_peer
from zoo.whisper.peers import openai_whisper

_MINUTES = 60


def rows() -> list[Row | Limit]:
    """Rows of the front end."""
    made: list[Row | Limit] = []
    for peer, ending in (("openai-whisper", ""), ("transformers", "-hf")):
        for bins in (80, 128):
            made.append(
                Row(
                    name=f"whisper-log-mel{ending}" + ("" if bins == 80 else f"-{bins}"),
                    what=f"log-mel of {bins} bins of {_MINUTES} minutes of audio in one piece",
                    peer=peer,
                    prepare=partial(prepare_log_mel, peer=peer, bins=bins),
                    unit="s of audio",
                    goal=2.0,
                    modes=(),  # features are float32 on every side
                    tolerance=1e-5,
                    has_floor=False,
                )
            )
    return made


def hum(seconds: int) -> torch.Tensor:
    """Sound with speech's range of levels: noise that swells and fades, over a low hum."""
    rng = np.random.default_rng(0)
    time = np.arange(seconds * SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE
    swell = np.exp(3 * np.sin(2 * np.pi * 0.7 * time) - 4)
    sound = swell * rng.standard_normal(len(time), dtype=np.float32) + 0.05 * np.sin(2 * np.pi * 130 * time)
    return torch.from_numpy(sound.clip(-1, 1).astype(np.float32))


def prepare_log_mel(side: Side, setting: Setting, *, peer: str, bins: int) -> Case:
    """Features of a long recording, floored by the maximum of all of it."""
    seconds = 60 * (1 if setting.quick else _MINUTES)
    audio = hum(seconds).to(setting.device)
    if side == "zoo":
        log_mel = LogMel(bins=bins)

        def call() -> Any:
            return log_mel(audio, maximum="tensor")
    elif peer == "openai-whisper":
        theirs = openai_whisper("audio").log_mel_spectrogram

        def call() -> Any:
            return theirs(audio, n_mels=bins)
    else:
        transformers = import_peer("transformers", package="transformers")
        extractor = transformers.WhisperFeatureExtractor(feature_size=bins)
        array = audio.cpu().numpy()  # what it takes

        def call() -> Any:
            made = extractor(
                array, sampling_rate=SAMPLE_RATE, truncation=False, padding="longest", return_tensors="pt",
                device=setting.device,
            )  # fmt: skip
            return made["input_features"][0]

    return Case(call=call, result=lambda: {"features": call()}, samples=seconds, note=f"{seconds // 60} minutes")
