"""Model cards: the README.md beside weights, in the format of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def model_card(
    name: str,
    *,
    family: str,
    paper: str,
    parameters: int,
    title: str | None = None,
    data: str = "",
    recipe: Mapping[str, Any] | None = None,
    figures: Mapping[str, str] | None = None,
    licence: str = "apache-2.0",
    library: str = "zoo",
    tags: Sequence[str] = (),
    origin: str = "",
) -> str:
    """Write the card of one set of weights.

    Args:
        name: The model's name.
        family: The family's name, as the paper writes it.
        paper: Citation.
        parameters: Number of learnable parameters.
        title: Heading; the name if not given.
        data: What it was trained on.
        recipe: Settings of the training, possibly nested.
        figures: Measured figures, name to text.
        licence: Licence of the weights, as the Hub abbreviates it.
        library: Library that reads the files.
        tags: Further tags.
        origin: Where converted weights come from.

    Returns:
        Markdown with a YAML header.
    """
    header = {"license": licence, "library_name": library, "tags": list(dict.fromkeys([*_slugs(family), *tags, "zoo"]))}
    lines = ["---", yaml.safe_dump(header, sort_keys=False).strip(), "---", "", f"# {title or name}", ""]
    lines += [f"{family}, model `{name}`, {parameters:,} parameters.", "", f"Paper: {paper}.", ""]
    if origin:
        lines += [f"Converted from {origin}.", ""]
    if data:
        lines += ["## Data", "", data, ""]
    if figures:
        lines += ["## Figures", "", "| figure | value |", "|---|---|"]
        lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in figures.items()]
        lines += [""]
    if recipe:
        text = yaml.safe_dump(_plain(recipe), sort_keys=False, allow_unicode=True).strip()
        lines += ["## Recipe", "", "```yaml", text, "```", ""]
    if library == "zoo":
        use = ["import zoo", "", 'model = zoo.load("PATH")', 'preprocessor = zoo.create_preprocessor("PATH")']
        lines += ["## Use", "", "```python", *use, "```", ""]
    return "\n".join(lines)


def _slugs(family: str) -> list[str]:
    return [family.lower().replace(" ", "-")]


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    """A value that YAML can hold: paths and other objects become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
