"""Failure drills: each fault has one stated outcome, and no fault loses data or leaves half a file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from zoo.registry import resolve
from zoo.settings import merge
from zoo.shared.runs.checkpoints import found_checkpoints
from zoo.verify.cases import Damage
from zoo.verify.children import AT_ONCE, Crew, Job, finish, run, start
from zoo.verify.compare import same_runs
from zoo.verify.injections import (
    EqualWeights,
    FullDisk,
    KilledWhileSaving,
    LossSpike,
    PoisonedGradient,
    Slowed,
    TerminatedAt,
)
from zoo.verify.resume import last_step
from zoo.verify.setup import Setup
from zoo.verify.verdicts import Verdict, broke

STEPS, EVERY = 12, 4
_GRACE = 30.0  # seconds from SIGTERM to the end

Drill = Callable[[], Verdict]


class Drills:
    """The drills of one model.

    Args:
        setup: The model.
        crew: At least two processes.
    """

    def __init__(self, setup: Setup, crew: Crew) -> None:
        short = {"trainer": {"max_steps": STEPS, "limit_val_batches": 0}, "checkpoint_every": EVERY}
        self.setup = setup.within("", short, setup.cases.calm)
        self.crew = crew
        self.whole = self.job("whole")

    def __iter__(self) -> Iterator[Verdict]:
        """Run all of them; those of one process go on beside the others."""
        run(self.whole)
        alone: list[Drill] = [
            self.poisoned_for_good, self.loss_spike, self.truncated_checkpoint, self.flipped_bit,
            self.killed_while_saving, self.full_disk, self.terminated,
        ]  # fmt: skip
        together: list[Drill] = [self.poisoned_once, self.one_of_two_terminated]
        if self.setup.cases.damaged:
            for damage in resolve(self.setup.cases.damaged)(self.setup.folder / "data"):
                alone += [partial(self.damaged, damage), partial(self.too_much_damage, damage)]
            together.append(partial(self.too_much_damage_for_one_of_two, damage))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            begun = [pool.submit(self._safely, drill) for drill in alone]
            for drill in together:
                yield self._safely(drill, self.crew)
            for one in begun:
                yield one.result()

    def _safely(self, drill: Drill, crew: Crew | None = None) -> Verdict:
        """A drill; one that breaks is a verdict, too, and processes that it may have left waiting are replaced."""
        try:
            return drill()
        except Exception as error:
            if crew is not None:
                crew.restart()
            what = getattr(drill, "func", drill).__name__.replace("_", " ")
            return broke("faults", self.setup.model, what, error)

    def job(self, name: str, *callbacks: Callable[[], Any], **sections: Any) -> Job:
        """A short run with faults."""
        return self.setup.job(name, sections, callbacks=callbacks)

    def verdict(self, what: str, **holds: bool) -> Verdict:
        """Passed when everything holds; otherwise what does not is said."""
        broken = [name.replace("_", " ") for name, held in holds.items() if not held]
        found = "not: " + ", ".join(broken) if broken else ", ".join(name.replace("_", " ") for name in holds)
        return Verdict(check="faults", subject=self.setup.model, what=what, found=found, passed=not broken)

    def ends_as_if_nothing_had_been(self, job: Job) -> bool:
        """Resume a run; whether it ends with the bits of the whole one."""
        run(replace(job, resume=True, settings={}, callbacks=(), before=None))
        return not any(part.differing for part in same_runs(self.whole.out, job.out))

    def poisoned_once(self) -> Verdict:
        """NaN on the second of two processes."""
        two = {"trainer": {"strategy": "ddp"}}
        job = self.job("poisoned", partial(PoisonedGradient, first=5, rank=1), EqualWeights, **two)
        self.crew.run(job, processes=2)
        return self.verdict(
            "a gradient is NaN on one of 2 processes",
            both_skip_the_step=facts(job)["skipped_steps"] == 1,  # and hold the same weights, or it would have failed
            weights_stay_finite=all(torch.isfinite(w).all() for w in weights(job).values()),
            all_other_steps_are_taken=facts(job)["steps"] == STEPS,
        )

    def poisoned_for_good(self) -> Verdict:
        """NaN in every step."""
        job = self.job("poisoned-for-good", partial(PoisonedGradient, first=5, steps=99), max_skipped_steps=3)
        run(job, code=2)
        kept = sorted((job.out / "bad_batches").glob("*.pt"))
        batches = torch.load(kept[-1], weights_only=True)["batches"] if kept else []
        return self.verdict(
            "gradients stay NaN",
            stops_after_the_set_number="3 steps in a row" in job.last_line and last_step(job.out / "metrics.csv") == 6,
            names_the_saved_batch=bool(kept) and str(kept[-1]) in job.last_words,
            the_batch_is_whole=bool(batches) and bool(batches[0]),
            no_traceback="Traceback" not in job.last_words,
        )

    def loss_spike(self) -> Verdict:
        """The watch on the loss speaks, the run goes on."""
        job = self.job("spike", partial(LossSpike, first=60, steps=5), trainer={"max_steps": 70})
        run(job)
        return self.verdict(
            "the loss spikes",
            a_line_says_so="train/loss" in job.last_words,
            it_is_counted=any("train/loss" in name and count for name, count in facts(job)["watches"].items()),
            the_run_goes_on=facts(job)["steps"] == 70,
        )

    def interrupted_copy(self, name: str) -> Job:
        """The whole run as it was before it ended."""
        job = replace(self.whole, out=self.setup.folder / name)
        shutil.copytree(self.whole.out, job.out)
        (job.out / "metrics.json").unlink()
        shutil.rmtree(job.out / "weights")
        return job

    def truncated_checkpoint(self) -> Verdict:
        """The newest checkpoint lost its end."""
        job = self.interrupted_copy("truncated")
        newest = found_checkpoints(job.out / "checkpoints")[0]
        os.truncate(newest, newest.stat().st_size * 2 // 3)
        return self.uses_the_one_before("the newest checkpoint is truncated", job, newest)

    def flipped_bit(self) -> Verdict:
        """The newest checkpoint has a wrong bit in the middle of a tensor."""
        job = self.interrupted_copy("flipped")
        newest = found_checkpoints(job.out / "checkpoints")[0]
        with zipfile.ZipFile(newest) as archive:
            largest = max(archive.infolist(), key=lambda member: member.file_size)
            stored = archive.read(largest)
        content = bytearray(newest.read_bytes())
        content[content.index(stored) + len(stored) // 2] ^= 1
        newest.write_bytes(content)
        return self.uses_the_one_before("a bit of the newest checkpoint is wrong", job, newest)

    def uses_the_one_before(self, what: str, job: Job, newest: Path) -> Verdict:
        """Resume with a damaged newest checkpoint."""
        same = self.ends_as_if_nothing_had_been(job)
        return self.verdict(
            what,
            the_one_before_is_used=same,
            the_user_is_told=f"{newest.name} is damaged" in " ".join(job.log.read_text().split()),
            it_is_set_aside=newest.with_name(f"{newest.name}.damaged").exists(),
        )

    def killed_while_saving(self) -> Verdict:
        """SIGKILL with half of the second checkpoint on disk."""
        job = replace(self.job("killed-while-saving"), before=KilledWhileSaving(f"{2 * EVERY:08d}.ckpt"))
        run(job, code=-signal.SIGKILL)
        names = [path.name for path in found_checkpoints(job.out / "checkpoints")]
        same = self.ends_as_if_nothing_had_been(job)
        return self.verdict(
            "killed in the middle of saving",
            no_half_file_under_a_final_name=names == [f"{EVERY:08d}.ckpt"],
            resumes_to_the_same_bits=same,
            leftovers_are_removed=not list(job.out.rglob("*.part")),
        )

    def full_disk(self) -> Verdict:
        """The second checkpoint does not fit on the disk."""
        size = found_checkpoints(self.whole.out / "checkpoints")[0].stat().st_size
        job = self.job("full-disk", partial(FullDisk, step=EVERY + 1, size=size * 2 // 3))
        run(job, code=2)
        names = [path.name for path in found_checkpoints(job.out / "checkpoints")]
        told = "cannot write the checkpoint" in job.last_words and "Traceback" not in job.last_words
        nothing_left = not list(job.out.rglob("*.part"))
        same = self.ends_as_if_nothing_had_been(job)
        return self.verdict(
            "the disk is full when a checkpoint is saved",
            one_clear_line=told,
            the_last_checkpoint_is_untouched=names == [f"{EVERY:08d}.ckpt"] and same,
            nothing_is_left_lying=nothing_left,
        )

    def terminated(self) -> Verdict:
        """SIGTERM from outside, at a random moment."""
        job = self.job("terminated", Slowed, checkpoint_every=1000)
        child = start(job)
        rows = job.out / "metrics.csv"
        while last_step(rows) < 1 and child.is_alive():
            time.sleep(0.002)
        began = time.monotonic()
        child.terminate()
        finish(job, child, code=143)
        took = time.monotonic() - began
        saved = found_checkpoints(job.out / "checkpoints")
        return self.verdict(
            "SIGTERM",
            exit_code_143_within_30_s=took < _GRACE,
            a_checkpoint_of_the_last_step=bool(saved) and int(saved[0].stem) == last_step(rows) + 1 < STEPS,
            resumes_to_the_same_bits=self.ends_as_if_nothing_had_been(job),
        )

    def one_of_two_terminated(self) -> Verdict:
        """Only the second process hears SIGTERM, twice."""
        two = {"trainer": {"strategy": "ddp"}}
        job = self.job("one-terminated", partial(TerminatedAt, step=5, rank=1), **two)
        codes = self.crew.run(job, processes=2, codes=(143,))
        saved = found_checkpoints(job.out / "checkpoints")
        return self.verdict(
            "SIGTERM twice to one of 2 processes",
            both_end_with_143=codes == [143, 143],
            a_checkpoint_of_that_step=bool(saved) and int(saved[0].stem) == 6,
        )

    def damaged(self, damage: Damage) -> Verdict:
        """Broken samples below the limit."""
        job = self.job(f"damaged-{slug(damage.what)}", **merge(damage.settings, {"data": {"max_bad_fraction": 1.0}}))
        run(job)
        bad = facts(job)["bad_samples"]
        return self.verdict(
            damage.what,
            named_and_counted=all(any(name in key for key in bad) for name in damage.named),
            nothing_else_is_named=len(bad) == len(damage.named),
            the_run_goes_on=facts(job)["steps"] == STEPS,
        )

    def too_much_damage(self, damage: Damage) -> Verdict:
        """The same above the limit."""
        job = self.job(f"stopped-{slug(damage.what)}", **merge(damage.settings, {"data": {"max_bad_fraction": 0.0}}))
        run(job, code=2)
        return self.verdict(
            f"{damage.what}, above the limit",
            stops_with_one_line="max_bad_fraction" in job.last_words and "Traceback" not in job.last_words,
            and_names_it=any(name in job.last_words for name in damage.named),
        )

    def too_much_damage_for_one_of_two(self, damage: Damage) -> Verdict:
        """One process meets a broken sample, the other does not."""
        strict = {"data": {"max_bad_fraction": 0.0}, "trainer": {"strategy": "ddp"}}
        job = self.job("stopped-two", **merge(damage.settings, strict))
        codes = self.crew.run(job, processes=2, codes=(2,))
        return self.verdict(
            f"{damage.what}, above the limit in one of 2 processes",
            both_stop_with_code_2=codes == [2, 2],
            one_line_names_it=any(name in job.last_line for name in damage.named),
            no_traceback="Traceback" not in job.last_words,
        )


def facts(job: Job) -> dict[str, Any]:
    """The figures of a finished run."""
    return json.loads((job.out / "metrics.json").read_text())


def weights(job: Job) -> dict[str, torch.Tensor]:
    """The weights of a finished run."""
    return load_file(job.out / "weights" / "model.safetensors")


def slug(words: str) -> str:
    """Words as part of a file's name."""
    return "-".join("".join(c if c.isalnum() else " " for c in words).split())
