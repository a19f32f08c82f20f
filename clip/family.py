"""CLIP's record for the registry. Imports no torch."""

from __future__ import annotations

from zoo.clip.configs import VARIANTS, ClipConfig
from zoo.registry import FamilySpec, Verb
from zoo.shared.watch import Watch
from zoo.verify.cases import VerifyCases

FAMILY = FamilySpec(
    name="clip",
    title="CLIP",
    paper="Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, "
    "arXiv:2103.00020",
    year=2021,
    config=ClipConfig,
    variants=VARIANTS,
    parameter_counts={
        "clip-rn50": 102_007_137,
        "clip-rn101": 119_688_033,
        "clip-rn50x4": 178_300_601,
        "clip-rn50x16": 290_979_217,
        "clip-rn50x64": 623_258_305,
        "clip-vit-b-32": 151_277_313,
        "clip-vit-b-16": 149_620_737,
        "clip-vit-l-14": 427_616_513,
        "clip-vit-l-14-336": 427_944_193,
        "clip-debug": 1_642_273,
        "clip-nano": 9_756_021,
    },
    default_model="clip-nano",
    model="zoo.clip.model:CLIP",
    task="zoo.clip.task:ClipTask",
    datamodule="zoo.clip.data:ClipDataModule",
    preprocessor="zoo.clip.preprocessing:ClipPreprocessor",
    recipes="zoo.clip:recipes",
    converters={
        "hf": "zoo.clip.convert:HF",
        "openai": "zoo.clip.convert:OPENAI",
        "open_clip": "zoo.clip.convert:OPEN_CLIP",
    },
    weight_tags={
        "clip-vit-b-32": {"openai": "hf:openai/clip-vit-base-patch32"},
        "clip-vit-b-16": {"openai": "hf:openai/clip-vit-base-patch16"},
        "clip-vit-l-14": {"openai": "hf:openai/clip-vit-large-patch14"},
        "clip-vit-l-14-336": {"openai": "hf:openai/clip-vit-large-patch14-336"},
        "clip-rn50": {"openai": "hf:timm/resnet50_clip.openai"},
        "clip-rn101": {"openai": "hf:timm/resnet101_clip.openai"},
        "clip-rn50x4": {"openai": "hf:timm/resnet50x4_clip.openai"},
        "clip-rn50x16": {"openai": "hf:timm/resnet50x16_clip.openai"},
        "clip-rn50x64": {"openai": "hf:timm/resnet50x64_clip.openai"},
    },
    audit="zoo.clip.audit:audit",
    watches=(
        Watch(
            metric="train/logit_scale",
            above=99.9,
            patience=20,
            advice="at its clamp (Section 2.5): expected late in a long run; early on, lower --task.lr",
        ),
        Watch(
            metric="train/logit_scale",
            below=5.0,
            patience=20,
            advice="far below its start of 14.3, so the pairs do not match: check the captions, or lower --task.lr",
        ),
    ),
    report="zoo.clip.report:report",
    evaluate="zoo.clip.commands:evaluate",
    bench="zoo.clip.bench:rows",
    verify=VerifyCases(
        calm={"task": {"eps": 1e-3}},
        varied={
            "model": {"dropout": 0.1, "stochastic_depth": 0.1},
            "task": {"micro_batches": 2},
            "data": {"flip": 0.5, "workers": 2},
            "trainer": {"limit_train_batches": 8, "limit_val_batches": 1, "val_check_interval": 4},
            "ema": 0.9,
        },
        losses={"local loss": {"task": {"local_loss": True}}},
        pieces="task.micro_batches",
        batch_norm={
            "model": {"vision": "resnet", "vision_depth": (1, 1, 1, 1), "vision_width": 8, "vision_heads": 4},
        },
        tensor_parallel=True,
        # Heads 64 wide, as OpenAI's are.
        convert={"": {"vision_width": 64, "vision_heads": 1, "text_width": 64, "text_heads": 1}},
        outputs="zoo.clip.verify:outputs",
        damaged="zoo.clip.verify:damaged",
    ),
    verbs={
        "classify": Verb(target="zoo.clip.commands:classify", help="name what is in images, from labels in words"),
        "search": Verb(target="zoo.clip.commands:search", help="find the images of a folder that fit a sentence"),
        "embed": Verb(target="zoo.clip.commands:embed", help="write embeddings of images or texts", shared=True),
    },
    data_verbs={
        "prepare": Verb(
            target="zoo.clip.data_commands:prepare", help="open every pair once and report what is wrong", shared=True
        ),
    },
)
