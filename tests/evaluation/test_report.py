"""The report: one self-contained, well-formed page, whatever is missing and whatever the texts hold."""

from __future__ import annotations

import copy
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from nerdistill.evaluation.report import write_report

HOSTILE = "<script>alert('x')</script><img src=\"http://evil.example/x.png\" onerror=alert(1)>{{ 7*7 }}&amp;\x00\x1b\ud800"
ERRORS = {"correct": 80, "missed": 9, "spurious": 5, "wrong_type": 4, "wrong_boundary": 2}
SECTIONS = ("languages", "speed", "types", "errors", "confusion", "examples", "training", "numbers", "origin")


def row(system: str, shift: float, languages: tuple[str, ...] = ("de", "ar", "no")) -> dict[str, Any]:
    """A system's row with everything in it."""
    scores = {name: 0.9 - shift - at / 50 for at, name in enumerate(languages)}
    return {
        "system": system, "description": "what it is", "parameters": int(1e8 * (1 - shift)), "bytes": 4e6, "seconds": 300.0, "seed": 1,
        "words_per_second": 1e3 * (1 + 9 * shift), "f1_mean": 0.8 - shift, "f1_std": 0.02, "f1_pooled": 0.81 - shift,
        "f1_by_language": scores, "f1_by_type": {"PER": 0.8, "LOC": 0.7}, "errors_by_language": {name: dict(ERRORS) for name in languages},
        "confusion": {"PER": {"PER": 9, "LOC": 1}, "O": {"PER": 2}},
    }  # fmt: skip


def results(**changes: Any) -> dict[str, Any]:
    """A results object with everything in it, but for the changes."""
    return {
        "what": "a run", "command": "nerdistill run x.toml", "commit": "abc", "date": "2026-01-01",
        "machine": {"cpu": "a cpu", "cores": 2, "threads": 1, "gpu": None, "isa": ["avx2"]},
        "data": {"languages": ["de", "ar", "no"], "types": ["PER", "LOC"], "train_sentences": 1000, "free": {"deep": [1]}},
        "rows": [row("teacher", 0.0), row("student", 0.1), row("no_teacher", 0.2)], **changes,
    }  # fmt: skip


EVENTS: list[dict[str, Any]] = [
    *({"event": "step", "run": "student", "stage": "logits:head", "step": step, "loss": 1 / step} for step in range(1, 900)),
    {"event": "step", "run": "student", "stage": "logits:head", "step": 900, "loss": 0.01, "words_per_second": 9e3},
    {"event": "eval", "run": "student", "stage": "logits:head", "step": 500, "dev_f1": 0.4},
    {"event": "stage_end", "run": "student", "stage": "logits:head", "seconds": 61, "best_dev_f1": 0.4},
    {"event": "step", "run": "student", "stage": "logits:all", "step": 10, "loss": math.nan, "words_per_second": None},
    {"event": "eval", "run": "student", "stage": "logits:all", "step": 10, "dev_f1": 0.5},
    {"event": "stage_end", "run": "teacher", "stage": "fine-tune", "seconds": 10, "best_dev_f1": None},
    {"event": "other", "run": "student"},
    {"event": "step"},
]  # fmt: skip
EXAMPLES: list[dict[str, Any]] = [
    {"language": "de", "words": ["Anna", "wohnt", "in", "Bad", "Ems", "."], "gold": ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"],
     "teacher": ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"], "student": ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"]},
    {"language": "ar", "words": ["زار", "محمد", "علي", "القاهرة", "."], "gold": ["O", "B-PER", "I-PER", "B-LOC", "O"],
     "teacher": ["O", "B-PER", "I-PER", "B-LOC", "O"], "student": ["O", "B-PER", "O", "B-LOC", "O"]},
]  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: tags, attributes, visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.words.append(data)

    @property
    def ids(self) -> list[str | None]:
        """The anchors of the page."""
        return [value for name, value in self.attributes if name == "id"]


def written(path: Path, given: dict[str, Any], events: list[dict[str, Any]], examples: list[dict[str, Any]]) -> tuple[Page, str]:
    """The page, after checks that hold for every page."""
    file = path / "report.html"
    write_report(file, given, events, examples)
    html = file.read_text(encoding="utf-8")
    ElementTree.fromstring(html)
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "srcset", "data", "action")
        assert name != "href" or str(value).startswith("#")
    assert not re.search(r"@import|url\(", html)
    assert {value[1:] for name, value in page.attributes if name == "href" and value} <= set(page.ids)
    return page, html


