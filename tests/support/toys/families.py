"""The toys' records."""

from __future__ import annotations

from typing import Any

from toys.models import ToyConfig
from zoo.registry import FamilySpec
from zoo.verify.cases import VerifyCases

VARIED = {
    "model": {"dropout": 0.2},
    "data": {"workers": 1, "batch_size": 4},
    "trainer": {"accumulate_grad_batches": 3, "limit_val_batches": 0},  # 16 batches, 6 steps, the last one short
    "ema": 0.9,
}  # fmt: skip


def toy(name: str, model: str, task: str, **cases: Any) -> FamilySpec:
    return FamilySpec(
        name=name,
        title=name,
        paper="none",
        year=2026,
        config=ToyConfig,
        variants={f"{name}-debug": ToyConfig()},
        parameter_counts={},
        default_model=f"{name}-debug",
        model=f"toys.models:{model}",
        task=f"toys.models:{task}",
        datamodule="toys.data:ToyData",
        preprocessor="toys.data:NoPreprocessor",
        recipes="toys:recipes",
        verify=VerifyCases(**{"varied": VARIED, **cases}),
    )


LANGUAGE = toy("toylanguage", "LanguageModel", "LanguageTask", tensor_parallel=True, decode="toys.decoding:decoder")
NAIVE = toy("toynaive", "LanguageModel", "NaiveLanguageTask", decode="toys.decoding:careless")
MASKED = toy("toymasked", "MaskedModel", "MaskedTask", tensor_parallel=True)
SPEECH = toy("toyspeech", "SpeechModel", "SpeechTask")
RECURRENT = toy("toyrecurrent", "RecurrentModel", "RecurrentTask")
FORGETFUL = toy("toyforgetful", "RecurrentModel", "ForgetfulTask")
ESTIMATING = toy(
    "toyestimating",
    "LanguageModel",
    "EstimatingTask",
    varied={**VARIED, "trainer": {"accumulate_grad_batches": 3, "limit_val_batches": 0, "max_epochs": 9}},
)
RESEEDED = toy("toyreseeded", "LanguageModel", "ReseededTask")
ADVERSARIAL = toy(
    "toyadversarial",
    "AdversarialModel",
    "AdversarialTask",
    varied={
        "model": {"dropout": 0.2, "norm": True},
        "task": {"micro_batches": 2},
        "data": {"workers": 1},
        "trainer": {"limit_train_batches": 5, "limit_val_batches": 0},
        "ema": 0.9,
    },
    pieces="task.micro_batches",
    batch_norm={"model": {"norm": True}},
)
