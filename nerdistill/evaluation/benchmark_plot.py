"""The picture of a benchmark: mean F1 against words per second on a logarithmic axis, one panel for each text.

Drawn with the parts of `nerdistill.evaluation.pareto`; what is no student has its place in it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nerdistill.evaluation import pareto
from nerdistill.evaluation.benchmark_tables import by_text
from nerdistill.evaluation.charts import label, tag
from nerdistill.evaluation.tables import Results, compact, mean_f1, number, percent


def benchmark_plot(results: Results) -> str:
    """The picture as the text of an SVG file, empty where no contestant has both numbers.

    A contestant has one look in all panels. Its name stands in the legend, and beside its point where it touches nothing.
    """
    panels = {text: found for text, rows in by_text(results).items() if (found := _points(rows, _looks(results)))}
    if not panels:
        return ""
    names = [{"title": name} for name in _looks(results)]
    keys, top = pareto.legend([point for found in panels.values() for point in found], names)
    height = top + len(panels) * (pareto.PANEL + pareto.GAP + pareto.LINE) + 8
    parts = [tag("rect", class_="paper", width=pareto.WIDTH, height=height, rx=8), *keys]
    for at, (text, found) in enumerate(panels.items()):
        above = top + 42 + pareto.LINE + at * (pareto.PANEL + pareto.GAP + pareto.LINE)
        parts.append(label(pareto.LEFT, above - 10 - pareto.LINE, text, "head"))
        parts += pareto.panel(
            found, None, pareto.SPEED, (pareto.LEFT, above, pareto.WIDTH - pareto.RIGHT, above + pareto.PANEL), name_all=True
        )
    head = [
        tag("title", "Mean F1 against words per second", id="t"),
        tag("desc", _words(panels), id="d"),
        tag("style", Markup(pareto.STYLE)),
    ]
    frame = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {pareto.WIDTH:.0f} {height:.0f}"}
    return tag("svg", *head, *parts, **frame, role="img", aria_labelledby="t d", width=pareto.WIDTH, height=height) + "\n"


def _looks(results: Results) -> dict[str, int]:
    """A look for each contestant that has an F1, from 1."""
    names = dict.fromkeys(str(row["system"]) for row in results["rows"] if mean_f1(row) is not None)
    return {name: look for look, name in enumerate(names, start=1)}


def _points(rows: Sequence[Mapping[str, Any]], looks: Mapping[str, int]) -> list[pareto.Student]:
    found = []
    for row in rows:
        f1, speed = mean_f1(row), number(row.get("words_per_second"))
        if f1 is not None and speed is not None and speed > 0:
            name = str(row["system"])
            found.append(pareto.Student(name, looks[name], f1, number(row.get("parameters")) or 0.0, speed))
    return found


def _words(panels: Mapping[str, Sequence[pareto.Student]]) -> str:
    """What the picture says, for those who do not see it."""
    return " ".join(
        f"{text}: {'; '.join(f'{one.name}, {percent(one.f1)} F1, {compact(one.speed)} words/s' for one in found)}."
        for text, found in panels.items()
    )
