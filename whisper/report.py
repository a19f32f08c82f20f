"""What a trained Whisper writes for held-out speech: error rates by part, language and task, and a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.shared.data.images import BadSample
from zoo.shared.runs.report import Figure, Report
from zoo.whisper.data import WhisperDataModule
from zoo.whisper.decoding.decode import decode
from zoo.whisper.decoding.language import detect_language
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.result import DecodingResult
from zoo.whisper.evaluation.scores import Errors, count_errors
from zoo.whisper.languages import LANGUAGES
from zoo.whisper.pictures import Heard, listening_sheet
from zoo.whisper.speech.records import Utterance
from zoo.whisper.speech.sounds import samples_of
from zoo.whisper.transcription.words import alignment_heads, recorded_scores

_MOST = 400  # utterances of a part that are measured
_BATCH = 32
_SHOWN = 4  # in the picture


def report(task: Any, datamodule: WhisperDataModule, folder: Path) -> Report:
    """Measure a trained model on held-out speech and draw what it heard.

    Args:
        task: The trained :class:`~zoo.whisper.task.WhisperTask`.
        datamodule: The data module of the run.
        folder: Where the picture goes.
    """
    assert datamodule.speech is not None
    commands = ["zoo transcribe AUDIO --weights {weights}", "zoo eval whisper --weights {weights} --data MANIFEST"]
    if not datamodule.speech.held_out:
        return Report(title=f"{datamodule.description}: nothing was held out, so nothing was measured",
                      next_commands=commands)  # fmt: skip
    listener = Listener(task.model, datamodule.preprocessor)
    figures: list[Figure] = []
    shown: list[tuple[Utterance, str]] = []
    for part, source in datamodule.speech.held_out.items():
        step = max(1, len(source) // _MOST)
        utterances = [source[index] for index in range(0, len(source), step)]
        found = listener.write(utterances)
        figures += part_figures(part, found, multilingual=listener.tokenizer.multilingual)
        spoken = [(one, result.text.strip()) for one, result, _ in found if not one.no_speech]
        shown += spoken[: _SHOWN // len(datamodule.speech.held_out)]
    picture = folder / "heard.png"
    listening_sheet([listener.attention(one, text) for one, text in shown], picture)
    return Report(
        title=f"held-out speech of {datamodule.description}",
        figures=figures,
        pictures=[picture],
        next_commands=commands,
    )


class Listener:
    """A model and what belongs to it.

    Args:
        model: The model; it is measured as for use.
        preprocessor: Its :class:`~zoo.whisper.preprocessing.WhisperPreprocessor`.
    """

    def __init__(self, model: Any, preprocessor: Any) -> None:
        self.model = model.eval()
        self.preprocessor = preprocessor
        self.tokenizer = preprocessor.tokenizer
        self.device = next(model.parameters()).device

    def features(self, utterances: Sequence[Utterance]) -> Tensor:
        """Spectrograms ``(N, M, F)``."""
        return torch.stack([self.preprocessor.features(samples_of(one)) for one in utterances]).to(self.device)

    @torch.inference_mode()
    def write(self, utterances: Sequence[Utterance]) -> list[tuple[Utterance, DecodingResult, str]]:
        """Each utterance that can be heard, what the model writes for it when told language and task, and the language
        that it hears.
        """
        groups: dict[tuple[str | None, str], list[Utterance]] = defaultdict(list)
        for one in utterances:
            language = (one.language or self.tokenizer.languages[0]) if self.tokenizer.multilingual else None
            groups[language, one.task].append(one)
        found = []
        for (language, task), members in groups.items():
            for start in range(0, len(members), _BATCH):
                batch = [one for one in members[start : start + _BATCH] if self._usable(one)]
                if batch:
                    states = self.model.hear(self.features(batch))
                    options = DecodingOptions(language=language, task=task, without_timestamps=True)
                    results = decode(self.model, self.tokenizer, states, options)
                    heard = self._languages(states)
                    found += list(zip(batch, results, heard, strict=True))
        return found

    def _usable(self, one: Utterance) -> bool:
        try:
            return len(samples_of(one)) <= self.preprocessor.config.window_samples
        except BadSample:
            return False

    def _languages(self, states: Tensor) -> list[str]:
        if not self.tokenizer.multilingual:
            return [self.tokenizer.languages[0]] * len(states)
        return [
            max(chances, key=chances.__getitem__) for chances in detect_language(self.model, self.tokenizer, states)
        ]

    @torch.inference_mode()
    def attention(self, one: Utterance, text: str) -> Heard:
        """Where in the sound the model looked for each word."""
        mel = self.features([one])
        language = one.language if self.tokenizer.multilingual else None
        start = [*self.tokenizer.sot_sequence(language, one.task), self.tokenizer.no_timestamps]
        ids = self.tokenizer.encode(f" {text}")
        tokens = torch.tensor([[*start, *ids]], device=self.device)
        with recorded_scores(self.model.decoder, alignment_heads(self.model.config)) as scores:
            self.model.decoder(tokens, self.model.hear(mel))
        weights = torch.stack([score.softmax(-1) for score in scores.values()]).mean(0)
        rows = weights.view(len(tokens[0]), -1)[len(start) - 1 : -1]  # where a piece is chosen, not where it is read
        words = [self.tokenizer.decode([index]) for index in ids]
        seconds = len(samples_of(one)) / 16_000
        return Heard(title=_title(one), said=one.text, mel=mel[0].cpu(), words=words, weights=rows, seconds=seconds)


def _title(one: Utterance) -> str:
    language = LANGUAGES.get(one.language or "", "")
    return f"{one.voice or one.id}, {language}" + (" into english" if one.task == "translate" else "")


def part_figures(
    part: str, found: Sequence[tuple[Utterance, DecodingResult, str]], *, multilingual: bool
) -> list[Figure]:
    """Error rates, and how often the language and silence were told."""
    figures: list[Figure] = []
    groups: dict[tuple[str, str], list[tuple[Utterance, DecodingResult, str]]] = defaultdict(list)
    for one in found:
        if not one[0].no_speech and one[0].language is not None:
            groups[one[0].task, one[0].language].append(one)
    for (task, language), members in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != "en", item[0])):
        target = "en" if task == "translate" else language
        errors = sum((count_errors(u.text, r.text, language=target) for u, r, _ in members), Errors())
        name = f"{LANGUAGES[language]} to english" if task == "translate" else LANGUAGES[language]
        for kind, value in (("word", errors.wer), ("character", errors.cer)):
            if value is not None and (kind == "word" or len(groups) == 1 or (task, language) == ("transcribe", "en")):
                key = f"{'wer' if kind == 'word' else 'cer'}/{part}/{task}/{language}".replace(" ", "_")
                figures.append(Figure(name=f"{part}, {name}: {kind} errors", key=key, value=value))
    spoken = [(u.language, heard) for u, _, heard in found if u.language is not None and u.task == "transcribe"]
    if multilingual and len({language for language, _ in spoken}) > 1:
        right = sum(language == heard for language, heard in spoken) / len(spoken)
        chance = 1 / len({language for language, _ in spoken})
        figures.append(
            Figure(name=f"{part}: language told", key=f"language/{part}".replace(" ", "_"), value=right, chance=chance)
        )
    silent = [(u.no_speech, r.no_speech_prob > 0.5) for u, r, _ in found]
    if any(quiet for quiet, _ in silent):
        right = sum(quiet == told for quiet, told in silent) / len(silent)
        chance = max(1 - sum(quiet for quiet, _ in silent) / len(silent), 0.5)
        figures.append(
            Figure(
                name=f"{part}: speech or none told",
                key=f"no_speech/{part}".replace(" ", "_"),
                value=right,
                chance=chance,
            )
        )
    return figures
