"""Coloured shapes with captions, drawn on the spot: data for tests and smoke runs that needs no download."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange", "purple", "black", "brown", "pink")
SHAPES = ("circle", "square", "triangle", "bar")
PLACES = ("left", "middle", "right")
SIZES = ("small", "large")


class ShapeSource:
    """Every combination of colour, shape, place and size on white; the classes are the shapes.

    Args:
        size: Side of the square images in pixels.
    """

    def __init__(self, *, size: int) -> None:
        self.name = "shapes"
        self.classes = tuple(f"a {shape}" for shape in SHAPES)
        self.size = size
        self.items = [(c, s, p, z) for c in COLOURS for s in SHAPES for p in PLACES for z in SIZES]

    def __len__(self) -> int:
        return len(self.items)

    def id(self, i: int) -> str:
        """The words of the shape."""
        return " ".join(self.items[i])

    def image(self, i: int) -> Image.Image:
        """The shape on white."""
        colour, shape, place, size = self.items[i]
        image = Image.new("RGB", (self.size, self.size), "white")
        draw = ImageDraw.Draw(image)
        half = self.size * (0.22 if size == "large" else 0.12)
        x, y = self.size * (0.25 + 0.25 * PLACES.index(place)), self.size / 2
        box = (x - half, y - half, x + half, y + half)
        if shape == "circle":
            draw.ellipse(box, fill=colour)
        elif shape == "square":
            draw.rectangle(box, fill=colour)
        elif shape == "triangle":
            draw.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=colour)
        else:
            draw.rectangle((x - half / 3, y - half, x + half / 3, y + half), fill=colour)
        return image

    def captions(self, i: int) -> Sequence[str]:
        """Three ways to say it."""
        colour, shape, place, size = self.items[i]
        return (
            f"a {size} {colour} {shape} on the {place}",
            f"{colour} {shape}, {size}, {place}",
            f"on the {place}: a {size} {shape} in {colour}",
        )

    def title(self, i: int) -> str:
        """The plain caption."""
        return self.captions(i)[0]

    def concept(self, i: int) -> str:
        """Every combination is a concept of its own."""
        return self.id(i)

    def label(self, i: int) -> int | None:
        """Number of the shape."""
        return SHAPES.index(self.items[i][1])
