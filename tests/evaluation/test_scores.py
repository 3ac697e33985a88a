"""Scores: strict, sentence by sentence, word by word, language by language."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.evaluation import machine
from nerdistill.evaluation.scores import Scores, f1_by_language, score, strict_f1
from nerdistill.evaluation.speed import words_per_second
from nerdistill.labels import spans_of, tags_of
from nerdistill.records import Sentence, WordSpan

TYPES = ("PER", "LOC", "ORG")


def gold(tags: str, language: str = "de", unannotated: Sequence[str] = ()) -> Sentence:
    listed = tuple(tags.split())
    return Sentence(tuple(f"w{n}" for n in range(len(listed))), listed, language, unannotated=frozenset(unannotated))


def f1(correct: int, n_gold: int, n_found: int) -> float:
    return 2 * correct / (n_gold + n_found) if n_gold + n_found else 0.0


@st.composite
def tagged(draw: st.DrawFn, n_words: int) -> tuple[str, ...]:
    """Valid IOB2 tags, neighbours of one type among them."""
    spans, at = [], 0
    while at < n_words:
        length = draw(st.integers(0, min(3, n_words - at)))
        if length:
            spans.append(WordSpan(at, at + length, draw(st.sampled_from(TYPES))))
        at += max(1, length)
    return tags_of(spans, n_words)


@st.composite
def scored(draw: st.DrawFn) -> tuple[list[Sentence], list[tuple[str, ...]]]:
    """Some sentences of two languages, with found tags."""
    sentences, found = [], []
    for n_words in draw(st.lists(st.integers(1, 7), min_size=1, max_size=6)):
        tags = draw(tagged(n_words))
        sentences.append(Sentence(("w",) * n_words, tags, draw(st.sampled_from(["de", "ar"]))))
        found.append(draw(st.one_of(st.just(tags), tagged(n_words))))
    return sentences, found


# -- strictness ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "found", "expected"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", 1.0),
        ("B-PER I-PER O", "B-PER O O", 0.0),  # too short
        ("B-PER I-PER O", "B-PER I-PER I-PER", 0.0),  # too long
        ("B-PER I-PER O", "B-LOC I-LOC O", 0.0),  # another type
        ("B-PER I-PER O", "B-PER B-PER O", 0.0),  # two for one
        ("B-PER B-PER O", "B-PER I-PER O", 0.0),  # one for two
        ("B-PER O B-LOC", "B-PER O O", 2 / 3),
        ("O O O", "O O O", 0.0),  # nothing to find, nothing found
        ("O O O", "B-PER O O", 0.0),
        ("B-PER O O", "O O O", 0.0),
    ],
)
def test_by_hand(right: str, found: str, expected: float) -> None:
    """Partial credit, or a division by zero where there is nothing."""
    assert strict_f1([right.split()], [found.split()])[0] == pytest.approx(expected)


@pytest.mark.parametrize("found", ["O I-PER O", "I-PER I-PER O", "O I-LOC O", "I-PER O I-LOC"])
def test_what_is_not_iob2_never_scores(found: str) -> None:
    """The lenient rule takes I- after O for an entity: another score than the one that is promised."""
    assert strict_f1([["O", "B-PER", "O"]], [found.split()])[0] == 0.0
    assert strict_f1([found.split()], [found.split()]) == (0.0, {})


def test_invalid_tags_do_not_count_as_found() -> None:
    """An I- of another type ends an entity and opens none; a type that only stands in such tags has no row."""
    assert strict_f1([["B-PER", "O", "B-LOC"]], [["B-PER", "I-ORG", "B-LOC"]]) == (1.0, {"LOC": 1.0, "PER": 1.0})


def test_entities_end_with_their_sentence() -> None:
    """Sentences laid end to end: an entity would run over the border, as in the published code."""
    right = [["O", "B-PER"], ["B-PER", "I-PER"], ["I-PER"]]
    found = [["O", "B-PER"], ["B-PER", "I-PER"], ["O"]]
    assert strict_f1(right, found) == (1.0, {"PER": 1.0})


@given(case=scored())
def test_f1_is_what_the_spans_say(case: tuple[list[Sentence], list[tuple[str, ...]]]) -> None:
    """A second, independent count of the same thing: by sets of spans."""
    sentences, found = case

    def by(chosen: Callable[[int, WordSpan], bool]) -> float:
        right = {(n, *key(s)) for n, sentence in enumerate(sentences) for s in spans_of(sentence.tags or ()) if chosen(n, s)}
        other = {(n, *key(s)) for n, tags in enumerate(found) for s in spans_of(tags) if chosen(n, s)}
        return f1(len(right & other), len(right), len(other))

    def key(span: WordSpan) -> tuple[int, int, str]:
        return span.start, span.stop, span.label

    scores = score(sentences, found)
    assert scores.f1_pooled == pytest.approx(by(lambda n, span: True))
    languages = list(dict.fromkeys(sentence.language for sentence in sentences))
    assert list(scores.f1_by_language) == languages
    for language, value in scores.f1_by_language.items():
        assert value == pytest.approx(by(lambda n, span, language=language: sentences[n].language == language))  # type: ignore[misc]
    present = {s.label for tags in (*found, *(sentence.tags or () for sentence in sentences)) for s in spans_of(tags)}
    assert set(scores.f1_by_type) == present
    for label, value in scores.f1_by_type.items():
        assert value == pytest.approx(by(lambda n, span, label=label: span.label == label))  # type: ignore[misc]


# -- languages and types -------------------------------------------------------------------------------------------------------------------


def test_a_type_unseen_in_gold_scores_zero() -> None:
    """The library warns of it; the warning must not end the run, nor the type vanish."""
    micro, types = strict_f1([["B-PER", "O"]], [["B-PER", "B-ORG"]])
    assert micro == pytest.approx(2 / 3)
    assert types == {"ORG": 0.0, "PER": 1.0}


def test_headline_is_the_mean_over_languages() -> None:
    """One language with many entities must not decide it: de 1 of 1, ar 0 of 3, tr 1/2 (one of two found): mean 1/2, pooled lower."""
    sentences = [gold("B-PER", "de"), gold("B-PER B-PER B-LOC", "ar"), gold("B-PER", "tr"), gold("O", "de")]
    found = [("B-PER",), ("O", "O", "O"), ("B-PER",), ("O",)]
    sentences.append(gold("O B-LOC", "tr"))
    found.append(("B-PER", "O"))
    scores = score(sentences, found)
    assert scores.f1_by_language == {"de": 1.0, "ar": 0.0, "tr": 0.5}
    assert scores.f1_mean == pytest.approx(0.5)
    assert scores.f1_std == pytest.approx(math.sqrt((0.25 + 0.25 + 0.0) / 3))
    assert scores.f1_pooled == pytest.approx(f1(2, 6, 3))


def test_no_languages_is_no_division() -> None:
    """An empty set scores nothing, and says so with zeros."""
    assert (score([], []).f1_mean, score([], []).f1_std, score([], []).f1_pooled) == (0.0, 0.0, 0.0)
    assert f1_by_language([], []) == {}


def test_unannotated_types_are_taken_out_of_what_was_found() -> None:
    """Where a source does not mark a type, finding one is no mistake; elsewhere it is."""
    found = [("B-PER", "B-ORG", "I-ORG"), ("B-PER", "B-ORG", "I-ORG")]
    scores = score([gold("B-PER O O", "de", ["ORG"]), gold("B-PER O O", "ar")], found)
    assert scores.f1_by_language == {"de": 1.0, "ar": pytest.approx(2 / 3)}
    assert scores.f1_pooled == pytest.approx(f1(2, 2, 3))
    assert scores.errors_by_language == {"de": {"correct": 1}, "ar": {"correct": 1, "spurious": 1}}
    assert f1_by_language([gold("B-PER O O", "de", ["ORG"])], found[:1]) == {"de": 1.0}


def test_missing_predictions_are_refused() -> None:
    """Fewer predictions than sentences would be scored against the wrong ones."""
    with pytest.raises(ValueError, match="zip"):
        score([gold("O"), gold("O")], [("O",)])


# -- kinds of errors -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "found", "errors", "confusion"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", {"correct": 1}, {"PER": {"PER": 1}}),
        ("B-PER I-PER O", "B-LOC I-LOC O", {"wrong_type": 1}, {"PER": {"LOC": 1}}),
        ("B-PER I-PER O", "B-PER O O", {"wrong_boundary": 1}, {"PER": {"PER": 1}}),
        ("B-PER I-PER O", "O B-LOC I-LOC", {"wrong_boundary": 1}, {"PER": {"LOC": 1}}),
        ("B-PER I-PER O", "O O O", {"missed": 1}, {"PER": {"O": 1}}),
        ("B-PER I-PER O", "O O B-LOC", {"missed": 1, "spurious": 1}, {"PER": {"O": 1}, "O": {"LOC": 1}}),
        ("O O O", "B-LOC O O", {"spurious": 1}, {"O": {"LOC": 1}}),
        ("B-PER I-PER O", "B-PER B-PER O", {"wrong_boundary": 1, "spurious": 1}, {"PER": {"PER": 1}, "O": {"PER": 1}}),
        ("B-PER B-LOC O", "B-PER I-PER O", {"wrong_boundary": 1, "missed": 1}, {"PER": {"PER": 1}, "LOC": {"O": 1}}),
        ("O O O", "O O O", {}, {}),
    ],
)
def test_errors_by_hand(right: str, found: str, errors: dict[str, int], confusion: dict[str, dict[str, int]]) -> None:
    """The report tells what goes wrong; a kind counted under another name sends its reader the wrong way."""
    scores = score([gold(right)], [tuple(found.split())])
    assert scores.errors_by_language == {"de": errors}
    assert scores.confusion == confusion


@given(case=scored())
def test_errors_add_up(case: tuple[list[Sentence], list[tuple[str, ...]]]) -> None:
    """Each gold entity has one fate and each found one is used once; the correct ones are those that F1 counts."""
    sentences, found = case
    scores = score(sentences, found)
    total: dict[str, int] = {}
    for counts in scores.errors_by_language.values():
        for kind, count in counts.items():
            total[kind] = total.get(kind, 0) + count
    n_gold = sum(len(spans_of(sentence.tags or ())) for sentence in sentences)
    n_found = sum(len(spans_of(tags)) for tags in found)
    met = total.get("correct", 0) + total.get("wrong_type", 0) + total.get("wrong_boundary", 0)
    assert met + total.get("missed", 0) == n_gold
    assert met + total.get("spurious", 0) == n_found
    assert scores.f1_pooled == pytest.approx(f1(total.get("correct", 0), n_gold, n_found))
    assert sum(count for name, row in scores.confusion.items() if name != "O" for count in row.values()) == n_gold
    assert sum(count for row in scores.confusion.values() for name, count in row.items() if name != "O") == n_found


def test_rows_are_json() -> None:
    """A results file is read back by the tables and the report; numpy numbers do not write."""
    row = score([gold("B-PER O"), gold("O B-LOC", "ar")], [("B-PER", "O"), ("O", "O")]).as_row()
    assert json.loads(json.dumps(row)) == row
    assert row["f1_by_language"] == {"de": 1.0, "ar": 0.0}
    assert Scores({"de": 1 / 3}, {}, 2 / 3).as_row()["f1_mean"] == 0.33333


# -- speed and machine ---------------------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only where a system says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def system(self, seconds_per_word: float, log: list[str], name: str, odd: int, factor: float) -> Callable[[Sequence[Sentence]], object]:
        calls = 0

        def tag(sentences: Sequence[Sentence]) -> object:
            nonlocal calls
            calls += 1
            log.append(name)
            words = sum(len(sentence.words) for sentence in sentences)
            self.now += words * seconds_per_word * (factor if calls == odd else 1)
            return None

        return tag


def test_speed_is_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first call that compiles, or one busy moment, must not decide a number that is published."""
    clock, calls = Clock(), list[str]()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    sentences = [Sentence(("w",) * (1 + n % 5)) for n in range(200)]
    systems = {
        "slow": clock.system(0.01, calls, "slow", odd=1, factor=100),
        "fast": clock.system(0.001, calls, "fast", odd=4, factor=100),
        "lucky": clock.system(0.001, calls, "lucky", odd=4, factor=0.01),
    }
    rates = words_per_second(systems, sentences, rounds=3)
    assert rates == {"slow": pytest.approx(100.0), "fast": pytest.approx(1000.0), "lucky": pytest.approx(1000.0)}
    assert calls[-9:] == ["slow", "fast", "lucky"] * 3, "systems take turns, so that a busy moment meets them all"


