"""Many recordings at once: where nobody speaks is left out, and pieces of speech are decoded side by side.

Differs from the reference in: windows follow pauses instead of the text of the window before, which no window is told;
silence is never decoded. A piece whose last phrase is unfinished goes on from there in a later batch.

Shapes: N windows, A states of sound, D width, M bands, F frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.shared.errors import UserError
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.transcription.fallback import is_silence
from zoo.whisper.transcription.hearing import Heard, Skipped, read_recording
from zoo.whisper.transcription.history import History
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.segments import (
    FRAMES_PER_SECOND,
    FRAMES_PER_STATE,
    Cut,
    Segment,
    Window,
    cut_window,
)
from zoo.whisper.transcription.timing import last_word_end, time_segments
from zoo.whisper.transcription.together import decode_until_good, segment_of
from zoo.whisper.transcription.transcribe import Audio, Progress, Result, find_language
from zoo.whisper.transcription.voice_activity import Span, VoiceOptions, merge_spans, speech_spans
from zoo.whisper.transcription.windows import check_options, next_start
from zoo.whisper.transcription.words import find_words

VOICE = VoiceOptions(min_silence=0.5)
"""What counts as speech where nobody says otherwise."""

_SAMPLES_PER_FRAME = SAMPLE_RATE // FRAMES_PER_SECOND
_AHEAD = 8  # batches of pieces that are gathered before decoding, so that pieces of like length meet
_LEAST = 0.2  # seconds of speech that are worth another window


def transcribe_batched(
    model: Whisper,
    recordings: Iterable[Audio],
    *,
    preprocessor: WhisperPreprocessor | None = None,
    options: TranscriptionOptions | None = None,
    voice: VoiceOptions = VOICE,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Write down what is said in recordings, in batches that go across them.

    Args:
        model: On any device.
        recordings: Paths, bytes of files, binary file objects, or samples ``(S,)`` at 16 kHz.
        preprocessor: The model's tokenizer and features; needed for models with a vocabulary of their own.
        options: What is wanted. Each piece gets the initial prompt and the hotwords, none the text before it.
        voice: What counts as speech.
        batch_size: Windows at once.
        progress: Called with the seconds of speech that are transcribed and that are known of.

    Yields:
        The reference's dictionary of each recording, in their order.

    Raises:
        UserError: An option that cannot be had, a recording that cannot be read, or no onnxruntime.
    """
    preprocessor = preprocessor or WhisperPreprocessor.for_model(model.config)
    found = hear_batched(
        model,
        recordings,
        preprocessor=preprocessor,
        options=options or TranscriptionOptions(),
        voice=voice,
        batch_size=batch_size,
        progress=progress,
    )
    for heard in found:
        yield heard.as_dict(preprocessor.tokenizer)


def hear_batched(
    model: Whisper,
    recordings: Iterable[Audio],
    *,
    preprocessor: WhisperPreprocessor,
    options: TranscriptionOptions,
    voice: VoiceOptions,
    batch_size: int,
    progress: Progress | None,
) -> Iterator[Heard]:
    """As :func:`transcribe_batched`, with all that was measured."""
    if options.hallucination_silence_threshold is not None:
        raise UserError("hallucination_silence_threshold is for windows in sequence; batches leave silence out anyway")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    check_options(preprocessor.tokenizer, options)
    worker = _Worker(model, preprocessor, options, voice, batch_size, progress)
    group: list[Heard] = []
    pieces: list[_Piece] = []
    training = model.training
    model.eval()
    try:
        for audio in recordings:
            heard = read_recording(model, preprocessor, audio)
            group.append(heard)
            heard.language = options.language or find_language(
                model, preprocessor.tokenizer, heard.features, options.languages
            )
            pieces += worker.pieces(heard)
            if len(pieces) >= _AHEAD * batch_size:
                worker.run(pieces)
                while group:
                    group[0].close()
                    yield group.pop(0)
                pieces = []
        worker.run(pieces)
        while group:
            group[0].close()
            yield group.pop(0)
    finally:
        for heard in group:
            heard.close()
        model.train(training)


@dataclass(frozen=True)
class _Piece:
    """Frames of a recording that one window holds."""

    recording: Heard
    start: int
    stop: int


@dataclass
class _Written:
    """A piece with its text."""

    piece: _Piece
    window: Window
    cut: Cut
    segments: list[Segment]
    row: int


