"""Tables and pictures of pages: what the markers do, and that the picture says what the studies say."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from nerdistill.errors import DataError
from nerdistill.evaluation import documents, pareto
from nerdistill.evaluation.charts import text_width

SVG = "{http://www.w3.org/2000/svg}"
TEACHER = {"system": "teacher", "parameters": 118e6, "f1_mean": 0.86, "f1_by_language": {"de": 0.86}, "words_per_second": 1000}
RUN = {"what": "run", "rows": [TEACHER, {"system": "student", "parameters": 3e6, "f1_by_language": {"de": 0.8}}]}
SCORES = "| F1 (%) | teacher | student | kept (%) |"
COSTS = "| system | parameters | smaller |"


def student(name: str, f1: float, parameters: float, speed: float | None) -> dict[str, Any]:
    """A row of a study."""
    return {"system": name, "f1_mean": f1, "f1_by_language": {"de": f1}, "parameters": parameters, "words_per_second": speed}


def study(what: str, *rows: dict[str, Any], teacher: dict[str, Any] = TEACHER) -> dict[str, Any]:
    """A study's results."""
    return {"what": what, "title": f"Study of {what}", "columns": ["F1", "words/s"], "rows": [teacher, *rows]}


SIZES = study(
    "size",
    student("small", 0.70, 1e6, 200e3),
    student("middle", 0.78, 3e6, 100e3),
    student("clumsy", 0.74, 5e6, 50e3),
    student("big", 0.82, 9e6, 40e3),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one run and one study."""
    (tmp_path / "docs").mkdir()
    (tmp_path / documents.STUDIES).mkdir(parents=True)
    (tmp_path / "results" / "run.json").write_text(json.dumps(RUN), encoding="utf-8")
    (tmp_path / documents.STUDIES / "size.json").write_text(json.dumps(SIZES), encoding="utf-8")
    return tmp_path


def page(marker: str, inside: str = "| old |\n") -> str:
    """A page with one table."""
    return f"before\n\n<!-- table: {marker} -->\n{inside}<!-- end of table -->\n\nafter\n"


def test_a_table_is_made_anew_and_the_rest_stays(root: Path) -> None:
    """Prevents stale figures, and text outside the markers from being touched."""
    text = documents.fill(page("results/run.json"), root, "p.md")
    assert "| old |" not in text
    assert SCORES in text
    assert COSTS in text
    assert text.startswith("before\n\n<!-- table: results/run.json -->\n| F1")
    assert text.endswith("|\n<!-- end of table -->\n\nafter\n")
    assert documents.fill(text, root, "p.md") == text


def test_the_table_of_one_text(root: Path) -> None:
    """Prevents a page that shows all texts where it names one, or nothing where it names none of them."""
    rows = [{"system": "one", "text": text, "words_per_second": speed} for text, speed in (("French", 1000), ("all languages", 2000))]
    (root / "results" / "benchmark.json").write_text(json.dumps({"kind": "benchmark", "rows": rows}), encoding="utf-8")
    found = documents.fill(page("results/benchmark.json speed of all languages"), root, "p.md")
    assert "| all languages | words/s |" in found
    assert "French" not in found
    with pytest.raises(DataError, match="no row of the text 'Dutch'"):
        documents.fill(page("results/benchmark.json speed of Dutch"), root, "p.md")


@pytest.mark.parametrize(("part", "shown", "hidden"), [("scores", SCORES, COSTS), ("costs", COSTS, SCORES)])
def test_one_of_the_two_tables(root: Path, part: str, shown: str, hidden: str) -> None:
    """Prevents a choice that is read but not followed."""
    text = documents.fill(page(f"results/run.json {part}"), root, "p.md")
    assert shown in text
    assert hidden not in text


def test_a_study_is_shown_by_its_columns(root: Path) -> None:
    """Prevents a study from being laid out as a run."""
    text = documents.fill(page("results/study/size.json", ""), root, "p.md")
    assert "|  | F1 | words/s |\n|---|---:|---:|\n| teacher | 86.0 | 1k |\n| small | 70.0 | 200k |\n" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (page("results/none.json"), r"p\.md:3: no file .*none\.json"),
        (page("results/bad.json"), r"p\.md:3: .*bad\.json cannot be read as JSON"),
        (page("results/list.json"), r"p\.md:3: .*list\.json has no rows"),
        (page("results/empty.json"), r"p\.md:3: results/empty\.json has no scores or costs"),
        (page("results/run.json prices"), r"p\.md:3: found '<!-- table: results/run\.json prices -->', expected"),
        (page("results/study/size.json costs"), r"p\.md:3: results/study/size\.json is a study"),
        ("  <!-- table results/run.json -->\n", r"p\.md:1: found '<!-- table results/run\.json -->', expected"),
        ("<!-- table: results/run.json -->\n| a |\n", r"p\.md:1: the table is not closed; put"),
        ("<!-- table: results/run.json -->\n| a |\n\nprose\n<!-- end of table -->", r"p\.md:1: the table is not closed before line 4"),
        (page("results/run.json", "<!-- table: results/run.json -->\n"), r"p\.md:3: the table is not closed before line 4"),
        ("a\n<!-- end of table -->\n", r"p\.md:2: .*without a table before it"),
    ],
)
def test_slips_are_named_with_their_line(root: Path, text: str, message: str) -> None:
    """Prevents prose that vanishes between two markers, and tables that a slip in a marker keeps out of date for ever."""
    (root / "results" / "bad.json").write_text("{", encoding="utf-8")
    (root / "results" / "list.json").write_text("[]", encoding="utf-8")
    (root / "results" / "empty.json").write_text('{"rows": []}', encoding="utf-8")
    with pytest.raises(DataError, match=message):
        documents.fill(text, root, "p.md")


def test_a_marker_in_backticks_is_only_spoken_of(root: Path) -> None:
    """Prevents a page that explains markers from being refused."""
    text = "Tables stand between `<!-- table: results/NAME.json -->` and `<!-- end of table -->`.\n"
    assert documents.fill(text, root, "p.md") == text


def test_the_command_writes_what_changed_and_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents pages in docs/ from looking beside themselves for results, needless writing, and silence."""
    pages = [root / "README.md", root / "docs" / "a.md"]
    for path in pages:
        path.write_text(page("results/run.json"), encoding="utf-8")
    arguments = list(map(str, pages))
    assert documents.main(arguments) == 0
    assert all(SCORES in path.read_text(encoding="utf-8") for path in pages)
    said = capsys.readouterr().out
    assert [line.split("/")[-1] for line in said.splitlines()] == ["README.md", "pareto.svg", "a.md"]
    before = [path.stat().st_mtime_ns for path in pages]
    assert documents.main(arguments) == 0
    assert capsys.readouterr().out == ""
    assert [path.stat().st_mtime_ns for path in pages] == before


def test_an_error_leaves_every_page_as_it_was(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents pages of which half are new after a slip in one."""
    good, bad = root / "README.md", root / "docs" / "b.md"
    good.write_text(page("results/run.json"), encoding="utf-8")
    bad.write_text(page("results/none.json"), encoding="utf-8")
    assert documents.main([str(good), str(bad)]) == DataError.exit_code
    assert "none.json" in capsys.readouterr().err
    assert "| old |" in good.read_text(encoding="utf-8")
    assert not (root / documents.FIGURE).exists()


def test_a_page_far_from_results_is_refused(tmp_path: Path) -> None:
    """Prevents results of some other folder from being shown."""
    with pytest.raises(DataError, match="no folder results/"):
        documents.update([tmp_path / "a" / "b" / "c.md"])


def test_without_speeds_there_is_no_picture(root: Path) -> None:
    """Prevents an empty frame in the docs."""
    untimed = study("size", student("small", 0.7, 1e6, None))
    (root / documents.STUDIES / "size.json").write_text(json.dumps(untimed), encoding="utf-8")
    assert documents.figures(root) == {}
    assert pareto.pareto([]) == ""


def names(found: list[pareto.Student]) -> list[str]:
    return [one.name.partition(": ")[2] or one.name for one in found]


def test_the_front_holds_who_is_beaten_by_nobody() -> None:
    """Prevents a front in the wrong direction: fewer parameters are better, more words per second are."""
    found = pareto.students([SIZES])
    assert names(pareto.front(found, lambda one: one.speed)) == ["big", "middle", "small"]
    assert names(pareto.front(found, lambda one: 1 / one.parameters)) == ["big", "middle", "small"]


def test_timings_of_one_student_make_no_front() -> None:
    """Prevents noise of a few percent from reading as a trade of F1 for speed, and steps within the margin from adding up unseen."""
    rows = [student(f"r{at}", 0.8 - 0.01 * at, 3e6, 50e3 * 1.04**at) for at in range(4)]
    assert names(pareto.front(pareto.students([study("x", *rows)]), lambda one: one.speed)) == ["r0", "r2"]


def test_every_student_is_there_once_and_the_shared_one_is_the_base() -> None:
    """Prevents one student as several points under the names that the studies give it."""
    same = [student(name, 0.8, 3e6, speed) for name, speed in (("30,000", 50e3), ("layer 6", 51e3))]
    found = pareto.students([study("pieces", same[0], student("20,000", 0.79, 2e6, 50e3)), study("layers", same[1])])
    assert [(one.name, one.speed) for one in found] == [("base", 50), ("pieces: 20,000", 50)]


def test_speeds_of_several_studies_are_times_their_teacher() -> None:
    """Prevents a slow day of the machine from reading as a slow student."""
    slow = study("b", student("two", 0.79, 2e6, 20e3), teacher={**TEACHER, "words_per_second": 500})
    assert [one.speed for one in pareto.students([study("a", student("one", 0.8, 3e6, 40e3)), slow])] == [40, 40]
    assert any("times the teacher's words per second" in text for text, *_ in shown(drawn([SIZES, slow])))
    assert not any("times the teacher" in text for text, *_ in shown(drawn([SIZES])))


def test_only_studies_of_one_teacher_and_test_set_are_compared() -> None:
    """Prevents F1 of other languages, or students of another teacher, on one axis with the rest."""
    other = {**TEACHER, "f1_by_language": {"de": 0.6}}
    few = study("few", student("a", 0.99, 1e6, 9e5), teacher=other)
    assert pareto.comparable([few, SIZES]) == [SIZES]
    assert "few" not in pareto.pareto([few, SIZES])


def drawn(studies: list[dict[str, Any]]) -> ElementTree.Element:
    """The picture as XML, after checks that hold for every one."""
    text = pareto.pareto(studies)
    assert "nan" not in text
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    ids = {node.get("id"): node for node in root.iter()}
    assert all((ids[name].text or "").strip() for name in (root.get("aria-labelledby") or "").split())
    return root


def shown(root: ElementTree.Element) -> list[tuple[str, float, float, float, float]]:
    """Every text with its box."""
    found = []
    for node in root.iter(f"{SVG}text"):
        text, x, y = "".join(node.itertext()), float(node.get("x", 0)), float(node.get("y", 0))
        wide = 0.9 * text_width(text, 11 if node.get("class") == "axis" else 12)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[node.get("text-anchor", "start")]
        found.append((text, left, y - 9, left + wide, y + 2))
    return found


def test_the_picture_names_the_front_and_the_teacher_in_both_panels() -> None:
    """Prevents points that matter without a name, and a front of points that are beaten."""
    texts = [text for text, *_ in shown(drawn([SIZES, study("other", student("like none", 0.6, 9e7, 1e3))]))]
    for name in ("size: small 70.0", "size: middle 78.0", "size: big 82.0", "teacher, 118M parameters: 86.0"):
        assert texts.count(name) == 2, name
    assert not any("clumsy" in text for text in texts)


def test_a_single_study_names_all_its_students() -> None:
    """Prevents a comparison in which nobody can tell which point is whose."""
    texts = [text for text, *_ in shown(drawn([SIZES]))]
    assert {"small 70.0", "middle 78.0", "big 82.0"} <= set(texts)
    assert any(text.startswith("clumsy") for text in texts)


@pytest.mark.parametrize("count", [1, 2, 9, 40])
@pytest.mark.parametrize("n_studies", [1, 9])
def test_texts_of_the_picture_do_not_touch(count: int, n_studies: int) -> None:
    """Prevents names over names where the front is crowded, and legends wider than the picture."""
    rows = [student(f"a student with quite a long name {at}", 0.8 - 0.3 * at / 40, 1e7 / 1.07**at, 2e4 * 1.07**at) for at in range(count)]
    root = drawn([study(f"study {at}", *rows[at::n_studies]) for at in range(n_studies)])
    boxes = shown(root)
    for text, left, _, right, low in boxes:
        assert 0 <= left <= right <= float(root.get("width", 0)), text
        assert low <= float(root.get("height", 0)), text
    for one, two in combinations(boxes, 2):
        assert one[3] <= two[1] or two[3] <= one[1] or one[4] <= two[2] or two[4] <= one[2], (one, two)


@pytest.mark.parametrize("f1", [0.0, 0.5, 0.95, 1.0])
def test_one_student_or_one_better_than_its_teacher_is_drawn(f1: float) -> None:
    """Prevents axes of no length and points above the picture."""
    root = drawn([study("one", student("only", f1, 3e6, 5e4))])
    assert all(0 <= float(node.get("cy", 1)) <= float(root.get("height", 0)) for node in root.iter(f"{SVG}circle"))


def test_hostile_names_stay_text() -> None:
    """Prevents names of rows from becoming markup of a picture that browsers show."""
    root = drawn([study("<script>", student("</text><script>a&b", 0.8, 3e6, 5e4), student("x", 0.7, 1e6, 9e4))])
    assert not list(root.iter(f"{SVG}script"))


def test_the_colours_are_those_of_the_report() -> None:
    """Prevents the picture's colours from drifting away from the report's."""
    style = (Path(pareto.__file__).with_name("report.html.j2")).read_text(encoding="utf-8")
    light, dark = (re.findall(r"--(?:s\d|paper|ink|soft|line): #[0-9a-f]{6};", part) for part in style.split("@media screen", 1))
    text = pareto.pareto([SIZES])
    colours = re.findall(r"--(?:s\d|paper|ink|soft|line): #[0-9a-f]{6};", text)
    assert len(colours) == 22
    assert set(colours[:11]) <= set(light)
    assert set(colours[11:]) <= set(dark)
