"""One window of 30 seconds: from the states of the encoder to tokens."""

from zoo.whisper.decoding.decode import decode
from zoo.whisper.decoding.language import detect_language
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.result import DecodingResult

__all__ = ["DecodingOptions", "DecodingResult", "decode", "detect_language"]
