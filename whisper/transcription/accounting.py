"""A transcript that accounts for every second: text, silence, or flagged with a reason for a person to listen.

The reference writes words about silence ("You", "Thank you") and passes over speech without a word about it. Here what
the decoder wrote is held against a voice-activity model that has no language to invent from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.audio.log_mel import SAMPLE_RATE
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.transcription.batched import VOICE, hear_batched
from zoo.whisper.transcription.hearing import LOUDNESS_STEP, Loudness, LoudnessMeter, Skipped, blocks_of
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.segments import FRAMES_PER_SECOND
from zoo.whisper.transcription.transcribe import Audio, Progress, Result
from zoo.whisper.transcription.voice_activity import Probabilities, VoiceMeter, VoiceOptions, speech_spans

SILENCE, TEXT, SOUND, MISSED, UNHEARD, UNLIKELY, REPEATED, INVENTED = range(8)
REASONS: dict[int, str] = {
    SOUND: "no speech found",
    MISSED: "speech without text",
    UNHEARD: "the model hears no speech",
    UNLIKELY: "low log-probability",
    REPEATED: "repetition",
    INVENTED: "text without speech",
}
"""Why a stretch is flagged."""

_SPEECH = VoiceOptions(min_silence=0.3, min_speech=0.1, padding=0.0)  # close to what is said, unlike what is decoded
_REACH = 0.5  # seconds by which times of text and speech may differ
_LEAST_SPEECH = 0.15  # seconds of speech that text must be about
_LEAST_SOUND = 0.3  # shorter sounds are clicks
_UNDER_SPEECH, _FAINTEST = 30.0, -65.0  # decibels under the speech of a recording, and of full scale
_SPEECH_SHARE = 0.9  # quantile of the loudness of speech that stands for it

Labels = NDArray[np.uint8]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is known of a recording without any text.

    Attributes:
        samples: Length at 16 kHz.
        voice: Probability of speech in each 32 ms.
        loudness: Of each 100 ms, in decibels of full scale.
    """

    samples: int
    voice: Probabilities
    loudness: Loudness


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a recording that is accounted for.

    Attributes:
        start: Seconds.
        end: Seconds.
        kind: ``text``, ``silence`` or ``flagged``.
        text: What is said; where it is flagged, what the decoder wrote and nobody should believe.
        reason: Why it is flagged: one of :data:`REASONS`.
    """

    start: float
    end: float
    kind: str
    text: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Account:
    """A recording without a gap.

    Attributes:
        stretches: In the order of time; each begins where the one before ends.
        kept: Numbers of the segments that are believed.
        speech: Seconds of speech.
        covered: Of these, seconds that have text.
    """

    stretches: list[Stretch]
    kept: list[int]
    speech: float
    covered: float

    def coverage(self) -> dict[str, Any]:
        """Seconds by kind and by reason, and the share of the speech that has text (None where nobody speaks)."""
        seconds: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for stretch in self.stretches:
            seconds[stretch.kind] += stretch.end - stretch.start  # type: ignore[assignment]
            if stretch.reason is not None:
                reasons[stretch.reason] += stretch.end - stretch.start  # type: ignore[assignment]
        return {
            "seconds": round(sum(seconds.values()), 2),
            **{kind: round(seconds[kind], 2) for kind in ("text", "silence", "flagged")},
            "reasons": {reason: round(length, 2) for reason, length in reasons.most_common()},
            "speech": round(self.speech, 2),
            "speech_with_text": round(self.covered / self.speech, 4) if self.speech else None,
        }

    def applied(self, result: Result) -> Result:
        """The reference's dictionary without the text that is not believed, with ``account`` and ``coverage``."""
        segments = [result["segments"][number] for number in self.kept]
        return {
            **result,
            "text": "".join(segment["text"] for segment in segments),
            "segments": [{**segment, "id": number} for number, segment in enumerate(segments)],
            "account": [
                {key: value for key, value in asdict(stretch).items() if value not in ("", None)}
                for stretch in self.stretches
            ],
            "coverage": self.coverage(),
        }


def measure(audio: Audio) -> Measured:
    """Measure a recording.

    Raises:
        UserError: It cannot be read, or there is no onnxruntime.
    """
    voice, loudness = VoiceMeter(), LoudnessMeter()
    for block in blocks_of(audio):
        voice.add(block)
        loudness.add(block)
    return Measured(samples=voice.samples, voice=voice.finish(), loudness=loudness.finish())


