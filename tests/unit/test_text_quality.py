"""The papers' quality work on real text: quality filter, anachronisms, duplicates, overlap with benchmarks."""

from __future__ import annotations

import random
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zoo.shared.errors import UserError
from zoo.shared.text import overlap
from zoo.shared.text.anachronism import TERMS, AnachronismFilter, TermFilter, learn_dates, read_terms
from zoo.shared.text.bloom import BloomFilter
from zoo.shared.text.classifier import sample, uniform
from zoo.shared.text.documents import Document
from zoo.shared.text.duplicates import Deduplicator, features, jaccard
from zoo.shared.text.plays import plays
from zoo.shared.text.quality import QualityFilter, keep_probability, learn_quality, pareto


def passages(text: str, name: str, words: int = 120) -> list[Document]:
    """Consecutive passages of a text, without Markdown."""
    all_words = text.replace("*", "").replace("_", "").replace("#", "").split()
    pieces = range(0, len(all_words) - words, words)
    return [Document(" ".join(all_words[start : start + words]), f"{name}/{start}") for start in pieces]


@pytest.fixture(scope="module")
def scenes():
    return [passage for play in plays()[:4] for passage in passages(play.text, play.id)]


@pytest.fixture(scope="module")
def code():
    folder = Path(sysconfig.get_paths()["stdlib"])
    names = ("argparse", "ast", "datetime", "doctest", "inspect", "pathlib", "tarfile", "turtle", "typing", "zipfile")
    return [p for name in names for p in passages((folder / f"{name}.py").read_text(encoding="utf-8"), name)]


# quality


def test_the_draws_are_numpys_pareto():
    from scipy.stats import ks_2samp, kstest, lomax

    draws = [pareto(9.0, 0, f"document {i}") for i in range(20_000)]
    assert kstest(draws, lomax(9.0).cdf).pvalue > 0.01
    assert ks_2samp(draws, np.random.default_rng(0).pareto(9.0, 20_000)).pvalue > 0.01
    assert len({uniform(0, i) for i in range(1000)}) == 1000


def test_shakespeare_is_told_from_code(scenes, code):
    classifier = learn_quality(scenes[:600:2], [*scenes[1:600:2], *code[:300]])
    unseen_good, unseen_code = classifier.score(scenes[600:]), classifier.score(code[300:])
    from sklearn.metrics import roc_auc_score

    labels = [1] * len(unseen_good) + [0] * len(unseen_code)
    assert len(unseen_good) > 150
    assert roc_auc_score(labels, [*unseen_good, *unseen_code]) > 0.99
    assert classifier.quality.auc < 0.9  # half of the unfiltered side is as good as the good side


def test_words_in_another_order_are_the_same_unigrams(scenes):
    shuffled = [
        Document(" ".join(random.Random(i).sample(d.text.split(), len(d.text.split()))), f"s{d.id}")
        for i, d in enumerate(scenes[:40])
    ]
    classifier = learn_quality(scenes[:40], shuffled)
    assert np.allclose(
        classifier._models[0].predict_proba(classifier._hashing.transform([d.text for d in scenes[40:60]])),
        classifier._models[0].predict_proba(
            classifier._hashing.transform([" ".join(reversed(d.text.split())) for d in scenes[40:60]])
        ),
    )


def test_the_filter_keeps_what_theory_says(scenes, code):
    mixed = [*scenes[300:], *code]
    classifier = learn_quality(scenes[:300], code)
    for alpha in (9.0, 2.0):
        keep = QualityFilter(classifier, alpha=alpha, seed=1)
        kept = list(keep(mixed))
        chances = np.array([keep_probability(score, alpha) for score in classifier.score(mixed)])
        spread = np.sqrt((chances * (1 - chances)).sum())
        assert abs(len(kept) - chances.sum()) < 3 * spread
        report = keep.report()
        assert report["kept"]["documents"] == len(kept) == sum(report["kept"]["histogram"])
        assert report["kept"]["documents"] + report["dropped"]["documents"] == len(mixed)
        assert report["kept"]["highest"][0]["score"] > 0.9
        assert report["dropped"]["lowest"][0]["score"] < 0.1
        backwards = QualityFilter(classifier, alpha=alpha, seed=1)
        assert {d.id for d in backwards(reversed(mixed))} == {d.id for d in kept}
        other = QualityFilter(classifier, alpha=alpha, seed=2)
        assert {d.id for d in other(mixed)} != {d.id for d in kept}
    share_of_scenes = sum("/" in d.id and d in set(scenes) for d in kept) / len(kept)
    assert share_of_scenes > 0.6
    assert classifier.quality.auc > 0.99


