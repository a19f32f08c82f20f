"""How the runs of a check begin: the family's small recipe, its settings, a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.registry import FamilySpec
from zoo.settings import merge, read_recipe
from zoo.verify.cases import VerifyCases
from zoo.verify.children import Job

BY_TRAINER = "trainer.accumulate_grad_batches"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the runs of a check have in common.

    Attributes:
        spec: The family.
        model: The model.
        folder: Where the runs go.
        settings: Settings of all of them.
    """

    spec: FamilySpec
    model: str
    folder: Path
    settings: Mapping[str, Any]

    @property
    def cases(self) -> VerifyCases:
        """What the family says of itself."""
        return self.spec.verify

    @property
    def batch(self) -> int:
        """The recipe's batch size, or the nearest below that every number of pieces and processes here divides."""
        wanted = int(read_recipe(self.spec, self.cases.recipe).get("data", {}).get("batch_size", 24))
        return max(12, wanted - wanted % 12)

    def within(self, name: str, *layers: Mapping[str, Any]) -> Setup:
        """Runs in a folder of their own, with further settings."""
        return replace(self, folder=self.folder / name, settings=merge(self.settings, *layers))

    def in_pieces(self, batch: int, pieces: int) -> dict[str, Any]:
        """Settings that cut the batch of a step into pieces."""
        if self.cases.pieces == BY_TRAINER:
            return {"data": {"batch_size": batch // pieces}, "trainer": {"accumulate_grad_batches": pieces}}
        section, _, key = self.cases.pieces.partition(".")
        return {"data": {"batch_size": batch}, section: {key: pieces}}

    def job(self, name: str, *layers: Mapping[str, Any], callbacks: tuple[Callable[[], Any], ...] = ()) -> Job:
        """A run."""
        short = {"trainer": {"log_every_n_steps": 1}, "audit": False}
        return Job(
            spec=self.spec,
            model=self.model,
            out=self.folder / name,
            recipe=self.cases.recipe,
            settings=merge(short, self.settings, *layers),
            callbacks=callbacks,
        )
