"""Speech for Whisper: waveforms and what was drawn for them from the workers, spectrograms on the accelerator."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import default_collate

from zoo.shared.audio.log_mel import HOP, SAMPLE_RATE, LogMel
from zoo.shared.audio.spec_augment import POLICIES, PolicyName, draw_spec_augment, spec_augment
from zoo.shared.audio.waveforms import WaveformAugment, augment_waveforms, babble_of
from zoo.shared.data.datamodule import Item, ItemReader, KeyedDataModule
from zoo.shared.data.images import BadSample
from zoo.shared.errors import UserError
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.languages import LANGUAGES
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.speech.pieces import TOO_LONG, cut_all
from zoo.whisper.speech.records import SpeechSource
from zoo.whisper.speech.sounds import samples_of
from zoo.whisper.splits import Speech, open_splits
from zoo.whisper.targets import IGNORED, TargetOptions, write_targets
from zoo.whisper.tokenizer import WhisperTokenizer

log = logging.getLogger("zoo")

_TALKERS = 3  # that babble at once
_GRID = 20  # see zoo.shared.audio.waveforms.WaveDraw.resample


class SpeechItems:
    """Utterances as waveforms, tokens and targets.

    Args:
        source: The utterances.
        config: The model.
        tokenizer: Its tokenizer.
        targets: How targets are written.
        augment: What happens to waveforms.
        policy: What happens to spectrograms; None: nothing.
        window: Seconds of sound, padding included; None: as many as the model hears.
    """

    def __init__(
        self,
        source: SpeechSource,
        config: WhisperConfig,
        tokenizer: WhisperTokenizer,
        targets: TargetOptions,
        augment: WaveformAugment | None = None,
        policy: PolicyName | None = None,
        window: float | None = None,
    ) -> None:
        self.source = source
        self.config = config
        self.tokenizer = tokenizer
        self.targets = targets
        self.augment = augment
        self.policy = policy
        self.window = window

    @property
    def room(self) -> int:
        """Samples of an item."""
        return self.config.window_samples if self.window is None else round(self.window * SAMPLE_RATE)

    def __len__(self) -> int:
        return len(self.source)

    def id(self, index: int) -> str:
        """The utterance's name."""
        return self.source[index].id

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """``audio`` float32 ``(S,)`` padded with zeros, its ``samples``, ``tokens`` and ``targets`` int64 ``(T,)``, and
        what was drawn.
        """
        utterance, room = self.source[index], self.room
        timed = rng.random() < self.targets.timestamps
        audio = samples_of(utterance)
        if not timed and utterance.segments and utterance.segments[-1].end is None:
            # What the window cuts is only in texts with times, by its beginning (Section 2.3).
            audio = audio[: round(utterance.segments[-1].start * SAMPLE_RATE)]
        if len(audio) > room:
            raise BadSample(
                f"it lasts {len(audio) / SAMPLE_RATE:.1f} s, and the model hears {room / SAMPLE_RATE:g} s at once"
            )
        if not torch.isfinite(audio).all():
            raise BadSample("its sound holds values that are no numbers")
        item: Item = {"audio": F.pad(audio, (0, room - len(audio))), "samples": len(audio)}
        stretch = 1.0
        if self.augment is not None:
            draw = self.augment.draw(rng, samples=len(audio), room=room)
            stretch = _GRID / (int(draw["resample"]) * float(draw["stretch"]))
            item["wave"] = draw
            if self.augment.babble:
                item["babble"] = self._babble(rng) if int(draw["noise"]) == 2 else torch.zeros(room)
        if self.policy is not None:
            frames = round(len(audio) * stretch) // HOP
            item["spec"] = draw_spec_augment(rng, POLICIES[self.policy], frames=frames, bins=self.config.mels)
        seconds = min(len(audio) * stretch, room) / SAMPLE_RATE
        tokens, targets = write_targets(
            utterance, self.tokenizer, self.targets, rng, timed=timed, seconds=seconds, stretch=stretch
        )
        short = self.targets.context - len(tokens)
        item["tokens"] = F.pad(torch.tensor(tokens), (0, short), value=self.tokenizer.specials.eot)
        item["targets"] = F.pad(torch.tensor(targets), (0, short), value=IGNORED)
        return item

    def _babble(self, rng: np.random.Generator) -> Tensor:
        clips = [samples_of(self.source[int(i)]) for i in rng.integers(len(self.source), size=_TALKERS)]
        return babble_of(clips, rng, samples=self.room)