def test_a_slow_system_gets_less_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher would take hours on the text that its student needs for a measurable time."""
    clock, read = Clock(), dict[str, list[int]]()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)

    def counted(name: str, seconds: float) -> Callable[[Sequence[Sentence]], object]:
        def tag(sentences: Sequence[Sentence]) -> object:
            read.setdefault(name, []).append(len(sentences))
            clock.now += seconds * len(sentences)
            return None

        return tag

    words_per_second({"slow": counted("slow", 0.02), "fast": counted("fast", 1e-6)}, [Sentence(("w",))] * 1000, rounds=2)
    assert read["slow"][2:] == [100, 100]
    assert read["fast"][2:] == [1000, 1000]


def test_results_have_the_frame_of_all_results() -> None:
    """The tables read every file under results/ by these keys."""
    frame = machine.results_frame("x", "nerdistill run", 2, {"languages": ["de"]}, [{"system": "teacher"}], gpu="H100")
    assert list(frame) == ["what", "command", "commit", "date", "machine", "data", "rows"]
    assert list(frame["machine"]) == ["cpu", "cores", "threads", "gpu", "isa"]
    assert frame["machine"]["threads"] == 2
    assert frame["machine"]["gpu"] == "H100"
    assert json.loads(json.dumps(frame)) == frame


def test_machine_is_told_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor name or instruction set that is guessed makes numbers incomparable; a system without that file must not fail."""
    told = "processor\t: 0\nmodel name\t: A: B 3000\nflags\t\t: fpu avx2 avx512f_extra avx512_vnni\n\nmodel name\t: other\n"
    monkeypatch.setattr(machine, "_cpuinfo", lambda: told)
    assert machine.machine(1)["cpu"] == "A: B 3000"
    assert machine.machine(1)["isa"] == ["avx2", "avx512_vnni"]
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "")
    assert machine.machine(1)["isa"] == []
    assert isinstance(machine.machine(1)["cpu"], str)


def test_no_commit_outside_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed wheel has no git: results are written all the same."""

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert machine.results_frame("x", "y", 1, {}, [])["commit"] is None
