"""What each part of GPT-1's training brings (Section 5, Table 5 and Figure 2 left), measured by leaving it out.

Not a ``compare`` section of a recipe, because the LSTM twin is no GPT that the family's formats could hold, and the
curve over copied blocks needs all runs at once. Every arm is kept in a file of its own, so that a second call goes on
where the first one was stopped.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer, seed_everything

from zoo.factory import build_model
from zoo.gpt.configs import GptConfig
from zoo.gpt.data import GptDataModule
from zoo.gpt.finetuning.data import FinetuneDataModule
from zoo.gpt.finetuning.lstm import LstmTwin
from zoo.gpt.finetuning.report import answers, measure
from zoo.gpt.finetuning.sources import film_reviews
from zoo.gpt.finetuning.task import FinetuneTask
from zoo.gpt.task import GptTask
from zoo.shared.convert.formats import save_tensors
from zoo.shared.convert.source import open_source
from zoo.shared.errors import UserError
from zoo.shared.files import read_json, write_json
from zoo.shared.text.documents import Document, write_documents
from zoo.shared.text.sentences import sentences
from zoo.weights import load_into, save_weights

Progress = Callable[[str], object]
_SHARE = 5  # one in so many long reviews is pre-trained on, which is more than the default steps get to see


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of training.

    Attributes:
        name: In words.
        key: Names its file.
        pretrained: Whether it starts from pre-trained weights.
        lm_weight: Weight of the auxiliary language modelling.
        copied_blocks: Blocks that it takes over; None: all.
        lstm: Whether the LSTM twin is trained instead.
    """

    name: str
    key: str
    pretrained: bool = True
    lm_weight: float = 0.5
    copied_blocks: int | None = None
    lstm: bool = False


