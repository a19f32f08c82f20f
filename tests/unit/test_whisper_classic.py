"""The classic ways in which fine-tuning a Whisper goes wrong. Each test makes the mistake and shows that it is seen."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from zoo.shared.audit import Check
from zoo.shared.errors import UserError
from zoo.whisper import audit as audits
from zoo.whisper import data as data_module
from zoo.whisper.configs import VARIANTS
from zoo.whisper.course import Course
from zoo.whisper.data import WhisperDataModule
from zoo.whisper.decoding.options import DecodingOptions
from zoo.whisper.decoding.prompts import past_ids, start_ids
from zoo.whisper.listener import Listener, word_error_rate
from zoo.whisper.pretrained import tiny_en
from zoo.whisper.speech.records import ArraySound, Segment, SpeechList, Utterance
from zoo.whisper.speech.tones import DialledNumbers
from zoo.whisper.splits import Speech
from zoo.whisper.targets import IGNORED, TargetOptions, write_targets
from zoo.whisper.tokenizer import WhisperTokenizer

DEBUG = VARIANTS["whisper-debug"]
TRAINER = {"accelerator": "cpu", "enable_progress_bar": False, "check_val_every_n_epoch": None, "log_every_n_steps": 1}
RANKS = {bytes([value]): value for value in range(256)}
MULTILINGUAL = WhisperTokenizer(RANKS, languages=("en", "de"), multilingual=True, timestamps=51)
ENGLISH = WhisperTokenizer(RANKS, languages=("en",), multilingual=False, timestamps=51)


@pytest.fixture
def warnings_of_a_run() -> Iterator[list[str]]:
    """What a run has warned of so far."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    kept = Kept(logging.WARNING)
    logging.getLogger("zoo").addHandler(kept)
    yield lines
    logging.getLogger("zoo").removeHandler(kept)


# ---- words become wrong while the loss falls ----


def few(*args: Any, **settings: Any) -> Speech:
    """Eight dialled numbers, which are learnt by heart and asked for again."""
    numbers = DialledNumbers(count=40, seed=0)
    spoken = tuple(one for one in (numbers[i] for i in range(40)) if not one.no_speech)[:8]
    part = SpeechList("tones", spoken, {})
    return Speech(train=part, held_out={"again": part})


def settings(steps: int, **task: Any) -> dict[str, Any]:
    return {
        "task": {"lr": 1e-2, "warmup_steps": 1, "schedule": "constant", "written": 8, **task},
        "data": {"source": "tones", "utterances": 40, "timestamps": 0.0, "previous": 0.0, "batch_size": 8},
        "trainer": {**TRAINER, "max_steps": steps, "val_check_interval": 20, "gradient_clip_val": 1.0},
        "audit": False,  # what is asked for is what was learnt
        "checkpoint_every": 1000,
    }


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that write eight numbers without a mistake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_module, "open_splits", few)
        result = zoo.train(
            "whisper-debug", recipe="smoke", out=tmp_path_factory.mktemp("able") / "run", **settings(100)
        )
    assert result.metrics["logged"]["val/wer"] == 0
    assert "before/wer/again/transcribe/en" not in result.metrics["figures"]  # it started from scratch
    return result.weights


def without_no_timestamps(*args: Any, **named: Any) -> tuple[list[int], list[int]]:
    """Targets whose prompt is not that of decoding: nothing says that no times are to be written."""
    tokens, targets = write_targets(*args, **named)
    place = tokens.index(args[1].specials.no_timestamps)
    return tokens[:place] + tokens[place + 1 :], targets[: place - 1] + targets[place:]