def test_a_full_page_has_every_part(tmp_path: Path) -> None:
    """Prevents a lost section, and any address outside the page."""
    page, html = written(tmp_path, results(), EVENTS, EXAMPLES)
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    assert page.tags.count("svg") >= 5
    assert not re.search("https?://", html)
    assert "default-src 'none'" in html
    text = " ".join(page.words)
    for part in ("of the teacher's F1 kept", "87.5", "nerdistill run x.toml", "avx2", "1,000", "logits:head", "1 min 01 s", "what it is"):
        assert part in text


def test_the_given_objects_are_not_changed(tmp_path: Path) -> None:
    """Prevents a report that alters the results it is about."""
    given, events, examples = results(), copy.deepcopy(EVENTS[:5]), copy.deepcopy(EXAMPLES)
    before = copy.deepcopy((given, events, examples))
    write_report(tmp_path / "r.html", given, events, examples)
    assert (given, events, examples) == before


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """Prevents differences between two reports on one run."""
    for name in ("a", "b"):
        write_report(tmp_path / name, results(), EVENTS, EXAMPLES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Prevents scripts, elements and template code from any text of the input."""
    bad = row(HOSTILE, 0.1, (HOSTILE, "de"))
    bad |= {"description": HOSTILE, "f1_by_type": {HOSTILE: 0.5}, "confusion": {HOSTILE: {HOSTILE: 3}}, "seed": HOSTILE}
    given = results(
        what=HOSTILE,
        command=HOSTILE,
        commit=HOSTILE,
        date=HOSTILE,
        machine={"cpu": HOSTILE},
        data={HOSTILE: [HOSTILE]},
        rows=[bad, row("teacher", 0)],
    )
    events = [
        {"event": "step", "run": HOSTILE, "stage": HOSTILE, "step": 5, "loss": 1.0, "words_per_second": 2},
        {"event": "eval", "run": HOSTILE, "stage": HOSTILE, "step": 5, "dev_f1": 0.5},
    ]
    example = {
        "language": HOSTILE,
        "words": [HOSTILE, "x"],
        "gold": [f"B-{HOSTILE}", "O"],
        "student": ["O", f"B-{HOSTILE}"],
        "teacher": ["O", "O"],
    }
    page, html = written(tmp_path, given, events, [example])
    assert "<script" not in html
    assert "{{ 7*7 }}" in html
    assert "\x00" not in html
    assert any("<script>alert('x')</script>" in text for text in page.words)


@pytest.mark.parametrize(
    "key", ["f1_by_language", "f1_by_type", "f1_mean", "parameters", "words_per_second", "bytes", "errors_by_language", "confusion", "seed"]
)
def test_any_key_may_be_missing_none_or_nan(tmp_path: Path, key: str) -> None:
    """Prevents a crash, or 'nan' on the page, for a system that was not fully measured."""
    for change in ("missing", None, math.nan):
        given = results()
        for one in given["rows"]:
            if change == "missing":
                del one[key]
            else:
                one[key] = change
        _, html = written(tmp_path, given, [], EXAMPLES)
        assert "nan" not in Page(html).words


def test_inner_values_may_be_none_or_nan(tmp_path: Path) -> None:
    """The same one level deeper."""
    given = results()
    for one in given["rows"]:
        one["f1_by_language"] = {"de": math.nan, "ar": None, "no": 0.5}
        one["f1_by_type"] = {"PER": None}
        one["errors_by_language"] = {"de": None, "ar": {"correct": None}}
        one["confusion"] = {"PER": None, "LOC": {"LOC": math.nan, "O": 2}}
    written(tmp_path, given, EVENTS, EXAMPLES)


@pytest.mark.parametrize("given", [{}, {"rows": None, "data": None, "machine": None}, {"rows": [{"system": "student"}]}])
def test_almost_nothing_still_gives_a_page(tmp_path: Path, given: dict[str, Any]) -> None:
    """Prevents a crash at the end of a run that measured nothing."""
    page, _ = written(tmp_path, given, [], [])
    assert "Distillation report" in " ".join(page.words)
    assert not set(SECTIONS[:7]) & set(page.ids)


def test_parts_without_data_are_left_out(tmp_path: Path) -> None:
    """Prevents empty sections, and comparisons with nothing."""
    given = results(rows=[{"system": "student", "f1_by_language": {"de": 0.8}}])
    page, _ = written(tmp_path, given, [], [])
    assert [name for name in page.ids if name in SECTIONS] == ["languages", "numbers", "origin"]
    assert "kept" not in " ".join(page.words)


def test_only_other_systems(tmp_path: Path) -> None:
    """Prevents the need for a system called student."""
    page, _ = written(tmp_path, results(rows=[row("tinybert-4x312", 0.1), row("spacy-md", 0.2)]), [], [])
    assert "the tinybert-4x312, standard deviation 2.0" in page.words


def test_sixty_languages(tmp_path: Path) -> None:
    """Prevents a page that only works for few languages."""
    names = tuple(f"l{at:02}" for at in range(60))
    page, _ = written(tmp_path, results(rows=[row(name, at / 10, names) for at, name in enumerate(("teacher", "student"))]), [], [])
    assert "mean F1 over 60 languages" in page.words


def test_languages_are_sorted_by_gap(tmp_path: Path) -> None:
    """The largest loss is on top."""
    scores = {"teacher": {"aa": 0.9, "bb": 0.9, "cc": 0.9}, "student": {"aa": 0.8, "bb": 0.5, "cc": 0.7}}
    given = results(rows=[{"system": name, "f1_by_language": values} for name, values in scores.items()])
    _, html = written(tmp_path, given, [], [])
    chart = html[html.index("<svg", html.index("</ul>")) :]
    assert sorted(("aa", "bb", "cc"), key=lambda name: chart.index(f">{name}<")) == ["bb", "cc", "aa"]
    assert "from 10.0 (aa) to 40.0 (bb)" in html


def test_examples_with_errors_come_first_and_are_marked(tmp_path: Path) -> None:
    """Prevents errors below forty right sentences."""
    _, html = written(tmp_path, results(), [], EXAMPLES)
    assert html.index("محمد") < html.index("Anna")
    assert "1 of 2 entities right, 1 wrong" in html
    assert "2 of 2 entities right" in html
    assert html.count("teacher right") == 2


def test_right_to_left_text_finds_its_own_direction(tmp_path: Path) -> None:
    """Prevents Arabic set from left to right."""
    file = tmp_path / "r.html"
    write_report(file, results(), [], EXAMPLES)
    sentences = [node for node in ElementTree.fromstring(file.read_text(encoding="utf-8")).iter("p") if node.get("class") == "sentence"]
    assert [(node.get("dir"), node.get("lang")) for node in sentences] == [("auto", "ar"), ("auto", "de")]
    labels = [label for node in sentences for label in node.iter("bdi")]
    # dir=auto looks at the first letter outside elements with a direction of their own, so a Latin label must not count.
    assert labels
    assert all(label.get("dir") == "ltr" for label in labels)


def test_texts_of_examples_are_complete_and_in_order(tmp_path: Path) -> None:
    """Prevents lost words, and spaces in scripts without spaces."""
    file = tmp_path / "r.html"
    words = ["北", "京", "大", "学", "在", "北", "京", "。"]
    chinese = {
        "language": "zh",
        "words": words,
        "gold": ["B-ORG", "I-ORG", "I-ORG", "I-ORG", "O", "B-LOC", "I-LOC", "O"],
        "student": ["B-LOC", "I-LOC", *["O"] * 6],
    }
    write_report(file, results(), [], [*EXAMPLES, chinese])
    found = []
    for node in ElementTree.fromstring(file.read_text(encoding="utf-8")).iter("p"):
        if node.get("class") == "sentence":
            for label in node.iter("bdi"):
                label.text = ""
            found.append(" ".join("".join(node.itertext()).split()))
    assert set(found) == {"Anna wohnt in Bad Ems.", "زار محمد علي القاهرة.", "北京大学在北京。"}


@pytest.mark.parametrize(
    "example",
    [
        {"words": ["a", "b"]},
        {"words": []},
        {},
        {"words": ["a", "b"], "gold": ["B-X"], "student": ["I-X", "I-X", "I-X"]},
        {"words": ["a"], "gold": [None], "student": ["B-"], "teacher": ["nonsense"]},
        {"words": ["x" * 100_000], "gold": ["B-" + "Y" * 1000], "student": ["O"]},
        {"words": ["w"] * 3000, "gold": ["B-X"] * 3000, "student": ["O"] * 3000},
        {"words": ["\u202eabc", "\u2066", "d"], "gold": ["O", "B-X", "O"], "student": ["B-X", "I-X", "O"], "language": None},
    ],
)
def test_odd_examples(tmp_path: Path, example: dict[str, Any]) -> None:
    """Prevents a crash or an endless page for odd words and tags."""
    _, html = written(tmp_path, results(), [], [example])
    assert len(html) < 400_000


def test_many_examples_are_cut_and_counted(tmp_path: Path) -> None:
    """Prevents a page of thousands of sentences, and silence on what was cut."""
    page, _ = written(tmp_path, results(), [], EXAMPLES * 50)
    assert page.tags.count("article") == 40
    assert "40 of 100 are shown." in " ".join(page.words)


def test_repeated_steps_of_a_resumed_run_count_once(tmp_path: Path) -> None:
    """Prevents zigzags in the curves of a resumed run."""
    events = [{"event": "eval", "run": "student", "stage": "s", "step": 5, "dev_f1": score} for score in (0.9, 0.4)]
    page, _ = written(tmp_path, results(), events, [])
    assert "F1 on the development set, best 40.0" in page.words
