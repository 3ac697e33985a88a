"""The charts of the HTML report: pure functions from numbers to SVG markup.

Colours come from the page's style sheet by class (``s0`` to ``s6`` for systems, ``k0`` to ``k4`` for kinds of outcome), so that one
drawing serves light, dark and print. Systems also differ by the shape of their markers. Every text is escaped, measured by estimate
and shortened or left out before it could touch another one.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from nerdistill.evaluation.tables import compact, number, percent, quotient

Value = float | None
Scale = Callable[[float], float]
Box = tuple[float, float, float, float]
_FONT = 12.0
_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    (),
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.25), (1.2, 0.95), (-1.2, 0.95)),
    ((0, 1.25), (1.2, -0.95), (-1.2, -0.95)),
    ((-0.6, -1.1), (0.6, -1.1), (1.2, 0), (0.6, 1.1), (-0.6, 1.1), (-1.2, 0)),
    ((-1.3, -0.7), (1.3, -0.7), (1.3, 0.7), (-1.3, 0.7)),
)


class Series(NamedTuple):
    """A system in a chart, with its look (0 teacher, 1 student, 2 no teacher, 3 to 6 others)."""

    name: str
    style: int


class Point(NamedTuple):
    """A system by speed (words/s), F1 (0 to 1) and size (parameters)."""

    series: Series
    speed: Value
    f1: Value
    parameters: Value


class Stage(NamedTuple):
    """A stage of a training run, from step to step of the whole run."""

    name: str
    start: float
    stop: float


class Panel(NamedTuple):
    """Curves above a shared axis of steps: lines of (step, value), with a break between two; shares are shown in percent."""

    title: str
    lines: Sequence[Sequence[tuple[float, float]]]
    share: bool


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An SVG element; what is not markup yet is escaped, and ``text_anchor`` means ``text-anchor``."""
    texts = {key.rstrip("_").replace("_", "-"): f"{value:.4g}" if isinstance(value, float) else value for key, value in attributes.items()}
    pairs = Markup("").join(Markup(' {}="{}"').format(*pair) for pair in texts.items() if pair[1] != "")
    return Markup("<{0}{1}>{2}</{0}>").format(name, pairs, Markup("").join(children))


def drawing(width: float, height: float, title: str, children: Iterable[str]) -> Markup:
    """A whole chart with its description for screen readers."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return tag("svg", *children, viewBox=box, width=f"{width:.0f}", height=f"{height:.0f}", role="img", aria_label=title)


def label(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> Markup:
    """A text with its base line at y."""
    return tag("text", text, x=x, y=y, class_=css, text_anchor="" if anchor == "start" else anchor)


def rule(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=css)


def text_width(text: str, size: float = _FONT) -> float:
    """Estimated width of a text in pixels, rather too wide than too narrow."""
    wide = (0.0 if unicodedata.combining(char) else 1.0 if unicodedata.east_asian_width(char) in "WF" else 0.62 for char in text)
    return size * sum(wide)


def fit(text: str, width: float, size: float = _FONT) -> str:
    """The text, its end replaced by an ellipsis where it is wider than that."""
    if text_width(text, size) <= width:
        return text
    end = next((end for end in range(min(len(text), int(width)), 0, -1) if text_width(text[:end] + "…", size) <= width), 0)
    return text[:end] + "…"


def _gutter(rows: Iterable[tuple[str, object]], most: float) -> float:
    """Room for the names of rows."""
    return min(max((text_width(name) for name, _ in rows), default=0.0), most)


def scale(low: float, high: float, start: float, stop: float, log: bool = False) -> Scale:
    """The map from low..high to start..stop."""
    if log:
        inner = scale(math.log(low), math.log(high), start, stop)
        return lambda value: inner(math.log(value))
    return lambda value: start + (stop - start) * (value - low) / ((high - low) or 1.0)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About that many round numbers, 1, 2 or 5 times a power of ten apart, that enclose low..high."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        pad = 0.05 * abs(low) or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10, 20) if rough <= power * times * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{at * step:.10g}") for at in range(first, last + 1)]


def share_ticks(values: Sequence[float], count: int = 6) -> list[float]:
    """`ticks` for shares: none below 0 or above 1, unless a value is."""
    low, high = min(values), max(values)
    return [tick for tick in ticks(low, high, count) if min(low, 0) <= tick <= max(high, 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """At most about eight numbers from 1, 2 and 5 times powers of ten that enclose low..high, both positive."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for times in ((1, 2, 5), (1, 3), (1,)):
        marks = [mark * 10.0**power for power in powers for mark in times]
        first = max(at for at, mark in enumerate(marks) if mark <= low * 1.0001)
        last = min(at for at, mark in enumerate(marks) if mark >= high * 0.9999)
        inside = marks[first : last + 1] if last > first else marks[first - 1 : first + 2]
        if len(inside) <= 8:
            return inside
    return sorted({*inside[:: math.ceil(len(inside) / 7)], inside[-1]})


