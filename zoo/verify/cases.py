"""What a family says of itself for ``zoo verify``. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]
Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A model that generates, in all the ways that its family has.

    Attributes:
        prompts: Prompts of unequal length.
        room: Tokens that fit into the context after the longest of them.
        plain: One prompt and a number of tokens to that many greedy tokens, computing everything anew for each: the
            plain way that the others are compared with.
        ways: Name of a further way to the same for all prompts together: with a growing cache, with a static one,
            compiled, in one left-padded batch, ...
    """

    prompts: Sequence[Tokens]
    room: int
    plain: Callable[[Tokens, int], Tokens]
    ways: Mapping[str, Callable[[Sequence[Tokens], int], Sequence[Tokens]]]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Data with something broken in it.

    Attributes:
        what: What is broken, in words.
        settings: Settings that train on it.
        named: Ids of the samples that the run must name as bad.
    """

    what: str
    settings: dict[str, Any]
    named: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class VerifyCases:
    """How a family is trained small and where its checks are. Settings are sections as in a recipe.

    Attributes:
        recipe: The recipe that all checks start from; it must train on data that needs no network.
        calm: Settings under which a step is a smooth function of the batch, for comparisons that are not bit for bit:
            no dropout, no stochastic depth, and an epsilon that keeps Adam from turning rounding into full steps.
        varied: Settings that give a run everything that has a state of its own: dropout, augmentation, averaged
            weights, workers, gradient accumulation, validation. A resumed run must keep all of it.
        losses: Further forms of the loss by name, each checked like the first.
        pieces: The setting that cuts the batch of a step into pieces: ``trainer.accumulate_grad_batches`` (the batch
            size is then divided by it) or one of the task's.
        batch_norm: Settings that give the family a model with BatchNorm; None if it has none.
        sharded: Whether ``--trainer.strategy fsdp`` shards the model.
        tensor_parallel: Whether ``--trainer.strategy tp`` splits the model of the recipe.
        convert: Sizes of the models that ``convert`` takes by the name they have in its table; every format must hold
            one of them.
        outputs: ``module:function`` that takes a model and returns named outputs on inputs of its own choice.
        decode: ``module:function`` that returns a :class:`Decoder`; None if the family does not
            generate.
        damaged: ``module:function`` that writes data with broken samples into a folder and returns a list of
            :class:`Damage`.
    """

    recipe: str = "smoke"
    calm: Settings = field(default_factory=dict)
    varied: Settings = field(default_factory=dict)
    losses: Mapping[str, Settings] = field(default_factory=dict)
    pieces: str = "trainer.accumulate_grad_batches"
    batch_norm: Settings | None = None
    sharded: bool = True
    tensor_parallel: bool = False
    convert: Mapping[str, Settings] = field(default_factory=lambda: {"": {}})
    outputs: str | None = None
    decode: str | None = None
    damaged: str | None = None
