"""Benchmarks of the GPT papers: their published files, and what is counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.gpt.evaluation.arithmetic import TASKS, arithmetic, problems
from zoo.gpt.evaluation.cbt import cbt, filled, read_cloze
from zoo.gpt.evaluation.choices import read_items
from zoo.gpt.evaluation.detokenizers import DETOKENIZERS
from zoo.gpt.evaluation.exam import Exam
from zoo.gpt.evaluation.lambada import first_word, read_passages
from zoo.gpt.evaluation.perplexity import perplexity
from zoo.gpt.evaluation.prompts import Item
from zoo.gpt.evaluation.reading import coqa, natural_questions, read_coqa, read_questions
from zoo.gpt.evaluation.summarisation import read_articles, summarisation
from zoo.gpt.evaluation.translation import read_pairs, translation
from zoo.gpt.evaluation.winograd import read_schemas, substituted, winograd
from zoo.gpt.evaluation.words import TASKS as WORDS
from zoo.gpt.evaluation.words import scrambled, words
from zoo.gpt.scoring import continuation_losses
from zoo.shared.errors import UserError
from zoo.shared.text.bpe_training import train_byte_level_bpe


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_byte_level_bpe(["Q: What is 12? A: 12\n\nthe cat sat on the mat"], 270)


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "published", "running"),
    [
        (
            "wikitext",
            'A guest @-@ starring role on the " Herons " series ( 2002 ) , with 1 @,@ 500 viewers . It \'s $ 3 .',
            'A guest-starring role on the "Herons" series (2002), with 1,500 viewers. It\'s $3.',
        ),
        ("wikitext", "In the U.S. , he didn 't : 3 @.@ 5 % !", "In the U.S., he didn't: 3.5%!"),
        ("ptb", "`` I wo n't , '' he said -LRB- twice -RRB- .", '"I won\'t," he said (twice).'),
        ("none", " a , b", " a , b"),
    ],
)
def test_detokenizers_have_a_way_back(name: str, published: str, running: str) -> None:
    detokenizer = DETOKENIZERS[name]
    assert detokenizer(published) == running
    assert detokenizer.inverse(running).split() == published.split()
    assert detokenizer.restored(f"{published}\n\n") == 1


def test_a_line_that_does_not_come_back_is_counted() -> None:
    # Written without the space that the corpus would have.
    assert DETOKENIZERS["wikitext"].restored("a good line .\na bad, line .\n") == 0.5


def test_lambada_reads_openais_file(tmp_path: Path) -> None:
    path = written(tmp_path, "l", '{"text": "He took the boat"}\n\n{"text": " She\\nleft home "}\n')
    assert read_passages(path) == [("He took the", "boat"), ("She\nleft", "home")]
    assert [first_word(text) for text in (" don't. x", "well-known,", ", no", "")] == ["don't", "well-known", "", ""]


CBT = "".join(f"{i} Sentence {i} .\n" for i in range(1, 21)) + "21 The XXXXX 's hat .\tcat\t\tcat|dog|sun\n\n"


def test_cbt_reads_the_published_file(tmp_path: Path) -> None:
    items = read_cloze(written(tmp_path, "c", CBT * 2))
    assert len(items) == 2
    assert items[0].context.startswith("Sentence 1 . Sentence 2 .")
    assert items[0].candidates == ("cat", "dog", "sun")
    before, after = filled(items[0], "dog", DETOKENIZERS["ptb"])
    assert before.endswith("Sentence 20. The")
    assert after == " dog's hat."


XML = """<collection><schema><text><txt1>The men refused the women a permit because</txt1><pron>they</pron>
<txt2>feared violence.</txt2></text><answers><answer>The men</answer><answer>The women</answer></answers>
<correctAnswer>A.</correctAnswer></schema><schema><text><txt1>Bob told Tom that</txt1><pron>his</pron>
<txt2>, not ours, broke.</txt2></text><answers><answer>Bob</answer><answer>Tom</answer></answers>
<correctAnswer> B </correctAnswer></schema></collection>"""


def test_winograd_reads_xml_and_json(tmp_path: Path) -> None:
    first, second = read_schemas(written(tmp_path, "w.xml", XML))
    assert (first.before, first.after, first.label) == (
        "The men refused the women a permit because ",
        " feared violence.",
        0,
    )
    assert substituted(first, first.options[1]) == "the women"
    assert (second.after, second.label) == (", not ours, broke.", 1)
    assert substituted(second, "Bob") == "Bob's"
    text = first.before + "they" + first.after
    row = {
        "text": text,
        "pronoun": "they",
        "pronoun_loc": len(first.before),
        "options": list(first.options),
        "label": 0,
    }
    assert read_schemas(written(tmp_path, "a.json", [row, row])) == [first, first]
    assert read_schemas(written(tmp_path, "b.json", f"{json.dumps(row)}\n{json.dumps(row)}\n")) == [first, first]


COQA = {
    "data": [
        {
            "story": "Ann has a red cat.",
            "questions": [{"input_text": "What has Ann?"}, {"input_text": "Which colour?"}],
            "answers": [{"input_text": "a cat"}, {"input_text": "red"}],
            "additional_answers": {"0": [{"input_text": "cat"}, {"input_text": "Red"}]},
        }
    ]
}

NQ = {
    "question_text": "who wrote it",
    "document_text": "<P> It was written by Ann <B> Lee </B> . </P>",
    "annotations": [{"short_answers": [{"start_token": 5, "end_token": 8}], "yes_no_answer": "NONE"}],
}


def test_questions_are_read_as_published(tmp_path: Path) -> None:
    first, second = read_coqa(written(tmp_path, "c", COQA))
    assert first.prompt == "Ann has a red cat.\n\nQ: What has Ann?\nA:"
    assert second.prompt == first.prompt + " a cat\nQ: Which colour?\nA:"
    assert second.references == ("red", "Red")
    none = {**NQ, "annotations": [{"short_answers": [], "yes_no_answer": "NONE"}]}
    yes = {**NQ, "annotations": [{"short_answers": [], "yes_no_answer": "YES"}]}
    path = written(tmp_path, "n", "".join(json.dumps(row) + "\n" for row in (NQ, none, yes)))
    assert [item.answers for item in read_questions(path)] == [(" Ann Lee",), (" yes",)]
    assert read_questions(path)[0].prompt == "Q: who wrote it?\nA:"


def test_the_other_files(tmp_path: Path) -> None:
    assert read_pairs(written(tmp_path, "p", "a b\tc d\n\ne\tf\n")) == [("a b", "c d"), ("e", "f")]
    rows = '{"article": " A. ", "highlights": ["x", "y"]}\n{"article": "B.", "highlights": "z"}\n'
    assert read_articles(written(tmp_path, "s", rows)) == [("A.", "x\ny"), ("B.", "z")]
    rows = '{"context": "Is it? ", "choices": ["False", "True"], "answer": "True"}\n'
    assert read_items(written(tmp_path, "m", rows)) == [
        Item(prompt="Is it?", answers=(" True",), choices=(" False", " True"))
    ]
    (item,) = read_items(written(tmp_path, "b", '{"context": "Is it?", "answer": false}\n'))
    assert item == Item(prompt="Is it?", answers=(" False",), choices=(" False", " True"))


@pytest.mark.parametrize(
    ("read", "content", "says"),
    [
        (read_passages, "plain text\n", "line 1: no JSON"),
        (read_passages, '{"txt": 1}\n', "'text' missing"),
        (read_passages, "", "is empty"),
        (read_passages, '{"text": "alone"}\n', "no context"),
        (read_cloze, "2 wrong start\n", "line 1 is not of the Children's Book Test"),
        (read_cloze, CBT.replace("\tcat\t", "\tcow\t"), "'cow' is no candidate"),
        (read_cloze, CBT[: CBT.index("21 ")], "ends within an item"),
        (read_schemas, "<collection></collection>", "no <schema>"),
        (read_schemas, "<collection>", "broken XML"),
        (read_schemas, "hello", "neither XML nor JSON"),
        (read_schemas, '[{"text": "a it b", "pronoun": "it", "pronoun_loc": 0, "options": ["x", "y"], "label": 0}]',
         "not at 0"),
        (read_coqa, "[]", "'data' missing"),
        (read_coqa, "{", "is no JSON"),
        (read_questions, '{"question": "x"}\n', "'question_text', 'document_text', 'annotations' missing"),
        (read_pairs, "only one side\n", "source, one tab and target"),
        (read_articles, '{"article": "", "highlights": "x"}\n', "no article"),
        (read_items, '{"context": "a", "choices": ["x"], "answer": 1}\n', "none of the choices"),
        (read_items, '{"context": "a", "answer": 1}\n', "'choices' missing"),
    ],
)  # fmt: skip
def test_another_format_is_told_in_one_line(read: Any, content: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(written(tmp_path, "file", content))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def roomy(tokenizer: Any) -> Exam:
    """A model whose context holds whole items."""
    torch.manual_seed(1)
    return Exam(model=zoo.create_model("gpt-debug", vocab_size=300, context=512).eval(), tokenizer=tokenizer)


def test_full_scoring_is_that_of_the_whole_sentence(roomy: Exam, tokenizer: Any, tmp_path: Path) -> None:
    path = written(tmp_path, "w.xml", XML)
    result = winograd(replace(roomy, data=path))
    right: dict[str, list[bool]] = {"full": [], "partial": []}
    for schema in read_schemas(path):
        full, partial = [], []
        for option in schema.options:
            name = substituted(schema, option)
            (losses,) = continuation_losses(
                roomy.model, [[]], [tokenizer.encode(schema.before + name + schema.after)], start=tokenizer.end_of_text
            )
            full.append(losses.sum())
            partial.append(losses[len(tokenizer.encode(schema.before + name)) :].sum())
        right["full"].append(int(np.argmin(full)) == schema.label)
        right["partial"].append(int(np.argmin(partial)) == schema.label)
    assert [figure.value for figure in result.figures] == [np.mean(right["full"]), np.mean(right["partial"])]
    assert [figure.chance for figure in result.figures] == [0.5, 0.5]


def test_cbt_sums_candidate_and_rest(roomy: Exam, tokenizer: Any, tmp_path: Path) -> None:
    items = [(name, CBT.replace("\tcat\t", f"\t{name}\t")) for name in ("cat", "dog", "sun")]
    path = written(tmp_path, "c", "".join(text for _, text in items))
    (item, *_) = read_cloze(path)
    totals = []
    for candidate in item.candidates:
        before, after = filled(item, candidate, DETOKENIZERS["ptb"])
        (losses,) = continuation_losses(roomy.model, [tokenizer.encode(before)], [tokenizer.encode(after)])
        totals.append(losses.sum())
    chosen = [read_cloze(path)[i].answer for i in range(3)].index(item.candidates[int(np.argmin(totals))])
    for limit, name in enumerate(item.candidates):
        one = written(tmp_path, name, items[limit][1])
        assert cbt(replace(roomy, data=one)).figures[0].value == float(limit == chosen)
    assert cbt(replace(roomy, data=path)).figures[0].value == pytest.approx(1 / 3)


def oracle(answer: Any) -> Any:
    """In place of generation: answers made from each prompt."""

    def complete(exam: Exam, prompts: Any, **how: Any) -> tuple[list[str], np.ndarray]:
        said = [answer(number, exam.tokenizer.decode(prompt)) for number, prompt in enumerate(prompts)]
        return said, -np.arange(len(said), dtype=float)

    return complete


def test_right_answers_count(roomy: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the answers are right, however the answer is put."""
    sums = {item.prompt: item.answers[0] for task in TASKS for item in problems(task, 10)}

    def solve(number: int, prompt: str) -> str:
        question = prompt.split("\n\n")[-1]
        return f"{sums[question]} " if number % 2 else f"{sums[question]}0"

    monkeypatch.setattr("zoo.gpt.evaluation.few_shot.complete", oracle(solve))
    result = arithmetic(replace(roomy, limit=10, shots=4))
    assert [figure.name for figure in result.figures] == list(TASKS)
    for figure in result.figures:
        assert (figure.value, figure.items, figure.shots) == (0.5, 10, 4)
        assert figure.error == pytest.approx(np.sqrt(0.25 / 9))
        assert figure.chance is not None
        assert figure.chance < 0.1

    listed = ["house", "apple", "banana", "orange"]
    path = written(tmp_path, "words", "\n".join(listed))
    spelled = {item.prompt: item.answers[0] for task in WORDS for item in scrambled(task, listed)}
    monkeypatch.setattr(
        "zoo.gpt.evaluation.few_shot.complete",
        oracle(lambda n, prompt: spelled[prompt.split("\n")[-1]] if n % 2 else " no"),
    )
    result = words(replace(roomy, data=path, shots=2))
    assert [(figure.value, figure.chance, figure.shots) for figure in result.figures] == [(0.5, 0.25, 2)] * 5
    assert result.data["words"] == "words"


