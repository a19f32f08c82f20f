"""What a window is told about the text before it (Radford et al. 2022, arXiv:2212.04356, section 4.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.whisper.tokenizer import WhisperTokenizer
    from zoo.whisper.transcription.options import TranscriptionOptions


class History:
    """The text of a recording so far.

    Differs from the reference in: an initial prompt that is carried is cut at its start where it is too long, instead
    of pushing itself out; hotwords, which it does not have.

    Args:
        tokenizer: The model's tokenizer.
        options: Initial prompt and hotwords.
        context: Longest text of the model in tokens.
    """

    def __init__(self, tokenizer: WhisperTokenizer, options: TranscriptionOptions, *, context: int) -> None:
        def encode(text: str | None) -> list[int]:
            return tokenizer.encode(f" {text.strip()}") if text and text.strip() else []

        self.limit = context // 2 - 1
        self._tokens = encode(options.initial_prompt)
        self._given = len(self._tokens)
        carried = self._tokens if options.carry_initial_prompt else []
        self._head = [*encode(options.hotwords), *carried][-self.limit :]
        self._since = self._given if options.carry_initial_prompt else 0

    def prompt(self) -> list[int]:
        """Tokens for the next window, at most as many as the model takes."""
        room = self.limit - len(self._head)
        return [*self._head, *(self._tokens[self._since :][-room:] if room else [])]

    def add(self, tokens: Iterable[int]) -> None:
        """Remember a window's text."""
        self._tokens.extend(tokens)

    def forget(self) -> None:
        """Tell later windows nothing of the text so far."""
        self._since = len(self._tokens)

    @property
    def written(self) -> list[int]:
        """All tokens of the recording."""
        return self._tokens[self._given :]