def arms(depth: int) -> list[Arm]:
    """The paper's four models, and those with fewer copied blocks."""
    return [
        Arm(name="pre-training and auxiliary LM", key="full"),
        Arm(name="no pre-training", key="no-pretraining", pretrained=False),
        Arm(name="no auxiliary LM", key="no-auxiliary", lm_weight=0.0),
        Arm(name="LSTM with auxiliary LM", key="lstm", lstm=True),
        *(
            Arm(name=f"embeddings and {count} of {depth} blocks", key=f"blocks-{count}", copied_blocks=count)
            for count in range(depth)
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all arms have in common.

    Attributes:
        config: The GPT.
        data: Settings of :class:`~zoo.gpt.finetuning.data.FinetuneDataModule`.
        task: Settings of :class:`~zoo.gpt.finetuning.task.FinetuneTask`, but for those that the arms differ in.
        epochs: Of fine-tuning.
        pretrain_steps: Steps of pre-training on long film reviews, for models that bring no weights.
        pretrain_lr: Peak rate of pre-training.
        pretrain_batch: Windows in a step of pre-training.
        seed: Of everything.
        weights: Pre-trained weights of the GPT; None pre-trains it, too.
    """

    config: GptConfig
    data: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 3
    pretrain_steps: int = 200
    pretrain_lr: float = 2e-3
    pretrain_batch: int = 16
    seed: int = 0
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an arm came to.

    Attributes:
        arm: The arm.
        figures: Metric to value on the held-out items.
        curve: Steps of fine-tuning, and the task's metric after them.
        seconds: Of fine-tuning.
    """

    arm: Arm
    figures: Mapping[str, float]
    curve: list[tuple[int, float]]
    seconds: float


class Curve(Callback):
    """Keeps what validation finds.

    Args:
        metric: The task's.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.points: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take a point."""
        if not trainer.sanity_checking:
            self.points.append((trainer.global_step, float(trainer.callback_metrics[f"val/{self.metric}"])))


def run(plan: Plan, out: Path, *, progress: Progress, callbacks: Callable[[], list[Callback]] = list) -> list[Outcome]:
    """Train and measure every arm.

    Args:
        plan: What they have in common.
        out: Folder for weights and results; what it holds of the same plan is not done again.
        progress: Called with a line before each arm.
        callbacks: Makes further callbacks of a trainer, such as a progress line.

    Raises:
        UserError: The folder holds the results of another plan, or nothing is held out.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    settings = json.loads(json.dumps(asdict(plan)))
    record = out / "plan.json"
    if record.is_file() and read_json(record) != settings:
        raise UserError(f"{out} holds results of other settings; choose another --out")
    check(plan)
    write_json(record, settings)
    pretrained = _pretrained(plan, out, progress, callbacks)
    outcomes = []
    chosen = arms(plan.config.depth)
    for number, arm in enumerate(chosen, 1):
        path = out / f"{arm.key}.json"
        if path.is_file():
            kept = read_json(path)
            curve = [(int(step), float(value)) for step, value in kept["curve"]]
            outcomes.append(Outcome(arm=arm, figures=kept["figures"], curve=curve, seconds=kept["seconds"]))
            continue
        progress(f"[{number}/{len(chosen)}] {arm.name}")
        outcome = _finetune(plan, arm, out, pretrained, callbacks)
        write_json(path, {"figures": outcome.figures, "curve": outcome.curve, "seconds": outcome.seconds})
        outcomes.append(outcome)
    return outcomes


def check(plan: Plan) -> None:
    """Read the examples and find the weights, before minutes are spent on pre-training.

    Raises:
        UserError: They cannot be used, or nothing is held out.
    """
    data = FinetuneDataModule(plan.config, seed=plan.seed, **plan.data)
    if plan.weights is not None:
        data.start_from(open_source(plan.weights).folder)
    if not data.examples()[1]:
        raise UserError(f"of {plan.data.get('source', data.source)} nothing is held out; give --held-out-source")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's warnings about choices that are made on purpose, and about torch's pytrees."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(LeafSpec|does not have many workers|limit_val_batches).*")
        yield


def _trainer(callbacks: list[Callback], **settings: Any) -> Trainer:
    return Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        devices=1,
        callbacks=callbacks,
        **settings,
    )


def _pretrained(plan: Plan, out: Path, progress: Progress, callbacks: Callable[[], list[Callback]]) -> str:
    """The weights of the GPT; those of the LSTM twin are put beside them as ``lstm.safetensors``."""
    weights = plan.weights or str(out / "pretrained")
    twin = out / "lstm.safetensors"
    if twin.is_file() and (plan.weights is not None or Path(weights).exists()):
        return weights
    corpus = out / "corpus.jsonl"
    if not corpus.is_file():
        write_documents(corpus, _texts(plan))
    if plan.weights is None and not Path(weights).exists():
        progress(f"pre-training the GPT for {plan.pretrain_steps} steps on {corpus.name}")
        seed_everything(plan.seed, verbose=False)
        gpt, data = build_model("gpt", plan.config), _corpus(plan, corpus)
        _pretrain(plan, gpt, data, callbacks())
        save_weights(gpt, weights, preprocessor=data.preprocessor)
    progress(f"pre-training the LSTM twin for {plan.pretrain_steps} steps on {corpus.name}")
    seed_everything(plan.seed, verbose=False)
    lstm, data = LstmTwin(plan.config), _corpus(plan, corpus)
    data.start_from(open_source(weights).folder)
    _pretrain(plan, lstm, data, callbacks())
    save_tensors(twin, lstm.state_dict())
    return weights


def _texts(plan: Plan) -> list[Document]:
    """What is pre-trained on: long film reviews without their labels, or what stands for them in tests."""
    if plan.data.get("source") == "sentences":
        return sentences(240)
    reviews = film_reviews("imdb")[::_SHARE]  # they are sorted by label
    return [Document(review.texts[0].replace("<br />", "\n"), review.name) for review in reviews]


def _corpus(plan: Plan, corpus: Path) -> GptDataModule:
    return GptDataModule(
        plan.config,
        source=str(corpus),
        held_out=0.01,
        batch_size=plan.pretrain_batch,
        seed=plan.seed,
    )


def _pretrain(plan: Plan, model: Any, data: GptDataModule, callbacks: list[Callback]) -> None:
    task = GptTask(model, lr=plan.pretrain_lr, warmup_steps=max(1, plan.pretrain_steps // 10))
    with _quiet():
        _trainer(callbacks, max_steps=plan.pretrain_steps, limit_val_batches=0).fit(task, datamodule=data)


def _finetune(plan: Plan, arm: Arm, out: Path, weights: str, callbacks: Callable[[], list[Callback]]) -> Outcome:
    seed_everything(plan.seed, verbose=False)
    model: Any
    if arm.lstm:
        from safetensors.torch import load_file

        model = LstmTwin(plan.config)
        model.load_state_dict(load_file(out / "lstm.safetensors"))
    else:
        model = load_into("gpt", plan.config, weights).train() if arm.pretrained else build_model("gpt", plan.config)
    data = FinetuneDataModule(plan.config, seed=plan.seed, **plan.data)
    data.start_from(open_source(weights).folder)  # the same tokens for all
    task = FinetuneTask(model, lm_weight=arm.lm_weight, copied_blocks=arm.copied_blocks, **plan.task)
    curve, began = Curve(data.metric), time.time()
    with _quiet():
        _trainer([curve, *callbacks()], max_epochs=plan.epochs, val_check_interval=0.5).fit(task, datamodule=data)
    task.eval()
    figures = measure(*answers(task, data), scores=data.scores)
    return Outcome(arm=arm, figures=figures, curve=curve.points, seconds=round(time.time() - began, 1))


def draw(outcomes: list[Outcome], metric: str, label: str, path: Path) -> None:
    """Draw the arms over their steps, and the metric over the number of copied blocks.

    Args:
        outcomes: Of :func:`run`.
        metric: What is drawn.
        label: Its name in words.
        path: The picture.
    """
    import matplotlib.figure

    from zoo.shared.files import save_atomically

    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    blocks = [o for o in outcomes if o.arm.copied_blocks is not None]
    for outcome in outcomes:
        if outcome.arm.copied_blocks is None:
            left.plot(*zip(*outcome.curve, strict=True), marker="o", markersize=3, label=outcome.arm.name)
    left.set(xlabel="steps of fine-tuning", ylabel=f"held-out {label}", title="what is left out")
    left.legend(fontsize=8)
    full = next(o for o in outcomes if o.arm.key == "full")
    points = [(o.arm.copied_blocks, o.figures[metric]) for o in blocks] + [(len(blocks), full.figures[metric])]
    right.plot(*zip(*points, strict=True), marker="o")
    scratch = next((o for o in outcomes if not o.arm.pretrained), None)
    if scratch is not None:
        right.axhline(scratch.figures[metric], color="grey", linestyle="--", linewidth=1)
        right.text(0, scratch.figures[metric], "no pre-training", color="grey", fontsize=8, va="bottom")
    right.set(xlabel="blocks copied, beside the embeddings", title="how many blocks are taken over")
    right.set_xticks(range(len(points)))
    save_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
