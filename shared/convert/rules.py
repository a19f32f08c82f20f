"""The rule engine: one table of key names serves import (foreign -> zoo) and export (zoo -> foreign).

A pattern is a key with placeholders: ``{i}`` stands for digits, ``{p:weight|bias}`` for one of the words,
``{rest:*}`` for anything. What a placeholder matched is put where its name stands in the other pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from zoo.shared.errors import UserError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^}]*))?\}")
_SHOWN = 4  # keys named in an error; the others are counted


class Pattern:
    """A key with placeholders.

    Args:
        text: The pattern.
        words: What placeholders mean that are spelled out elsewhere in the rule.
    """

    def __init__(self, text: str, words: Mapping[str, str]) -> None:
        self.text = text
        self.names = [name for name, _ in _PLACEHOLDER.findall(text)]
        parts, end = [], 0
        for found in _PLACEHOLDER.finditer(text):
            parts.append(re.escape(text[end : found.start()]))
            meaning = words.get(found[1], "")
            inner = r"\d+" if not meaning else ".+" if meaning == "*" else meaning
            parts.append(f"(?P<{found[1]}>{inner})")
            end = found.end()
        self._expression = re.compile("".join([*parts, re.escape(text[end:])]))

    def match(self, key: str) -> dict[str, str] | None:
        """What each placeholder stands for in ``key``, or None if the pattern does not fit."""
        found = self._expression.fullmatch(key)
        return None if found is None else found.groupdict()

    def fill(self, words: Mapping[str, str]) -> str:
        """The key that has ``words`` in place of the placeholders."""
        return _PLACEHOLDER.sub(lambda found: words[found[1]], self.text)


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A change of layout and its inverse. Both work on tensors of the meta device."""

    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


TRANSPOSE = Transform(forward=lambda t: t.mT, back=lambda t: t.mT)


def squeeze(dim: int) -> Transform:
    """A foreign axis of length one that zoo does not have."""
    return Transform(forward=lambda t: t.squeeze(dim), back=lambda t: t.unsqueeze(dim))


def chain(*transforms: Transform) -> Transform:
    """Several transforms, first to last on import."""

    def forward(tensor: Tensor) -> Tensor:
        for transform in transforms:
            tensor = transform.forward(tensor)
        return tensor

    def back(tensor: Tensor) -> Tensor:
        for transform in reversed(transforms):
            tensor = transform.back(tensor)
        return tensor

    return Transform(forward=forward, back=back)


