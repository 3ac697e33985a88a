"""The picture of a corpus being tagged: resident memory over time, from the results file that `nerdistill bench-tag` writes."""

from __future__ import annotations

from markupsafe import Markup

from nerdistill.evaluation.bulk import seconds_and_bytes
from nerdistill.evaluation.charts import label, rule, scale, tag, ticks
from nerdistill.evaluation.tables import Results, duration, size_text

_WIDTH, _HEIGHT = 860.0, 280.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 60.0, 40.0, 844.0, 244.0
_STYLE = """
svg { --paper: #ffffff; --ink: #1a1e26; --soft: #5a6270; --line: #e3e5e9; --curve: #1d5fc2; font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #191d24; --ink: #e6e9ee; --soft: #9ba4b2; --line: #2c323c; --curve: #6aa5ff; } }
text { fill: var(--ink); } .axis { fill: var(--soft); font-size: 11px; } .head { font-weight: 650; } .paper { fill: var(--paper); }
.grid { stroke: var(--line); } .curve { fill: none; stroke: var(--curve); stroke-width: 1.75; stroke-linejoin: round; }
"""


def memory_chart(results: Results) -> str:
    """The picture as the text of an SVG file, empty where there is no curve."""
    curve = seconds_and_bytes(results)
    if not curve:
        return ""
    x_marks = ticks(0, curve[-1][0], 8)
    y_marks = ticks(0, max(held for _, held in curve), 5)
    x, y = scale(0, x_marks[-1], _LEFT, _RIGHT), scale(0, y_marks[-1], _BOTTOM, _TOP)
    size = size_text((results.get("data") or {}).get("corpus_bytes"))
    parts = [tag("rect", class_="paper", width=_WIDTH, height=_HEIGHT, rx=8)]
    parts.append(label(_LEFT, 22, f"Resident memory of all processes while {size} are tagged by {results.get('workers')} workers", "head"))
    parts += [rule(x(mark), _TOP, x(mark), _BOTTOM, "grid") for mark in x_marks]
    parts += [rule(_LEFT, y(mark), _RIGHT, y(mark), "grid") for mark in y_marks]
    parts += [label(x(mark), _BOTTOM + 18, duration(mark) if mark else "0", "axis", "middle") for mark in x_marks]
    parts += [label(_LEFT - 8, y(mark) + 4, size_text(mark) if mark else "0", "axis", "end") for mark in y_marks]
    parts.append(tag("polyline", points=" ".join(f"{x(at):.1f},{y(held):.1f}" for at, held in curve), class_="curve"))
    words = f"Highest {size_text(max(held for _, held in curve))}, at the end {size_text(curve[-1][1])}, after {duration(curve[-1][0])}."
    head = [tag("title", "Resident memory over time", id="t"), tag("desc", words, id="d"), tag("style", Markup(_STYLE))]
    frame = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", "role": "img", "aria_labelledby": "t d"}
    return tag("svg", *head, *parts, **frame, width=_WIDTH, height=_HEIGHT) + "\n"
