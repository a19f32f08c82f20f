"""Whisper's rows of ``zoo bench``: sound into the model, and a window of sound to text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.shared.bench import PLAIN, Case, Limit, Mode, Row, Setting, Side, import_peer
from zoo.weights import load
from zoo.whisper import bench_audio
from zoo.whisper.peers import openai_whisper

_TEXT = (
    "She had your dark suit in greasy wash water all year. The train to Boston leaves at a quarter past seven. "
    "Please bring me a cup of tea and two pieces of toast. It rained all day, so we stayed at home and read. "
    "Good morning. My name is Alice, and I would like to open a bank account."
)
_INT8 = Mode(precision="int8")


def rows() -> list[Row | Limit]:
    """Whisper's rows."""
    made: list[Row | Limit] = list(bench_audio.rows())
    for peer, ending, goal in (("openai-whisper", "", 2.0), ("faster-whisper", "-faster", 1.0)):
        for beams in (1, 5):
            made.append(
                Row(
                    name=f"whisper-window{ending}" + ("" if beams == 1 else f"-beam{beams}"),
                    what="tiny.en (real weights) from a window of speech to text, "
                    + ("greedy" if beams == 1 else f"{beams} beams"),
                    peer=peer,
                    prepare=partial(prepare_window, peer=peer, beams=beams),
                    unit="s of audio",
                    goal=goal,
                    modes=(PLAIN, _INT8) if peer == "faster-whisper" else (PLAIN,),
                    own_modes=() if peer == "faster-whisper" else (_INT8,),
                    tolerance=0.02,  # of how often each letter comes: punctuation may differ
                    best_tolerance=0.2,
                    has_floor=False,
                    devices=("cpu",),
                )
            )
    return made


def speech() -> Tensor:
    """Some 20 seconds of an artificial voice ``(S,)``."""
    from zoo.whisper.speech.speaking import Speaker, speak  # deferred: the voice is an optional package

    return torch.from_numpy(speak([(_TEXT, Speaker("en-US"))])[0].astype(np.float32) / 32768)


def letters(text: str) -> Mapping[str, Tensor]:
    """How often each letter comes."""
    return {"letters": torch.from_numpy(np.bincount(list(text.lower().encode()), minlength=256)).float()}


def prepare_window(side: Side, setting: Setting, *, peer: str, beams: int) -> Case:
    """Samples to text; int8 means matrices of that type."""
    audio = speech()
    audio = audio[: 3 * 16_000] if setting.quick else audio
    make = {"zoo": _zoo, "openai-whisper": _openai, "faster-whisper": _faster}["zoo" if side == "zoo" else peer]
    call = make(audio, setting.mode.precision, None if beams == 1 else beams)
    return Case(call=call, result=lambda: letters(call()), samples=30, note=f"{len(audio) / 16_000:.1f} s of speech")


def _zoo(audio: Tensor, precision: str, beams: int | None) -> Callable[[], str]:
    from zoo.whisper.decoding import DecodingOptions, decode
    from zoo.whisper.preprocessing import WhisperPreprocessor
    from zoo.whisper.pretrained import tiny_en
    from zoo.whisper.tokenizer import WhisperTokenizer

    model: Any = load(tiny_en()).eval()
    tokenizer = WhisperTokenizer.load(tiny_en(), model.config)
    features = WhisperPreprocessor(tokenizer, model.config)
    model = model.for_int8_decoding() if precision == "int8" else model
    options = DecodingOptions(beam_size=beams)

    def call() -> str:
        with torch.inference_mode():
            return decode(model, tokenizer, model.encoder(features.features(audio)[None]), options)[0].text

    return call


def _openai(audio: Tensor, precision: str, beams: int | None) -> Callable[[], str]:
    from zoo.whisper.convert import OPENAI
    from zoo.whisper.pretrained import tiny_en

    whisper: Any = openai_whisper()
    ours: Any = load(tiny_en())
    config = ours.config
    sizes = (config.width, config.heads)
    theirs = whisper.model.Whisper(
        whisper.model.ModelDimensions(
            config.mels, config.audio_context, *sizes, config.audio_depth,
            config.vocab_size, config.text_context, *sizes, config.text_depth,
        )
    ).eval()  # fmt: skip
    theirs.load_state_dict(OPENAI.foreign_state(ours))
    options = whisper.DecodingOptions(fp16=False, language="en", beam_size=beams)

    def call() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they leave the vocabulary's file open, and numpy finds their calls old
            mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(audio), config.mels)
            return str(whisper.decode(theirs, mel, options).text)

    return call


def _faster(audio: Tensor, precision: str, beams: int | None) -> Callable[[], str]:
    from zoo.whisper.pretrained import tiny_en

    faster: Any = import_peer("faster_whisper", package="faster-whisper")
    model = faster.WhisperModel(
        str(tiny_en()), device="cpu", compute_type=precision, cpu_threads=torch.get_num_threads()
    )
    samples = audio.numpy()

    def call() -> str:
        segments, _ = model.transcribe(samples, language="en", beam_size=beams or 1, temperature=0.0)
        return "".join(segment.text for segment in segments).strip()

    return call