def marker(style: int, x: float, y: float, size: float = 5.0, title: str = "") -> Markup:
    """The mark of a system, with a text that shows when it is pointed at."""
    inner = tag("title", title) if title else Markup("")
    shape = _SHAPES[style % len(_SHAPES)]
    if not shape:
        return tag("circle", inner, cx=x, cy=y, r=size * 1.08, class_=f"mark s{style % len(_SHAPES)}")
    points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in shape)
    return tag("polygon", inner, points=points, class_=f"mark s{style % len(_SHAPES)}")


def key(style: int) -> Markup:
    """A marker alone, for a legend."""
    return tag("svg", marker(style, 8, 8), viewBox="0 0 16 16", width="16", height="16", class_="key", aria_hidden="true")


def dumbbell(groups: Sequence[tuple[str, Sequence[Value]]], series: Sequence[Series], width: float = 920) -> Markup:
    """One line a group (a language): the F1 (0 to 1) of every series as markers, and the numbers in columns beside them.

    The stretch between the looks 0 and 1 (teacher and student) is drawn strong. Groups are drawn in the order given.
    """
    known = [value for _, row in groups for value in map(number, row) if value is not None]
    if not known:
        return Markup("")
    step, top, font = (28.0, 34.0, _FONT) if len(groups) <= 24 else (20.0, 34.0, 11.0)
    left = 14 + _gutter(groups, 130.0)
    right = width - 74 * min(len(series), 4) - 14
    marks = share_ticks(known)
    place, bottom = scale(marks[0], marks[-1], left + 8, right - 8), top + step * len(groups)
    parts = [rule(place(mark), top - 4, place(mark), bottom, "grid") for mark in marks]
    parts += [label(place(mark), y, f"{100 * mark:g}", "axis", "middle") for mark in marks for y in (top - 12, bottom + 16)]
    for at, one in enumerate(series[:4]):
        parts.append(label(right + 74 * (at + 1), top - 12, fit(one.name, 70, 11), f"axis t{one.style}", "end"))
    for at, (name, row) in enumerate(groups):
        parts += _dumbbell_line(fit(name, 130, font), row, series, top + step * (at + 0.5), place, (left, right))
    return drawing(width, bottom + 24, f"F1 of {', '.join(one.name for one in series)} for each of {len(groups)} languages", parts)


def _dumbbell_line(
    name: str, row: Sequence[Value], series: Sequence[Series], y: float, place: Scale, edges: tuple[float, float]
) -> list[Markup]:
    """The line of one group: name, stretches, markers, figures."""
    found = [(one, value) for one, value in zip(series, map(number, row), strict=True) if value is not None]
    parts = [label(edges[0] - 8, y + 4, name, "name", "end")]
    if found:
        parts.append(rule(place(min(v for _, v in found)), y, place(max(v for _, v in found)), y, "range"))
    pair = [value for one, value in found if one.style in (0, 1)]
    if len(pair) == 2:
        parts.append(rule(place(pair[0]), y, place(pair[1]), y, "gap"))
    parts += [marker(one.style, place(value), y, 5, f"{one.name}, {name}: {percent(value)}") for one, value in reversed(found)]
    for at, (one, value) in enumerate(zip(series[:4], row, strict=False)):
        parts.append(label(edges[1] + 74 * (at + 1), y + 4, percent(value), "figure strong" if one.style == 1 else "figure", "end"))
    return parts


