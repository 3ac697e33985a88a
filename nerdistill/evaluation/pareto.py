"""The picture of studies: mean F1 against parameters and against speed, with the Pareto front of each.

Words per second of one study were taken side by side and may be compared; those of several were not, on a machine that is faster one day
than another, so there each is divided by its teacher's of the same run.

It is one SVG file that stands alone: style, background and dark mode inside, drawn with the parts of `nerdistill.evaluation.charts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from nerdistill.evaluation.charts import Box, Scale, fit, label, log_ticks, marker, rule, scale, share_ticks, tag, text_width
from nerdistill.evaluation.tables import Results, compact, first, mean_f1, number, percent, quotient

MARGIN = 1.05
"""Costs closer than this factor count as equal: timings of one student vary by some percent, which must not make a front."""

# In pixels: the drawing, a panel's height, what is between two panels, a line of the legend; a panel's margins; the longest name,
# and the room for names on the better side.
WIDTH, PANEL, GAP, LINE = 860.0, 320.0, 66.0, 22.0
LEFT, RIGHT = 52.0, 16.0
_LABEL, _ROOM = 220.0, 130.0
_LOOKS = 6  # of studies; the look 0 is the student that they share
# The colours of report.html.j2: a picture on a page of its own has no style sheet to take them from.
_LIGHT = """--paper: #ffffff; --ink: #1a1e26; --soft: #5a6270; --line: #e3e5e9;
  --s0: #3b4252; --s1: #1d5fc2; --s2: #c2640c; --s3: #8a3f8f; --s4: #0a7d70; --s5: #7a751c; --s6: #a8324a;"""
_DARK = """--paper: #191d24; --ink: #e6e9ee; --soft: #9ba4b2; --line: #2c323c;
  --s0: #cdd3dd; --s1: #6aa5ff; --s2: #f2a24e; --s3: #d391d8; --s4: #50c8b9; --s5: #cfc75e; --s6: #f08a9d;"""
STYLE = f"""
svg {{ {_LIGHT} font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif; }}
@media (prefers-color-scheme: dark) {{ svg {{ {_DARK} }} }}
text {{ fill: var(--ink); }} .axis {{ fill: var(--soft); font-size: 11px; }} .head {{ font-weight: 650; }}
.name {{ paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }}
.paper {{ fill: var(--paper); }} .grid {{ stroke: var(--line); }} .leader {{ stroke: var(--soft); stroke-width: .75; }}
.front {{ fill: none; stroke: var(--soft); stroke-width: 1.75; stroke-linejoin: round; }}
.teacher {{ stroke: var(--ink); stroke-width: 1.25; stroke-dasharray: 6 4; }}
.mark {{ stroke: var(--paper); stroke-width: 1.25; }} .beaten {{ opacity: .55; }}
.hollow .mark {{ fill: var(--paper); stroke-width: 1.75; }}
""" + "".join(f".s{n} {{ fill: var(--s{n}); }} .hollow .s{n} {{ stroke: var(--s{n}); }}\n" for n in range(_LOOKS + 1))  # fmt: skip

_WAYS = ((1, -0.5), (1, -1), (1, 0), (0, -1), (0.5, -1), (-0.5, -1), (-1, -1), (-1, 0.5), (0, 1), (1, 1), (-1, 1), (0.5, 1))
"""Where a name may stand from its point: across (1 is the better side) and down."""


class Student(NamedTuple):
    """A student in the picture: its name, its look, F1 (mean over languages, 0 to 1), parameters, speed as its axis has it."""

    name: str
    look: int
    f1: float
    parameters: float
    speed: float


class _Axis(NamedTuple):
    """What a panel has from left to right, and which side of it is the better one (-1 left, 1 right)."""

    title: str
    unit: str
    cost: Callable[[Student], float]
    better: int

    def gain(self, student: Student) -> float:
        """The cost, turned so that more is better."""
        return self.cost(student) ** self.better


PARAMETERS = _Axis("parameters", "parameters", lambda student: student.parameters, -1)
SPEED = _Axis("words per second", "words/s", lambda student: student.speed, 1)
TIMES_TEACHER = _Axis("times the teacher's words per second", "times the teacher's speed", lambda student: student.speed, 1)


def comparable(studies: Iterable[Results]) -> list[Results]:
    """The studies that one picture may hold: of those with one teacher and equal scores of it, so one test set, the most students."""
    groups: dict[str, list[Results]] = {}
    for study in studies:
        groups.setdefault(json.dumps((first(study, "teacher") or {}).get("f1_by_language"), sort_keys=True), []).append(study)
    return max(groups.values(), key=lambda group: len(students(group)), default=[])