def test_translations_and_summaries_are_cut_at_sentences(
    roomy: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(f"the cat is number {i}", f"le chat est le grand numéro {i}.") for i in range(6)]
    path = written(tmp_path, "pairs", "".join(f"{a}\t{b}\n" for a, b in pairs))
    french = {f"{a} =": b for a, b in pairs}
    monkeypatch.setattr(
        "zoo.gpt.evaluation.few_shot.complete",
        oracle(lambda n, prompt: f" {french[prompt.split(chr(10))[-1]]} Et encore."),
    )
    (figure,) = translation(replace(roomy, data=path, shots=2)).figures
    assert figure.value == pytest.approx(100)
    assert figure.shots == 2
    assert figure.chance is not None
    assert figure.chance < 50

    article = "The cat sat. The dog ran. The sun set. The moon rose. The end came."
    path = written(tmp_path, "articles", json.dumps({"article": article, "highlights": "A cat sat. A dog ran."}) + "\n")

    def summary(number: int, prompt: str) -> str:
        assert prompt == f"{article}\nTL;DR:"
        return " A cat sat. A dog ran. And then? Nothing of this counts any more, as it is the fourth."

    monkeypatch.setattr("zoo.gpt.evaluation.summarisation.complete", oracle(summary))
    figures = summarisation(replace(roomy, data=path)).figures
    assert figures[0].value == pytest.approx(2 * 6 / (6 + 8))


