"""GPT under lm-evaluation-harness, against the harness's own class for `transformers` on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from zoo.gpt.evaluation.harness import generation_settings, harness_model
from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe

# The harness and what it imports warn of their own affairs.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CONTEXT = 48
TEXT = (
    "The old man walked slowly to the harbour and looked for his little boat. The boat was gone, and the harbour was "
    "empty. He asked the children where the boat had gone, but nobody of the children had seen it go.\nNight fell. "
)
TASKS = {
    "zoo_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{answer}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "zoo_rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{context}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
    },
    "zoo_generation": {
        "output_type": "generate_until",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["e"], "max_gen_toks": 10, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and a small tokenizer, as both libraries read them."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = train_byte_level_bpe([TEXT * 3], 300)
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_positions=CONTEXT,
        n_embd=64,
        n_layer=2,
        n_head=2,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_text,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> tuple[Any, Any]:
    from lm_eval.models.huggingface import HFLM

    # Its cache of logits (0.4.13) confuses continuations of two lengths that follow the same tokens.
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=1, dtype="float32", logits_cache=False)
    assert theirs.max_length == CONTEXT
    return theirs, harness_model(str(folder), device="cpu", batch_size=3)


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three local tasks on one local file."""
    import yaml
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf" / "datasets"))
    words = TEXT.split()
    docs = [
        {"context": " ".join(words[i : i + 5 + i]), "choices": [words[i + 2], words[i + 5], "boat"], "answer": i % 3}
        for i in range(0, 14, 2)
    ]
    docs.append({"context": TEXT, "choices": ["the harbour", "the night", "gone, gone"], "answer": 1})
    data = tmp_path / "docs.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    for name, fields in TASKS.items():
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            **fields,
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return TaskManager(include_path=str(tmp_path), include_defaults=False)


def responses(found: Any, name: str) -> list[Any]:
    return [sample["resps"] for sample in sorted(found["samples"][name], key=lambda sample: sample["doc_id"])]


def test_a_whole_run_of_the_harness(models: Any, tasks: Any) -> None:
    import lm_eval

    theirs, ours = (
        lm_eval.simple_evaluate(
            model=model, tasks=list(TASKS), task_manager=tasks, log_samples=True, bootstrap_iters=0, random_seed=0
        )
        for model in models
    )
    for name in ("zoo_choice", "zoo_rolling"):
        a, b = (json.loads(json.dumps(responses(found, name))) for found in (theirs, ours))
        one, two = (np.array(flat(rows), dtype=float) for rows in (a, b))
        assert len(one) > 7
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-4)
    written = responses(theirs, "zoo_generation")
    assert responses(ours, "zoo_generation") == written
    assert len({json.dumps(row) for row in written}) > 2
    for name in TASKS:
        for metric, value in theirs["results"][name].items():
            if isinstance(value, float):
                assert ours["results"][name][metric] == pytest.approx(value, rel=1e-4), (name, metric)


def flat(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in flat(part)] if isinstance(value, list) else [value]


def test_requests_without_context_and_beams(models: Any) -> None:
    from lm_eval.api.instance import Instance

    def ask(kind: str, *arguments: Any) -> list[Instance]:
        return [Instance(request_type=kind, doc={}, arguments=one, idx=i) for i, one in enumerate(arguments)]

    pairs = [
        ("", "The boat"),
        ("The old man ", "walked"),
        ("The old man", " walked slowly"),
        ("<|endoftext|>The", " boat"),
    ]
    theirs, ours = (model.loglikelihood(ask("loglikelihood", *pairs)) for model in models)
    for (a, greedy), (b, mine) in zip(theirs, ours, strict=True):
        assert b == pytest.approx(a, abs=1e-4)
        assert mine == greedy
    how = {"until": [], "max_gen_toks": 8, "num_beams": 3, "do_sample": False}
    texts = [(TEXT[:30], how), (TEXT[10:60], how)]
    first, second = (model.generate_until(ask("generate_until", *texts)) for model in models)
    assert second == first


def test_settings_of_tasks() -> None:
    assert generation_settings({"until": "\n", "max_new_tokens": 5}) == {"max_new_tokens": 5, "stop": ("\n",)}
    sampled = generation_settings({"until": ["a", ""], "do_sample": True, "temperature": 0.5, "top_k": 3})
    assert sampled == {"max_new_tokens": 256, "stop": ("a",), "temperature": 0.5, "top_k": 3, "top_p": 1.0}
    with pytest.raises(UserError, match="typical_p"):
        generation_settings({"typical_p": 0.3})


def test_the_harness_knows_the_name() -> None:
    from lm_eval.api.registry import get_model

    from zoo.gpt.evaluation.harness import harness_class

    assert get_model("zoo") is harness_class()