def students(studies: Iterable[Results]) -> list[Student]:
    """Every student of which F1, parameters and speed are known, once; the one that most studies share is called ``base``.

    A student is known by its parameters and its scores; of several timings of it the first one counts. Where there is but one study its
    students go by their own names and have words per second; where there are more, times those of the teacher, if they are known.
    """
    studies = list(studies)
    several = len(studies) > 1
    found: dict[str, list[Student]] = {}
    for look, study in enumerate(studies, start=1):
        unit = (first(study, "teacher") or {}).get("words_per_second") if several else 1
        for row in study.get("rows") or []:
            made = None if row["system"] == "teacher" else _student(row, f"{study.get('what')}: " * several, look, unit)
            if made:
                key = json.dumps([row["parameters"], row.get("f1_mean"), row.get("f1_by_language")], sort_keys=True)
                found.setdefault(key, []).append(made)
    base = max(found.values(), key=len, default=[])
    return [same[0]._replace(name="base", look=0) if same is base and len(same) > 1 else same[0] for same in found.values()]


def _student(row: Mapping[str, Any], before: str, look: int, unit: object) -> Student | None:
    f1, parameters, speed = mean_f1(row), number(row.get("parameters")), quotient(row.get("words_per_second"), unit)
    if f1 is None or not parameters or not speed or min(parameters, speed) <= 0:
        return None
    return Student(f"{before}{row['system']}", look, f1, parameters, speed)


def front(found: Iterable[Student], gain: Callable[[Student], float]) -> list[Student]:
    """The Pareto front: students that no other one beats in F1 without less gain; gains within `MARGIN` are equal.

    Args:
        found: The students.
        gain: Positive, the more the better, such as words per second or one over parameters.

    Returns:
        By falling F1 and rising gain.
    """
    kept: list[Student] = []
    for student in sorted(found, key=lambda one: (-one.f1, -gain(one))):
        if not kept or gain(student) > MARGIN * gain(kept[-1]):
            kept.append(student)
    return kept


def pareto(studies: Sequence[Results]) -> str:
    """The picture as the text of an SVG file, empty where no student has all three numbers.

    Only `comparable` studies are in it. Points of the front are named where their name touches nothing; of a single study all points are.
    """
    chosen = comparable(studies)
    found = students(chosen)
    if not found:
        return ""
    teacher = first(chosen[0], "teacher")
    axes = (PARAMETERS, SPEED if len(chosen) == 1 else TIMES_TEACHER)
    keys, top = legend(found, chosen)
    height = top + len(axes) * (PANEL + GAP) + 8
    parts = [tag("rect", class_="paper", width=WIDTH, height=height, rx=8), *keys]
    for at, axis in enumerate(axes):
        above = top + 42 + at * (PANEL + GAP)
        parts += panel(found, teacher, axis, (LEFT, above, WIDTH - RIGHT, above + PANEL), name_all=len(chosen) == 1)
    title = tag("title", "Mean F1 of students against their parameters and their speed", id="t")
    head = [title, tag("desc", _words(found, teacher, axes), id="d"), tag("style", Markup(STYLE))]
    frame = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH:.0f} {height:.0f}", "role": "img", "aria_labelledby": "t d"}
    return tag("svg", *head, *parts, **frame, width=WIDTH, height=height) + "\n"


def _words(found: Sequence[Student], teacher: Mapping[str, Any] | None, axes: Iterable[_Axis]) -> str:
    """What the picture says, for those who do not see it."""
    said = [f"{len(found)} students." if teacher is None else f"{len(found)} students; their teacher has {percent(mean_f1(teacher))} F1."]
    for axis in axes:
        best = (f"{one.name}, {compact(axis.cost(one))}, {percent(one.f1)} F1" for one in front(found, axis.gain))
        said.append(f"Best by {axis.title}: {'; '.join(best)}.")
    return " ".join(said)


def _mark(look: int, x: float, y: float, size: float, note: str = "") -> Markup:
    """A marker: the base's look, those of six studies, then the same six hollow."""
    cycle, rest = divmod(max(look - 1, 0), _LOOKS)
    made = marker(rest + 1 if look else 0, x, y, size, note)
    return tag("g", made, class_="hollow") if cycle % 2 else made


def legend(found: Sequence[Student], studies: Sequence[Results]) -> tuple[list[Markup], float]:
    """The keys of the looks that occur, in as many lines as they need, and the height that they take."""
    titles = ["base: what the studies share", *(str(study.get("title") or study.get("what")) for study in studies)]
    parts: list[Markup] = []
    x, y = LEFT, LINE
    for look in sorted({student.look for student in found}):
        text = fit(titles[look], WIDTH - LEFT - RIGHT - 16)
        wide = 16 + text_width(text) + 14
        if x > LEFT and x + wide > WIDTH:
            x, y = LEFT, y + LINE
        parts += [_mark(look, x + 5, y - 4, 5), label(x + 16, y, text)]
        x += wide
    return parts, y


