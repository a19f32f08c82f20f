"""One picture of the images that a search found, best first."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from zoo.clip.retrieval import Hit
from zoo.shared.data.images import BadSample, open_image
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path

_PAPER, _CARD, _INK, _FAINT, _BAR, _TRACK = "#f4f4f1", "#ffffff", "#1d1d1f", "#77777c", "#3a6ea5", "#e4e4e0"
_TILE, _GAP, _MARGIN, _CAPTION, _HEADER = 224, 20, 32, 62, 96
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@lru_cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans as matplotlib carries it, for its many alphabets; Pillow's own font without it."""
    spec = importlib.util.find_spec("matplotlib")
    for place in spec.submodule_search_locations or [] if spec else []:
        path = Path(place) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if path.exists():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def _fit(draw: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a text in its middle until it fits."""
    if draw.textlength(text, font=font) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if draw.textlength(short, font=font) <= width:
            return short
    return "…"


def _tile(path: Path) -> Image.Image:
    """The image inside a square card, whole and with rounded corners."""
    card = Image.new("RGB", (_TILE, _TILE), _CARD)
    try:
        image = ImageOps.contain(open_image(path), (_TILE - 16, _TILE - 16), Image.Resampling.LANCZOS)
    except BadSample:
        ImageDraw.Draw(card).text((_TILE / 2, _TILE / 2), "gone", fill=_FAINT, font=_font(14), anchor="mm")
    else:
        card.paste(image, ((_TILE - image.width) // 2, (_TILE - image.height) // 2))
    return card


def contact_sheet(hits: Sequence[Hit], path: str | Path, *, title: str, subtitle: str = "") -> None:
    """Draw the hits with their names and scores.

    Args:
        hits: Best first.
        path: Where to write: ``.png``, ``.jpg`` or ``.webp``.
        title: The query.
        subtitle: A fainter line below it.

    Raises:
        UserError: There is no hit, the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"cannot write a picture as {path.name!r}; choose a name that ends in {', '.join(_FORMATS)}")
    if not hits:
        raise UserError("there is no hit to draw")
    columns = min(5, len(hits))
    lines = -(-len(hits) // columns)
    # Wide enough for the header even when there is one hit only.
    width = 2 * _MARGIN + max(3, columns) * (_TILE + _GAP) - _GAP
    height = _MARGIN + _HEADER + lines * (_TILE + _CAPTION + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    room = width - 2 * _MARGIN
    draw.text(
        (_MARGIN, _MARGIN),
        _fit(draw, title, room, _font(30, bold=True)),
        fill=_INK,
        font=_font(30, bold=True),
    )
    draw.text((_MARGIN, _MARGIN + 46), _fit(draw, subtitle, room, _font(15)), fill=_FAINT, font=_font(15))

    best = max(hit.score for hit in hits)
    for place, hit in enumerate(hits):
        x = _MARGIN + place % columns * (_TILE + _GAP)
        y = _MARGIN + _HEADER + place // columns * (_TILE + _CAPTION + _GAP)
        draw.rounded_rectangle((x, y, x + _TILE, y + _TILE + _CAPTION), radius=12, fill=_CARD)
        corners = Image.new("L", (_TILE, _TILE), 0)
        ImageDraw.Draw(corners).rounded_rectangle((0, 0, _TILE - 1, _TILE - 1), radius=12, fill=255)
        sheet.paste(_tile(hit.path), (x, y), corners)
        text_y = y + _TILE + 4
        score = f"{hit.score:.3f}"
        score_width = draw.textlength(score, font=_font(13, bold=True))
        name = _fit(draw, f"{place + 1}  {hit.path.stem}", int(_TILE - 32 - score_width), _font(13))
        draw.text((x + 12, text_y), name, fill=_INK, font=_font(13))
        draw.text((x + _TILE - 12, text_y), score, fill=_BAR, font=_font(13, bold=True), anchor="ra")
        bar_y, length = text_y + 30, _TILE - 24
        draw.rounded_rectangle((x + 12, bar_y, x + 12 + length, bar_y + 5), radius=2, fill=_TRACK)
        filled = round(length * max(0.0, hit.score) / best) if best > 0 else 0
        if filled > 2:
            draw.rounded_rectangle((x + 12, bar_y, x + 12 + filled, bar_y + 5), radius=2, fill=_BAR)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format=_FORMATS[path.suffix.lower()])