def scatter(points: Sequence[Point], width: float = 920, height: float = 380) -> Markup:
    """F1 against words per second on a logarithmic axis; the area of a disc is the number of parameters."""
    known = [(p, speed, f1) for p in points if (speed := number(p.speed)) and speed > 0 and (f1 := number(p.f1)) is not None]
    if not known:
        return Markup("")
    x_marks, y_marks = log_ticks(min(s for _, s, _ in known), max(s for _, s, _ in known)), share_ticks([f for *_, f in known], 5)
    x, y = scale(x_marks[0], x_marks[-1], 92, width - 48, log=True), scale(y_marks[0], y_marks[-1], height - 84, 56)
    parts = _grid([(x(mark), compact(mark)) for mark in x_marks], [(y(mark), f"{100 * mark:g}") for mark in y_marks], (width, height))
    parts += [label(width - 12, height - 8, "words per second", "axis", "end"), label(16, 14, "mean F1", "axis")]
    largest = max(number(p.parameters) or 0.0 for p, *_ in known)
    discs = [(p, x(s), y(f), max(5.0, 32 * math.sqrt(quotient(p.parameters, largest) or 0.0))) for p, s, f in known]
    discs.sort(key=lambda disc: -disc[3])
    taken = [(cx - r, cy - r, cx + r, cy + r) for _, cx, cy, r in discs]
    for p, cx, cy, r in discs:
        note = f"{p.series.name}: {percent(p.f1)} F1, {compact(p.speed)} words/s, {compact(p.parameters)} parameters"
        parts.append(tag("circle", tag("title", note), cx=cx, cy=cy, r=r, class_=f"disc s{p.series.style}"))
        name = fit(p.series.name, 220)
        text = name if number(p.parameters) is None else f"{name}, {compact(p.parameters)}"
        parts += _disc_label(text, (cx, cy, r), taken, (width, height), f"name t{p.series.style}")
    return drawing(width, height, f"F1 against speed for {', '.join(p.series.name for p, *_ in known)}", parts)


def named_scatter(points: Sequence[tuple[str, float, float]], x_name: str, y_name: str, width: float = 920, height: float = 400) -> Markup:
    """Shares against shares (0 to 1), in percent: a disc and a name for each point; one that would cover another keeps only its disc."""
    if not points:
        return Markup("")
    x_marks, y_marks = share_ticks([across for _, across, _ in points]), share_ticks([up for *_, up in points])
    x, y = scale(x_marks[0], x_marks[-1], 64, width - 48), scale(y_marks[0], y_marks[-1], height - 62, 36)
    across_marks, up_marks = ([(place(mark), f"{100 * mark:g}") for mark in marks] for place, marks in ((x, x_marks), (y, y_marks)))
    parts = _grid(across_marks, up_marks, (width, height))
    parts += [label(width - 12, height - 8, x_name, "axis", "end"), label(16, 14, y_name, "axis")]
    discs = [(name, x(across), y(up), f"{name}: {percent(across)}, {percent(up)}") for name, across, up in points]
    taken = [(cx - 5, cy - 5, cx + 5, cy + 5) for _, cx, cy, _ in discs]
    for name, cx, cy, note in discs:
        parts.append(tag("circle", tag("title", note), cx=cx, cy=cy, r=5, class_="disc s1"))
        parts += _disc_label(fit(name, 90), (cx, cy, 3), taken, (width, height), "name")
    return drawing(width, height, f"{y_name} against {x_name}", parts)


def _grid(across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]], size: tuple[float, float]) -> list[Markup]:
    """The lines of a scatter and the numbers at their ends, each by where it is."""
    width, height = size
    lines = [rule(x, 20, x, height - 48, "grid") for x, _ in across] + [rule(56, y, width - 12, y, "grid") for y, _ in up]
    numbers = [label(x, height - 30, text, "axis", "middle") for x, text in across]
    return lines + numbers + [label(48, y + 4, text, "axis", "end") for y, text in up]


def _disc_label(text: str, disc: tuple[float, float, float], taken: list[Box], size: tuple[float, float], css: str) -> list[Markup]:
    """A text beside its disc, where it covers nothing; none if there is no such place."""
    (cx, cy, r), (width, height), wide = disc, size, text_width(text)
    sides = [("start", cx + r + 6, cy + 4), ("end", cx - r - 6, cy + 4), ("middle", cx, cy - r - 8), ("middle", cx, cy + r + 16)]
    for anchor, at, base in sides:
        left = at - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        box = (left, base - 12, left + wide, base + 4)
        free = all(box[2] <= t[0] or t[2] <= box[0] or box[3] <= t[1] or t[3] <= box[1] for t in taken)
        if free and left >= 56 and box[2] <= width - 4 and box[1] >= 16 and box[3] <= height - 44:
            taken.append(box)
            return [label(at, base, text, css, anchor)]
    return []


