"""A Whisper at work on held-out speech: what it writes, and its error rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from zoo.shared.data.images import BadSample
from zoo.shared.runs.report import Figure
from zoo.whisper.decoding.decode import decode
from zoo.whisper.decoding.language import detect_language
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.result import DecodingResult
from zoo.whisper.evaluation.scores import Errors, count_errors
from zoo.whisper.languages import LANGUAGES
from zoo.whisper.pictures import Heard
from zoo.whisper.speech.records import SpeechSource, Utterance
from zoo.whisper.speech.sounds import samples_of
from zoo.whisper.transcription.words import alignment_heads, recorded_scores

_MOST = 400  # utterances of a part that are measured
_BATCH = 32

Found = tuple[Utterance, DecodingResult, str]
"""An utterance, what was written for it, and the language that was heard."""


class Listener:
    """A model and what belongs to it. The model is used as after training, and left as it was.

    Args:
        model: The model.
        preprocessor: Its :class:`~zoo.whisper.preprocessing.WhisperPreprocessor`.
    """

    def __init__(self, model: Any, preprocessor: Any) -> None:
        self.model = model
        self.preprocessor = preprocessor
        self.tokenizer = preprocessor.tokenizer
        self.device = next(model.parameters()).device

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.train(training)

    def features(self, utterances: Sequence[Utterance]) -> Tensor:
        """Spectrograms ``(N, M, F)`` of the model's whole window."""
        return torch.stack([self.preprocessor.features(samples_of(one)) for one in utterances]).to(self.device)

    def write(self, utterances: Sequence[Utterance], *, languages: bool = True) -> list[Found]:
        """Write down each utterance that can be heard, told its language and task.

        Args:
            utterances: To be heard.
            languages: Whether to hear the language, too; otherwise it is the one that was told.
        """
        groups: dict[tuple[str | None, str], list[Utterance]] = defaultdict(list)
        for one in utterances:
            language = (one.language or self.tokenizer.languages[0]) if self.tokenizer.multilingual else None
            groups[language, one.task].append(one)
        found: list[Found] = []
        with self._at_work():
            for (language, task), members in groups.items():
                options = DecodingOptions(language=language, task=task, without_timestamps=True)
                for start in range(0, len(members), _BATCH):
                    batch = [one for one in members[start : start + _BATCH] if self._usable(one)]
                    if batch:
                        states = self.model.hear(self.features(batch))
                        results = decode(self.model, self.tokenizer, states, options)
                        heard = self._languages(states) if languages else [result.language for result in results]
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

    def attention(self, one: Utterance, text: str) -> Heard:
        """Where in the sound the model looked for each word."""
        mel = self.features([one])
        language = one.language if self.tokenizer.multilingual else None
        start = [*self.tokenizer.sot_sequence(language, one.task), self.tokenizer.no_timestamps]
        ids = self.tokenizer.encode(f" {text}")
        tokens = torch.tensor([[*start, *ids]], device=self.device)
        heads = alignment_heads(self.model.config)
        with self._at_work(), recorded_scores(self.model.decoder, heads) as scores:
            self.model.decoder(tokens, self.model.hear(mel))
        weights = torch.stack([score.softmax(-1) for score in scores.values()]).mean(0)
        rows = weights.view(len(tokens[0]), -1)[len(start) - 1 : -1]  # where a piece is chosen, not where it is read
        words = [self.tokenizer.decode([index]) for index in ids]
        seconds = len(samples_of(one)) / 16_000
        return Heard(title=_title(one), said=one.text, mel=mel[0].cpu(), words=words, weights=rows, seconds=seconds)


def _title(one: Utterance) -> str:
    language = LANGUAGES.get(one.language or "", "")
    return f"{one.voice or one.id}, {language}" + (" into english" if one.task == "translate" else "")


def measure(listener: Listener, parts: Mapping[str, SpeechSource]) -> tuple[list[Figure], dict[str, list[Found]]]:
    """Error rates on the parts of what is held out, and what was written for each."""
    figures: list[Figure] = []
    written: dict[str, list[Found]] = {}
    for part, source in parts.items():
        step = max(1, len(source) // _MOST)
        written[part] = listener.write([source[index] for index in range(0, len(source), step)])
        figures += part_figures(part, written[part], multilingual=listener.tokenizer.multilingual)
    return figures, written


def transcripts(source: SpeechSource, most: int) -> list[Utterance]:
    """At most ``most`` utterances whose transcripts say what is spoken, evenly spread."""
    spoken = [one for one in (source[i] for i in range(len(source))) if not one.no_speech and one.task == "transcribe"]
    count = min(most, len(spoken))
    return [spoken[number * len(spoken) // count] for number in range(count)]


def word_error_rate(found: Iterable[Found]) -> float | None:
    """Of transcripts in any languages together; None where nothing was said."""
    return sum((count_errors(u.text, r.text, language=u.language) for u, r, _ in found), Errors()).wer


def part_figures(part: str, found: Sequence[Found], *, multilingual: bool) -> list[Figure]:
    """Error rates, and how often the language and silence were told."""
    figures: list[Figure] = []
    groups: dict[tuple[str, str], list[Found]] = defaultdict(list)
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
