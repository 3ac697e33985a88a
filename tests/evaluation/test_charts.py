"""The charts: well-formed SVG, sensible ticks, texts that never touch, and nothing that bad numbers could break."""

from __future__ import annotations

import math
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from nerdistill.evaluation import charts
from nerdistill.evaluation.charts import Panel, Point, Series, Stage

THREE = [Series("teacher", 0), Series("student", 1), Series("no teacher", 2)]
HOSTILE = "<script>alert(1)</script>\"'&"


def parsed(markup: Markup) -> ElementTree.Element:
    """The chart as XML, after checks that hold for every chart."""
    root = ElementTree.fromstring(markup)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert "nan" not in markup
    assert "inf" not in markup
    return root


def texts(root: ElementTree.Element) -> list[tuple[str, float, float, float, float]]:
    """Every text with its estimated box."""
    found = []
    for node in root.iter("text"):
        css, text = (node.get("class") or "").split(), "".join(node.itertext())
        size = 11 if {"axis", "on"} & set(css) else 12
        x, y, wide = float(node.get("x", 0)), float(node.get("y", 0)), 0.9 * charts.text_width(text, size)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[node.get("text-anchor", "start")]
        found.append((text, left, y - 0.75 * size, left + wide, y + 0.2 * size))
    return found


def assert_texts_do_not_touch(root: ElementTree.Element) -> None:
    """Every text lies inside the drawing and clear of every other one."""
    width = float(root.get("width", 0))
    boxes = texts(root)
    for text, left, _, right, _ in boxes:
        assert -1 <= left <= right <= width + 1, text
    for one, two in combinations(boxes, 2):
        assert one[3] <= two[1] or two[3] <= one[1] or one[4] <= two[2] or two[4] <= one[2], (one, two)


finite = st.floats(-1e9, 1e9, allow_nan=False)


@given(finite, finite, st.integers(2, 10))
def test_ticks_enclose_and_are_few(one: float, two: float, count: int) -> None:
    """Prevents points outside their axis and crowded axes."""
    low, high = min(one, two), max(one, two)
    marks = charts.ticks(low, high, count)
    room = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert marks[0] <= low + room
    assert high - room <= marks[-1]
    assert 2 <= len(marks) <= count + 3
    assert marks == sorted(set(marks))


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9))
def test_log_ticks_enclose_and_are_few(one: float, two: float) -> None:
    """The same for logarithmic axes, over fifteen orders of magnitude."""
    low, high = min(one, two), max(one, two)
    marks = charts.log_ticks(low, high)
    assert marks[0] <= low * 1.001
    assert high * 0.999 <= marks[-1]
    assert 2 <= len(marks) <= 9
    assert marks == sorted(set(marks))


def test_ticks_are_round() -> None:
    """Prevents axes with odd numbers, and shares above 100 %."""
    assert charts.ticks(0.52, 0.97, 6) == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert charts.log_ticks(900, 130_000) == [300, 1000, 3000, 10_000, 30_000, 100_000, 300_000]
    assert charts.log_ticks(0.2, 3) == [0.2, 0.5, 1, 2, 5]
    assert charts.share_ticks([0.99, 1.0])[-1] == 1.0
    assert charts.share_ticks([0.0, 0.0])[0] == 0.0


@given(st.text(max_size=60), st.floats(10, 300))
def test_fitted_text_fits(text: str, width: float) -> None:
    """Prevents long names that run into the drawing."""
    assert charts.text_width(charts.fit(text, width)) <= max(width, charts.text_width("…"))


def test_every_text_and_attribute_is_escaped() -> None:
    """Prevents markup in names from becoming markup of the page."""
    series = [Series(HOSTILE, 0), Series("b", 1)]
    stages, line = [Stage(HOSTILE, 0, 10)], [[(1.0, 0.5), (9.0, 0.6)]]
    found = [
        charts.dumbbell([(HOSTILE, [0.5, 0.6])], series),
        charts.scatter([Point(one, 10, 0.5, 7) for one in series]),
        charts.stacked([(HOSTILE, [1, 2])], [HOSTILE, "b"]),
        charts.curves(stages, [Panel(HOSTILE, line, True)], 1, HOSTILE),
    ]
    for markup in found:
        assert "<script" not in markup
        assert "alert(1)" in markup
        parsed(markup)


@pytest.mark.parametrize("count", [1, 2, 15, 41, 60])
def test_dumbbell_texts_do_not_touch(count: int) -> None:
    """Prevents names and numbers on top of each other at any number of languages."""
    groups = [(f"l{at}", [0.9 - at / 200, 0.88 - at / 200, 0.5]) for at in range(count)]
    root = parsed(charts.dumbbell(groups, THREE))
    assert_texts_do_not_touch(root)
    assert [text for text, *_ in texts(root)].count("l0") == 1


def test_dumbbell_with_long_names_and_many_systems() -> None:
    """The same for names that are too long and more systems than there are columns."""
    series = [Series(f"a system with a long name {at}", at) for at in range(7)]
    groups = [("ein sehr langer Sprachname " * 3, [at / 7 for at in range(7)]), ("中文" * 20, [0.5] * 7)]
    assert_texts_do_not_touch(parsed(charts.dumbbell(groups, series)))


