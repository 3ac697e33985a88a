"""The picture of what languages keep against the names that their labelled text knows, as one SVG file that stands alone."""

from __future__ import annotations

from markupsafe import Markup

from nerdistill.evaluation.charts import label, named_scatter, tag
from nerdistill.evaluation.pareto import STYLE, WIDTH
from nerdistill.evaluation.tables import Results, known_and_kept, number

ACROSS, UP = "words of test names that training names have (%)", "share of the teacher's F1 kept (%)"

_HEIGHT, _TOP = 400.0, 40.0


def known_names_chart(results: Results, width: float = WIDTH) -> Markup:
    """One disc a language; empty where the results do not have both shares of any."""
    found = [(name, known, kept) for name, known, kept in known_and_kept(results) if known is not None and kept is not None]
    return named_scatter(found, ACROSS, UP, width, _HEIGHT)


def rank_correlation(results: Results) -> float | None:
    """Spearman's, of both shares over the languages; None where there are too few of them."""
    return number((results.get("known_names") or {}).get("rank_correlation"))


def known_names_plot(results: Results) -> str:
    """The chart with its heading as the text of an SVG file; empty where there is nothing to draw."""
    chart, trend = known_names_chart(results), rank_correlation(results)
    if not chart:
        return ""
    said = "What each language keeps, by the names that its labelled text knows" + (
        f": rank correlation {trend:.2f}" if trend is not None else ""
    )
    parts = [
        tag("title", said, id="t"),
        tag("style", Markup(STYLE + ".disc { fill-opacity: .28; stroke: var(--s1); stroke-width: 1.75; }")),
        tag("rect", class_="paper", width=WIDTH, height=_TOP + _HEIGHT + 8, rx=8),
        label(16, 26, said, "head"),
        tag("g", chart, transform=f"translate(0 {_TOP:.0f})"),
    ]
    frame = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {WIDTH:.0f} {_TOP + _HEIGHT + 8:.0f}",
        "role": "img",
        "aria_labelledby": "t",
    }
    return tag("svg", *parts, **frame, width=WIDTH, height=_TOP + _HEIGHT + 8) + "\n"
