"""GPT's data module, task, audit and pages."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.gpt.audit import audit, leak
from zoo.gpt.baselines import primed_bits_per_byte
from zoo.gpt.configs import VARIANTS, GptConfig
from zoo.gpt.data import GptDataModule
from zoo.gpt.finetuning.task import FinetuneTask
from zoo.gpt.model import GPT
from zoo.gpt.pictures import layout
from zoo.gpt.report import sliding_loss
from zoo.gpt.task import GptTask
from zoo.shared.errors import UserError
from zoo.shared.text.sentences import sentences

CONFIG = VARIANTS["gpt-debug"]


def data(**settings) -> GptDataModule:
    return GptDataModule(CONFIG, **{"source": "sentences", "batch_size": 4, **settings})


def test_windows_predict_every_token_but_the_first_once() -> None:
    module = data()
    reader, rng = module.readers[0], np.random.default_rng(0)
    tokens = reader.tokens
    windows = [reader.read(i, rng) for i in range(len(reader))]
    predicted = torch.cat([window["tokens"][1:] for window in windows]).numpy()
    assert np.array_equal(predicted, tokens.read(1, 1 + len(predicted)))
    assert len(tokens) - 1 - len(predicted) < CONFIG.context
    text = module.preprocessor.tokenizer
    for window in windows[:20]:
        assert window["bytes"] == len(
            text.decode_bytes([t for t in window["tokens"][1:].tolist() if t != text.end_of_text])
        )


def test_documents_are_parted_by_the_end_of_text_and_the_vocabulary_is_that_of_the_training_part() -> None:
    module = data()
    tokens = module.readers[0].tokens
    ends = np.flatnonzero(tokens.read(0, len(tokens)) == tokens.end_of_text)
    assert np.array_equal(ends + 1, np.cumsum(tokens.documents["tokens"]))
    assert tokens.vocab_size == CONFIG.vocab_size
    assert module.held_out_tokens.fingerprint == tokens.fingerprint


def test_a_prepared_folder_and_the_same_texts_give_the_same_windows(tmp_path: Path) -> None:
    from zoo.cli import main

    (tmp_path / "texts").mkdir()
    for number, document in enumerate(sentences(40)):
        (tmp_path / "texts" / f"{number:02}.txt").write_text(document.text)
    words = ["data", "prepare", "gpt", str(tmp_path / "texts"), "--out", str(tmp_path / "tokens"), "--tokenizer"]
    assert main([*words, "train:320", "--held-out", "0.2", "--workers", "1"]) == 0
    prepared = data(source=str(tmp_path / "tokens"))
    texts = data(source=str(tmp_path / "texts"), held_out=0.2)
    assert prepared.readers[0].tokens.fingerprint == texts.readers[0].tokens.fingerprint
    assert torch.equal(prepared.peek(8)["tokens"], texts.peek(8)["tokens"])
    assert len(prepared.held_out_tokens) == len(texts.held_out_tokens)


def test_of_a_single_file_the_end_is_held_out(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("".join(f"{document.text}\n" for document in sentences(100)))
    module = data(source=str(book), held_out=0.1)
    module.setup()
    decode = module.preprocessor.decode
    parts = [decode(tokens.read(0, len(tokens) - 1).tolist())
             for tokens in (module.readers[0].tokens, module.held_out_tokens)]  # fmt: skip
    assert "".join(parts) == book.read_text()
    assert parts[0].endswith("\n")
    assert 0.1 <= len(parts[1]) / book.stat().st_size < 0.12
    (tmp_path / "more.txt").write_text("The play was short.")
    both = data(source=str(tmp_path / "*.txt"), held_out=0.1)
    both.setup()
    assert len(both.readers[0].tokens.documents) == 2
    assert len(both.held_out_tokens.documents) == 1
    for settings in ({"held_out": 0.0}, {"held_out": 0.01}):  # nothing, and too little to measure on
        assert data(source=str(book), **settings).readers[1] is None


def test_texts_that_memory_should_not_hold_are_refused_however_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    monkeypatch.setattr("zoo.gpt.data._IN_MEMORY", 5000)
    (tmp_path / "plain.txt").write_text("the cat was bright\n" * 300)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"the cat was bright\n" * 300))
    assert (tmp_path / "packed.txt.gz").stat().st_size < 5000
    for name in ("plain.txt", "packed.txt.gz"):
        with pytest.raises(UserError, match="prepare it once with `zoo data prepare gpt"):
            data(source=str(tmp_path / name)).setup()


@pytest.mark.parametrize("kind", [GptTask, FinetuneTask])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "--task.lr must be 0 or more, not -1.0"),
        ({"lr": math.nan}, "--task.lr must be 0 or more, not nan"),
        ({"weight_decay": -0.1}, "--task.weight_decay must be 0 or more"),
        ({"betas": (0.9, 1.0)}, r"--task.betas must be from 0 to below 1, not \[0.9, 1.0\]"),
    ],
)
def test_an_optimiser_that_cannot_learn_is_refused(kind: type, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind(GPT(CONFIG), **settings)


@pytest.mark.parametrize("settings", [{"warmup_steps": -1}, {"decay_steps": 0}])
def test_a_schedule_without_steps_is_refused(settings: dict) -> None:
    with pytest.raises(UserError, match=f"--task.{next(iter(settings))} must be"):
        GptTask(GPT(CONFIG), **settings)


def test_a_prepared_folder_that_is_unfinished_is_named(tmp_path: Path) -> None:
    from zoo.shared.text.bpe_training import train_byte_level_bpe
    from zoo.shared.text.token_writer import TokenWriter

    tokenizer = train_byte_level_bpe([document.text for document in sentences(20)], 300)
    whole = TokenWriter(tmp_path / "train", tokenizer=tokenizer, plan={})
    whole.add("one", tokenizer.encode("the cat was bright " * 30), size=570)
    whole.finish()
    TokenWriter(tmp_path / "held-out", tokenizer=tokenizer, plan={})
    with pytest.raises(UserError, match="held-out is unfinished; run the same `zoo data prepare` again"):
        data(source=str(tmp_path)).setup()


def test_no_document_after_the_cutoff_and_none_without_a_year_is_read(tmp_path: Path) -> None:
    rows = [{"text": f"The year {year} was good to king {year}.", "year": year} for year in range(1900, 1960)]
    rows += [{"text": "nobody knows when this was written"} for _ in range(20)]
    (tmp_path / "dated.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = GptConfig(vocab_size=300, context=8, width=32, depth=1, heads=1, tokenizer="bpe")
    module = GptDataModule(config, source=str(tmp_path / "dated.jsonl"), cutoff=1930, held_out=0.0, batch_size=2)
    module.setup()
    tokens = module.readers[0].tokens
    text = module.preprocessor.decode(tokens.read(0, len(tokens)).tolist())
    assert "1930" in text
    assert "1931" not in text
    assert "nobody" not in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "EMPTY"}, "no document with text in it"),
        ({"source": "SHORT"}, r"fewer than one window of 33"),
        ({"source": "BAD"}, r"is not UTF-8 at byte 3\); mend"),
        ({"source": "nowhere.txt"}, "nowhere.txt"),
        ({"tokenizer": "EMPTYDIR"}, "--data.tokenizer .*EMPTYDIR holds no tokenizer; give a folder"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"held_out": 1.0}, "--data.held_out"),
        ({"cutoff": 1700}, "no document has a known year"),
        ({"ramp_start": 0}, "batch ramp"),
    ],
)
def test_what_cannot_be_trained_on_is_said_in_one_line(settings: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "EMPTY").write_text(" \n")
    (tmp_path / "SHORT").write_text("To be.")
    (tmp_path / "BAD").mkdir()
    (tmp_path / "BAD" / "one.txt").write_bytes(b"abc\xff")
    (tmp_path / "BAD" / "two.txt").write_text("To be.")
    (tmp_path / "EMPTYDIR").mkdir()
    settings = {k: str(tmp_path / v) if isinstance(v, str) and v.isupper() else v for k, v in settings.items()}
    if settings.get("source", "").endswith("SHORT"):  # the vocabulary of a short text is short
        settings["tokenizer"] = str(zoo.save_weights(zoo.create_model("gpt-debug"), tmp_path / "w"))
        module = data()
        module.setup()
        module.preprocessor.save(tmp_path / "w")
    with pytest.raises(UserError, match=message) as caught:
        data(**settings).setup()
    assert "\n" not in str(caught.value)


def test_training_on_from_weights_takes_their_tokenizer(tmp_path: Path) -> None:
    first = data()
    first.setup()
    zoo.save_weights(zoo.create_model("gpt-debug"), tmp_path / "weights", preprocessor=first.preprocessor)
    (tmp_path / "other.txt").write_text("zebra quagga okapi " * 400)
    again = data(source=str(tmp_path / "other.txt"))
    again.start_from(tmp_path / "weights")
    assert again.readers[0].tokens.fingerprint == first.readers[0].tokens.fingerprint
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"give --data\.tokenizer"):
        data().start_from(tmp_path / "bare")


def test_the_loss_is_pytorchs_and_token_losses_add_up_to_it() -> None:
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    tokens = torch.randint(CONFIG.vocab_size, (3, 21))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[0, :5] = -100
    expected = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(model.loss_sum(inputs, targets), expected)
    rows = model.token_losses(inputs, targets)
    assert rows.shape == targets.shape
    assert float(rows[0, :5].sum()) == 0
    torch.testing.assert_close(rows.sum(), expected.detach())
    with pytest.raises(ValueError, match="exceeds the context"):
        model(torch.zeros(1, CONFIG.context + 1, dtype=torch.int64))


def test_bits_per_byte_of_packed_text_counts_every_token_once() -> None:
    module = data()
    module.setup()
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    held_out = module.held_out_tokens
    nats, tokens, size = sliding_loss(model, held_out)
    assert tokens == len(held_out) - 1
    ids = held_out.read(0, len(held_out))
    assert size == int(held_out.lengths[ids[1:]].sum())
    context, total = CONFIG.context, 0.0
    for place in range(1, len(ids), 97):  # some of them one by one
        start = 0 if place <= context else place - 1 - (context // 2 + (place - 1 - context) % (context // 2))
        window = torch.from_numpy(ids[start : place + 1])[None]
        total += float(model.token_losses(window[:, :-1], window[:, 1:])[0, -1])
    every = len(range(1, len(ids), 97))
    assert total / every == pytest.approx(nats / tokens, rel=0.05)


def test_the_audit_passes_a_sound_run_and_names_what_is_wrong() -> None:
    torch.manual_seed(0)
    module = data()
    module.setup()
    task = GptTask(GPT(CONFIG))
    assert all(check.passed for check in audit(task, module))
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.mul_(30)
    assert "first loss" in {check.name for check in audit(task, module) if not check.passed}
    train = module.readers[0].tokens
    assert not leak(train, train.select(documents=train.ids[:3])).passed
    small = GptTask(GPT(GptConfig(vocab_size=100, context=32, width=32, depth=1, heads=1, tokenizer="bpe")))
    assert "token ids" in {check.name for check in audit(small, module) if not check.passed}


def test_a_run_goes_on_with_its_own_text_only(tmp_path: Path) -> None:
    for number, document in enumerate(sentences(60)):
        (tmp_path / f"{number:02}.txt").write_text(document.text)
    state = data(source=str(tmp_path)).state_dict()
    data(source=str(tmp_path)).load_state_dict(state)
    (tmp_path / "99.txt").write_text("The quagga follows the zebra.\n" * 20)
    with pytest.raises(UserError, match="not the one that the run began with"):
        data(source=str(tmp_path)).load_state_dict(state)


def test_a_constant_rate_stays_and_others_fall_to_their_share() -> None:
    from types import SimpleNamespace

    def last(**settings) -> float:
        task = GptTask(GPT(CONFIG), lr=1.0, warmup_steps=2, **settings)
        task._trainer = SimpleNamespace(max_steps=10, max_epochs=-1)
        scheduler = task.configure_optimizers()["lr_scheduler"]["scheduler"]
        return scheduler.lr_lambdas[0](10)

    assert last(schedule="constant", final_lr=0.0) == 1.0
    assert last(schedule="cosine", final_lr=0.1) == pytest.approx(0.1)
    assert last(schedule="linear", final_lr=0.25) == pytest.approx(0.25)


def test_xz_knows_what_it_has_read() -> None:
    random = np.random.default_rng(0).integers(97, 123, 4000).astype(np.uint8).tobytes()
    assert primed_bits_per_byte(b"nothing", random) > math.log2(26) - 0.1
    assert primed_bits_per_byte(random, random) < 0.3


def test_the_page_keeps_every_character() -> None:
    pieces = [("To be, ", 1.0), ("or\nnot", 2.0), ("\n", 3.0), ("x" * 100, 4.0)]
    lines = layout(pieces)
    assert "".join(text for line in lines for text, _ in line) == "To be, ornot" + "x" * 100
    assert [len(lines[0]), lines[1][0]] == [2, ("not", 2.0)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_learn_the_same() -> None:
    from zoo.shared.transformer.wrap import compile_units

    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = GPT(CONFIG)
        if compiled:
            compile_units(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        draw = torch.Generator().manual_seed(0)
        for _ in range(5):
            tokens = torch.randint(CONFIG.vocab_size, (4, 25), generator=draw)
            loss = model.loss_sum(tokens[:, :-1], tokens[:, 1:]) / 96
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:5] == pytest.approx(losses[5:], rel=1e-5)
