"""How fast a run is, against the clock and against what the machine can do."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from zoo.shared.distributed import data_world_size
from zoo.shared.machine import matmul_rate, peak_memory

_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}


class ForwardFlops(TorchDispatchMode):
    """Counts floating-point operations with the formulas of torch's ``FlopCounterMode``.

    Unlike that one it leaves compiled blocks compiled, whose results differ in the last bit from uncompiled ones, and
    hangs no hooks on modules, which would have them compiled again. Products inside kernels that a compiler has
    written itself are not seen.

    Attributes:
        flops: Counted so far.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let torch.compile work while this mode is on."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and add its count."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func if isinstance(func, HigherOrderOperator) else func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


@cache
def measured_peak(dtype: torch.dtype, device: str) -> float:
    """Matmul rate of this process's device in FLOP/s, measured at the first call."""
    return matmul_rate(dtype, device=device, repeats=2)


def logs_now(trainer: Trainer) -> bool:
    """Whether what is logged in this batch reaches the log files."""
    return trainer._logger_connector.should_update_logs and not trainer.fit_loop._should_accumulate()


class Throughput(Callback):
    """Logs samples and tokens per second, the share of time spent waiting for data, MFU and peak memory.

    Model FLOPs utilisation (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): three times the FLOPs of a step's
    forward passes (forward and backward, recomputation not counted), over the time and over the device's matmul peak
    in the run's precision, which is measured before the clock starts. The forward passes are counted in the first
    batch of the fit. The clock stands still during validation.

    Attributes:
        samples: Samples trained on by all processes together. This and the rest is over all restarts; what was done
            after the checkpoint that a run goes on from is forgotten.
        tokens: Tokens of them, where the data module counts those.
        seconds: Time from the first step on, without validation.
        waited: Seconds of them spent waiting for batches, by this process.
        ideal: Seconds that the FLOPs would have taken at the matmul peak.
        peak_memory_gb: Most memory that the process has held, in 10^9 bytes: allocated on its GPU, or else resident.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.tokens = 0
        self.seconds = 0.0
        self.waited = 0.0
        self.ideal = 0.0
        self.peak_memory_gb = 0.0
        self._sample_ideal = 0.0  # the share of one sample in `ideal`
        self._peak = 0.0
        self._counter: ForwardFlops | None = None
        self._counting = False
        self._clock = 0.0  # time and wait up to which everything is counted
        self._wait = 0.0
        self._logged = (0, 0, 0.0, 0.0, 0.0)  # samples, tokens, seconds, waited and ideal at the last log
        self._paused = 0.0

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation of the whole run; None where it is not known."""
        return self.ideal / self.seconds if self.ideal and self.seconds else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the machine, then start the clock."""
        device = trainer.strategy.root_device.type
        if device in ("cpu", "cuda"):
            dtype = _DTYPES.get(str(trainer.precision).split("-")[0], torch.float32)
            self._peak = measured_peak(dtype, device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()  # the measurement's own memory does not count
        self._counter = ForwardFlops() if self._peak else None
        self._clock, self._wait = time.perf_counter(), _waited(trainer)
        self._logged = self._totals()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Begin to count the first batch."""
        self._count(True)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Leave the backward pass out."""
        self._count(False)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count a further forward pass, as manual optimisation may have."""
        self._count(not pl_module.automatic_optimization)

    def _count(self, on: bool) -> None:
        if self._counter is None or on == self._counting:
            return
        self._counting = on
        if on:
            self._counter.__enter__()
        else:
            self._counter.__exit__(None, None, None)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Add the batch up, and log at the trainer's interval."""
        if self._counter is not None:
            self._count(False)
            self._sample_ideal = 3 * self._counter.flops / self._peak / len(args[1]["index"])
            self._counter = None
        now, wait = time.perf_counter(), _waited(trainer)
        batch = args[1]
        self.samples += len(batch["index"]) * data_world_size()
        self.tokens += trainer.datamodule.count(batch).get("tokens", 0) * data_world_size()  # type: ignore[attr-defined]
        self.seconds += now - self._clock
        self.waited += wait - self._wait
        self.ideal += self._sample_ideal * len(batch["index"])
        self._clock, self._wait = now, wait
        if logs_now(trainer):
            self._log(trainer, pl_module)

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        totals = self._totals()
        samples, tokens, seconds, waited, ideal = (a - b for a, b in zip(totals, self._logged, strict=True))
        self._logged, seconds = totals, max(seconds, 1e-9)
        self._note_memory(trainer)
        values = {
            "time/samples_per_second": samples / seconds,
            "time/data_wait": waited / seconds,
            "time/peak_memory_gb": self.peak_memory_gb,
        }
        values |= {"time/tokens_per_second": tokens / seconds} if tokens else {}
        pl_module.log_dict(values | ({"time/mfu": ideal / seconds} if ideal else {}))

    def _totals(self) -> tuple[int, int, float, float, float]:
        return self.samples, self.tokens, self.seconds, self.waited, self.ideal

    def _note_memory(self, trainer: Trainer) -> None:
        on_gpu = trainer.strategy.root_device.type == "cuda"
        memory = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_memory() / 1e3
        self.peak_memory_gb = max(self.peak_memory_gb, memory)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the memory once more: a short run logs nothing."""
        self._note_memory(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start it again."""
        self._clock += time.perf_counter() - self._paused

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing switched on."""
        self._count(False)

    def state_dict(self) -> dict[str, Any]:
        """What has been counted."""
        names = ("samples", "tokens", "seconds", "waited", "ideal", "peak_memory_gb")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        for name, value in state_dict.items():
            setattr(self, name, value)


def _waited(trainer: Trainer) -> float:
    return trainer.datamodule.waited  # type: ignore[attr-defined]