def test_too_few_documents_to_learn_from(scenes):
    with pytest.raises(UserError, match="3 documents on the good side are too few"):
        learn_quality(scenes[:3], scenes)


def test_a_sample_depends_on_ids_not_on_order(scenes):
    some = sample(scenes, seed=0, purpose="x", limit=100)
    assert 40 < len(some) <= 100
    assert {d.id for d in sample(reversed(scenes), seed=0, purpose="x", limit=100)} == {d.id for d in some}
    assert sample(scenes, seed=0, purpose="x") == scenes


# anachronisms


def test_terms_by_year(tmp_path):
    found = TermFilter(TERMS, cutoff=1930).find(
        "The E-mail said: Jazz, the New  Deal,\nsecond world-war’s radars; NewDeal"
    )
    assert found == {"e-mail": 1980, "New Deal": 1932, "second world war": 1939}
    assert TermFilter(TERMS, cutoff=1900).find("Jazz!") == {"jazz": 1915}
    path = tmp_path / "terms.tsv"
    path.write_text("# terms\nMoon  Landing\t1969\n\nfax\t1948\n")
    assert read_terms(path) == {"Moon Landing": 1969, "fax": 1948}
    for text, match in (
        ("", "holds no terms"),
        ("fax 1948\n", "line 1"),
        ("fax\tlate\n", "line 1"),
        ("--\t1950", "line 1"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=match):
            read_terms(path)
    with pytest.raises(UserError, match="cannot read"):
        read_terms(tmp_path / "none")


def test_names_count_only_as_names():
    late = TermFilter(TERMS, cutoff=1913)
    for innocent in (
        "Nato patre eodem",
        "Gif I cou'dna rest",
        "the united nations of the heathen",
        "He had a new deal of the cards in the cold war of their tempers.",
        "[F. ['e]mail, of German origin]",
        "OE. e mail; the e-mailler",
        "In this world war I have seen",
    ):
        assert late.find(innocent) == {}, innocent
    for text, found in (
        ("a NATO exercise", "NATO"),
        ("THE UNITED NATIONS MET", "United Nations"),
        ("the United\nNations’ envoy", "United Nations"),
        ("Adolf Hitler's", "Hitler"),
        ("WORLD WAR II", "World War II"),
        ("of the soviet\nUnion", "soviet union"),
        ("by EMAIL", "email"),
        ("two e-mails", "e-mails"),
    ):
        assert found in late.find(text), text


def test_an_example_shows_the_place_of_its_term():
    far = "It is said that cou'dna is no word. " * 20
    for text, term in (
        (f"{far} The DNA of the thing.", "DNA"),
        (f"{far} The Soviet\n Union rose.", "soviet union"),
        (f"{far} THE COLD WAR began.", "Cold War"),
    ):
        keep = AnachronismFilter(1913)
        assert list(keep([Document(text, "late")])) == []
        (example,) = keep.report()["examples"]
        assert term in example["terms"]
        assert term.lower() in " ".join(example["text"].split()).lower().replace("cou'dna", "")


def test_dates_terms_and_classifier(scenes, code):
    early = [Document(d.text, d.id, 1600) for d in scenes[:300]]
    late = [Document(d.text, d.id, 2000) for d in code[:300]]
    wrong = [Document(d.text, f"wrong/{d.id}", 1600) for d in code[300:320]]  # modern text with an early date
    named = Document(early[0].text + " and the television spoke", "named", 1600)
    undated = Document(early[1].text + " hereby", "undated")
    documents = [*early, *late, *wrong, named, undated]
    classifier = learn_dates(documents, cutoff=1930)
    keep = AnachronismFilter(1930, terms={"television": 1931}, classifier=classifier)
    kept = {d.id for d in keep(documents)}
    report = keep.report()
    assert report["counts"]["dated after the cutoff"] == 300
    assert report["counts"]["with late terms"] == 1
    assert report["counts"]["undated"] == 1
    assert report["examples"][0]["id"] == "named"
    assert "television" in report["examples"][0]["text"]
    assert not kept & {d.id for d in late}
    assert len(kept & {d.id for d in early}) >= 297
    assert len(kept & {d.id for d in wrong}) <= 0.25 * len(wrong)  # found although they were learnt as early
    assert classifier.quality.auc > 0.9
    assert learn_dates(early, cutoff=1930) is None
    assert learn_dates(early, cutoff=1930, modern=code[:50]) is not None


# duplicates


def planted(scenes, seed=0):
    """Passages, and near copies of some of them with a few words changed."""
    rng = random.Random(seed)
    originals, copies = scenes[:500], []
    for number, original in enumerate(originals[:100]):
        words = original.text.split()
        for _ in range(rng.choice([0, 1, 3])):
            words[rng.randrange(len(words))] = rng.choice(["lo", "hark", "fie"])
        copies.append(Document(" ".join(words), f"copy/{number}"))
    return originals, copies


@pytest.mark.parametrize("layout", [{}, {"hashes": 40, "rows": 4}, {"ngram": 3, "threshold": 0.5}])
def test_planted_duplicates_are_found_and_nothing_else(scenes, layout):
    originals, copies = planted(scenes)
    rest = originals[100:]
    stream = [*originals[:100], *rest[:200], *copies, *rest[200:]]
    dedupe = Deduplicator(**layout)
    kept = [d.id for d in dedupe(stream)]
    dropped = {d.id for d in stream} - set(kept)
    recall = len(dropped & {d.id for d in copies}) / len(copies)
    precision = len(dropped & {d.id for d in copies}) / len(dropped)
    assert recall >= 0.98
    assert precision == 1
    assert kept == [d.id for d in stream if d.id not in dropped]  # the first of a pair, in order
    report = dedupe.report()
    assert report["dropped"] == len(dropped)
    pair = report["examples"][0]
    assert pair["jaccard"] >= dedupe.threshold
    assert pair["dropped"].startswith("copy/")


def test_the_default_layout_misses_none_that_brute_force_finds(scenes):
    originals, copies = planted(scenes, seed=1)
    stream = [*originals[:150], *copies]
    sets = [set(d.text.lower().split()) for d in stream]
    expected, kept = set(), []
    for place, found in enumerate(sets):
        if any(len(found & sets[other]) / len(found | sets[other]) >= 0.7 for other in kept):
            expected.add(stream[place].id)
        else:
            kept.append(place)
    assert expected == {d.id for d in stream} - {d.id for d in Deduplicator()(stream)}
    assert jaccard(features(stream[0].text), features(stream[1].text)) == pytest.approx(
        len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    )


def test_short_texts_and_wrong_layouts():
    texts = ["a", "A", "b", "a b c", "a b  c"]
    assert [d.id for d in Deduplicator(ngram=5)([Document(t, str(i)) for i, t in enumerate(texts)])] == ["0", "2", "3"]
    for wrong in ({"threshold": 0}, {"threshold": 1.2}, {"rows": 3}, {"rows": 10}, {"hashes": 1}, {"ngram": 0}):
        with pytest.raises(UserError, match="--"):
            Deduplicator(**wrong)


# overlap


def words_of(text):
    """The plain way: lower case, no punctuation."""
    kept = "".join(c if c.isalnum() or c.isspace() else "" for c in text.lower())
    return kept.split()


def grams(words, n):
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def test_dirty_examples_are_those_of_brute_force(scenes):
    rng = random.Random(0)
    training = scenes[:200]
    benchmark = [Document(d.text, f"clean/{i}") for i, d in enumerate(scenes[300:330])]
    for number in range(40):
        words = rng.choice(training).text.split()
        start, length = rng.randrange(60), rng.randint(5, 40)
        own = scenes[340 + number].text.split()[:30]
        benchmark.append(Document(" ".join(own + words[start : start + length]).upper() + "!", f"mixed/{number}"))
    benchmark.append(Document(" ".join(training[3].text.split()[4:11]), "short and in it"))
    benchmark.append(Document("seven words that are in no play", "short"))
    report = overlap.find_dirty(training, benchmark)
    n = report["n"]
    assert n == int(np.clip(int(np.percentile([len(words_of(d.text)) for d in benchmark], 5)), 8, 13)) == 13
    known = {size: set().union(*(grams(words_of(d.text), size) for d in training)) for size in range(1, 14)}
    expected = []
    for example in benchmark:
        words = words_of(example.text)
        size = min(n, len(words))
        if grams(words, size) & known[size]:
            expected.append(example.id)
    assert report["dirty_ids"] == expected
    assert 10 < len(expected) < 40
    assert "short and in it" in expected
    assert report["shorter"] == 2
    found = report["overlaps"][0]
    assert tuple(found["overlap"].split()) in known[13]
    assert overlap.analysis_length([3, 4, 5]) == 8
    assert overlap.analysis_length([10] * 100) == 10


def test_the_training_filter_cuts_as_the_paper_says(scenes):
    secret = "the quick brown fox, which jumps over one lazy dog; sleeps in a basket tonight"
    before, after = "b" * 199 + " " + "x" * 300 + " ", " " + "y" * 250 + " " + "a" * 199
    texts = {
        "cut": before + "b" * 199 + " " + secret.upper() + " " + "a" * 199 + after,
        "near the end": "z" * 300 + " " + "q" * 150 + " " + secret,
        "many": ("w" * 500 + " " + secret + " ") * 11 + "w" * 500,
        "clean": scenes[0].text,
    }
    documents = [Document(text, name, 1900) for name, text in texts.items()]
    cutter = overlap.OverlapCutter(documents, [Document(secret, "secret")])
    left = {d.id: d for d in cutter(documents)}
    assert sorted(left) == ["clean", "cut#0", "cut#1", "near the end#0"]
    assert left["cut#0"].text == before  # 199 characters and the space before the overlap are gone
    assert left["cut#1"].text == after
    assert left["near the end#0"].text == ("z" * 300 + " " + "q" * 150 + " ")[:-200]
    assert left["cut#0"].year == 1900
    report = cutter.report()
    assert (report["untouched"], report["cut"], report["dropped"], report["pieces"]) == (1, 2, 1, 3)
    assert "QUICK" in report["examples"][0]["overlap"]


def test_common_speech_is_not_cut():
    common = "in the name of the father and of the son and of the holy ghost"
    documents = [Document(f"{'x' * 300} {i} {common} {i} {'y' * 300}", str(i)) for i in range(11)]
    cutter = overlap.OverlapCutter(documents, [Document(common, "prayer")])
    assert list(cutter(documents)) == documents
    assert cutter.report()["common_ngrams_ignored"] == 3
    assert not set(documents[:10]) & set(overlap.OverlapCutter(documents[:10], [Document(common, "p")])(documents[:10]))


def test_what_is_left_shares_nothing(scenes):
    training = [Document("\n".join(d.text for d in scenes[i : i + 20]), str(i)) for i in range(0, 200, 20)]
    benchmark = scenes[5:150:29]
    left = list(overlap.OverlapCutter(training, benchmark)(training))
    wanted = set().union(*(grams(words_of(d.text), 13) for d in benchmark))
    assert wanted & set().union(*(grams(words_of(d.text), 13) for d in training))
    assert not wanted & set().union(*(grams(words_of(d.text), 13) for d in left))
    removed = sum(len(d.text) for d in training) - sum(len(d.text) for d in left)
    assert removed < len(benchmark) * (len(benchmark[0].text) + 3 * 400)


def test_bloom_shares_are_those_of_brute_force(scenes):
    rng = random.Random(0)
    training = scenes[:150]
    benchmark = []
    for number in range(30):
        words = scenes[200 + number].text.split()
        benchmark.append(Document(" ".join(words[:40] + rng.choice(training).text.split()[10:30]), str(number)))
    benchmark.append(Document("too short", "short"))
    report = overlap.bloom_overlap(training, benchmark)
    known = set().union(*(grams(overlap.alphanumeric_words(d.text), 8) for d in training))
    counts = Counter()
    for example in benchmark:
        words = overlap.alphanumeric_words(example.text)
        own = [tuple(words[i : i + 8]) for i in range(len(words) - 7)]
        counts["all"] += len(own)
        counts["found"] += sum(gram in known for gram in own)
    assert (report["ngrams"], report["found"]) == (counts["all"], counts["found"])
    assert 0.1 < report["share"] < 0.5
    assert report["shorter"] == 1
    assert report["overlaps"][0]["overlap"]


def test_the_bloom_filters_error_is_within_its_bound():
    rng = np.random.default_rng(0)
    items = rng.integers(0, 2**63, 20_000, dtype=np.uint64)
    loose = BloomFilter(20_000, bound=0.01)
    loose.add(items)
    assert loose.has(items).all()
    strangers = rng.integers(0, 2**63, 200_000, dtype=np.uint64)
    assert loose.has(strangers).mean() == pytest.approx(0.01, rel=0.15)
    tight = BloomFilter(20_000, bound=overlap.BLOOM_BOUND)
    tight.add(items)
    assert tight.has(items).all()
    assert not tight.has(strangers).any()
    assert int(items[0]) in tight
    assert tight.hashes == 27