class WhisperDataModule(KeyedDataModule):
    """Utterances and their transcripts.

    A batch has ``mel`` ``(B, M, F)``, ``tokens`` and ``targets`` ``(B, T)``, which are -100 where nothing is to be
    learnt, and ``samples`` ``(B,)``.

    Args:
        config: The model that is trained.
        source: ``generated`` (spoken by a synthesiser; held-out sentences, and a voice that is never trained on),
            ``tones`` (dialled numbers, for tests), ``prompts-en``, ``prompts-es`` or ``prompts-fr`` (a telephone
            system's, spoken by people), a manifest (JSON lines of ``audio``, ``text``, ``language``, and if wanted
            ``task``, ``segments``, ``prompt``), a table or folder of Common Voice, a folder of LibriSpeech, or
            WebDataset tars.
        language: Language of a source that does not say it.
        languages: Of ``generated``: what is spoken.
        utterances: Of ``generated`` and ``tones``: how many are there to train on.
        tokenizer: Folder with a tokenizer; None takes the model's, which a model with one of its own has trained on
            the training transcripts.
        held_out: Share of the transcripts that is held out, where the source has no part of its own.
        window: Seconds of sound that the model is trained on at once, which cost less than all that it hears; longer
            recordings are cut at their segments, or left out. None: all that it hears. What is held out is heard as in
            use.
        timestamps: Chance that the times of segments are written.
        previous: Chance that the text before is told, where there is some.
        bpe_dropout: Chance that a merge of the tokenizer is left out (large-v2: 0.1).
        spec_augment: Masks of spectrograms: ``LB``, ``LD``, ``SM`` or ``SS`` (large-v2: ``LB``).
        speed: Least and greatest speed, pitch included.
        tempo: Least and greatest speed at the same pitch.
        pitch: Lowest and highest pitch at the same speed.
        vocal_tract: Least and greatest warp of the frequencies, as shorter and longer throats make it.
        noise: Chance of noise.
        babble: Share of the noise that is other people's speech.
        snr: Least and greatest ratio of speech to noise, in dB.
        telephone: Chance of a telephone's band.
        gain: Least and greatest loudness, in dB.
        batch_size: Utterances in a batch of all processes together.
        workers: Processes that read.
        seed: Chooses order and augmentation.
        max_bad_fraction: The run stops when a larger share cannot be used.

    Attributes:
        trained: Whether the run starts from weights.
        speech: What is trained on and what is held out, once it is open.
    """

    def __init__(
        self,
        config: WhisperConfig,
        *,
        source: str = "generated",
        language: str | None = None,
        languages: tuple[str, ...] = ("en", "de", "es", "fr", "it"),
        utterances: int = 8000,
        tokenizer: str | None = None,
        held_out: float = 0.1,
        window: float | None = None,
        timestamps: float = 0.5,
        previous: float = 0.5,
        bpe_dropout: float = 0.0,
        spec_augment: Literal["LB", "LD", "SM", "SS"] | None = None,
        speed: tuple[float, float] = (1.0, 1.0),
        tempo: tuple[float, float] = (1.0, 1.0),
        pitch: tuple[float, float] = (1.0, 1.0),
        vocal_tract: tuple[float, float] = (1.0, 1.0),
        noise: float = 0.0,
        babble: float = 0.0,
        snr: tuple[float, float] = (5.0, 30.0),
        telephone: float = 0.0,
        gain: tuple[float, float] = (0.0, 0.0),
        batch_size: int = 32,
        workers: int = 0,
        seed: int = 0,
        max_bad_fraction: float = 0.01,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed, max_bad_fraction=max_bad_fraction)
        for name, chance in (
            ("held_out", held_out), ("timestamps", timestamps), ("previous", previous), ("bpe_dropout", bpe_dropout)
        ):  # fmt: skip
            if not 0 <= chance <= 1:
                raise UserError(f"--data.{name} is a share, from 0 to 1, not {chance}")
        if utterances < 1:
            raise UserError(f"--data.utterances must be at least 1, not {utterances}")
        if window is not None and not 0.1 <= window <= config.window_seconds:
            raise UserError(f"--data.window must be from 0.1 to the {config.window_seconds:g} s that the model hears, "
                            f"not {window:g}")  # fmt: skip
        self.config = config
        self.source = source
        self.window = window
        self.trained = False
        self.language = language
        self.languages = tuple(languages)
        self.utterances = utterances
        self.tokenizer = tokenizer
        self.held_out = held_out
        self.targets = TargetOptions(
            context=config.text_context,
            window=window or config.window_seconds,
            timestamps=timestamps,
            previous=previous,
            dropout=bpe_dropout,
        )
        self.spec_augment = spec_augment
        try:
            self.augment = WaveformAugment(
                speed=speed,
                tempo=tempo,
                pitch=pitch,
                warp=vocal_tract,
                noise=noise,
                babble=babble,
                snr=snr,
                telephone=telephone,
                gain=gain,
            )
        except ValueError as error:
            raise UserError(f"--data: {error}") from error
        self.log_mel = LogMel(bins=config.mels)
        self.speech: Speech | None = None

    def start_from(self, weights: Path | None) -> None:
        """Use the tokenizer that lies beside the weights.

        Raises:
            UserError: The model has a tokenizer of its own, and it does not lie there.
        """
        from zoo.whisper.vocabulary import has_tokenizer

        self.trained = True
        if self.tokenizer is not None:
            return
        if weights is not None and has_tokenizer(weights):
            self.tokenizer = str(weights)
        elif self.config.tokenizer == "bpe":
            raise UserError("no tokenizer lies beside the weights, and theirs cannot be guessed; give --data.tokenizer")

    def open(self) -> tuple[ItemReader, ItemReader | None]:
        """Open the source."""
        self.speech = open_splits(
            self.source,
            held_out=self.held_out,
            language=self.language,
            languages=self.languages,
            utterances=self.utterances,
            seed=self.seed,
            progress=log.info,
        )
        self.name_unreadable(self.speech.unreadable, len(self.speech.train), what="recording")
        if self.window is not None:
            self.speech = self._cut(self.speech, self.window)
        tokenizer = self._tokenizer(self.speech.train)
        self.preprocessor = WhisperPreprocessor(tokenizer, self.config)
        changed = self.augment if self.augment != WaveformAugment() else None
        train = SpeechItems(
            self.speech.train, self.config, tokenizer, self.targets, changed, self.spec_augment, self.window
        )
        plain = replace(self.targets, timestamps=0.0, previous=0.0, dropout=0.0)
        held_out = next(iter(self.speech.held_out.values()), None)
        if held_out is None:
            log.warning("no speech is held out, so nothing will be measured; --data.held_out takes a larger share")
        return train, None if held_out is None else SpeechItems(held_out, self.config, tokenizer, plain)

    def count(self, batch: Item) -> dict[str, int]:
        """Tokens that are to be learnt."""
        return {"tokens": int((batch["targets"] != IGNORED).sum())}

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Change waveforms as drawn, compute spectrograms, mask them, and cut texts at the longest one's end."""
        audio, samples = batch.pop("audio"), batch["samples"]
        warp = None
        if (draws := batch.pop("wave", None)) is not None:
            audio, samples = augment_waveforms(audio, draws, samples=samples, babble=batch.pop("babble", None))
            warp = draws["warp"] if self.augment.warp != (1.0, 1.0) else None
        mel = self.log_mel(audio, warp=warp)
        if (masks := batch.pop("spec", None)) is not None:
            mel = spec_augment(mel, masks, frames=samples // HOP)
        longest = int((batch["targets"] != IGNORED).sum(0).nonzero().max()) + 1
        cut = {name: batch[name][:, :longest] for name in ("tokens", "targets")}
        return {**batch, **cut, "mel": mel, "samples": samples}

    def peek(self, count: int) -> dict[str, Any]:
        """The first training utterances that can be used as a batch, in the source's order.

        Raises:
            UserError: None can.
        """
        reader, items = self.readers[0], list[Item]()
        for index in range(min(len(reader), 8 * count)):
            with suppress(BadSample):
                items.append({**reader.read(index, np.random.default_rng(index)), "index": index})
            if len(items) == count:
                break
        if not items:
            raise UserError(f"none of the first utterances of {self.source} can be used; check recordings and texts")
        return self.on_after_batch_transfer(default_collate(items), 0)

    def _cut(self, speech: Speech, window: float) -> Speech:
        """Speech whose training part fits into a window.

        Raises:
            UserError: Nothing of it does.
        """
        source = speech.train
        train = cut_all(source.name, (source[i] for i in range(len(source))), window=window)
        if missing := train.left_out.get(TOO_LONG):
            log.info("%d recordings are longer than --data.window %g s and left out", missing, window)
        if not len(train):
            raise UserError(f"nothing of {self.source} fits into --data.window {window:g}; raise it")
        return replace(speech, train=train, unreadable={**speech.unreadable, **train.unreadable})

    @property
    def description(self) -> str:
        """What is trained on, in words."""
        return "generated speech" if self.source == "generated" else self.source

    def _tokenizer(self, train: SpeechSource) -> WhisperTokenizer:
        from zoo.whisper.vocabulary import train_tokenizer

        if self.tokenizer is not None:
            return WhisperTokenizer.load(self.tokenizer, self.config)
        if self.config.tokenizer != "bpe":
            return WhisperTokenizer.for_model(self.config)
        texts = [f" {train[i].text.strip()}" for i in range(len(train))]
        spoken = sorted({code for i in range(len(train)) if (code := train[i].language) is not None})
        return train_tokenizer(
            texts,
            self.config.vocab_size,
            languages=sorted(spoken, key=list(LANGUAGES).index),  # the order that transformers takes for granted
            audio_context=self.config.audio_context,
        )
