"""The GPTs' record for the registry. Imports no torch."""

from __future__ import annotations

from zoo.gpt.configs import VARIANTS, GptConfig
from zoo.registry import FamilySpec, Objective, Verb
from zoo.shared.watch import Watch
from zoo.verify.cases import VerifyCases

FAMILY = FamilySpec(
    name="gpt",
    title="GPT",
    paper="Radford et al. 2018, Improving Language Understanding by Generative Pre-Training; Radford et al. 2019, "
    "Language Models are Unsupervised Multitask Learners; Brown et al. 2020, Language Models are Few-Shot Learners, "
    "arXiv:2005.14165; Levine, Duvenaud and Radford 2026, Talkie",
    year=2018,
    config=GptConfig,
    variants=VARIANTS,
    parameter_counts={
        "gpt1": 116_534_784,
        "gpt2": 124_439_808,
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
        "gpt3-125m": 125_226_240,
        "gpt3-350m": 355_871_744,
        "gpt3-760m": 760_300_032,
        "gpt3-1.3b": 1_315_723_264,
        "gpt3-2.7b": 2_651_553_280,
        "gpt3-6.7b": 6_658_404_352,
        "gpt3-13b": 12_853_386_240,
        "gpt3-175b": 174_604_259_328,
        "talkie-13b": 13_280_216_761,
        "talkie-13b-chat": 13_280_257_721,
        "gpt-debug": 36_736,
        "gpt-nano": 1_088_256,
    },
    default_model="gpt-nano",
    model="zoo.gpt.model:GPT",
    task="zoo.gpt.task:GptTask",
    datamodule="zoo.gpt.data:GptDataModule",
    preprocessor="zoo.gpt.tokenizer:GptTokenizer",
    recipes="zoo.gpt:recipes",
    converters={
        "hf": "zoo.gpt.convert:HF",
        "openai": "zoo.gpt.convert_openai:OPENAI",
        "talkie": "zoo.gpt.convert:TALKIE",
    },
    audit="zoo.gpt.audit:audit",
    report="zoo.gpt.report:report",
    watches=(
        Watch(
            metric="val/gap",
            above=1.0,
            advice="held-out text is far harder than training text, which is being learnt by heart: use more text, "
            "a smaller model, fewer steps or --model.dropout 0.1",
        ),
        Watch(
            metric="train/bits_per_byte",
            above=7.5,
            after=50,
            patience=20,
            advice="no better than guessing bytes: raise --task.lr, or check that the tokenizer belongs to the text",
        ),
    ),
    evaluate="zoo.gpt.evaluation.command:evaluate",
    bench="zoo.gpt.bench:rows",
    verbs={
        "generate": Verb(target="zoo.gpt.commands:generate", help="continue texts", shared=True),
        "chat": Verb(target="zoo.gpt.chat:chat", help="talk with a chat model"),
        "scale": Verb(
            target="zoo.gpt.scaling.command:scale",
            help="scaling laws: a grid of runs, fits, a tested prediction",
            shared=True,
        ),
        "vintage": Verb(target="zoo.gpt.vintage.command:vintage", help="what a GPT with a cutoff knows of later times"),
        "ablate": Verb(
            target="zoo.gpt.finetuning.command:ablate",
            help="what pre-training brings: fine-tune without it, and with parts of it",
            shared=True,
        ),
    },
    objectives={
        "finetune": Objective(
            task="zoo.gpt.finetuning.task:FinetuneTask",
            datamodule="zoo.gpt.finetuning.data:FinetuneDataModule",
            audit="zoo.gpt.finetuning.audit:audit",
            report="zoo.gpt.finetuning.report:report",
        ),
    },
    data_verbs={
        "prepare": Verb(target="zoo.gpt.data_commands:prepare", help="encode texts into token files", shared=True),
        "filter": Verb(
            target="zoo.gpt.data_commands:filter_texts",
            help="keep good documents, or none later than a year",
            shared=True,
        ),
        "dedupe": Verb(
            target="zoo.gpt.data_commands:dedupe", help="leave out documents that resemble an earlier one", shared=True
        ),
        "overlap": Verb(
            target="zoo.gpt.data_commands:overlap",
            help="find a benchmark in training text, and cut it out",
            shared=True,
        ),
    },
    verify=VerifyCases(
        calm={"task": {"eps": 1e-3}},
        varied={
            "model": {"dropout": 0.1},
            "data": {"workers": 2},
            "trainer": {
                "limit_train_batches": 8,
                "limit_val_batches": 1,
                "val_check_interval": 4,
                "accumulate_grad_batches": 2,
            },
            "ema": 0.9,
        },
        tensor_parallel=True,
        convert={  # heads 64 wide, as OpenAI's are; Talkie's checkpoints do not say their context
            "gpt2": {"width": 128},
            "gpt1": {"width": 128, "layout": "gpt1"},
            "talkie": {"width": 128, "layout": "talkie", "context": 4096},
        },
        outputs="zoo.gpt.verify:outputs",
        decode="zoo.gpt.verify:decoder",
        damaged="zoo.gpt.verify:damaged",
    ),
)