def stacked(rows: Sequence[tuple[str, Sequence[Value]]], kinds: Sequence[str], width: float = 920) -> Markup:
    """A bar of equal length for each row, split by share; counts stand in the parts that have room, totals at the end."""
    left, right, step = 14 + _gutter(rows, 180.0), width - 84, 26.0 if len(rows) <= 24 else 20.0
    parts = [label(width - 4, 16, "in all", "axis", "end")]
    parts += [label(scale(0, 1, left, right)(mark / 4), 16, f"{25 * mark} %", "axis", "middle") for mark in range(5)]
    for at, (name, counts) in enumerate(rows):
        y, x, values = 24 + step * at, left, [max(number(count) or 0.0, 0.0) for count in counts]
        parts.append(label(left - 8, y + step / 2 + 4, fit(name, 180), "name", "end"))
        for kind, count in enumerate(values):
            wide = (right - left) * (quotient(count, sum(values)) or 0.0)
            note = tag("title", f"{name}: {kinds[kind]} {count:,.0f}")
            parts.append(tag("rect", note, x=x, y=y + 3, width=max(wide - 1, 0.0), height=step - 6, class_=f"k{kind}"))
            if wide > text_width(f"{count:,.0f}", 11) + 4:
                parts.append(label(x + wide / 2, y + step / 2 + 4, f"{count:,.0f}", f"on k{kind}", "middle"))
            x += wide
        parts.append(label(width - 4, y + step / 2 + 4, f"{sum(values):,.0f}", "figure", "end"))
    return drawing(width, 32 + step * len(rows), f"{', '.join(kinds)}: shares in {len(rows)} rows", parts) if rows else Markup("")


def curves(stages: Sequence[Stage], panels: Sequence[Panel], style: int, title: str, width: float = 920) -> Markup:
    """Panels above one axis of steps; stages are bands, with their names where all of them have room, else with their numbers."""
    panels, height = [panel for panel in panels if any(panel.lines)], 150.0
    if not stages or not panels:
        return Markup("")
    end, bottom = max(stage.stop for stage in stages), 22 + (height + 30) * len(panels)
    x = scale(0, end, 52, width - 14)
    named = all(text_width(stage.name, 11) + 10 <= x(stage.stop) - x(stage.start) for stage in stages)
    parts = []
    for at, stage in enumerate(stages):
        wide, text = x(stage.stop) - x(stage.start), stage.name if named else str(at + 1)
        note = tag("title", f"{at + 1}: {stage.name}")
        parts.append(tag("rect", note, x=x(stage.start), y=22.0, width=wide, height=bottom - 22, class_=f"band b{at % 2}"))
        parts.append(rule(x(stage.start), 6 if at else 22, x(stage.start), bottom, "edge") if at else Markup(""))
        if text_width(text, 11) + 4 <= wide:
            parts.append(label((x(stage.start) + x(stage.stop)) / 2, 15, text, "axis", "middle"))
    for at, panel in enumerate(panels):
        parts += _panel(panel, x, (22 + 30 + (height + 30) * at, 22 + (height + 30) * (at + 1) - 8), style, width)
    marks = [mark for mark in ticks(0, end, max(2, int(width / 110))) if mark <= end]
    parts += [label(x(mark), bottom + 18, compact(mark), "axis", "middle") for mark in marks]
    return drawing(width, bottom + 26, title, parts)


def _panel(panel: Panel, x: Scale, edges: tuple[float, float], style: int, width: float) -> list[Markup]:
    values = [value for line in panel.lines for _, value in line]
    log = not panel.share and min(values) > 0 and max(values) > 8 * min(values)
    marks = log_ticks(min(values), max(values)) if log else share_ticks(values, 5) if panel.share else ticks(min(values), max(values), 5)
    y = scale(marks[0], marks[-1], edges[1], edges[0] + 6, log)
    parts = [rule(52, y(mark), width - 14, y(mark), "grid") for mark in marks]
    parts += [label(44, y(mark) + 4, f"{100 * mark:g}" if panel.share else compact(mark), "axis", "end") for mark in marks]
    best = max((point for line in panel.lines for point in line), key=lambda point: point[1])
    parts.append(label(60, edges[0] - 8, f"{panel.title}, best {percent(best[1])}" if panel.share else panel.title, "name"))
    for line in panel.lines:
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in line)
        parts.append(tag("polyline", points=points, class_=f"line s{style}") if len(line) > 1 else Markup(""))
    if panel.share:
        dots = [point for line in panel.lines for point in line] if len(values) <= 120 else [best]
        parts += [tag("circle", tag("title", percent(v)), cx=x(s), cy=y(v), r=2.4, class_=f"dot s{style}") for s, v in dots]
        parts.append(tag("circle", tag("title", f"best: {percent(best[1])}"), cx=x(best[0]), cy=y(best[1]), r=5.0, class_=f"ring s{style}"))
    return parts
