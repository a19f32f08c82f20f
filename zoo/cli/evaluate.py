"""``zoo eval FAMILY``: the family's own evaluation."""

from __future__ import annotations

import sys

from zoo.registry import get_family, registry, resolve
from zoo.shared.errors import UserError


def main(words: list[str]) -> int:
    """Hand the words after the family's name to its evaluation."""
    families = [name for name, spec in registry().families.items() if spec.evaluate]
    if words and words[0] in ("-h", "--help"):
        sys.stdout.write(
            f"usage: zoo eval FAMILY --weights W [--benchmark NAME] [--json]\nfamilies: {', '.join(families)}\n"
        )
        return 0
    if not words or words[0].startswith("-"):
        raise UserError(f"`zoo eval` needs a family first: {' or '.join(f'zoo eval {name}' for name in families)}")
    spec = get_family(words[0])
    if spec.evaluate is None:
        raise UserError(f"{spec.name} has no evaluation")
    return resolve(spec.evaluate)(words[1:])
