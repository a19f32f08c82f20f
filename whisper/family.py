"""Whisper's record for the registry. Imports no torch."""

from __future__ import annotations

from zoo.registry import FamilySpec, Verb
from zoo.shared.watch import Watch
from zoo.verify.cases import VerifyCases
from zoo.whisper.configs import VARIANTS, WhisperConfig

FAMILY = FamilySpec(
    name="whisper",
    title="Whisper",
    paper="Radford et al. 2022, Robust Speech Recognition via Large-Scale Weak Supervision, arXiv:2212.04356",
    year=2022,
    config=WhisperConfig,
    variants=VARIANTS,
    aliases={"whisper-large": "whisper-large-v3", "whisper-large-v3-turbo": "whisper-turbo"},
    parameter_counts={
        "whisper-tiny": 37_184_640,
        "whisper-tiny.en": 37_184_256,
        "whisper-base": 71_825_920,
        "whisper-base.en": 71_825_408,
        "whisper-small": 240_582_912,
        "whisper-small.en": 240_582_144,
        "whisper-medium": 762_321_920,
        "whisper-medium.en": 762_320_896,
        "whisper-large-v1": 1_541_384_960,
        "whisper-large-v2": 1_541_384_960,
        "whisper-large-v3": 1_541_570_560,
        "whisper-turbo": 806_958_080,
        "whisper-debug": 82_048,
        "whisper-nano": 1_310_208,
    },
    default_model="whisper-nano",
    model="zoo.whisper.model:Whisper",
    task="zoo.whisper.task:WhisperTask",
    datamodule="zoo.whisper.data:WhisperDataModule",
    preprocessor="zoo.whisper.preprocessing:WhisperPreprocessor",
    recipes="zoo.whisper:recipes",
    converters={
        "openai": "zoo.whisper.convert:OPENAI",
        "hf": "zoo.whisper.convert:HF",
        "ctranslate2": "zoo.whisper.convert:CTRANSLATE2",
    },
    audit="zoo.whisper.audit:audit",
    report="zoo.whisper.report:report",
    evaluate="zoo.whisper.evaluation.command:evaluate",
    bench="zoo.whisper.bench:rows",
    verbs={"transcribe": Verb(target="zoo.whisper.commands:transcribe", help="write down what is said")},
    data_verbs={
        "filter": Verb(target="zoo.whisper.speech.filters:filter_speech", help="keep good transcripts", shared=True),
    },
    watches=(
        Watch(
            metric="val/gap",
            above=1.5,
            advice="held-out speech is far harder than training speech, which is being learnt by heart: use more, "
            "--data.spec_augment LB, --data.noise 0.3, or fewer steps",
        ),
        Watch(
            metric="val/wer_rise",
            above=0.1,
            advice="held-out speech is written worse than before although the loss falls: compare what is trained on "
            "with how the model is used (prompt, times, --data.window), look at val/wer, and stop or lower --task.lr",
        ),
        Watch(
            metric="train/loss",
            above=4.0,
            after=400,
            patience=20,
            advice="the text does not come out of the sound: raise --task.lr, or check that recordings and transcripts "
            "belong together",
        ),
    ),
    verify=VerifyCases(
        calm={"task": {"eps": 1e-3}},
        varied={
            "model": {"dropout": 0.1, "stochastic_depth": 0.1},
            "data": {
                "workers": 2,
                "speed": [0.9, 1.1],
                "vocal_tract": [0.9, 1.1],
                "noise": 0.5,
                "babble": 0.5,
                "spec_augment": "LB",
                "bpe_dropout": 0.1,
            },
            "trainer": {
                "limit_train_batches": 8,
                "limit_val_batches": 1,
                "val_check_interval": 4,
                "accumulate_grad_batches": 2,
            },
            "ema": 0.9,
        },
        tensor_parallel=True,
        convert={"english": {"vocab_size": 51864, "tokenizer": "english", "width": 64, "heads": 1}},
        outputs="zoo.whisper.verify:outputs",
        decode="zoo.whisper.verify:decoder",
        damaged="zoo.whisper.verify:damaged",
    ),
)
