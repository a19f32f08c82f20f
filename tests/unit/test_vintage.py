"""What a model of old texts knows of later times: surprise, knowledge, and code from examples."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import zoo
from zoo.gpt.configs import GptConfig
from zoo.gpt.evaluation.exam import Exam
from zoo.gpt.vintage import code_in_context as code
from zoo.gpt.vintage import knowledge
from zoo.gpt.vintage import measures as vintage
from zoo.gpt.vintage.code_runner import run_program
from zoo.gpt.vintage.pictures import accuracy_bars
from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe
from zoo.shared.text.documents import Document, write_documents
from zoo.shared.text.sentences import sentences
from zoo.shared.text.tokens import from_texts


@pytest.fixture(scope="module")
def exam() -> Exam:
    tokenizer = train_byte_level_bpe([one.text for one in vintage.events()], 400)
    torch.manual_seed(0)
    config = GptConfig(vocab_size=400, context=96, width=32, depth=2, heads=2, layout="talkie", tokenizer="bpe")
    model = zoo.create_model("gpt-debug", **{name: getattr(config, name) for name in config.__dataclass_fields__})
    with torch.no_grad():  # Talkie's output matrix begins at zero, so that every token would be as likely
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Exam(model=model.eval(), tokenizer=tokenizer)


def test_bits_are_those_of_the_logits(exam: Exam) -> None:
    documents = vintage.events()[::40]
    scores = vintage.score_dated(exam, documents)
    for place, one in enumerate(documents):
        row = torch.tensor([[exam.tokenizer.end_of_text, *exam.tokenizer.encode(one.text)]])
        with torch.no_grad():
            logs = exam.model(row[:, :-1]).double().log_softmax(-1)[0]
        bits = -sum(float(logs[i, token]) for i, token in enumerate(row[0, 1:])) / math.log(2)
        assert scores.bits[place] == pytest.approx(bits, rel=1e-4)
        assert scores.rates[place] == pytest.approx(bits / len(one.text.encode()), rel=1e-4)
    assert scores.years.tolist() == [one.year for one in documents]


def test_a_model_is_surprised_by_words_that_came_after_its_texts() -> None:
    later = {"king": "robot", "horse": "rocket", "river": "laser", "letter": "website", "captain": "astronaut"}

    def renewed(text: str) -> str:
        for old, new in later.items():
            text = text.replace(old, new)
        return text

    early = [Document(one.text, one.id, 1900) for one in sentences(150, length=3)]
    late = [Document(renewed(one.text), f"late {one.id}", 1960) for one in sentences(150, seed=1, length=3)]
    tokenizer = train_byte_level_bpe([one.text for one in [*early, *late]], 320)

    def trained(documents: list[Document]) -> Exam:
        torch.manual_seed(0)
        model = zoo.create_model("gpt-debug")
        ids = from_texts(documents, tokenizer)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        generator = np.random.default_rng(0)
        for _ in range(80):
            starts = generator.integers(0, len(ids) - 33, size=16)
            rows = torch.from_numpy(np.stack([ids.window(int(start), 33) for start in starts]))
            optimizer.zero_grad()
            (model.loss_sum(rows[:, :-1], rows[:, 1:]) / rows[:, 1:].numel()).backward()
            optimizer.step()
        return Exam(model=model.eval(), tokenizer=tokenizer)

    asked = [*early[100:], *late[100:]]
    scores = [vintage.score_dated(trained(texts), asked) for texts in (early[:100], early[:50] + late[:50])]
    years = scores[0].years
    rise = vintage.rise_after(years, scores[0].rates, 1930)
    assert rise.low > 0.2
    paired = vintage.rise_after(years, scores[0].rates - scores[1].rates, 1930)
    assert paired.low > 0.2
    assert abs(vintage.rise_after(years, scores[1].rates, 1930).value) < 0.2


def test_periods_have_the_usual_mean_and_error() -> None:
    years = np.array([1901, 1903, 1909, 1911, 1925])
    values = np.array([1.0, 2.0, 4.0, 3.0, 5.0])
    first, second, third = vintage.by_period(years, values, width=10)
    assert (first.name, second.name, third.name) == ("1900-1909", "1910-1919", "1920-1929")
    assert first.value == pytest.approx(values[:3].mean())
    assert first.error == pytest.approx(stats.sem(values[:3]))
    assert second.error is None
    bits, size = np.array([10.0, 80.0, 30.0]), np.array([5, 40, 10])
    (whole,) = vintage.by_period(np.array([1900] * 3), bits / size, width=1, weights=size)
    assert whole.name == "1900"
    assert whole.value == pytest.approx(120 / 55)


def test_the_rise_and_its_interval_are_scipys() -> None:
    draw = np.random.default_rng(4)
    years = np.repeat(np.arange(1900, 1960), 3)
    values = draw.normal(2, 0.3, size=len(years)) + 0.2 * (years > 1930)
    rise = vintage.rise_after(years, values, 1930)
    sides = (values[years > 1930], values[years <= 1930])
    theirs = stats.bootstrap(
        sides, lambda a, b, axis: a.mean(axis) - b.mean(axis), method="percentile", n_resamples=10_000, rng=draw
    ).confidence_interval
    assert rise.value == pytest.approx(sides[0].mean() - sides[1].mean())
    assert rise.items == (93, 87)
    assert (rise.low, rise.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    value, low, high = vintage.mean_interval(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=draw).confidence_interval
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    for cutoff, side in ((1899, "before"), (1959, "after")):
        with pytest.raises(UserError, match=f"lies {side} every text"):
            vintage.rise_after(years, values, cutoff)


def test_the_memory_of_a_bootstrap_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    values, years = draw.normal(size=300), np.repeat([1900, 1950], 150)
    whole = (vintage.rise_after(years, values, 1930), vintage.mean_interval(values))
    monkeypatch.setattr(vintage, "DRAWN", 900)
    sizes = [at.size for at in vintage._draws(np.random.default_rng(0), 300, 100)]
    assert sizes == [900] * 33 + [300]
    assert [at.size for at in vintage._draws(np.random.default_rng(0), 1000, 3)] == [1000] * 3
    parts = (vintage.rise_after(years, values, 1930), vintage.mean_interval(values))
    assert (parts[0].low, parts[0].high) == pytest.approx((whole[0].low, whole[0].high), abs=0.02)
    assert parts[1] == pytest.approx(whole[1], abs=0.01)


def test_bars_of_none_and_all_can_be_drawn(tmp_path: Path) -> None:
    rows = {
        name: [(share, *knowledge.wilson(round(share * n), n)) for share in (0.0, 1.0)]
        for name, n in (("model", 7), ("twin", 20))
    }
    rows["model"][1] = (1.0, 0.7, 1.0 - 1e-16)  # what rounding may leave of an upper bound of 1
    rows["twin"][0] = (0.0, 1e-17, 0.2)
    accuracy_bars(rows, ["all", "kept"], tmp_path / "bars.png", title="none and all", chance=[0.25, 0.25])
    assert (tmp_path / "bars.png").stat().st_size > 5_000


def test_events_and_their_files(tmp_path: Path, exam: Exam) -> None:
    found = vintage.events()
    years = [one.year for one in found]
    assert len(found) >= 120
    assert years == sorted(years, key=int)
    assert {year // 10 * 10 for year in years if year} == set(range(1850, 2021, 10))
    assert all(one.text.endswith(".") and len(one.text) < 100 for one in found)
    tabs, lines = tmp_path / "events.tsv", tmp_path / "events.jsonl"
    tabs.write_text("# a remark\n1900\tA.\n\n1950\tB and C.\n", encoding="utf-8")
    lines.write_text('{"year": 1900, "text": "A."}\n{"year": "1950", "text": "B and C."}\n', encoding="utf-8")
    for path in (tabs, lines):
        assert [(one.year, one.text) for one in vintage.read_events(path)] == [(1900, "A."), (1950, "B and C.")]
    lines.write_text('{"year": 1900, "text": "A\u2028B\x85C."}\n', encoding="utf-8")  # JSON may hold these as they are
    assert [one.text for one in vintage.read_events(lines)] == ["A\u2028B\x85C."]
    lines.write_text('{"text": "A."}\n', encoding="utf-8")
    tabs.write_text("A text without a year\n", encoding="utf-8")
    for path in (tabs, lines):
        with pytest.raises(UserError, match="line 1: no year"):
            vintage.read_events(path)
    result = vintage.surprise(exam)
    assert [figure.name for figure in result.figures][:2] == ["1850-1859", "1860-1869"]
    assert sum(figure.items for figure in result.figures) == len(found)


def test_years_of_a_corpus(tmp_path: Path, exam: Exam) -> None:
    path = tmp_path / "dated.jsonl"
    write_documents(path, [Document(f"text number {i} of a year", str(i), 1920 + i % 3) for i in range(9)])
    figures = vintage.bits_by_year(Exam(model=exam.model, tokenizer=exam.tokenizer, data=path)).figures
    assert [(one.name, one.items) for one in figures] == [("1920", 3), ("1921", 3), ("1922", 3)]
    write_documents(path, [Document("no year", "1")])
    with pytest.raises(UserError, match="no document has a year in 'year'"):
        vintage.read_dated(path)


def test_anachronisms_are_later_answers_or_later_words() -> None:
    def ask(text: str, year: int) -> knowledge.Question:
        return knowledge.Question(text=text, choices=("yes", "no"), answer=0, year=year)

    asked = [ask("Is bread baked?", 1500), ask("Is it?", 1950), ask("Does television work?", 1500)]
    assert knowledge.anachronistic(asked, 1900).tolist() == [False, True, True]
    assert knowledge.anachronistic(asked, 1930).tolist() == [False, True, False]
    assert knowledge.anachronistic(asked, 1930, terms={"bread": 1990}).tolist() == [True, True, False]


def test_knowledge_counts_what_a_model_prefers(exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = knowledge.built_in()
    assert len(questions) >= 60
    assert all(len(set(one.choices)) == 4 for one in questions)
    places = np.bincount([one.answer for one in questions])
    assert places.min() >= len(questions) // 4  # always the same place is no better than chance
    result = knowledge.knowledge(Exam(model=exam.model, tokenizer=exam.tokenizer, shots=0), cutoff=1930)
    everything, early = result.figures
    assert everything.chance == early.chance == 0.25
    assert (everything.items, early.items) == (len(questions), sum(one.year <= 1930 for one in questions))

    def scholar(exam: Exam, contexts: list[str], choices: list[tuple[str, ...]], rule: str) -> object:
        from zoo.gpt.evaluation.choices import Chosen

        known = [one.answer if one.year <= 1930 else (one.answer + 1) % 4 for one in questions]
        return Chosen(best=np.array(known), scores=[], truncated=0)

    monkeypatch.setattr(knowledge, "choose", scholar)
    everything, early = knowledge.knowledge(Exam(model=exam.model, tokenizer=exam.tokenizer, shots=0)).figures
    assert early.value == 1
    assert everything.value == early.items / everything.items
    with pytest.raises(UserError, match="cutoff 1400 lies before every question"):
        knowledge.knowledge(exam, cutoff=1400)


def test_wilsons_interval_is_scipys() -> None:
    for right, count in ((0, 5), (3, 5), (50, 64), (64, 64)):
        theirs = stats.binomtest(right, count).proportion_ci(method="wilson")
        assert knowledge.wilson(right, count) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_question_files(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    row = {"question": "Which?", "choices": ["a", "b"], "answer": "b", "year": 1900}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (found,) = knowledge.read_questions(path)
    assert (found.answer, found.year, found.as_item().choices) == (1, 1900, (" a", " b"))
    for change, message in (({"answer": "c"}, "none of the choices"), ({"year": "x"}, "no number")):
        path.write_text(json.dumps(row | change) + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=message):
            knowledge.read_questions(path)
    path.write_text(json.dumps({key: row[key] for key in ("question", "choices", "answer")}), encoding="utf-8")
    with pytest.raises(UserError, match="'year' missing"):
        knowledge.read_questions(path)


def test_pass_at_k_is_the_share_of_draws_with_a_pass() -> None:
    for samples, passed in itertools.product(range(1, 7), range(7)):
        for k in range(1, samples + 1):
            if passed <= samples:
                draws = list(itertools.combinations(range(samples), k))
                share = sum(any(place < passed for place in draw) for draw in draws) / len(draws)
                assert code.pass_at_k(samples, passed, k) == pytest.approx(share)
    with pytest.raises(ValueError, match="no meaning"):
        code.pass_at_k(3, 1, 4)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("assert 1 + 1 == 2", "passed"),
        ("assert 1 + 1 == 3", "wrong"),
        ("def f(:", "syntax error"),
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("text = 'x' * (1 << 31)", "out of memory"),
        ("import os; os._exit(0)", "ended"),
        ("import sys; sys.exit(0)", "error"),
        ("print('passed'); raise ValueError", "error"),
        ("open('big', 'w').write('x' * (1 << 21))", "error"),
        ("import numpy", "error"),
        ("import __main__; __main__.word", "error"),
        ("import sys; assert not any(word.isalnum() and len(word) == 32 for word in sys.orig_argv)", "passed"),
        ("import os; assert os.listdir() == [] and 'HOME' not in os.environ", "passed"),
    ],
)
def test_programs_end_within_their_limits(program: str, outcome: str) -> None:
    assert run_program(program, seconds=1.0 if outcome == "timeout" else 10.0) == outcome


def test_a_program_leaves_nothing_behind(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = f"import os, time\nif os.fork() == 0:\n    time.sleep(2)\n    open({str(mark)!r}, 'w')\n"
    assert run_program(source) == ("passed" if os.geteuid() == 0 else "error")  # the superuser may start processes
    import time

    time.sleep(2.3)
    assert not mark.exists()


def test_built_in_functions_pass_their_own_tests_and_no_guess_does() -> None:
    problems = code.built_in()
    assert len(problems) >= 20
    bodies = [one.as_item().answers[0] for one in problems]
    programs = [one.program(body) for one, body in zip(problems, bodies, strict=True)]
    assert set(code.run_all(programs, seconds=20)) == {"passed"}
    empty = [one.program("\n    pass\n") for one in problems]
    assert "passed" not in code.run_all(empty, seconds=20)


def test_code_in_context_counts_what_passes(exam: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "eval.jsonl"
    task = {
        "task_id": "T/0", "prompt": "def first(x):\n    \"\"\"Return x.\"\"\"\n", "entry_point": "first",
        "canonical_solution": "    return x\n", "test": "def check(candidate):\n    assert candidate(3) == 3\n",
    }  # fmt: skip
    other = {**task, "task_id": "T/1", "prompt": "def second(x):\n    \"\"\"x + 1.\"\"\"\n", "entry_point": "second",
             "canonical_solution": "    return x + 1\n",
             "test": "def check(candidate):\n    assert candidate(3) == 4\n"}  # fmt: skip
    path.write_text("\n".join(map(json.dumps, (task, other))), encoding="utf-8")
    asked = Exam(model=exam.model, tokenizer=exam.tokenizer, data=path, shots=0)
    with pytest.raises(UserError, match="--execute"):
        code.code_in_context(asked, execute=False)
    with pytest.raises(UserError, match="temperature"):
        code.code_in_context(asked, execute=True, samples=2, temperature=0)
    untrained = code.code_in_context(asked, execute=True, samples=2)
    assert [figure.name for figure in untrained.figures] == ["pass@1"]
    assert untrained.figures[0].value == 0
    assert untrained.figures[0].chance == 0.5  # giving x back passes the first
    assert sum(untrained.notes["outcomes"].values()) == 4

    def scholar(exam: Exam, prompts: list[list[int]], **how: object) -> tuple[list[str], np.ndarray]:
        texts = [exam.tokenizer.decode(prompt) for prompt in prompts]
        good = ["\n    return x" if "first" in text else "\n    return x + 1" for text in texts]
        return [body if place % 10 < 3 else "\n    return" for place, body in enumerate(good)], np.zeros(len(texts))

    monkeypatch.setattr(code, "complete", scholar)
    result = code.code_in_context(asked, execute=True, samples=10)
    values = {figure.name: figure.value for figure in result.figures}
    assert values == {"pass@1": pytest.approx(0.3), "pass@10": 1.0}
    assert result.notes["solved"] == ["T/0", "T/1"]
    assert result.notes["outcomes"] == {"passed": 6, "wrong": 14}
