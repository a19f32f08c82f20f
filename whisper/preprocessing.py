"""What goes into a Whisper model and what comes out, as :func:`zoo.create_preprocessor` gives it."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from zoo.shared.audio.log_mel import LogMel
from zoo.shared.files import write_json
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.tokenizer import WhisperTokenizer


class WhisperPreprocessor:
    """Sound to spectrograms, text to ids.

    Args:
        tokenizer: The model's tokenizer.
        config: The model's config, which says bands and window.
    """

    def __init__(self, tokenizer: WhisperTokenizer, config: WhisperConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.log_mel = LogMel(bins=config.mels)

    def __repr__(self) -> str:
        return f"WhisperPreprocessor({self.tokenizer!r}, mels={self.config.mels}, {self.config.window_seconds:g} s)"

    def features(self, samples: Tensor) -> Tensor:
        """Spectrogram of a window, padded with silence or cut.

        Args:
            samples: ``(..., S)``, 16 kHz mono.

        Returns:
            ``(..., M, 2 * audio_context)``.
        """
        window = self.config.window_samples
        return self.log_mel(F.pad(samples[..., :window], (0, max(0, window - samples.shape[-1]))))

    @classmethod
    def for_model(cls, config: WhisperConfig) -> WhisperPreprocessor:
        """For a model that is known by its config only.

        Raises:
            UserError: Its vocabulary comes with the weights, or is not at hand.
        """
        return cls(WhisperTokenizer.for_model(config), config)

    @classmethod
    def load(cls, folder: str | Path | None, config: WhisperConfig) -> WhisperPreprocessor:
        """Read the tokenizer that lies beside weights, whoever wrote it.

        Args:
            folder: A folder of ours, of ``transformers`` or of CTranslate2. None: there is none, just a file.
            config: The model's config.

        Raises:
            UserError: A file is damaged, or the tokenizer is not the model's.
        """
        return cls(WhisperTokenizer.load(folder, config), config)

    def save(self, folder: str | Path) -> None:
        """Write what ``WhisperProcessor`` reads too."""
        from zoo.whisper.hf_files import feature_settings  # deferred: conversion builds on this

        self.tokenizer.save(folder)
        write_json(Path(folder) / "preprocessor_config.json", feature_settings(self.config))
