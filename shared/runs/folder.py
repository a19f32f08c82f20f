"""The folder of one run (design: ``runs/<model>/<date-time>/``)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from zoo.shared.distributed import first_process
from zoo.shared.errors import UserError
from zoo.shared.files import check_writable, read_json, write_json, write_text

RUNS = Path("runs")


class RunFolder:
    """Paths of what a run writes, and the two small files that describe it.

    Args:
        path: The folder; need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.move(path)

    def move(self, path: str | Path) -> None:
        """Write to ``path`` from now on."""
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.json"
        self.rows = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.weights = self.path / "weights"

    @classmethod
    def create(cls, model: str, out: str | Path | None = None) -> RunFolder:
        """Make the folder of a new run.

        Args:
            model: Name of the model, which names the folder when ``out`` is None.
            out: The folder to use.

        Only the first of several processes makes it; the others get the path from
        :class:`zoo.shared.runs.callbacks.SameFolder`.

        Raises:
            UserError: ``out`` holds a run already, or cannot be written.
        """
        if not first_process():
            return cls(out or RUNS / model)
        if out is None:
            stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
            path = RUNS / model / stamp
            number = 1
            while path.exists():  # two runs within one second
                number += 1
                path = RUNS / model / f"{stamp}-{number}"
        else:
            path = Path(out)
            if path.is_dir() and (path / "config.yaml").exists():
                raise UserError(
                    f"{path} holds a run already; continue it with --resume {path}, or choose another --out"
                )
        check_writable(path)
        return cls(path)

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """Open the folder of an earlier run.

        Raises:
            UserError: It is not one.
        """
        run = cls(path)
        if not run.config.is_file():
            raise UserError(f"{path} is not the folder of a run: it has no config.yaml")
        return run

    def write_config(self, config: dict[str, Any]) -> None:
        """Write everything that is needed to repeat the run; the first process does."""
        if not first_process():
            return
        write_text(self.config, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """Read what :meth:`write_config` wrote."""
        try:
            config = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"cannot read {self.config}: {error}") from error
        if not isinstance(config, dict):
            raise UserError(f"{self.config} is damaged: it holds no settings")
        return config

    def reopen(self) -> None:
        """Let a finished run go on; the first process does."""
        if first_process():
            self.metrics.unlink(missing_ok=True)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write the final figures; their presence marks a finished run."""
        write_json(self.metrics, metrics)


def newest_weights(family: str, runs: str | Path = RUNS, *, model: str | None = None) -> Path:
    """The ``weights/`` folder of the newest finished run of a family that had no objective but the family's own.

    Args:
        family: The family.
        runs: Where runs lie.
        model: Only runs of this model.

    Raises:
        UserError: There is none.
    """
    newest: tuple[float, Path] | None = None
    for metrics in Path(runs).glob("*/*/metrics.json"):
        weights = metrics.parent / "weights"
        if not weights.is_dir():
            continue
        try:
            told = read_json(metrics)
        except UserError:  # damaged: some other run will do
            continue
        if told.get("family") == family and told.get("objective") is None and model in (None, told.get("model")):
            newest = max(newest or (0.0, weights), (metrics.stat().st_mtime, weights))
    if newest is None:
        what = model or family
        raise UserError(f"no finished run of {what} under {runs}/; give --weights, or run `zoo train {what}` first")
    return newest[1]


def data_of_run(weights: str | Path) -> dict[str, Any]:
    """How the data of the run that wrote these weights was set, with its seed: with it, its split can be made again.

    Args:
        weights: The run's ``weights`` folder. Of anything else nothing is known.
    """
    run = RunFolder(Path(weights).expanduser().resolve().parent)
    if not run.config.is_file():
        return {}
    config = run.read_config()
    data = config.get("data")
    return {"seed": config.get("seed", 0), **(data if isinstance(data, dict) else {})}