def test_the_confident_answers(roomy: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**NQ, "question_text": f"question {i}"} for i in range(200)]
    path = written(tmp_path, "nq", "".join(json.dumps(row) + "\n" for row in rows))
    # The oracle is the surer the earlier; the first one is right, the second wrong, of the rest every fourth is right.
    monkeypatch.setattr(
        "zoo.gpt.evaluation.few_shot.complete",
        oracle(lambda n, prompt: "the Ann Lee!" if n == 0 or n % 4 == 3 else "Bob"),
    )
    everything, sure = natural_questions(replace(roomy, data=path)).figures
    assert (everything.value, everything.items, everything.shots) == (51 / 200, 200, 5)
    assert (sure.value, sure.items) == (0.5, 2)
    assert sure.chance == 1  # all questions have the same answer

    path = written(tmp_path, "coqa", COQA)
    monkeypatch.setattr("zoo.gpt.evaluation.reading.complete", oracle(lambda n, prompt: "a cat" if n == 0 else "blue"))
    score, exact = coqa(replace(roomy, data=path)).figures
    assert (score.value, exact.value) == (0.5, 0.5)


def test_perplexity_divides_by_the_words_as_published(roomy: Exam, tokenizer: Any, tmp_path: Path) -> None:
    text = "the cat sat , on the mat .\nthe cat 's mat was wet .\n"
    result = perplexity(replace(roomy, data=written(tmp_path, "wiki", text)))
    running = "the cat sat, on the mat.\nthe cat's mat was wet.\n"
    ids = tokenizer.encode(running)
    (losses,) = continuation_losses(roomy.model, [[tokenizer.end_of_text]], [ids])
    word, byte = result.figures
    assert word.items == 8 + 7 + 2
    assert word.value == pytest.approx(np.exp(losses.sum() / 17), rel=1e-5)
    assert byte.value == pytest.approx(losses.sum() / np.log(2) / len(running), rel=1e-5)
    assert result.notes["restored_lines"] == 1
    other = perplexity(replace(roomy, data=tmp_path / "wiki", detokenizer="none"))
    assert other.protocol["sha256"] != result.protocol["sha256"]
    assert other.figures[0].value != word.value
