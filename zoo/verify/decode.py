"""Greedy decoding gives the same tokens whichever way it is computed."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.registry import FamilySpec, resolve
from zoo.verify.cases import Decoder
from zoo.verify.verdicts import Verdict


def verify_decode(spec: FamilySpec, model: str, *, tokens: int) -> Iterator[Verdict]:
    """Compare every way of decoding with the plain one, token for token.

    Args:
        spec: The family, whose record names the function that makes the decoder from the model's name.
        model: The model.
        tokens: Tokens to generate for each prompt, at most.
    """
    if spec.verify.decode is None:
        return
    decoder: Decoder = resolve(spec.verify.decode)(model)
    tokens = min(tokens, decoder.room)
    expected = [list(decoder.plain(prompt, tokens)) for prompt in decoder.prompts]
    for name, way in decoder.ways.items():
        found = [list(map(int, row)) for row in way(decoder.prompts, tokens)]
        yield agreement(model, name, expected, found)


def agreement(model: str, name: str, expected: list[list[int]], found: list[list[int]]) -> Verdict:
    """Whether all tokens are equal; otherwise where the first difference is."""
    wrong = [
        (prompt, next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))))
        for prompt, (one, two) in enumerate(zip(expected, found, strict=False))
        if one != two
    ]
    if len(expected) != len(found):
        text = f"{len(found)} of {len(expected)} prompts came back"
    elif wrong:
        text = f"{len(wrong)} of {len(expected)} prompts differ, prompt {wrong[0][0]} from token {wrong[0][1]} on"
    else:
        text = f"{sum(map(len, expected))} tokens of {len(expected)} prompts equal"
    return Verdict(
        check="decode", subject=model, what=f"{name} = plain", found=text,
        passed=not wrong and len(expected) == len(found),
    )  # fmt: skip
