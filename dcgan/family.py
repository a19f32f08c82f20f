"""DCGAN's record for the registry. Imports no torch."""

from __future__ import annotations

from zoo.dcgan.configs import VARIANTS, DcganConfig
from zoo.dcgan.watches import WATCHES
from zoo.registry import FamilySpec, Verb
from zoo.verify.cases import VerifyCases

FAMILY = FamilySpec(
    name="dcgan",
    title="DCGAN",
    paper="Radford, Metz and Chintala 2015, Unsupervised Representation Learning with Deep Convolutional Generative "
    "Adversarial Networks, arXiv:1511.06434",
    year=2015,
    config=DcganConfig,
    variants=VARIANTS,
    parameter_counts={
        "dcgan-64": 36_118_528,
        "dcgan-64-torch": 6_342_272,
        "dcgan-32": 11_276_800,
        "dcgan-28": 1_059_200,
        "dcgan-nano": 383_616,
        "dcgan-debug": 2_600,
    },
    default_model="dcgan-nano",
    model="zoo.dcgan.model:DCGAN",
    task="zoo.dcgan.task:DcganTask",
    datamodule="zoo.dcgan.data:DcganDataModule",
    preprocessor="zoo.dcgan.preprocessing:DcganPreprocessor",
    recipes="zoo.dcgan:recipes",
    converters={"torch": "zoo.dcgan.convert:TORCH", "theano": "zoo.dcgan.convert:THEANO"},
    audit="zoo.dcgan.audit:audit",
    watches=WATCHES,
    shortcuts={"--on-collapse": "--task.on_collapse"},
    report="zoo.dcgan.report:report",
    evaluate="zoo.dcgan.eval_command:evaluate",
    bench="zoo.dcgan.bench:rows",
    data_verbs={
        "dedupe": Verb(
            target="zoo.dcgan.data_commands:dedupe",
            help="leave out images that are near-duplicates of an earlier one",
            shared=True,
        ),
    },
    verbs={
        "sample": Verb(
            target="zoo.dcgan.sample_command:sample",
            help="images, walks, arithmetic and features of trained weights",
            shared=True,
        ),
    },
    verify=VerifyCases(
        # Without normalisation, whose statistics are those of the piece of a batch that is computed together.
        calm={"task": {"eps": 1e-3}, "model": {"batch_norm": "none"}},
        varied={
            "task": {"on_collapse": "rollback"},
            "data": {"flip": 0.5, "workers": 2},
            "trainer": {"limit_train_batches": 8, "limit_val_batches": 1, "val_check_interval": 4},
            "ema": 0.9,
        },
        losses={"in turns": {"task": {"alternation": "turns"}}},
        pieces="task.micro_batches",
        batch_norm={"model": {"batch_norm": "running"}},
        convert={
            "4x4 kernels": {},
            "5x5 kernels": {"layout": "paper", "batch_norm": "batch", "prior": "uniform", "batch_norm_eps": 1e-8},
            "3x3 kernels": {"layout": "imagenet", "batch_norm": "batch", "prior": "uniform", "batch_norm_eps": 1e-8},
        },
        sharded=False,
        outputs="zoo.dcgan.verify:outputs",
        damaged="zoo.dcgan.verify:damaged",
    ),
)