class Rule:
    """How one zoo key and its foreign key, or keys, belong together; or several zoo keys and one foreign key.

    Args:
        foreign: Foreign pattern, or several whose tensors are concatenated.
        zoo: Pattern of the zoo key; or several whose tensors the foreign one is divided into, None where a part of it
            is zero and zoo has no tensor.
        transform: Layout change of every foreign tensor, before they are concatenated.
        dim: Axis along which several foreign tensors of equal size are concatenated.
        fill: Makes the zoo tensor where a foreign file leaves it out (buffers that older files lack).
    """

    def __init__(
        self,
        foreign: str | Sequence[str],
        zoo: str | Sequence[str | None],
        *,
        transform: Transform | None = None,
        dim: int = 0,
        fill: Callable[[Shape], Tensor] | None = None,
    ) -> None:
        texts = [foreign] if isinstance(foreign, str) else list(foreign)
        ours = [zoo] if isinstance(zoo, str) else list(zoo)
        told = [*texts, *(text for text in ours if text is not None)]
        words = {name: meaning for text in told for name, meaning in _PLACEHOLDER.findall(text) if meaning}
        self.zoo = [None if text is None else Pattern(text, words) for text in ours]
        self.foreign = [Pattern(text, words) for text in texts]
        assert 1 in (len(self.zoo), len(self.foreign)), f"several to several: {foreign} {zoo}"
        self.transform = transform
        self.dim = dim
        self.fill = fill
        patterns = [*self.foreign, *(pattern for pattern in self.zoo if pattern is not None)]
        assert len({frozenset(p.names) for p in patterns}) == 1, f"placeholders differ: {foreign} {zoo}"

    def match(self, zoo_key: str) -> tuple[int, dict[str, str]] | None:
        """Which of the zoo patterns fits a key, and what its placeholders stand for."""
        for place, pattern in enumerate(self.zoo):
            words = None if pattern is None else pattern.match(zoo_key)
            if words is not None:
                return place, words
        return None

    def join(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Foreign tensors to zoo tensors, one for each zoo pattern."""
        if self.transform is not None:
            parts = [self.transform.forward(part) for part in parts]
        joined = parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=self.dim)
        ours = [joined] if len(self.zoo) == 1 else joined.chunk(len(self.zoo), dim=self.dim)
        return [part.contiguous() for part in ours]

    def split(self, tensors: Sequence[Tensor | None]) -> list[Tensor]:
        """Zoo tensors to foreign tensors, each with memory of its own where it is a part or changed."""
        if len(self.foreign) == 1 and len(self.zoo) == 1 and self.transform is None:
            assert tensors[0] is not None
            return [tensors[0]]
        some = next(tensor for tensor in tensors if tensor is not None)
        whole = [torch.zeros_like(some) if tensor is None else tensor for tensor in tensors]
        tensor = whole[0] if len(whole) == 1 else torch.cat(whole, dim=self.dim)
        parts = list(tensor.chunk(len(self.foreign), dim=self.dim))
        if self.transform is not None:
            parts = [self.transform.back(part) for part in parts]
        return [part.clone(memory_format=torch.contiguous_format) for part in parts]


@dataclass
class Problems:
    """Everything that keeps tensors from fitting; raised as one line."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)

    def check(self, what: str) -> None:
        """Raise if there is any problem.

        Raises:
            UserError: Names the first keys of each kind and counts all.
        """
        told = []
        for label, keys in (("missing", self.missing), ("unexpected", self.unexpected), ("mis-shaped", self.misshaped)):
            if keys:
                shown = ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")
                told.append(f"{len(keys)} {label} {'key' if len(keys) == 1 else 'keys'} ({shown})")
        if told:
            raise UserError(f"{what}: {'; '.join(told)}")


@dataclass(frozen=True, kw_only=True)
class RuleTable:
    """All rules between one foreign format and zoo.

    Attributes:
        rules: The rules; every key must fit exactly one.
        drop: Patterns of foreign keys that hold nothing learnt and are passed over on import.
        strip: Prefixes that foreign keys may or may not have.
        spellings: Endings of foreign keys in older files, to the endings that the rules use.
        synthesise: Foreign keys that zoo has no tensor for, made on export from the other foreign tensors.
    """

    rules: Sequence[Rule]
    drop: Sequence[str] = ()
    strip: Sequence[str] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    synthesise: Mapping[str, Callable[[Mapping[str, Tensor]], Tensor]] = field(default_factory=dict)

    @cached_property
    def _dropped(self) -> list[Pattern]:
        return [Pattern(text, dict(_PLACEHOLDER.findall(text))) for text in self.drop]

    def spell(self, key: str) -> str:
        """A foreign key as the rules spell it."""
        for prefix in self.strip:
            key = key.removeprefix(prefix)
        for old, new in self.spellings.items():
            if key.endswith(old):
                return key.removesuffix(old) + new
        return key

    def dropped(self, key: str) -> bool:
        """Whether a foreign key (as the rules spell it) holds nothing learnt."""
        return any(pattern.match(key) is not None for pattern in self._dropped)

    def rule_of(self, zoo_key: str) -> tuple[Rule, int, dict[str, str]] | None:
        """The rule that makes a zoo key, the key's place among the rule's zoo patterns, and its placeholders."""
        found = [(rule, *match) for rule in self.rules if (match := rule.match(zoo_key)) is not None]
        assert len(found) < 2, f"{zoo_key} fits several rules"
        return found[0] if found else None

    def zoo_shapes(self, foreign: Shapes) -> dict[str, Shape]:
        """Shapes under zoo's names, as far as the rules reach: sizes are inferred from them."""
        spelled = {self.spell(key): shape for key, shape in foreign.items()}
        shapes: dict[str, Shape] = {}
        for rule in self.rules:
            for key, shape in spelled.items():
                words = rule.foreign[0].match(key)
                if words is None:
                    continue
                parts = [spelled.get(pattern.fill(words)) for pattern in rule.foreign]
                if any(part != shape for part in parts):
                    continue
                try:
                    joined = rule.join([torch.empty(shape, device="meta")] * len(parts))
                except (RuntimeError, IndexError):  # too few axes for the transform
                    continue
                for pattern, part in zip(rule.zoo, joined, strict=True):
                    if pattern is not None:
                        shapes[pattern.fill(words)] = tuple(part.shape)
        return shapes

    def to_zoo(
        self, foreign: Mapping[str, Tensor], expected: Shapes, *, what: str, shapes: Shapes
    ) -> dict[str, Tensor]:
        """Import.

        Args:
            foreign: The foreign tensors; they are read only after every shape has been found right.
            expected: Shape of every zoo key to fill.
            what: Begins the error message.
            shapes: Shapes of the foreign tensors.

        Returns:
            One tensor for each key of ``expected``.

        Raises:
            UserError: Names missing, unexpected and mis-shaped keys, all at once.
        """
        original = {self.spell(key): key for key in foreign}
        problems, used, plan = Problems(), set[str](), dict[str, tuple[Rule, int, list[str]]]()
        for zoo_key, wanted in expected.items():
            found = self.rule_of(zoo_key)
            if found is None:
                problems.missing.append(f"{zoo_key}, which this format cannot hold")
                continue
            rule, place, words = found
            keys = [pattern.fill(words) for pattern in rule.foreign]
            used.update(keys)
            absent = [key for key in keys if key not in original]
            if absent and rule.fill is not None:
                continue
            problems.missing += absent
            ours = [torch.empty(wanted, device="meta")] * len(rule.zoo)
            for key, part in zip(keys, rule.split(ours), strict=True):
                if key in original and tuple(shapes[original[key]]) != tuple(part.shape):
                    got, must = tuple(shapes[original[key]]), tuple(part.shape)
                    problems.misshaped.append(f"{original[key]} is {got}, must be {must}")
            plan[zoo_key] = (rule, place, keys)
        problems.unexpected += [old for new, old in original.items() if new not in used and not self.dropped(new)]
        problems.check(what)
        result = {}
        for zoo_key, wanted in expected.items():
            if zoo_key in plan:
                rule, place, keys = plan[zoo_key]
                result[zoo_key] = rule.join([foreign[original[key]] for key in keys])[place]
            else:
                found = self.rule_of(zoo_key)
                assert found is not None
                assert found[0].fill is not None
                result[zoo_key] = found[0].fill(wanted)
        return result

    def to_foreign(self, tensors: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
        """Export.

        Args:
            tensors: The model's state.
            what: Begins the error message.

        Raises:
            UserError: The format has no place for some of the keys; all are named.
        """
        problems, result = Problems(), dict[str, Tensor]()
        for zoo_key in tensors:
            found = self.rule_of(zoo_key)
            if found is None:
                problems.unexpected.append(zoo_key)
                continue
            rule, _, words = found
            foreign = [pattern.fill(words) for pattern in rule.foreign]
            if foreign[0] in result:  # made with the first of several zoo keys
                continue
            keys = [None if pattern is None else pattern.fill(words) for pattern in rule.zoo]
            absent = [key for key in keys if key is not None and key not in tensors]
            problems.missing += absent
            if not absent:
                parts = rule.split([None if key is None else tensors[key] for key in keys])
                result.update(zip(foreign, parts, strict=True))
        problems.check(what)
        for key, make in self.synthesise.items():
            result[key] = make(result)
        return result


def identity(keys: Iterable[str]) -> RuleTable:
    """The table of zoo's own names."""
    return RuleTable(rules=[Rule(key, key) for key in keys])
