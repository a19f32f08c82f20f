"""A CSV log that a resumed run continues; Lightning's own deletes the earlier rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from zoo.shared.files import write_text

Row = dict[str, str]


class AppendingCSVLogger(Logger):
    """Writes one row per logged step, at once, so that a killed run has lost nothing it logged.

    Args:
        path: The file. Rows that are there already are kept up to the step the run resumes from.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.columns = ["step"]
        self._row: Row = {}  # the last row, which may still grow
        self._start = 0  # where it begins in the file
        if self.path.exists():
            self._write_all(self._read())

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
        if self.path.exists():
            self._write_all([row for row in self._read() if int(row["step"]) < step])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add the values to the row of ``step``."""
        values = {"step": str(step or 0)} | {name: repr(float(value)) for name, value in metrics.items()}
        if values["step"] != self._row.get("step"):
            self._row = {}
            self._start = self.path.stat().st_size if self.path.exists() else 0
        self._row |= values
        if not self.path.exists() or not set(values) <= set(self.columns):
            earlier = self._read(self._start) if self.path.exists() else []
            self._write_all([*earlier, self._row])
        else:
            with self.path.open("r+b") as file:
                file.seek(self._start)
                file.truncate()
                file.write(self._text([self._row], header=False).encode())

    @rank_zero_only
    def save(self) -> None:
        """Nothing: every row is written when it is logged."""

    def _read(self, end: int | None = None) -> list[Row]:
        text = self.path.read_bytes()[:end].decode(errors="replace")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        return [{k: v for k, v in row.items() if k and v} for row in rows if (row.get("step") or "").isdigit()]

    def _write_all(self, rows: list[Row]) -> None:
        new = {name for row in rows for name in row} - set(self.columns)
        self.columns += sorted(new)
        self._row = rows[-1] if rows else {}
        write_text(self.path, self._text(rows, header=True))
        self._start = self.path.stat().st_size - (len(self._text(rows[-1:], header=False).encode()) if rows else 0)

    def _text(self, rows: list[Row], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