class _Worker:
    """Decodes pieces of recordings; arguments are those of :func:`transcribe_batched`."""

    def __init__(
        self,
        model: Whisper,
        preprocessor: WhisperPreprocessor,
        options: TranscriptionOptions,
        voice: VoiceOptions,
        batch_size: int,
        progress: Progress | None,
    ) -> None:
        self.model, self.tokenizer = model, preprocessor.tokenizer
        self.options, self.batch_size, self.progress = options, batch_size, progress
        self.length = FRAMES_PER_STATE * model.config.audio_context
        self.voice = voice.at_most(model.config.window_seconds)
        self.prompt = History(self.tokenizer, options, context=model.config.text_context).prompt()
        self.done = self.known = 0.0

    def pieces(self, heard: Heard) -> list[_Piece]:
        """What is to be decoded: speech within the clips that are wanted."""
        samples, longest = heard.features.samples, self.length * _SAMPLES_PER_FRAME
        spans = speech_spans(heard.voice, samples, self.voice)
        marks = [round(seconds * SAMPLE_RATE) for seconds in self.options.clip_timestamps] or [0]
        marks += [samples] * (len(marks) % 2)
        found: list[_Piece] = []
        for first, last in zip(marks[::2], marks[1::2], strict=True):
            inside = [Span(max(span.start, first), min(span.stop, last)) for span in spans]
            for span in merge_spans([span for span in inside if span.start < span.stop], longest=longest):
                start = span.start // _SAMPLES_PER_FRAME
                stop = min(-(-span.stop // _SAMPLES_PER_FRAME), start + self.length, heard.features.frames)
                if start < stop:
                    found.append(_Piece(heard, start, stop))
        self.known += sum(piece.stop - piece.start for piece in found) / FRAMES_PER_SECOND
        return found

    def run(self, pieces: Sequence[_Piece]) -> None:
        """Decode pieces, and what is left of them, until nothing is left."""
        waiting = list(pieces)
        while waiting:
            # Texts of like length are done at the same time.
            waiting.sort(key=lambda piece: (piece.recording.language, piece.start - piece.stop))
            language = waiting[0].recording.language
            batch = [piece for piece in waiting[: self.batch_size] if piece.recording.language == language]
            left = self._write(batch, language)
            waiting = waiting[len(batch) :] + left
            self.done += (_frames(batch) - _frames(left)) / FRAMES_PER_SECOND
            if self.progress is not None:
                self.progress("transcribing", self.done, self.known)

    @torch.inference_mode()
    def _write(self, batch: Sequence[_Piece], language: str) -> list[_Piece]:
        """Write down a batch of one language; returns what is left of its pieces."""
        states = self._hear(batch)
        results = decode_until_good(
            self.model, self.tokenizer, states, self.options, language=language, prompt=self.prompt
        )
        texts: list[_Written] = []
        for row, (piece, result) in enumerate(zip(batch, results, strict=True)):
            window = Window(start=piece.start, frames=piece.stop - piece.start, length=self.length)
            if is_silence(result, self.options):
                skipped = Skipped(start=window.offset, end=window.heard_end, text=result.text.strip())
                piece.recording.skipped.append(skipped)
                continue
            cut = cut_window(result.tokens, frames=window.frames, timestamp_begin=self.tokenizer.timestamp_begin)
            segments = [segment_of(self.tokenizer, window, part, result) for part in cut.pieces]
            texts.append(_Written(piece, window, cut, segments, row))
        if self.options.word_timestamps and texts:
            self._find_words(texts, states, language)
        left = [self._rest(text) for text in texts]
        for text in texts:
            text.piece.recording.segments += [segment for segment in text.segments if not segment.empty]
        return [piece for piece in left if piece is not None]

    def _hear(self, batch: Sequence[_Piece]) -> Tensor:
        """States ``(N, A, D)``; zeros follow a piece's end, as in the reference, which are not silence."""
        some = next(self.model.parameters())
        mels = [piece.recording.features.window(piece.start, piece.stop) for piece in batch]
        mel = torch.stack([F.pad(one, (0, self.length - one.shape[-1])) for one in mels])
        return self.model.hear(mel.to(some.device, some.dtype))

    def _find_words(self, texts: Sequence[_Written], states: Tensor, language: str) -> None:
        eot, options = self.tokenizer.eot, self.options
        parts = [[[token for token in one.tokens if token < eot] for one in text.segments] for text in texts]
        found = find_words(
            self.model,
            self.tokenizer,
            states[[text.row for text in texts]],
            [[token for part in of_text for token in part] for of_text in parts],
            [text.window.frames for text in texts],
            language=language,
            task=options.task,
        )
        for text, of_text, words in zip(texts, parts, found, strict=True):
            time_segments(
                text.segments,
                words,
                of_text,
                last_speech=text.window.offset,
                prepended=options.prepend_punctuations,
                appended=options.append_punctuations,
            )

    def _rest(self, text: _Written) -> _Piece | None:
        """What is left of a piece whose last phrase is unfinished, if anybody speaks there."""
        last_word = last_word_end(text.segments) if self.options.word_timestamps else None
        start, stop = next_start(text.window, text.cut, last_word, None), text.piece.stop
        if start <= text.piece.start:  # times that lead back would never end
            return None
        samples = (stop - start) * _SAMPLES_PER_FRAME
        if samples < _LEAST * SAMPLE_RATE:
            return None
        windows = text.piece.recording.voice_between(start / FRAMES_PER_SECOND, stop / FRAMES_PER_SECOND)
        spans = speech_spans(windows, samples, VoiceOptions(threshold=self.voice.threshold, min_silence=0, padding=0))
        spoken = sum(span.stop - span.start for span in spans)
        return _Piece(text.piece.recording, start, stop) if spoken >= _LEAST * SAMPLE_RATE else None


def _frames(pieces: Iterable[_Piece]) -> int:
    return sum(piece.stop - piece.start for piece in pieces)
