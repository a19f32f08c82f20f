"""What a model hears, as a picture: spectrograms, and where it looks in them for each piece of its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from zoo.shared.files import atomic_path


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An utterance and what became of it.

    Attributes:
        title: Who says it.
        said: What is said.
        mel: Spectrogram ``(M, F)``.
        words: Pieces of the text that the model wrote.
        weights: Attention of each to the states of the sound ``(words, A)``.
        seconds: Length of the sound.
    """

    title: str
    said: str
    mel: Tensor
    words: Sequence[str]
    weights: Tensor
    seconds: float


def listening_sheet(heard: Sequence[Heard], path: Path) -> None:
    """Draw each utterance: its spectrogram, and below it the attention of each piece of text.

    Args:
        heard: The utterances.
        path: The PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * max(1, len(heard)), 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, max(1, len(heard)), squeeze=False, height_ratios=(1, 1.3))
    for (above, below), one in zip(axes.T, heard, strict=False):
        states = max(1, min(one.weights.shape[1], round(one.seconds * 50)))
        above.imshow(
            one.mel[:, : 2 * states].float().numpy(), origin="lower", aspect="auto", cmap="magma",
            extent=(0, states / 50, 0, one.mel.shape[0]),
        )  # fmt: skip
        above.set_title(f"{one.title}\nsaid: {one.said}", loc="left", fontsize=9, parse_math=False, wrap=True)
        above.set_ylabel("mel band")
        below.imshow(
            one.weights[:, :states].float().cpu().numpy(), aspect="auto", cmap="viridis",
            extent=(0, states / 50, len(one.words), 0),
        )  # fmt: skip
        below.set_yticks(
            [place + 0.5 for place in range(len(one.words))], [repr(w)[1:-1] for w in one.words], fontsize=8
        )
        below.set_xlabel("seconds")
        below.set_title("where it looks while it writes", loc="left", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
