"""What a set of image–text pairs offers, whatever it is read from."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from zoo.shared.data.image_sources import ImageSource
from zoo.shared.data.images import BadSample

__all__ = ["BadSample", "PairSource", "PairView", "check_pairs", "duplicates", "split_by_concept"]


@runtime_checkable
class PairSource(ImageSource, Protocol):
    """Image–text pairs that can be read at random, in worker processes too. Their images are RGB."""

    def captions(self, i: int) -> Sequence[str]:
        """Captions to train on, one of which is drawn each time. Raises :class:`BadSample` when there is none."""

    def title(self, i: int) -> str:
        """The one plain caption that retrieval is scored with. Raises :class:`BadSample`."""
        ...


class PairView:
    """Some samples of a source, under new numbers.

    Args:
        source: The source.
        indices: Which of its samples, in the view's order.
        name: The view's name; the source's by default.
    """

    def __init__(self, source: PairSource, *, indices: Sequence[int], name: str | None = None) -> None:
        self.source = source
        self.indices = [int(i) for i in indices]
        self.name = name or source.name
        self.classes = source.classes

    def __len__(self) -> int:
        return len(self.indices)

    def id(self, i: int) -> str:
        """What a person recognises sample ``i`` by."""
        return self.source.id(self.indices[i])

    def image(self, i: int) -> Image.Image:
        """The RGB image."""
        return self.source.image(self.indices[i])

    def captions(self, i: int) -> Sequence[str]:
        """Captions to train on."""
        return self.source.captions(self.indices[i])

    def title(self, i: int) -> str:
        """The one plain caption."""
        return self.source.title(self.indices[i])

    def concept(self, i: int) -> str:
        """What it shows."""
        return self.source.concept(self.indices[i])

    def label(self, i: int) -> int | None:
        """Class of the sample, or None."""
        return self.source.label(self.indices[i])


def split_by_concept(source: ImageSource, *, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Split a source so that no concept is on both sides, with the same share of every class held out.

    Which concepts are held out depends on (seed, concept) alone, through a hash that is the same everywhere.

    Args:
        source: The images or pairs.
        held_out: Share of the concepts to hold out, in [0, 1).
        seed: Chooses the split.

    Returns:
        Indices to train on and indices held out, each in the source's order.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i in range(len(source)):
        members[source.concept(i)].append(i)
    strata: dict[int | None, list[str]] = defaultdict(list)
    for concept, indices in members.items():
        strata[source.label(indices[0])].append(concept)
    away: set[int] = set()
    for concepts in strata.values():
        ranked = sorted(concepts, key=lambda concept: (_rank(seed, concept), concept))
        away.update(i for concept in ranked[: round(held_out * len(ranked))] for i in members[concept])
    return [i for i in range(len(source)) if i not in away], sorted(away)


def _rank(seed: int, concept: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{concept}".encode(), digest_size=8).digest()


def duplicates(train: PairSource, held_out: PairSource, *, limit: int = 5000) -> list[tuple[str, str]]:
    """Pairs of a training and a held-out sample whose images have equal pixels.

    Args:
        train: Samples to train on.
        held_out: Samples to score on.
        limit: Look at no more than the first so many samples of each.

    Returns:
        Their ids; empty when the split is clean.
    """
    seen: dict[bytes, str] = {}
    for i in range(min(limit, len(train))):
        if (digest := _pixels(train, i)) is not None:
            seen.setdefault(digest, train.id(i))
    digests = ((i, _pixels(held_out, i)) for i in range(min(limit, len(held_out))))
    return [(seen[digest], held_out.id(i)) for i, digest in digests if digest is not None and digest in seen]


def _pixels(source: PairSource, i: int) -> bytes | None:
    try:
        image = source.image(i)
    except BadSample:
        return None
    return _digest(image)


def _digest(image: Image.Image) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr(image.size).encode(), digest_size=16).digest()


def check_pairs(
    source: PairSource, *, progress: Callable[[int, int], object] = lambda done, total: None
) -> dict[str, Any]:
    """Open every sample of a source once.

    Args:
        source: The pairs.
        progress: Called with the samples done and all samples.

    Returns:
        Counts of samples, captions, concepts and classes; the bad samples by id with their reasons; the pairs of
        samples with equal pixels; least and greatest image sides. Plain values, ready for JSON.
    """
    bad: dict[str, str] = {}
    sides: list[int] = []
    captions, twins, first_with = 0, [], dict[bytes, str]()
    classes: Counter[str] = Counter()
    for i in range(len(source)):
        try:
            image = source.image(i)
            captions += len(source.captions(i))
        except BadSample as error:
            bad[source.id(i)] = str(error)
        else:
            sides += image.size
            twin = first_with.setdefault(_digest(image), source.id(i))
            if twin != source.id(i):
                twins.append([twin, source.id(i)])
            if (label := source.label(i)) is not None:
                classes[source.classes[label]] += 1
        progress(i + 1, len(source))
    return {
        "source": source.name,
        "samples": len(source),
        "usable": len(source) - len(bad),
        "captions": captions,
        "concepts": len({source.concept(i) for i in range(len(source))}),
        "sides": [min(sides, default=0), max(sides, default=0)],
        "classes": dict(classes),
        "bad": bad,
        "duplicates": twins,
    }
