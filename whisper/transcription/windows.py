"""Window after window of a recording: where each starts follows from the times in the text of the one before.

Robust Speech Recognition via Large-Scale Weak Supervision (Radford et al. 2022, arXiv:2212.04356), section 4.5, and
what OpenAI's code has added to it since.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.shared.audio.long_form import LongLogMel
from zoo.shared.errors import UserError
from zoo.whisper.decoding import DecodingOptions, DecodingResult, decode
from zoo.whisper.model import Whisper
from zoo.whisper.tokenizer import WhisperTokenizer
from zoo.whisper.transcription.fallback import decode_with_fallback, is_silence
from zoo.whisper.transcription.hallucination import judge
from zoo.whisper.transcription.history import History
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.segments import FRAMES_PER_SECOND, FRAMES_PER_STATE, Cut, Segment, Window, cut_window
from zoo.whisper.transcription.timing import last_word_end, time_segments
from zoo.whisper.transcription.words import find_words

_HOT = 0.5  # text of higher temperatures would mislead the next window


def decoding_options(options: TranscriptionOptions, *, language: str | None, temperature: float) -> DecodingOptions:
    """How one window is decoded at a temperature: beams without noise, several samples with it."""
    sampled = temperature > 0
    return DecodingOptions(
        task=options.task,
        language=language,
        temperature=temperature,
        sample_len=options.sample_len,
        best_of=options.best_of if sampled else None,
        beam_size=None if sampled else options.beam_size,
        patience=None if sampled else options.patience,
        length_penalty=options.length_penalty,
        prefix=options.prefix,
        suppress_tokens=options.suppress_tokens,
        suppress_blank=options.suppress_blank,
        without_timestamps=options.without_timestamps,
        max_initial_timestamp=options.max_initial_timestamp,
        seed=options.seed,
        compile=options.compile,
    )


def check_options(tokenizer: WhisperTokenizer, options: TranscriptionOptions) -> None:
    """Make sure, before any work, that options fit together and that the model has the task and the languages.

    Raises:
        UserError: They do not, or it does not.
    """
    for language in options.languages or ():
        tokenizer.sot_sequence(language, options.task)
    if options.language is not None or not tokenizer.multilingual:
        tokenizer.sot_sequence(options.language, options.task)
    try:
        for temperature in options.temperature:
            decoding_options(options, language=options.language, temperature=temperature)
    except ValueError as error:
        raise UserError(str(error)) from error


def next_start(window: Window, cut: Cut, last_word: float | None, threshold: float | None) -> int:
    """First frame of the next window, where words have times.

    Args:
        window: This one.
        cut: Its text.
        last_word: When its last word ends.
        threshold: Of :attr:`TranscriptionOptions.hallucination_silence_threshold`.
    """
    if cut.closed or last_word is None or last_word <= window.offset:
        return window.start + cut.advance
    if threshold is not None and window.end - last_word <= threshold:
        return window.start + window.frames
    return round(last_word * FRAMES_PER_SECOND)


class Recording:
    """One recording while it is transcribed.

    Args:
        model: In ``eval()`` mode.
        tokenizer: Its tokenizer.
        features: The recording.
        options: What is wanted.
        language: Code of the spoken language.

    Attributes:
        position: Frames that are done.
        history: The text so far.
    """

    def __init__(
        self,
        model: Whisper,
        tokenizer: WhisperTokenizer,
        features: LongLogMel,
        options: TranscriptionOptions,
        *,
        language: str,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.features = features
        self.options = options
        self.language = language
        self.history = History(tokenizer, options, context=model.config.text_context)
        self.position = 0
        self._last_speech = 0.0

    def clips(self) -> list[tuple[int, int]]:
        """First frame and the one after the last of each part that is wanted."""
        end = self.features.frames
        marks = [round(seconds * FRAMES_PER_SECOND) for seconds in self.options.clip_timestamps] or [0]
        if len(marks) % 2:
            marks.append(end)
        return [(start, min(stop, end)) for start, stop in zip(marks[::2], marks[1::2], strict=True)]

    def segments(self) -> Iterator[list[Segment]]:
        """The segments of one window after the other."""
        length = FRAMES_PER_STATE * self.model.config.audio_context
        for start, end in self.clips():
            self.position = start
            while self.position < end:
                window = Window(start=self.position, frames=min(length, end - self.position), length=length)
                found, seek = self._transcribe(window)
                # Times that lead back would never end.
                self.position = seek if seek > window.start else window.start + window.frames
                yield found

    @torch.inference_mode()
    def _transcribe(self, window: Window) -> tuple[list[Segment], int]:
        """The segments of a window, and where the next one starts."""
        options = self.options
        states = hear(self.model, self.features.window(window.start, window.start + window.frames))
        result = self._decode(states)
        if is_silence(result, options):
            return [], window.start + window.frames
        cut = cut_window(result.tokens, frames=window.frames, timestamp_begin=self.tokenizer.timestamp_begin)
        segments = [self._segment(window, *piece, result) for piece in cut.pieces]
        seek = window.start + cut.advance
        if options.word_timestamps:
            self._find_words(segments, states, window)
            threshold = options.hallucination_silence_threshold
            seek = next_start(window, cut, last_word_end(segments), threshold)
            if threshold is not None:
                verdict = judge(
                    segments,
                    window,
                    seek=seek,
                    threshold=threshold,
                    last_speech=self._last_speech,
                    recording_frames=self.features.frames,
                )
                if verdict.again:
                    return [], verdict.seek
                segments, seek = verdict.kept, verdict.seek
            last = last_word_end(segments)
            self._last_speech = self._last_speech if last is None else last
        for segment in segments:
            if segment.empty:
                segment.clear()
            self.history.add(segment.tokens)
        if not options.condition_on_previous_text or result.temperature > _HOT:
            self.history.forget()
        return segments, seek

    def _decode(self, states: Tensor) -> DecodingResult:
        prompt = self.history.prompt()

        def decode_at(temperature: float) -> DecodingResult:
            chosen = decoding_options(self.options, language=self.language, temperature=temperature)
            return decode(self.model, self.tokenizer, states, chosen, prompts=[prompt])[0]

        return decode_with_fallback(decode_at, self.options)

    def _segment(self, window: Window, start: float, end: float, tokens: list[int], result: DecodingResult) -> Segment:
        return Segment(
            seek=window.start,
            start=window.offset + start,
            end=window.offset + end,
            text=self.tokenizer.decode(tokens),
            tokens=tokens,
            temperature=result.temperature,
            avg_logprob=result.avg_logprob,
            compression_ratio=result.compression_ratio,
            no_speech_prob=result.no_speech_prob,
        )

    def _find_words(self, segments: list[Segment], states: Tensor, window: Window) -> None:
        eot = self.tokenizer.eot
        texts = [[token for token in segment.tokens if token < eot] for segment in segments]
        text = [token for part in texts for token in part]
        (words,) = find_words(
            self.model,
            self.tokenizer,
            states,
            [text],
            [window.frames],
            language=self.language,
            task=self.options.task,
        )
        time_segments(
            segments,
            words,
            texts,
            last_speech=self._last_speech,
            prepended=self.options.prepend_punctuations,
            appended=self.options.append_punctuations,
        )


def hear(model: Whisper, mel: Tensor) -> Tensor:
    """States ``(1, A, D)`` of a window.

    Args:
        model: The model.
        mel: ``(M, F)``; what is missing at its end is filled with zeros, as in the reference, which is not silence.
    """
    some = next(model.parameters())
    missing = FRAMES_PER_STATE * model.config.audio_context - mel.shape[-1]
    return model.hear(F.pad(mel, (0, missing))[None].to(some.device, some.dtype))
