"""Pictures of memory: while a corpus is tagged, from the results of `nerdistill bench-tag`, and in spaCy, of `nerdistill bench-pipe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from nerdistill.evaluation.bulk import seconds_and_bytes
from nerdistill.evaluation.charts import label, rule, scale, tag, ticks
from nerdistill.evaluation.tables import Results, compact, duration, size_text

_WIDTH, _HEIGHT = 860.0, 280.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 60.0, 40.0, 844.0, 244.0
_STYLE = """
svg { --paper: #ffffff; --ink: #1a1e26; --soft: #5a6270; --line: #e3e5e9; --curve: #1d5fc2; font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #191d24; --ink: #e6e9ee; --soft: #9ba4b2; --line: #2c323c; --curve: #6aa5ff; } }
text { fill: var(--ink); } .axis { fill: var(--soft); font-size: 11px; } .head { font-weight: 650; } .paper { fill: var(--paper); }
.grid { stroke: var(--line); } .curve { fill: none; stroke: var(--curve); stroke-width: 1.75; stroke-linejoin: round; }
"""

_MINUTES = 180.0
"""Seconds from which the axis of time counts minutes."""

Curve = Sequence[tuple[float, float]]


def memory_chart(results: Results) -> str:
    """Memory over seconds, as the text of an SVG file, empty where there is no curve."""
    curve = seconds_and_bytes(results)
    if not curve:
        return ""
    size = size_text((results.get("data") or {}).get("corpus_bytes"))
    head = f"Resident memory of all processes while {size} are tagged by {results.get('workers')} workers"
    words = f"Highest {size_text(max(held for _, held in curve))}, at the end {size_text(curve[-1][1])}, after {duration(curve[-1][0])}."
    return _chart({"": curve}, _moment, head, "Resident memory over time", words, 60.0 if curve[-1][0] > _MINUTES else 1.0)


def pipe_memory_chart(results: Results) -> str:
    """Memory over documents, a curve with memory zones and one without, as the text of an SVG file, empty where there is no curve."""
    curves = {name: [*zip(curve["documents"], curve["bytes"], strict=True)] for name, curve in (results.get("memory") or {}).items()}
    if not curves:
        return ""
    ends = (f"{name}: {size_text(curve[0][1])} before, {size_text(curve[-1][1])} after {curve[-1][0]:,}." for name, curve in curves.items())
    return _chart(curves, compact, "Resident memory by documents read through nlp.pipe", "Resident memory by documents", " ".join(ends))


def _moment(seconds: float) -> str:
    """Whole minutes without their seconds."""
    return f"{seconds / 60:g} min" if seconds % 60 == 0 else duration(seconds)


def _chart(curves: Mapping[str, Curve], x_text: Callable[[float], str], head: str, title: str, description: str, unit: float = 1.0) -> str:
    """Curves over one another, each with its name at its end; the marks of the x axis are round numbers of a unit."""
    x_marks = [unit * mark for mark in ticks(0, max(curve[-1][0] for curve in curves.values()) / unit, 8)]
    y_marks = ticks(0, max(held for curve in curves.values() for _, held in curve), 5)
    x, y = scale(0, x_marks[-1], _LEFT, _RIGHT), scale(0, y_marks[-1], _BOTTOM, _TOP)
    parts = [tag("rect", class_="paper", width=_WIDTH, height=_HEIGHT, rx=8), label(_LEFT, 22, head, "head")]
    parts += [rule(x(mark), _TOP, x(mark), _BOTTOM, "grid") for mark in x_marks]
    parts += [rule(_LEFT, y(mark), _RIGHT, y(mark), "grid") for mark in y_marks]
    anchors = [*["middle"] * (len(x_marks) - 1), "end"]
    parts += [label(x(mark), _BOTTOM + 18, x_text(mark) if mark else "0", "axis", at) for mark, at in zip(x_marks, anchors, strict=True)]
    parts += [label(_LEFT - 8, y(mark) + 4, size_text(mark) if mark else "0", "axis", "end") for mark in y_marks]
    for name, curve in curves.items():
        parts.append(tag("polyline", points=" ".join(f"{x(at):.1f},{y(held):.1f}" for at, held in curve), class_="curve"))
        if name:
            at, held = curve[-1]
            inside = x(at) < (_LEFT + _RIGHT) / 2
            parts.append(label(x(at) + (6 if inside else -2), y(held) - 6, name, "axis", "start" if inside else "end"))
    heads = [tag("title", title, id="t"), tag("desc", description, id="d"), tag("style", Markup(_STYLE))]
    frame = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", "role": "img", "aria_labelledby": "t d"}
    return tag("svg", *heads, *parts, **frame, width=_WIDTH, height=_HEIGHT) + "\n"