@pytest.mark.parametrize("mistaken", [True, False])
def test_words_become_wrong_while_the_loss_falls(
    mistaken: bool, able: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings_of_a_run: list[str]
) -> None:
    """Teacher-forced loss does not see a prompt that is not the one of decoding; what is written does."""
    monkeypatch.setattr(data_module, "open_splits", few)
    if mistaken:
        monkeypatch.setattr(data_module, "write_targets", without_no_timestamps)
    run = zoo.train("whisper-debug", recipe="smoke", out=tmp_path / "run", weights=str(able), **settings(40))
    losses = [row.split(",") for row in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    column = losses[0].index("train/loss")
    course = [float(row[column]) for row in losses[1:] if row[column]]
    figures, key = run.metrics["figures"], "wer/again/transcribe/en"
    assert figures[f"before/{key}"] == 0
    told = [line for line in warnings_of_a_run if "val/wer_rise" in line]
    if mistaken:
        assert course[-1] < 0.1 * course[0]
        assert run.metrics["logged"]["val/loss"] < 0.1 * course[0]  # sees nothing
        assert run.metrics["logged"]["val/wer"] > 0.3
        assert figures[key] > 0.3
        assert len(told) == 1
        assert "written worse than before although the loss falls" in told[0]
    else:
        assert figures[key] == run.metrics["logged"]["val/wer"] == 0
        assert not told


def test_the_course_of_a_run() -> None:
    """Error rate and loss at each validation, and by how much the rate has risen while the loss fell."""
    start = [(0.2, math.inf)]
    for both, rise in [
        ([(0.15, 1.0), (0.1, 0.5)], 0.0),  # as it should be
        ([(0.1, 1.0), (0.4, 0.5)], 0.3),  # the classic
        ([(0.1, 1.0), (0.4, 1.5)], 0.0),  # the loss has risen, too: that is seen anyway
        ([(0.1, 1.0), (9.0, 0.5)], 0.9),  # repeated without an end
        ([(0.5, 1.0)], 0.3),  # worse than the weights that the run started from
    ]:
        course = Course()
        found = [course.heard(wer, loss) for wer, loss in [*start, *both]]
        assert found[-1] == pytest.approx(rise)
    babble = Course()
    assert [babble.heard(wer, loss) for wer, loss in [(2.0, math.inf), (4.0, 3.0), (0.9, 2.0)]] == [0, 0, 0]


def test_the_course_goes_on_after_a_checkpoint() -> None:
    course, other = Course(), Course()
    for part in (course, other):
        part.heard(0.2, math.inf)
        part.trained(torch.tensor(0.3))
    other = Course(**other.state())
    for part in (course, other):
        part.trained(torch.tensor(0.4))
    assert float(course.loss(torch.device("cpu"))) == float(other.loss(torch.device("cpu"))) == pytest.approx(0.35)
    assert course.state() == other.state()


# ---- the decoder's prompt ----


def utterance(**changes: Any) -> Utterance:
    sound = ArraySound(np.zeros(16_000, dtype=np.float32))
    return replace(Utterance(id="one", sound=sound, text="hi", language="de"), **changes)


def trained_on(one: Utterance, tokenizer: WhisperTokenizer, *, timed: bool, previous: float = 0.0) -> list[int]:
    options = TargetOptions(context=32, window=1.0, timestamps=0.0, previous=previous)
    return write_targets(one, tokenizer, options, np.random.default_rng(0), timed=timed, seconds=0.8)[0]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(
    ("tokenizer", "changes"),
    [
        (ENGLISH, {"language": "en"}),
        (MULTILINGUAL, {"language": "de"}),
        (MULTILINGUAL, {"language": "de", "task": "translate"}),
        (MULTILINGUAL, {"language": "en", "prompt": "what came before"}),
        (ENGLISH, {"language": "en", "prompt": "much more than half of the context holds"}),
    ],
)
def test_training_starts_with_what_decoding_starts_with(
    tokenizer: WhisperTokenizer, changes: dict[str, Any], timed: bool
) -> None:
    one = utterance(**changes)
    options = DecodingOptions(language=one.language, task=one.task, without_timestamps=not timed)
    past = past_ids(one.prompt, tokenizer, options, 32)
    wanted = [*past, *start_ids(tokenizer, options, one.language if tokenizer.multilingual else None, 32)]
    tokens = trained_on(one, tokenizer, timed=timed, previous=1.0)
    assert tokens[: len(wanted)] == wanted
    follows = tokens[len(wanted)]
    assert follows >= tokenizer.specials.timestamp_begin if timed else follows < tokenizer.specials.eot


def wrong_language(row: list[int]) -> list[int]:
    return [MULTILINGUAL.specials.language_id("en") if t == MULTILINGUAL.specials.language_id("de") else t for t in row]


def wrong_task(row: list[int]) -> list[int]:
    special = MULTILINGUAL.specials
    return [special.translate if token == special.transcribe else token for token in row]


def no_times_not_said(row: list[int]) -> list[int]:
    return [token for token in row if token != MULTILINGUAL.specials.no_timestamps]


def english_only(row: list[int]) -> list[int]:
    return [row[0], *row[3:]]


def no_mark_of_what_came_before(row: list[int]) -> list[int]:
    return [ord("x"), *row]


@pytest.mark.parametrize(
    "mistake", [wrong_language, wrong_task, no_times_not_said, english_only, no_mark_of_what_came_before]
)
@pytest.mark.parametrize("timed", [False, True])
def test_the_audit_sees_a_wrong_prompt(mistake: Any, timed: bool) -> None:
    told = utterance(prompt="before", segments=(Segment(0.0, 0.5, "a"), Segment(0.5, 0.7, "b")) if timed else ())
    source = [utterance(), told, utterance(no_speech=True, text="", language=None)]
    rows = [trained_on(one, MULTILINGUAL, timed=timed, previous=1.0) for one in source]
    if not (timed and mistake is no_times_not_said):  # with times, there is nothing to leave out
        assert not prompts_of([mistake(rows[0]), *rows[1:]], source).passed
    check = prompts_of(rows, source)
    assert check.passed, check.found


def prompts_of(rows: list[list[int]], source: list[Utterance]) -> Check:
    padded = [row + [MULTILINGUAL.specials.eot] * (32 - len(row)) for row in rows]
    batch = {"tokens": torch.tensor(padded), "index": torch.arange(len(rows))}
    return audits.prompts(batch, source, MULTILINGUAL, 32)


# ---- labels that are shifted twice ----


@pytest.fixture(scope="module")
def real() -> tuple[Any, WhisperDataModule, dict[str, Tensor]]:
    """The real tiny.en and four real prompts, in a window that they fit into."""
    model: Any = zoo.load(tiny_en())
    data = WhisperDataModule(
        model.config, source="prompts-en", held_out=0.2, window=3.0, timestamps=0.0, previous=0.0, batch_size=4
    )
    data.start_from(tiny_en())
    return model, data, data.peek(4)


def test_the_first_loss_of_real_weights_is_small(real: Any) -> None:
    """Known of tiny.en: about a nat; far more than five where labels are shifted once more."""
    model, _, batch = real
    checks = losses_of(model, batch)
    assert all(check.passed for check in checks.values()), checks
    assert float(checks["first loss"].found.split()[0]) < 2.0
    assert float(checks["first loss, targets shifted once more or less"].found.split()[0]) > 5.0
    for by in (-1, 1):
        wrong = {**batch, "targets": audits.shifted(batch["targets"], by)}
        assert not losses_of(model, wrong)["first loss, targets shifted once more or less"].passed


@torch.no_grad()
def losses_of(model: Any, batch: dict[str, Tensor]) -> dict[str, Check]:
    return {check.name: check for check in audits.losses(model, batch, trained=True)}


def test_targets_shifted_by_more() -> None:
    targets = torch.tensor([[1, 2, 3, IGNORED]])
    assert audits.shifted(targets, -1).tolist() == [[2, 3, IGNORED, IGNORED]]
    assert audits.shifted(targets, 1).tolist() == [[IGNORED, 1, 2, 3]]


# ---- padding ----


def test_more_padding_changes_no_loss_and_no_gradient(real: Any) -> None:
    """The twin that learns what stands after the end has another loss."""
    model, data, batch = real
    eot = data.preprocessor.tokenizer.specials.eot
    tokens, targets = batch["tokens"], batch["targets"]
    more = torch.full((len(tokens), 5), eot)
    ignored = torch.full_like(more, IGNORED)
    seen = torch.cat([targets, ignored], 1)

    def both(tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        loss = model.loss_sum(batch["mel"], tokens, targets)
        (gradient,) = torch.autograd.grad(loss, model.decoder.positions.weight)
        return loss.detach(), gradient

    loss, gradient = both(tokens, targets)
    padded, padded_gradient = both(torch.cat([tokens, more], 1), seen)
    assert padded == pytest.approx(float(loss), rel=1e-5)
    assert torch.allclose(padded_gradient, gradient, atol=1e-4)
    wrong, _ = both(torch.cat([tokens, more], 1), torch.where(seen == IGNORED, eot, seen))
    assert wrong > loss + 1.0


def test_the_end_is_learnt_exactly_once(real: Any) -> None:
    _, data, batch = real
    eot = data.preprocessor.tokenizer.specials.eot
    assert ((batch["targets"] == eot).sum(1) == 1).all()
    for row in batch["targets"].tolist():
        assert set(row[row.index(eot) + 1 :]) <= {IGNORED}
    tokenizer = data.preprocessor.tokenizer
    assert audits.order(batch, tokenizer).passed
    twice = torch.where(batch["targets"] == IGNORED, eot, batch["targets"])
    assert not audits.order({**batch, "targets": twice}, tokenizer).passed
    never = torch.where(batch["targets"] == eot, IGNORED, batch["targets"])
    assert not audits.order({**batch, "targets": never}, tokenizer).passed


# ---- windows ----


def test_a_window_cuts_what_is_trained_on_and_not_what_is_held_out(real: Any) -> None:
    _, data, batch = real
    assert batch["mel"].shape == (4, 80, 300)
    assert data.speech is not None
    assert max(one.sound.count for one in data.speech.train) <= 48_000
    held_out = data.readers[1]
    assert held_out.read(0, np.random.default_rng(0))["audio"].shape == (480_000,)
    assert max(one.sound.count for one in data.speech.held_out["held out"]) > 48_000


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"window": 31.0}, r"--data\.window must be from 0\.1 to the 30 s that the model hears, not 31"),
        ({"window": 0.2}, r"nothing of prompts-en fits into --data\.window 0\.2; raise it"),
    ],
)
def test_windows_that_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        WhisperDataModule(VARIANTS["whisper-tiny.en"], source="prompts-en", **changes).setup()


def test_a_listener_leaves_the_model_as_it_was(real: Any) -> None:
    """It is used while training goes on; and it writes what the real model writes."""
    model, data, _ = real
    listener = Listener(model.train(), data.preprocessor)
    assert data.speech is not None
    found = listener.write([one for one in data.speech.held_out["held out"] if one.text.startswith("The leader")])
    assert model.training
    assert word_error_rate(found) == 0
