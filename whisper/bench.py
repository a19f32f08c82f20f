"""Whisper's rows of ``zoo bench``: sound into the model, a window of sound to text, and a recording to text."""

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
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.pretrained import tiny_en

_TEXT = (
    "She had your dark suit in greasy wash water all year. The train to Boston leaves at a quarter past seven. "
    "Please bring me a cup of tea and two pieces of toast. It rained all day, so we stayed at home and read. "
    "Good morning. My name is Alice, and I would like to open a bank account."
)
_MORE = (
    "The library closes at six on Fridays, and it does not open at all on Sundays. Turn left at the church, cross the "
    "bridge and follow the river until you see a small white house with a green door. Nobody knew where the key was. "
    "Thank you for calling. All our lines are busy, but we will answer your call as soon as we can."
)
_INT8, _INT8_COMPILED = Mode(precision="int8"), Mode(precision="int8", compiled=True)
_PEERS = (("openai-whisper", "", 2.0), ("faster-whisper", "-faster", 1.0))


def rows() -> list[Row | Limit]:
    """Whisper's rows."""
    made: list[Row | Limit] = list(bench_audio.rows())
    for peer, ending, goal in _PEERS:
        for beams in (1, 5):
            name = f"whisper-window{ending}" + ("" if beams == 1 else f"-beam{beams}")
            what = "a window of speech to text, " + ("greedy" if beams == 1 else f"{beams} beams")
            made.append(_row(name, what, peer, goal, partial(prepare_window, peer=peer, beams=beams)))
        what = "40 s of speech to text, window after window, greedy"
        made.append(_row(f"whisper-transcribe{ending}", what, peer, goal, partial(prepare_recording, peer=peer)))
    return made


def _row(name: str, what: str, peer: str, goal: float, prepare: Callable[[Side, Setting], Case]) -> Row:
    return Row(
        name=name,
        what=f"tiny.en (real weights) from {what}",
        peer=peer,
        prepare=prepare,
        unit="s of audio",
        goal=goal,
        modes=(PLAIN, _INT8) if peer == "faster-whisper" else (PLAIN,),
        own_modes=(_INT8_COMPILED,) if peer == "faster-whisper" else (_INT8, _INT8_COMPILED),
        tolerance=0.02,  # of how often each letter comes: punctuation may differ
        best_tolerance=0.2,
        has_floor=False,
        devices=("cpu",),
    )


def speech(text: str = _TEXT) -> Tensor:
    """An artificial voice ``(S,)``, the same samples in every process; some 20 seconds of it by default."""
    from zoo.whisper.speech.speaking import Speaker  # deferred: the voice is an optional package
    from zoo.whisper.speech.synthesis import speak_all

    samples = speak_all([(text, Speaker("en-US"))], workers=1).samples(0)
    return torch.from_numpy(samples.astype(np.float32) / 32768)


def letters(text: str) -> Mapping[str, Tensor]:
    """How often each letter comes."""
    return {"letters": torch.from_numpy(np.bincount(list(text.lower().encode()), minlength=256)).float()}


def prepare_window(side: Side, setting: Setting, *, peer: str, beams: int) -> Case:
    """Samples to text; int8 means matrices of that type."""
    audio = speech()
    audio = audio[: 3 * 16_000] if setting.quick else audio
    make = {"zoo": _zoo, "openai-whisper": _openai, "faster-whisper": _faster}["zoo" if side == "zoo" else peer]
    call = make(audio, setting.mode, None if beams == 1 else beams)
    return Case(call=call, result=lambda: letters(call()), samples=30, note=f"{len(audio) / 16_000:.1f} s of speech")


def prepare_recording(side: Side, setting: Setting, *, peer: str) -> Case:
    """The same of more than a window, with what each side does about several of them."""
    audio = speech() if setting.quick else speech(f"{_TEXT} {_MORE}")
    make = {"zoo": _zoo_recording, "openai-whisper": _openai_recording, "faster-whisper": _faster}
    call = make["zoo" if side == "zoo" else peer](audio, setting.mode)
    seconds = len(audio) / 16_000
    return Case(call=call, result=lambda: letters(call()), samples=round(seconds), note=f"{seconds:.1f} s of speech")


def _zoo_parts(mode: Mode) -> tuple[Any, WhisperPreprocessor]:
    from zoo.whisper.tokenizer import WhisperTokenizer

    model: Any = load(tiny_en()).eval()
    preprocessor = WhisperPreprocessor(WhisperTokenizer.load(tiny_en(), model.config), model.config)
    return model.for_int8_decoding() if mode.precision == "int8" else model, preprocessor


def _zoo(audio: Tensor, mode: Mode, beams: int | None) -> Callable[[], str]:
    from zoo.whisper.decoding import DecodingOptions, decode

    model, features = _zoo_parts(mode)
    options = DecodingOptions(beam_size=beams, compile="inductor" if mode.compiled else None)

    def call() -> str:
        with torch.inference_mode():
            states = model.encoder(features.features(audio)[None])
            return decode(model, features.tokenizer, states, options)[0].text

    return call


def _zoo_recording(audio: Tensor, mode: Mode) -> Callable[[], str]:
    from zoo.whisper.transcription.options import TranscriptionOptions
    from zoo.whisper.transcription.transcribe import transcribe

    model, features = _zoo_parts(mode)
    options = TranscriptionOptions(language="en", temperature=(0.0,), compile="inductor" if mode.compiled else None)
    return lambda: str(transcribe(model, audio, preprocessor=features, options=options)["text"]).strip()


def _openai_model() -> Any:
    from zoo.whisper.convert import OPENAI

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
    return theirs


def _openai(audio: Tensor, mode: Mode, beams: int | None) -> Callable[[], str]:
    assert mode == PLAIN
    whisper: Any = openai_whisper()
    theirs = _openai_model()
    options = whisper.DecodingOptions(fp16=False, language="en", beam_size=beams)

    def call() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they leave the vocabulary's file open, and numpy finds their calls old
            mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(audio), theirs.dims.n_mels)
            return str(whisper.decode(theirs, mel, options).text)

    return call


def _openai_recording(audio: Tensor, mode: Mode) -> Callable[[], str]:
    assert mode == PLAIN
    theirs = _openai_model()

    def call() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(theirs.transcribe(audio, language="en", temperature=0.0, fp16=False)["text"]).strip()

    return call


def _faster(audio: Tensor, mode: Mode, beams: int | None = None) -> Callable[[], str]:
    faster: Any = import_peer("faster_whisper", package="faster-whisper")
    model = faster.WhisperModel(
        str(tiny_en()), device="cpu", compute_type=mode.precision, cpu_threads=torch.get_num_threads()
    )
    samples = audio.numpy()

    def call() -> str:
        segments, _ = model.transcribe(samples, language="en", beam_size=beams or 1, temperature=0.0)
        return "".join(segment.text for segment in segments).strip()

    return call
