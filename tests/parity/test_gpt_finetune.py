"""Fine-tuned heads against `transformers` with random weights, metrics against scikit-learn and SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2Model,
    OpenAIGPTConfig,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTModel,
)

import zoo
from toys.gpts import TINY, shaken
from zoo.gpt.configs import GptConfig
from zoo.gpt.finetuning.inputs import Marks, pad, sequences
from zoo.gpt.finetuning.metrics import measure
from zoo.gpt.finetuning.task import FinetuneTask
from zoo.gpt.model import GPT
from zoo.shared.errors import UserError

MARKS = Marks(start=94, delimiter=95, classify=96)
TEXTS = {
    "classification": [[[1, 2, 3]], [[4, 5, 6, 7, 8]]],
    "entailment": [[[1, 2], [3]], [[4, 5, 6], [7, 8]]],
    "similarity": [[[1, 2], [3]], [[4, 5, 6], [7, 8]]],
    "multiple-choice": [[[1, 2], [3], [9, 10]], [[4, 5, 6], [7, 8], [1]]],
}


def batch_of(kind: Any) -> dict[str, Tensor]:
    rows = [sequences(kind, texts, MARKS, 24)[0] for texts in TEXTS[kind]]
    padded = [pad(item, count=len(rows[0]), length=12, fill=0) for item in rows]
    tokens, lengths = (torch.from_numpy(np.stack(part)) for part in zip(*padded, strict=True))
    target = torch.eye(2 if kind == "multiple-choice" else 3)[:2]
    return {"tokens": tokens, "lengths": lengths, "target": target}


def relative(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max() / two.abs().max())


@pytest.mark.parametrize("layout", ["gpt1", "gpt2"])
@pytest.mark.parametrize("kind", sorted(TEXTS))
@torch.no_grad()
def test_logits_and_losses_equal_a_plain_computation(layout: str, kind: Any, tmp_path: Path) -> None:
    classes = 1 if kind == "multiple-choice" else 3
    theirs = shaken(
        OpenAIGPTForSequenceClassification(OpenAIGPTConfig(**TINY, num_labels=classes))
        if layout == "gpt1"
        else GPT2ForSequenceClassification(GPT2Config(**TINY, num_labels=classes))
    )
    theirs.save_pretrained(tmp_path)
    ours = zoo.load(tmp_path)
    assert ours.config.classes == classes
    batch = batch_of(kind)
    found = FinetuneTask(ours).eval().sums(batch)

    trunk: OpenAIGPTModel | GPT2Model = theirs.transformer
    embedding = trunk.get_input_embeddings().weight
    states, language = [], 0.0
    for tokens, lengths in zip(batch["tokens"].flatten(0, 1), batch["lengths"].flatten(), strict=True):
        row = tokens[: int(lengths)]
        hidden = trunk(row[None]).last_hidden_state[0]  # each sequence by itself, without padding
        states.append(hidden[-1])
        log = (hidden[:-1] @ embedding.T).log_softmax(-1)
        language -= float(log[torch.arange(len(row) - 1), row[1:]].mean())
    scored = torch.stack(states).view(2, -1, 128)
    expected = scored.sum(1) @ theirs.score.weight.T
    if kind == "multiple-choice":
        expected = (scored @ theirs.score.weight.T)[..., 0]
    assert relative(found.logits, expected) < 1e-5
    assert float(found.language) == pytest.approx(language, rel=1e-5)
    right = -expected.log_softmax(-1).diagonal().sum()
    assert float(found.classification) == pytest.approx(float(right), rel=1e-5)


@torch.no_grad()
def test_the_multiple_choice_head_equals_the_double_heads_model(tmp_path: Path) -> None:
    theirs = shaken(OpenAIGPTDoubleHeadsModel(OpenAIGPTConfig(**TINY, num_labels=1)))
    single = OpenAIGPTForSequenceClassification(OpenAIGPTConfig(**TINY, num_labels=1))
    single.transformer.load_state_dict(theirs.transformer.state_dict())
    single.score.weight.copy_(theirs.multiple_choice_head.summary.weight)
    single.save_pretrained(tmp_path)
    batch = batch_of("multiple-choice")
    expected = theirs(batch["tokens"], mc_token_ids=batch["lengths"] - 1).mc_logits
    expected = expected - theirs.multiple_choice_head.summary.bias  # the softmax over answers does not see it
    assert relative(FinetuneTask(zoo.load(tmp_path)).eval().sums(batch).logits, expected) < 1e-5


@pytest.mark.parametrize("layout", ["gpt1", "gpt2"])
@torch.no_grad()
def test_transformers_reads_a_fine_tuned_model(layout: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"vocab_size": 97, "context": 24, "width": 128, "depth": 2, "heads": 2, "tokenizer": "bpe"}
    ours = shaken(GPT(GptConfig(layout=layout, classes=3, **sizes)))
    zoo.save_weights(ours, tmp_path / "hf", format="hf")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    assert type(theirs).__name__.endswith("ForSequenceClassification")
    batch = batch_of("classification")
    lengths = batch["lengths"][:, 0]
    tokens = batch["tokens"][:, 0].clone()
    tokens[torch.arange(12) >= lengths[:, None]] = theirs.config.pad_token_id
    assert relative(FinetuneTask(ours).eval().sums(batch).logits, theirs(tokens).logits) < 1e-5
    back = zoo.load(tmp_path / "hf")
    assert back.config.classes == 3
    assert torch.equal(back.head.weight, ours.head.weight)
    if layout == "gpt1":
        with pytest.raises(UserError, match="no place for the head"):
            zoo.save_weights(ours, tmp_path / "openai", format="openai")


def test_metrics_equal_scikit_learns_and_scipys() -> None:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    draw = torch.Generator().manual_seed(0)
    for classes in (2, 4):
        right = torch.randint(classes, (200,), generator=draw)
        logits = torch.randn(200, classes, generator=draw) + torch.nn.functional.one_hot(right, classes)
        found, chosen = measure(logits, torch.eye(classes)[right], scores=None), logits.argmax(-1)
        assert found["accuracy"] == pytest.approx(accuracy_score(right, chosen))
        assert found["f1"] == pytest.approx(f1_score(right, chosen, average="binary" if classes == 2 else "macro"))
        assert found["matthews"] == pytest.approx(matthews_corrcoef(right, chosen), abs=1e-6)
    target = torch.rand(100, 6, generator=draw).softmax(-1)
    logits = target.log() + 0.3 * torch.randn(100, 6, generator=draw)
    found, scale = measure(logits, target, scores=(0, 5)), torch.arange(6.0)
    one, two = (logits.softmax(-1) @ scale).numpy(), (target @ scale).numpy()
    assert found["pearson"] == pytest.approx(pearsonr(one, two).statistic, abs=1e-4)
    assert found["spearman"] == pytest.approx(spearmanr(one, two).statistic, abs=1e-4)
