"""A CSV log that a resumed run continues; Lightning's own deletes the earlier rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from zoo.shared.files import write_text


class AppendingCSVLogger(Logger):
    """Writes one row per logged step.

    Args:
        path: The file. Rows that are there already are kept up to the step the run resumes from.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.rows: list[dict[str, str]] = []
        self.columns: list[str] = ["step"]
        self.written = 0
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or ["step"])
                self.rows = [{k: v for k, v in row.items() if k and v} for row in reader if row.get("step")]

    @property
    def name(self) -> str:
        """Name of the log, as Lightning asks for it."""
        return self.path.stem

    @property
    def version(self) -> str:
        """The log has no versions."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Settings are in ``config.yaml``."""

    @rank_zero_only
    def cut_back(self, step: int) -> None:
        """Forget the rows of steps at or after ``step``, which the resumed run will take again."""
        self.rows = [row for row in self.rows if int(row["step"]) < step]
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add the values to the row of ``step``."""
        row = {"step": str(step or 0)} | {name: repr(float(value)) for name, value in metrics.items()}
        if self.rows and self.rows[-1]["step"] == row["step"]:
            self.rows[-1].update(row)
            self.written = min(self.written, len(self.rows) - 1)
        else:
            self.rows.append(row)

    @rank_zero_only
    def save(self) -> None:
        """Write what is new."""
        known = set(self.columns)
        added = sorted({name for row in self.rows[self.written :] for name in row} - known)
        ends_here = self.written < len(self.rows) and self.written == self._on_disk
        if added or not ends_here or not self.path.exists():
            self.columns += added
            self._rewrite()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerows(self.rows[self.written :])
        self.written = self._on_disk = len(self.rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last rows."""
        self.save()

    _on_disk = 0

    def _rewrite(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
        self.written = self._on_disk = len(self.rows)
