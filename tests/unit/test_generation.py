"""Generation: what is drawn, what ends a text, and that no result depends on how the work was divided."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import zoo
from zoo.gpt.verify import decoder, decoder_of, way
from zoo.shared.errors import UserError
from zoo.shared.generation.batch import Generated
from zoo.shared.generation.decode import generate
from zoo.shared.generation.logits import draw, keep_top_k, keep_top_p, penalise_repetition
from zoo.shared.generation.options import GenerationOptions
from zoo.shared.generation.stop import StopTexts, TextStream, text_of
from zoo.shared.transformer.masks import Mask
from zoo.verify.decode import agreement

LAYOUTS = [
    {"window": 4},
    {"layout": "talkie"},
    pytest.param({"layout": "gpt1"}, marks=pytest.mark.slow),  # compiling takes seconds each
    pytest.param({"layout": "talkie", "window": 5}, marks=pytest.mark.slow),
]
PROMPTS = [[3, 1, 4], [15, 9, 26, 5, 35, 8, 9, 7, 9, 32], [27], [18, 28, 18, 28, 45]]


def build(**overrides: Any) -> Any:
    torch.manual_seed(1)
    model = zoo.create_model("gpt-debug", vocab_size=61, **overrides).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return build()


def run(model: Any, prompts: Any = PROMPTS, *, end: int | None = None, more: Any = None, **how: Any) -> list[Generated]:
    return generate(model, prompts, GenerationOptions(**how), end=end, **(more or {}))


# Options


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -0.5}, "temperature must be 0 .* or more, not -0.5"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"temperature": 1.0, "top_k": 0}, "top_k must be at least 1"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"temperature": 1.0, "top_p": 1.1}, "top_p must be above 0"),
        ({"temperature": 1.0, "top_p_convention": "other"}, "'other' is unknown; use common or gpt2"),
        ({"top_k": 5}, "give a temperature above 0"),
        ({"top_p": 0.5}, "give a temperature above 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"beams": 0}, "beams must be at least 1"),
        ({"beams": 2, "temperature": 0.7}, "beam search does not sample"),
        ({"beams": 2, "compile": "inductor"}, "beam search moves texts"),
        ({"length_penalty": math.nan}, "length_penalty must be a number"),
        ({"length_convention": "wu"}, "use power or gnmt"),
        ({"stop": ("a", "")}, "a stop text must not be empty"),
        ({"stop": "abc"}, "write \\(text,\\)"),
        ({"seed": -1}, "seed must be from 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"cache": "big"}, "use growing or static or none"),
        ({"compile": "c"}, "compile 'c' is unknown"),
        ({"compile": "inductor", "cache": "none"}, "need a cache"),
    ],
)
def test_options_that_mean_nothing_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        GenerationOptions(**settings)
    assert "\n" not in str(caught.value)


# Logits


def kept(logits: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero()[:, 0].tolist() for row in logits]


def test_top_k_keeps_ties() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0]])
    assert kept(keep_top_k(logits, 1)) == [[1]]
    assert kept(keep_top_k(logits, 2)) == [[1, 2, 3]]
    assert kept(keep_top_k(logits, 3)) == [[1, 2, 3]]
    assert kept(keep_top_k(logits, 4)) == [[0, 1, 2, 3]]


def by_gpt2(probabilities: list[float], p: float) -> list[int]:
    """Add up tokens from the likeliest; stop before the sum exceeds ``p``, but take one."""
    order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
    taken, total = [order[0]], probabilities[order[0]]
    for token in order[1:]:
        total += probabilities[token]
        if total > p:
            break
        taken.append(token)
    return sorted(taken)


def by_all_others(probabilities: list[float], p: float) -> list[int]:
    """Add up tokens from the likeliest until the sum reaches ``p``."""
    order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
    taken, total = [], 0.0
    for token in order:
        taken.append(token)
        total += probabilities[token]
        if total >= p:
            break
    return sorted(taken)


@pytest.mark.parametrize("vocab", [6, 700])
@pytest.mark.parametrize("p", [0.001, 0.3, 0.6, 0.9, 0.995])
def test_top_p_in_both_conventions(vocab: int, p: float) -> None:
    logits = 2 * torch.randn(40, vocab, dtype=torch.float64)
    rows = logits.softmax(-1).tolist()
    assert kept(keep_top_p(logits, p)) == [by_all_others(row, p) for row in rows]
    assert kept(keep_top_p(logits, p, convention="gpt2")) == [by_gpt2(row, p) for row in rows]


def test_the_conventions_differ_by_the_token_that_crosses() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert kept(keep_top_p(logits, 0.6)) == [[0, 1]]
    assert kept(keep_top_p(logits, 0.6, convention="gpt2")) == [[0]]
    assert kept(keep_top_p(logits, 0.4, convention="gpt2")) == [[0]]
    assert kept(keep_top_p(logits, 1.0)) == [[0, 1, 2, 3]]


def test_a_flat_vocabulary_is_longer_than_the_shortlist() -> None:
    logits = torch.zeros(1, 5000, dtype=torch.float64) - torch.arange(5000) * 1e-6
    assert len(kept(keep_top_p(logits, 0.5))[0]) == pytest.approx(2500, abs=10)


def test_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones() -> None:
    logits, seen = torch.tensor([[2.0, -2.0, 2.0, -2.0]]), torch.tensor([[True, True, False, False]])
    assert penalise_repetition(logits, seen, 4.0).tolist() == [[0.5, -8.0, 2.0, -2.0]]


def test_draws_follow_the_probabilities() -> None:
    p = torch.tensor([0.4, 0.0, 0.25, 0.2, 0.1, 0.05])
    count = 20_000
    drawn = draw(p.log().expand(count, 6), torch.rand(count, dtype=torch.float64))
    found = torch.bincount(drawn, minlength=6)
    assert found[1] == 0
    assert chisquare(found[p > 0], count * p[p > 0] / p.sum()).pvalue > 0.001
    edges = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    assert draw(p.log().expand(2, 6), edges).tolist() == [0, 5]
    assert draw(p.flip(0).log().expand(2, 6)[:, :5], edges).tolist() == [0, 3]


# Sampling


def test_samples_follow_the_model(model: Any) -> None:
    count, options = 1500, {"temperature": 0.8, "top_k": 12, "top_p": 0.95}
    found = run(model, [[3, 1, 4]] * count, max_new_tokens=1, batch_size=500, seed=11, **options)
    with torch.no_grad():
        logits = model(torch.tensor([[3, 1, 4]]))[0, -1].double() / 0.8
    p = logits.softmax(-1)
    best = sorted(range(61), key=lambda token: -float(p[token]))[:12]
    p = torch.tensor([float(p[token]) if token in best else 0.0 for token in range(61)])
    nucleus = by_all_others((p / p.sum()).tolist(), 0.95)
    expected = p[nucleus] / p[nucleus].sum() * count
    seen = torch.bincount(torch.tensor([one.tokens[0] for one in found]), minlength=61)
    assert int(seen.sum()) == int(seen[nucleus].sum())
    assert len(nucleus) > 3
    assert chisquare(seen[nucleus], expected.double() * (seen.sum() / expected.double().sum())).pvalue > 0.001


def test_a_sample_depends_on_nothing_but_seed_prompt_and_number(model: Any) -> None:
    how: dict[str, Any] = {"temperature": 1.0, "top_k": 20, "max_new_tokens": 20, "seed": 5}
    together = [one.tokens for one in run(model, **how)]
    assert [run(model, [prompt], **how)[0].tokens for prompt in PROMPTS] == together
    assert [one.tokens for one in run(model, PROMPTS[::-1], **how)][::-1] == together
    assert [one.tokens for one in run(model, batch_size=2, **how)] == together
    assert [one.tokens for one in run(model, cache="static", **how)] == together
    assert [one.tokens for one in run(model, **{**how, "max_new_tokens": 7})] == [row[:7] for row in together]
    again = [one.tokens for one in run(model, [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0]], **how)]
    assert again[:2] == together[:2]
    assert len({tuple(row) for row in (again[0], *again[2:])}) == 3
    assert [one.tokens for one in run(model, **{**how, "seed": 6})] != together


def test_a_cold_sample_is_greedy(model: Any) -> None:
    greedy = [one.tokens for one in run(model, max_new_tokens=15)]
    assert [one.tokens for one in run(model, max_new_tokens=15, temperature=1.0, top_k=1)] == greedy
    assert [one.tokens for one in run(model, max_new_tokens=15, temperature=1e-4)] == greedy


def test_log_probabilities_are_the_models(model: Any) -> None:
    for how in ({}, {"temperature": 1.3, "top_k": 9}, {"beams": 3}, {"repetition_penalty": 1.5}):
        for prompt, one in zip(PROMPTS, run(model, max_new_tokens=12, **how), strict=True):
            with torch.no_grad():
                rows = model(torch.tensor([[*prompt, *one.tokens]]))[0].log_softmax(-1)
            expected = [float(rows[len(prompt) - 1 + at, token]) for at, token in enumerate(one.tokens)]
            assert one.log_probabilities == pytest.approx(expected, abs=1e-4)
            assert one.log_probability == pytest.approx(sum(expected), abs=1e-3)


def test_padding_of_the_embedding_is_never_chosen(model: Any) -> None:
    free = {token for one in run(model, max_new_tokens=20, temperature=3.0) for token in one.tokens}
    assert max(free) >= 30
    for how in ({"temperature": 3.0}, {"beams": 3}, {"repetition_penalty": 3.0}):
        found = run(model, [[3, 1, 4], [27]], max_new_tokens=20, more={"vocab_size": 30}, **how)
        assert max(token for one in found for token in one.tokens) < 30


# Ends


def test_texts_end_by_themselves_and_the_others_go_on(model: Any) -> None:
    whole = [one.tokens for one in run(model, max_new_tokens=20)]
    for end in sorted({token for row in whole for token in row}):
        expected = [row[: row.index(end) + 1] if end in row else row for row in whole]
        for how in ({}, {"cache": "static"}, {"cache": "none"}, {"batch_size": 1}):
            found = run(model, max_new_tokens=20, end=end, **how)
            assert [one.tokens for one in found] == expected
            assert [one.finish for one in found] == ["end" if end in row else "length" for row in whole]


def test_the_context_ends_a_text_as_if_it_were_alone(model: Any) -> None:
    prompts = [[1] * 30, [2, 3], [4] * 31, [5] * 12]
    for how in ({}, {"cache": "static"}, {"cache": "none"}, {"beams": 2}):
        found = run(model, prompts, max_new_tokens=25, **how)
        assert [len(one.tokens) for one in found] == [2, 25, 1, 20]
        assert {one.finish for one in found} == {"length"}
        assert [run(model, [prompt], max_new_tokens=25, **how)[0].tokens for prompt in prompts] == [
            one.tokens for one in found
        ]


def test_tokens_are_told_as_they_come(model: Any) -> None:
    told: dict[int, list[int]] = {}
    found = run(
        model, max_new_tokens=9, batch_size=3, end=7, temperature=2.0,
        more={"on_token": lambda row, token: told.setdefault(row, []).append(token)},
    )  # fmt: skip
    assert [told[row] for row in range(4)] == [one.tokens for one in found]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[]], "the prompt is empty"),
        ([[1], []], "prompt 2 is empty"),
        ([[1] * 40], "the prompt has 40 tokens, 8 more than the context of 32 holds; shorten it by at least 9"),
        ([[1] * 32], "has 32 tokens, which fill the context of 32; shorten it by at least 1"),
        ([[1], [2, 61]], "prompt 2 holds the id 61"),
        ([[-1]], "holds the id -1"),
    ],
)
def test_prompts_that_cannot_be_continued(model: Any, prompts: list[list[int]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(model, prompts, more={"vocab_size": 61})
    with pytest.raises(UserError, match="decode_bytes"):
        run(model, stop=("x",))


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def spell(ids: Any) -> bytes:
    """An alphabet for the model."""
    return "".join(LETTERS[token] for token in ids).encode()


@pytest.mark.parametrize("beams", [1, 3])
def test_a_stop_text_ends_a_text_in_the_middle(model: Any, beams: int) -> None:
    free = [spell(one.tokens).decode() for one in run(model, max_new_tokens=20, beams=beams)]
    stop = free[1][3:6]
    more, penalty = {"decode_bytes": spell}, -5.0  # which favours short texts
    found = run(model, max_new_tokens=20, beams=beams, stop=("nothing", stop), length_penalty=penalty, more=more)
    assert found[1].finish == "stop"
    if beams == 1:
        for text, one in zip(free, found, strict=True):
            at = text.find(stop)
            assert (one.finish == "stop") == (at >= 0)
            assert spell(one.tokens).decode() == (text[: at + 3] if at >= 0 else text)
            assert text_of(one.tokens, spell, (stop,)) == (text[:at] if at >= 0 else text)


# Text


def pieces(data: bytes, draw_: random.Random) -> list[bytes]:
    cuts = sorted(draw_.sample(range(len(data) + 1), min(len(data) + 1, draw_.randint(0, 6))))
    return [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]


def test_stop_texts_wherever_tokens_begin_and_end() -> None:
    draw_ = random.Random(1)
    found_some = 0
    for _ in range(3000):
        text = "".join(draw_.choice("abé😀\n") for _ in range(draw_.randint(0, 12)))
        stops = [
            "".join(draw_.choice("abé😀\n") for _ in range(draw_.randint(1, 3))) for _ in range(draw_.randint(0, 3))
        ]
        parts = pieces(text.encode(), draw_)
        stream = TextStream(lambda ids, parts=parts: parts[ids[0]], stops)
        shown = []
        for token in range(len(parts)):
            shown.append(stream.push(token))
            assert "\ufffd" not in shown[-1]
        places = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
        assert stream.stopped == bool(places)
        assert "".join(shown) + stream.finish() == text[: min(places, default=(0, len(text)))[1]]
        found_some += bool(places)
    assert 500 < found_some < 2900


def test_text_is_shown_as_soon_as_it_is_certain() -> None:
    parts = [b"ab", "é".encode()[:1], "é".encode()[1:], b"\n", b"Q", b"x\nQ:", b"never"]
    stream = TextStream(lambda ids: parts[ids[0]], ["\nQ:"])
    assert [stream.push(token) for token in range(7)] == ["ab", "", "é", "", "", "\nQx", ""]
    assert stream.stopped
    assert stream.finish() == ""
    half = TextStream(lambda ids: b"\xf0\x9f")
    assert half.push(0) == ""
    assert half.finish() == "\ufffd"
    assert StopTexts([]).push(b"all") == b"all"


# Beams


def test_wide_beams_find_the_likeliest_text_of_all(model: Any) -> None:
    """With as many beams as there are beginnings the search is exhaustive."""
    vocab, steps, end = 6, 3, 2
    prompt = [3, 1, 4]
    texts = [text for n in range(1, steps + 1) for text in itertools.product(range(vocab), repeat=n)]
    texts = [t for t in texts if end not in t[:-1] and (t[-1] == end or len(t) == steps)]

    def log_probability(text: tuple[int, ...]) -> float:
        with torch.no_grad():
            rows = model(torch.tensor([[*prompt, *text]]))[0, :, :vocab].log_softmax(-1)
        return sum(float(rows[len(prompt) - 1 + at, token]) for at, token in enumerate(text))

    values = {text: log_probability(text) for text in texts}
    lengths = {"power": lambda n: n, "gnmt": lambda n: (5 + n) / 6}
    winners = set()
    for (name, length), penalty in itertools.product(lengths.items(), (0.0, 0.6, 3.0, -2.0)):
        best = max(texts, key=lambda text: values[text] / length(len(text)) ** penalty)
        one = run(
            model, [prompt], end=end, max_new_tokens=steps, beams=vocab**steps,
            length_penalty=penalty, length_convention=name, more={"vocab_size": vocab},
        )[0]  # fmt: skip
        assert tuple(one.tokens) == best
        winners.add(best)
    assert len(winners) > 1


def test_beams_of_prompts_do_not_mix(model: Any) -> None:
    together = [one.tokens for one in run(model, beams=3, max_new_tokens=12, end=7)]
    assert [run(model, [p], beams=3, max_new_tokens=12, end=7)[0].tokens for p in PROMPTS] == together
    assert [one.tokens for one in run(model, beams=3, max_new_tokens=12, end=7, cache="static")] == together


# All ways to the same tokens


def check(name: str, made: Any, count: int) -> list[str]:
    expected = [list(made.plain(prompt, count)) for prompt in made.prompts]
    verdicts = [
        agreement(name, label, expected, [list(row) for row in found(made.prompts, count)])
        for label, found in made.ways.items()
    ]
    return [f"{verdict.what}: {verdict.found}" for verdict in verdicts if not verdict.passed]


def test_all_ways_of_the_registered_model_agree() -> None:
    made = decoder("gpt-debug")
    assert len({token for prompt in made.prompts for token in made.plain(prompt, made.room)}) > 5
    assert check("gpt-debug", made, made.room) == []


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_all_ways_of_every_layout_agree(layout: dict[str, Any]) -> None:
    made = decoder_of(build(**layout))
    assert check(str(layout), made, made.room) == []


def test_a_mask_that_forgets_the_padding_is_found(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = decoder_of(model)
    expected = [list(made.plain(prompt, 20)) for prompt in made.prompts]
    dense = Mask.dense
    monkeypatch.setattr(Mask, "dense", lambda self, *a, **k: dense(Mask(causal=True, start=self.start), *a, **k))
    assert way(model, {}, made.prompts, 20) != expected
    assert way(model, {"cache": "static"}, made.prompts, 20) != expected


@pytest.mark.slow
def test_inductor_says_the_same() -> None:
    model = build()
    prompts = decoder_of(model).prompts
    assert way(model, {"compile": "inductor"}, prompts, 20) == way(model, {}, prompts, 20)


def test_steps_are_compiled_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    model = build()
    counters.clear()
    for number in range(12):
        prompts = [[1 + number, 2, 3], [4 + number, 5, 6]]
        found = run(model, prompts, max_new_tokens=3 + number, compile="aot_eager")
        assert [one.tokens for one in found] == [one.tokens for one in run(model, prompts, max_new_tokens=3 + number)]
    assert counters["stats"]["unique_graphs"] == 1