def account(
    result: Result, measured: Measured, options: TranscriptionOptions, *, skipped: Sequence[Skipped] = ()
) -> Account:
    """Hold a transcript against what was measured.

    Args:
        result: The reference's dictionary, however it came about.
        measured: Of the same recording.
        options: What counts as unlikely and as repetition.
        skipped: Windows that were decoded and whose text was not taken.
    """
    frames = -(-measured.samples * FRAMES_PER_SECOND // SAMPLE_RATE)
    speech = _speech(measured, frames)
    labels = np.full(frames, SILENCE, np.uint8)
    owners = np.full(frames, -1, np.int64)  # number of the segment, or of the skipped window after all segments
    labels[_sound(measured, speech)] = SOUND
    labels[speech] = MISSED
    segments = result["segments"]
    for number, window in enumerate(skipped, len(segments)):
        place = _place(window.start, window.end, frames)
        heard = np.flatnonzero(speech[place]) + place.start
        labels[heard], owners[heard] = UNHEARD, number
    verdicts = [_verdict(segment, speech, options) for segment in segments]
    near = _widened(speech, _REACH)
    # What is believed is told last, over what is not.
    for number in sorted(range(len(segments)), key=lambda number: verdicts[number] == TEXT):
        place = _place(segments[number]["start"], segments[number]["end"], frames)
        # A segment lasts over the pauses in it; nobody speaks there, and they are no text.
        told = np.flatnonzero(near[place]) + place.start if verdicts[number] == TEXT else np.r_[place]
        labels[told], owners[told] = verdicts[number], number
    _join_edges(labels, owners)
    texts = [segment["text"].strip() for segment in segments] + [window.text for window in skipped]
    return Account(
        stretches=_stretches(labels, owners, texts, measured.samples / SAMPLE_RATE),
        kept=[number for number, verdict in enumerate(verdicts) if verdict == TEXT],
        speech=int(speech.sum()) / FRAMES_PER_SECOND,
        covered=int((speech & (labels == TEXT)).sum()) / FRAMES_PER_SECOND,
    )


def transcribe_accounted(
    model: Whisper,
    recordings: Iterable[Audio],
    *,
    preprocessor: WhisperPreprocessor | None = None,
    options: TranscriptionOptions | None = None,
    voice: VoiceOptions = VOICE,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """As :func:`~zoo.whisper.transcription.batched.transcribe_batched`, with ``account`` and ``coverage``."""
    preprocessor = preprocessor or WhisperPreprocessor.for_model(model.config)
    options = options or TranscriptionOptions()
    found = hear_batched(
        model,
        recordings,
        preprocessor=preprocessor,
        options=options,
        voice=voice,
        batch_size=batch_size,
        progress=progress,
    )
    for heard in found:
        result = heard.as_dict(preprocessor.tokenizer)
        measured = Measured(samples=heard.features.samples, voice=heard.voice, loudness=heard.loudness)
        yield account(result, measured, options, skipped=heard.skipped).applied(result)


def _place(start: float, end: float, frames: int) -> slice:
    """Frames between two times."""
    first, last = (min(max(0, round(seconds * FRAMES_PER_SECOND)), frames) for seconds in (start, end))
    return slice(first, max(first, last))


def _speech(measured: Measured, frames: int) -> Marks:
    """In which frames somebody speaks."""
    marks = np.zeros(frames, np.bool_)
    for span in speech_spans(measured.voice, measured.samples, _SPEECH):
        marks[_place(*span.seconds, frames)] = True
    return marks


def _sound(measured: Measured, speech: Marks) -> Marks:
    """In which frames there is sound without speech: not a pause's own noise, and more than a click."""
    times = np.arange(len(speech)) / FRAMES_PER_SECOND
    loudness = measured.loudness[np.minimum((times / LOUDNESS_STEP + 1e-6).astype(int), len(measured.loudness) - 1)]
    faintest = _FAINTEST
    if speech.any():
        faintest = max(faintest, float(np.quantile(loudness[speech], _SPEECH_SHARE)) - _UNDER_SPEECH)
    loud = (loudness > faintest) & ~_widened(speech, _REACH)
    for first, last in _runs(loud):
        if last - first < _LEAST_SOUND * FRAMES_PER_SECOND:
            loud[first:last] = False
    return loud


def _widened(marks: Marks, seconds: float) -> Marks:
    """Marks with so much more at both ends of each run."""
    wide = marks.copy()
    reach = round(seconds * FRAMES_PER_SECOND)
    for first, last in _runs(marks):
        wide[max(0, first - reach) : last + reach] = True
    return wide


def _verdict(segment: dict[str, Any], speech: Marks, options: TranscriptionOptions) -> int:
    """What is to be thought of a segment's text."""
    around = _place(segment["start"] - _REACH, segment["end"] + _REACH, len(speech))
    if speech[around].sum() < _LEAST_SPEECH * FRAMES_PER_SECOND:
        return INVENTED
    ratio, logprob = options.compression_ratio_threshold, options.logprob_threshold
    if ratio is not None and segment["compression_ratio"] > ratio:
        return REPEATED
    return UNLIKELY if logprob is not None and segment["avg_logprob"] < logprob else TEXT


def _join_edges(labels: Labels, owners: NDArray[np.int64]) -> None:
    """Give speech beside text to the text where it is short: times of text are rough; short speech alone is a sound."""
    for first, last in _runs(labels == MISSED):
        if last - first > _REACH * FRAMES_PER_SECOND:
            continue
        before = first - 1 if first and labels[first - 1] == TEXT else None
        after = last if last < len(labels) and labels[last] == TEXT else None
        beside = before if before is not None else after
        if beside is not None:
            labels[first:last], owners[first:last] = TEXT, owners[beside]


def _runs(marks: Marks) -> list[tuple[int, int]]:
    """First frame of each run of marks, and the one after its last."""
    edges = np.flatnonzero(np.diff(marks.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _stretches(labels: Labels, owners: NDArray[np.int64], texts: Sequence[str], seconds: float) -> list[Stretch]:
    """Runs of one label and one text; a text that is interrupted is told once."""
    changes = np.flatnonzero((np.diff(labels.astype(int)) != 0) | (np.diff(owners) != 0)) + 1
    edges = [0, *changes.tolist(), len(labels)]
    told: set[int] = set()
    found: list[Stretch] = []
    for first, last in pairwise(edges):
        label, owner = int(labels[first]), int(owners[first])
        kind = {SILENCE: "silence", TEXT: "text"}.get(label, "flagged")
        text = "" if owner < 0 or owner in told else texts[owner]
        told.add(owner)
        end = seconds if last == len(labels) else last / FRAMES_PER_SECOND
        found.append(Stretch(start=first / FRAMES_PER_SECOND, end=end, kind=kind, text=text, reason=REASONS.get(label)))
    assert abs(sum(stretch.end - stretch.start for stretch in found) - seconds) < 1e-6
    return found
