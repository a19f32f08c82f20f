"""Watches: each kind fires once when provoked and not before, and a resumed run says what the whole one says."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import zoo
from zoo.registry import get_family, registry
from zoo.shared.runs.watching import Watching
from zoo.shared.watch import COMMON, Watch

QUIET = {"accelerator": "cpu", "limit_val_batches": 0, "enable_progress_bar": False, "log_every_n_steps": 1}


class Kept(logging.Handler):
    """Keeps the warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Any:
    """Warnings so far."""
    kept = Kept()
    logging.getLogger("zoo").addHandler(kept)
    yield lambda: kept.lines
    logging.getLogger("zoo").removeHandler(kept)


def feed(watching: Watching, values: list[float], *, metric: str, first: int = 1, logs: bool = True) -> None:
    """Let the callback see a metric's values, one a step."""
    for step, value in enumerate(values, first):
        trainer = SimpleNamespace(
            global_step=step,
            callback_metrics={metric: torch.tensor(value)},
            is_global_zero=True,
            fit_loop=SimpleNamespace(_should_accumulate=lambda: False),
            _logger_connector=SimpleNamespace(should_update_logs=logs),
        )
        watching.on_train_batch_end(trainer, None)  # type: ignore[arg-type]


KINDS = [
    (Watch(metric="m", above=2.0, patience=2, advice="do"), [1.0, 3.0, 2.0], 3.0),
    (Watch(metric="m", below=2.0, patience=2, advice="do"), [3.0, 1.0, 2.0], 1.0),
    (Watch(metric="m", times_median=2.0, window=5, patience=2, advice="do"), [9.0, 1, 1, 1, 1, 1.5, 2.5, 2.0], 9.0),
    (Watch(metric="m", above=2.0, after=4, patience=2, advice="do"), [9.0] * 4 + [9.0], 9.0),
]


@pytest.mark.parametrize(("watch", "healthy", "sick"), KINDS)
def test_each_kind_fires_once_and_again_only_after_it_was_normal(
    watch: Watch, healthy: list[float], sick: float, lines: Any
) -> None:
    watching = Watching([watch])
    feed(watching, healthy, metric="m")
    assert not lines()
    assert watching.crossings == {watch.name: 0}
    feed(watching, [sick, sick, sick], metric="m", first=len(healthy) + 1)
    assert len(lines()) == 1
    assert " m is " in lines()[0]
    assert lines()[0].endswith(": do")
    if watch.times_median is not None:  # what lasts becomes the median
        return
    for _ in range(5):
        feed(watching, [2.0, sick, sick], metric="m", first=100)
    assert watching.crossings == {watch.name: 6}
    assert len(lines()) == 3
    assert lines()[2].endswith("no more lines of this")


def test_the_line_says_step_metric_value_bound_and_advice(lines: Any) -> None:
    feed(Watching([Watch(metric="m", above=2.0, advice="do this")]), [1.0, 3.5], metric="m")
    assert lines() == ["step 2: m is 3.5, above 2: do this"]


def test_what_is_passed_over(lines: Any) -> None:
    """Other metrics, values that are not finite, and stale values between two log steps."""
    watch = Watch(metric="m", above=2.0, advice="do", at_log_steps=True)
    watching = Watching([watch])
    feed(watching, [9.0], metric="more")
    feed(watching, [math.nan, math.inf], metric="m")
    feed(watching, [9.0], metric="m", logs=False)
    assert not lines()
    feed(watching, [9.0], metric="m/1")
    assert len(lines()) == 1


def test_a_watch_has_one_kind_of_bound_and_a_family_no_two_of_a_name() -> None:
    for bounds in ({}, {"above": 1.0, "below": 2.0}):
        with pytest.raises(ValueError, match="needs one of"):
            Watch(metric="m", advice="do", **bounds)
    for family in registry().families.values():
        names = [watch.name for watch in (*COMMON, *family.watches)]
        assert len(names) == len(set(names))


def test_state_goes_on_where_it_was(tmp_path: Path, lines: Any) -> None:
    watch = Watch(metric="m", times_median=2.0, window=4, patience=2, advice="do")
    values = [1.0, 1.1, 0.9, 1.0, 1.0, 5.0, 5.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 7.0, 7.0]
    whole = Watching([watch])
    feed(whole, values, metric="m")
    expected = [*lines()]
    assert len(expected) == 2
    for cut in range(len(values)):
        first, second = Watching([watch]), Watching([watch])
        feed(first, values[:cut], metric="m")
        torch.save(first.state_dict(), tmp_path / "state.pt")
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        feed(second, values[cut:], metric="m", first=cut + 1)
        assert second.state_dict() == whole.state_dict()
        assert lines()[-2:] == expected


def test_a_learning_rate_far_too_large_is_noticed(tmp_path: Path, lines: Any) -> None:
    task = {"lr": 1.0, "warmup_steps": 0, "schedule": "constant"}
    result = zoo.train("clip", recipe="smoke", out=tmp_path / "run", trainer={**QUIET, "max_steps": 8}, task=task)
    assert result.metrics["watches"]["train/update_ratio > 0.1"] == 1
    (line,) = (line for line in lines() if "update_ratio" in line)
    assert line.startswith("step 2: train/update_ratio is ")
    assert "lower --task.lr" in line


def test_a_loss_spike_in_a_run(tmp_path: Path, lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logit scale and a projection jump before step 8; the median is of 6 values here, for a short run."""
    quick = tuple(replace(w, window=6, patience=1, times_median=1.7) if w.metric == "train/loss" else w for w in COMMON)
    monkeypatch.setattr("zoo.training.COMMON", quick)

    def jump(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.global_step == 7:
            with torch.no_grad():
                self.model.logit_scale.fill_(math.log(100))
                self.model.text.projection.normal_()
        step(self, *args, **kwargs)

    from zoo.clip.task import ClipTask

    step = ClipTask.optimizer_step
    monkeypatch.setattr(ClipTask, "optimizer_step", jump)
    result = zoo.train("clip", recipe="smoke", out=tmp_path / "run", trainer={**QUIET, "max_steps": 12})
    assert result.metrics["watches"]["train/loss > 1.7 x median"] == 1
    assert next(line for line in lines() if "train/loss is" in line).startswith("step 8: ")


def test_the_logit_scale_at_its_clamp_and_after_a_resume(tmp_path: Path, lines: Any) -> None:
    model = zoo.create_model("clip-debug")
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100))
    zoo.save_weights(model, tmp_path / "weights")
    (watch,) = (w for w in get_family("clip").watches if w.above)
    settings: dict[str, Any] = {
        "weights": str(tmp_path / "weights"),
        "trainer": {**QUIET, "max_steps": 24},
        "task": {"lr": 1e-9},
        "checkpoint_every": 12,
    }
    result = zoo.train("clip", recipe="smoke", out=tmp_path / "run", **settings)
    assert result.metrics["watches"][watch.name] == 1
    said = [line for line in lines() if "logit_scale" in line]
    assert len(said) == 1
    assert said[0].startswith("step 20: train/logit_scale is 100, above 99.9: ")
    for late in (*(tmp_path / "run" / "checkpoints").glob("*24*"), tmp_path / "run" / "metrics.json"):
        late.unlink()
    resumed = zoo.train("clip", resume=tmp_path / "run")
    assert resumed.metrics["watches"] == result.metrics["watches"]
    assert [line for line in lines() if "logit_scale" in line] == 2 * said
    assert resumed.metrics["samples"] == 24 * 32