def panel(found: Sequence[Student], teacher: Mapping[str, Any] | None, axis: _Axis, box: Box, name_all: bool = False) -> list[Markup]:
    """F1 against one cost within left, top, right, bottom; heading and ticks stand outside."""
    left, top, right, bottom = box
    reference = mean_f1(teacher)
    x_marks, x = _across([axis.cost(student) for student in found], axis.better, left, right)
    y_marks = share_ticks([student.f1 for student in found] + ([] if reference is None else [reference]))
    y = scale(y_marks[0], y_marks[-1], bottom - 10, top + 10)
    side = "right" if axis.better > 0 else "left"
    parts = [label(left, top - 10, f"Mean F1 (%) and {axis.title}: better is up and to the {side}", "head")]
    parts += [rule(x(mark), top, x(mark), bottom, "grid") for mark in x_marks] + [rule(left, y(m), right, y(m), "grid") for m in y_marks]
    parts += [label(x(mark), bottom + 18, compact(mark), "axis", "middle") for mark in x_marks]
    parts += [label(left - 8, y(mark) + 4, f"{100 * mark:g}", "axis", "end") for mark in y_marks]
    best = front(found, axis.gain)
    line = [(x(axis.cost(one)), y(one.f1)) for one in best]
    parts.append(tag("polyline", points=" ".join(f"{at:.1f},{f1:.1f}" for at, f1 in line), class_="front"))
    beaten = [student for student in found if student not in best]
    parts.append(tag("g", *(_mark(one.look, x(axis.cost(one)), y(one.f1), 4, _note(one, axis)) for one in beaten), class_="beaten"))
    parts += [_mark(one.look, *place, 5, _note(one, axis)) for one, place in zip(best, line, strict=True)]
    centres = [(x(axis.cost(one)), y(one.f1)) for one in found]
    taken = [(cx - 7, cy - 7, cx + 7, cy + 7) for cx, cy in centres] + list(_along(line))
    if reference is not None:
        text = f"teacher, {compact((teacher or {}).get('parameters'))} parameters: {percent(reference)}"
        at, anchor = (left + 6, "start") if axis.better > 0 else (right - 6, "end")
        parts += [rule(left, y(reference), right, y(reference), "teacher"), label(at, y(reference) - 6, text, "name", anchor)]
        taken += [(left, y(reference) - 1, right, y(reference) + 1), _extent(at, y(reference) - 6, text, anchor)]
    for one in [*reversed(best), *(beaten if name_all else [])]:
        ceiling = y(reference) if reference is not None and one.f1 < reference else top
        place = x(axis.cost(one)), y(one.f1)
        parts += _name(fit(one.name, _LABEL), percent(one.f1), place, axis.better, taken, (left, ceiling, right, bottom))
    return parts


def _across(costs: Sequence[float], better: int, left: float, right: float) -> tuple[list[float], Scale]:
    """Round marks and a logarithmic scale, with room for names on the better side."""
    low, high = min(costs), max(costs)
    low, high = (low, high) if high > 1.2 * low else (low / 2, high * 2)
    start, stop = left + (24 if better > 0 else _ROOM), right - (_ROOM if better > 0 else 24)
    x = scale(low, high, start, stop, log=True)
    rise = (high / low) ** (1 / (stop - start))
    marks = log_ticks(low * rise ** (left - start), high * rise ** (right - stop))
    return [mark for mark in marks if left <= x(mark) <= right], x


def _note(student: Student, axis: _Axis) -> str:
    """What shows when a student is pointed at."""
    return f"{student.name}: {percent(student.f1)} F1, {compact(axis.cost(student))} {axis.unit}"


def _along(line: Sequence[tuple[float, float]]) -> Iterable[Box]:
    """Small boxes along a line, close enough that no text fits between two."""
    for (x1, y1), (x2, y2) in pairwise(line):
        steps = 1 + int(max(abs(x2 - x1), abs(y2 - y1)) / 8)
        for at in range(steps + 1):
            x, y = x1 + (x2 - x1) * at / steps, y1 + (y2 - y1) * at / steps
            yield x - 2, y - 2, x + 2, y + 2


def _extent(x: float, y: float, text: str, anchor: str) -> Box:
    """The box of a text with its base line at y."""
    wide = text_width(text)
    left = x - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return left, y - 12, left + wide, y + 4


def _name(text: str, f1: str, point: tuple[float, float], better: int, taken: list[Box], area: Box) -> list[Markup]:
    """Name and F1 near their point where they touch nothing, first on the better side, where no point can be; none without such a place."""
    x, y = point
    for far in (9.0, 20.0, 32.0, 46.0, 62.0, 80.0):
        for dx, dy in _WAYS:
            across, at, base = dx * better, x + far * dx * better, y + far * dy + 4 + 4 * dy
            anchor = "start" if across > 0 else "end" if across < 0 else "middle"
            box = _extent(at, base, f"{text} {f1}", anchor)
            inside = box[0] >= area[0] + 2 and box[1] >= area[1] and box[2] <= area[2] - 2 and box[3] <= area[3]
            pole = ((x + 6 * across, y + 6 * dy), (at - 2 * across, y + (far - 2) * dy))
            # The pole's beginning may touch the front, on which its point lies.
            boxes = [box, *list(_along(pole))[1:]] if far > 9 else [box]
            if inside and not any(_touch(one, other) for one in boxes for other in taken):
                taken += boxes
                name = label(at, base, escape(text) + " " + tag("tspan", f1, class_="head"), "name", anchor)
                return [rule(*pole[0], *pole[1], "leader"), name] if far > 9 else [name]
    return []


def _touch(one: Box, other: Box) -> bool:
    """Whether two boxes share some area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