@pytest.mark.parametrize("row", [[None, 0.5, None], [math.nan, math.inf, 0.3], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
def test_dumbbell_skips_what_is_not_a_number(row: list[float | None]) -> None:
    """Prevents markers at made-up places for missing scores."""
    root = parsed(charts.dumbbell([("de", row), ("fr", [None, None, None])], THREE))
    usable = [value for value in row if value is not None and math.isfinite(value)]
    assert sum("mark" in (node.get("class") or "") for node in root.iter()) == len(usable)


def test_nothing_is_drawn_of_nothing() -> None:
    """Prevents empty frames and division by zero where there is no data."""
    assert charts.dumbbell([], THREE) == ""
    assert charts.dumbbell([("de", [None, None, math.nan])], THREE) == ""
    assert charts.scatter([Point(THREE[0], None, 0.5, 1), Point(THREE[1], 0, 0.5, 1), Point(THREE[2], 5, math.nan, 1)]) == ""
    assert charts.stacked([], ["a"]) == ""
    assert charts.curves([], [Panel("x", [[(1, 1)]], False)], 0, "t") == ""
    assert charts.curves([Stage("a", 0, 1)], [Panel("x", [[]], False)], 0, "t") == ""


def test_scatter_area_is_parameters_and_labels_do_not_touch() -> None:
    """Prevents radii in place of areas, which would exaggerate, and labels over labels."""
    points = [Point(Series(f"system {at}", at % 7), 1000 * 1.05**at, 0.8 + at / 900, 4e6 * (1 + at)) for at in range(25)]
    root = parsed(charts.scatter(points))
    assert_texts_do_not_touch(root)
    first, last = [
        next(float(node.get("r", 0)) for node in root.iter("circle") if f"system {at}:" in "".join(node.itertext())) for at in (5, 24)
    ]
    assert last**2 / first**2 == pytest.approx(25 / 6, rel=0.01)


def test_scatter_draws_a_system_of_unknown_size() -> None:
    """Prevents a system from vanishing because its size is not known."""
    root = parsed(charts.scatter([Point(THREE[0], 1e3, 0.8, None), Point(THREE[1], 1e5, 0.7, None)]))
    assert len(list(root.iter("circle"))) == 2


@pytest.mark.parametrize("count", [1, 15, 60])
def test_stacked_parts_fill_the_bar(count: int) -> None:
    """Prevents bars whose parts do not add up to the whole."""
    root = parsed(charts.stacked([(f"l{at}", [80 + at, 9, 0, 3, 1]) for at in range(count)], list("abcde")))
    assert_texts_do_not_touch(root)
    right = {round(float(node.get("x", 0)) + float(node.get("width", 0))) for node in root.iter("rect") if node.get("class") == "k4"}
    assert len(right) == 1


def test_stacked_takes_rows_of_zeros_and_gaps() -> None:
    """Prevents a division by zero for a language without entities."""
    root = parsed(charts.stacked([("de", [0, 0]), ("fr", [None, math.nan]), ("it", [-3, 2])], ["a", "b"]))
    assert "2" in [text for text, *_ in texts(root)]


@pytest.mark.parametrize("count", [1, 2, 12, 40])
def test_curves_mark_stages_without_touching_texts(count: int) -> None:
    """Prevents stage names over each other; every stage is named for the pointer."""
    stages = [Stage(f"logits:head+projection+{at}", 1000 * at, 1000 * (at + 1)) for at in range(count)]
    loss = [[(1000.0 * at + step, 2.0 ** -(at % 5) * (1 + 1 / step)) for step in range(1, 1000, 200)] for at in range(count)]
    panels = [Panel("dev F1", [[(1000.0 * at + 500, at / count) for at in range(count)]], True), Panel("loss", loss, False)]
    root = parsed(charts.curves(stages, panels, 1, "title"))
    assert_texts_do_not_touch(root)
    titles = ["".join(node.itertext()) for node in root.iter("rect")]
    assert titles == [f"{at + 1}: {stage.name}" for at, stage in enumerate(stages)]


def test_curves_leave_out_the_name_of_a_stage_too_short_for_it() -> None:
    """Prevents a name wider than its stage."""
    root = parsed(charts.curves([Stage("a", 0, 1), Stage("b", 1, 10_000)], [Panel("loss", [[(1, 30), (2, 40)]], False)], 0, "t"))
    shown = [text for text, *_ in texts(root)]
    assert "2" in shown
    assert not {"a", "1"} & set(shown)


def test_flat_negative_and_zero_losses_are_drawn() -> None:
    """Prevents logarithms of zero and axes of no length."""
    for values in ([0.0, 0.0], [-1.0, 3.0], [1e-9, 1e9]):
        parsed(charts.curves([Stage("a", 0, 2)], [Panel("loss", [list(enumerate(values, 1))], False)], 0, "t"))
