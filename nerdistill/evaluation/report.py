"""The HTML report of a run: one file, no script, nothing from elsewhere.

This file turns results, metric events and examples into what `report.html.j2` shows; `nerdistill.evaluation.charts` draws. A part
whose numbers are absent is None or empty, and the template leaves it out. Jinja escapes every text, and the page forbids itself
scripts and requests by a content security policy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Any

from nerdistill import files
from nerdistill.errors import MissingExtraError
from nerdistill.evaluation import tables
from nerdistill.evaluation.known_names_plot import known_names_chart, rank_correlation
from nerdistill.evaluation.tables import Results, Row, number, percent, quotient
from nerdistill.labels import repair, spans_of
from nerdistill.records import WordSpan

try:
    from jinja2 import Environment

    from nerdistill.evaluation import charts
except ModuleNotFoundError as error:
    raise MissingExtraError("the HTML report", "report", error.name or "jinja2") from error

Events = Sequence[Mapping[str, Any]]
_STYLES = {"teacher": 0, "student": 1, "no_teacher": 2}
_RUNS = {"student": "Student", "no_teacher": "Student without a teacher", "teacher": "Teacher"}
_KINDS = {"correct": "correct", "missed": "missed", "spurious": "spurious", "wrong_type": "wrong type", "wrong_boundary": "wrong boundary"}
_MOST_EXAMPLES, _MOST_WORDS, _MOST_LETTERS, _MOST_POINTS = 40, 120, 80, 320
# Thai, Lao, Burmese, Khmer, Han and kana with their punctuation, full-width forms: written without spaces.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff]")


def write_report(path: Path, results: Results, events: Events, examples: Sequence[Mapping[str, Any]]) -> None:
    """Write the report of a run as one self-contained HTML file.

    Args:
        path: Where it goes; replaced atomically.
        results: The results object (`nerdistill.evaluation.tables`).
        events: Metric events of training, in order; empty leaves the learning curves out.
        examples: Sentences with ``language``, ``words`` and IOB2 tags as ``gold``, ``teacher`` and ``student``.
    """
    results, events, examples = _clean(results), _clean(list(events)), _clean(list(examples))
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters.update(percent=percent, compact=tables.compact, size=tables.size_text, factor=tables.factor, duration=tables.duration)
    page.globals.update(key=charts.key, mean_f1=tables.mean_f1)
    template = page.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    shown = sorted((example for example in examples if example.get("words")), key=_is_right)
    styles = _entity_styles(results, shown)
    html = template.render(
        title=str(results.get("what") or "Distillation report"),
        results=results,
        systems=[(series.name, row, series.style) for series, row in _named(results)],
        figures=_figures(results),
        by_language=_by_language(results),
        known=known_names_chart(results, 920),
        trend=rank_correlation(results),
        runs=_runs(events),
        speed=_speed(results),
        by_type=tables.by_type(results),
        outcomes=_outcomes(results),
        confusion=tables.confusion(results),
        examples=[_example(example, styles) for example in shown[:_MOST_EXAMPLES]],
        n_examples=len(shown),
        costs=tables.costs(results),
        languages=tables.languages(results),
        facts=tables.facts(results),
    )
    files.write_atomic(Path(path), html)


def _clean(value: Any) -> Any:
    """JSON without NaN, control characters and lone surrogates, which neither XML nor UTF-8 can carry."""
    if isinstance(value, str):
        return "".join(char if char in "\t\n" or unicodedata.category(char) not in ("Cc", "Cs") else "\ufffd" for char in value)
    if isinstance(value, Mapping):
        return {_clean(str(name)): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return number(value) if isinstance(value, float) else value


def _named(results: Results, key: str = "system") -> list[tuple[charts.Series, Row]]:
    """The systems that have a value for that key, each with its look; a second row of a known system looks like another one."""
    found, looks = [], dict(_STYLES)
    for at, (name, row) in enumerate(tables.systems(results)):
        found.append((charts.Series(name, looks.pop(row["system"], 3 + at % 4)), row))
    return [(series, row) for series, row in found if row.get(key)]


def _figures(results: Results) -> list[tuple[str, str, str, str]]:
    """The headline: figure, unit, what it is, and the numbers behind it."""
    teacher, named = tables.first(results, "teacher") or {}, tables.having(results, "system")
    if not named:
        return []
    who, one = named[0]
    alone, found = one is teacher, []
    for key, word, unit in (("parameters", "smaller", "parameters"), ("words_per_second", "faster", "words/s")):
        mine, other = one.get(key), teacher.get(key)
        times = quotient(other, mine) if key == "parameters" else quotient(mine, other)
        if times is not None and not alone:
            found.append((tables.factor(times, ""), "×", word, f"{tables.compact(mine)} against {tables.compact(other)} {unit}"))
        elif number(mine) is not None:
            found.append((tables.compact(mine), "", unit, f"the {who}"))
    score, reference = tables.mean_f1(one), tables.mean_f1(teacher)
    kept = quotient(score, reference)
    if kept is not None and not alone:
        found.append((percent(kept), "%", "of the teacher's F1 kept", f"{percent(score)} against {percent(reference)}"))
    if score is not None:
        count = len([value for value in (one.get("f1_by_language") or {}).values() if value is not None])
        spread = f", standard deviation {percent(one.get('f1_std'))}" if number(one.get("f1_std")) is not None and count > 1 else ""
        found.append((percent(score), "", f"mean F1 over {count} languages" if count > 1 else "F1", f"the {who}{spread}"))
    return found


def _by_language(results: Results) -> dict[str, Any] | None:
    """The dumbbell chart, sorted by how far the student is behind the teacher, and one sentence on it."""
    series = _named(results, "f1_by_language")
    places = {one.style: at for at, (one, _) in reversed(list(enumerate(series)))}
    groups = [(name, [number(row["f1_by_language"].get(name)) for _, row in series]) for name in tables.languages(results)]
    groups = [(name, row) for name, row in groups if any(value is not None for value in row)]
    if not groups:
        return None

    def gaps(above: int, below: int) -> dict[str, float]:
        pairs = ((name, row[places[above]], row[places[below]]) for name, row in groups if {above, below} <= set(places))
        return {name: over - under for name, over, under in pairs if over is not None and under is not None}

    lost, gained = gaps(0, 1), gaps(1, 2)
    groups.sort(key=lambda group: (-lost.get(group[0], -9.0), min(value for value in group[1] if value is not None), group[0]))
    lead = []
    if len(lost) > 1:
        worst, best = max(lost, key=lambda name: lost[name]), min(lost, key=lambda name: lost[name])
        lead.append(f"The student is {100 * fmean(lost.values()):.1f} points of F1 behind its teacher on average, ")
        lead.append(f"from {100 * lost[best]:.1f} ({best}) to {100 * lost[worst]:.1f} ({worst}).")
    if gained:
        lead.append(f" The teacher's help is worth {100 * fmean(gained.values()):.1f} points to the student.")
    chart = charts.dumbbell(groups, [one for one, _ in series])
    return {"chart": chart, "series": [one for one, _ in series], "lead": "".join(lead), "sorted": len(lost) > 1}


def _runs(events: Events) -> list[dict[str, Any]]:
    """Each training run with its curves over all stages, and a line of numbers for each stage."""
    names = {event["run"]: None for event in events if isinstance(event.get("run"), str)}
    order = [name for name in _RUNS if name in names] + [name for name in names if name not in _RUNS]
    runs = [(name, _stages([event for event in events if event.get("run") == name])) for name in order]
    return [_run(name, stages) for name, stages in runs if stages]


def _stages(events: Events) -> list[dict[str, Any]]:
    """Events by stage, in the order in which the stages began; of two events for one step the later one counts."""
    stages: dict[str, dict[str, Any]] = {}
    for event in events:
        stage = stages.setdefault(str(event.get("stage") or ""), {"loss": {}, "f1": {}, "speed": [], "seconds": None, "best": None})
        step = number(event.get("step"))
        for kind, curve, key in (("step", "loss", "loss"), ("eval", "f1", "dev_f1")):
            if event.get("event") == kind and step is not None and step >= 0 and number(event.get(key)) is not None:
                stage[curve][step] = event[key]
        if event.get("event") == "step" and number(event.get("words_per_second")) is not None:
            stage["speed"].append(event["words_per_second"])
        if event.get("event") == "stage_end":
            stage["seconds"], stage["best"] = event.get("seconds"), event.get("best_dev_f1")
    return [{"name": name, **stage} for name, stage in stages.items()]


def _run(name: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the stages of a run one after the other and draw them."""
    bands, losses, scores, lines, start = [], [], [], [], 0.0
    lengths = [max([*stage["loss"], *stage["f1"]], default=0.0) for stage in stages]
    for stage, steps in zip(stages, lengths, strict=True):
        if steps > 0:
            bands.append(charts.Stage(stage["name"], start, start + steps))
            losses.append(_thinned([(start + step, value) for step, value in sorted(stage["loss"].items())], steps / sum(lengths)))
            scores += [(start + step, value) for step, value in sorted(stage["f1"].items())]
        best = number(stage["best"]) if number(stage["best"]) is not None else max(stage["f1"].values(), default=None)
        speed = median(stage["speed"]) if stage["speed"] else None
        lines.append({"name": stage["name"], "steps": steps or None, "best": best, "seconds": stage["seconds"], "speed": speed})
        start += steps
    title = _RUNS.get(name, name)
    dev, loss = charts.Panel("F1 on the development set", [scores] if scores else [], True), charts.Panel("training loss", losses, False)
    chart = charts.curves(bands, (dev, loss), _STYLES.get(name, 3), f"{title}: development F1 and loss over {len(bands)} stages")
    return {"title": title, "chart": chart, "stages": lines}


def _thinned(points: list[tuple[float, float]], share: float) -> list[tuple[float, float]]:
    """As many points as that share of the chart's width shows, each the mean of its neighbours."""
    size = -(-len(points) // max(round(_MOST_POINTS * share), 4)) or 1
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(fmean(step for step, _ in part), fmean(value for _, value in part)) for part in parts]


def _speed(results: Results) -> str:
    """The scatter, where there are two systems to compare."""
    points = [
        charts.Point(series, row["words_per_second"], tables.mean_f1(row), row.get("parameters"))
        for series, row in _named(results, "words_per_second")
        if quotient(1, row["words_per_second"]) is not None and tables.mean_f1(row) is not None
    ]
    return charts.scatter(points) if len(points) > 1 else ""


def _outcomes(results: Results) -> dict[str, Any] | None:
    """Stacked bars: every system over all languages, then the first one (the student if there) by language."""
    series = _named(results, "errors_by_language")
    if not series:
        return None

    def by_kind(row: Row) -> dict[str, list[float]]:
        return {name: [number((counts or {}).get(kind)) or 0.0 for kind in _KINDS] for name, counts in row["errors_by_language"].items()}

    totals = [(one.name, [sum(counts) for counts in zip(*by_kind(row).values(), strict=True)]) for one, row in series]
    who, row = tables.having(results, "errors_by_language")[0]
    rows, kinds = sorted(by_kind(row).items(), key=lambda pair: quotient(pair[1][0], sum(pair[1])) or 0.0), list(_KINDS.values())
    by_language = charts.stacked(rows, kinds) if len(rows) > 1 else ""
    return {"kinds": kinds, "totals": charts.stacked(totals, kinds), "system": who, "chart": by_language}


def _tags(example: Mapping[str, Any], who: str) -> list[WordSpan] | None:
    """Entities of one of the taggings, None if it is not there; missing tags count as ``O``."""
    tags = example.get(who)
    if not tags:
        return None
    texts = [str(tag or "O") for tag in tags][: len(example["words"])]
    return [span for span in spans_of(repair(texts + ["O"] * (len(example["words"]) - len(texts)))[0]) if span.label]


def _is_right(example: Mapping[str, Any]) -> bool:
    return _tags(example, "student") == _tags(example, "gold")


def _entity_styles(results: Results, examples: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found = {span.label for example in examples for who in ("gold", "student") for span in _tags(example, who) or []}
    return {kind: at % 8 for at, kind in enumerate(tables.types_of(results, sorted(found)))}


def _example(example: Mapping[str, Any], styles: Mapping[str, int]) -> dict[str, Any]:
    """A sentence cut where an entity of either side begins or ends."""
    words = [str(word) for word in example["words"]]
    gold, teacher, student = (_tags(example, who) for who in ("gold", "teacher", "student"))
    sides = [gold or [], student or []]
    owner = [[next((span for span in side if span.start <= at < span.stop), None) for side in sides] for at in range(len(words))]
    shown = min(len(words), _MOST_WORDS)
    pieces = []
    for _, group in groupby(range(shown), key=lambda at: owner[at]):
        inside = list(group)
        start, stop = inside[0], inside[-1] + 1
        marks = [_mark(span, start, stop, span in sides[1 - at], styles) for at, span in enumerate(owner[start])]
        space = " " if stop < shown and _spaced(words[stop - 1], words[stop]) else ""
        inner = any(mark and not mark["last"] for mark in marks)
        room = f"{0.4 + 0.85 * max(len(mark['label']) if mark and mark['first'] else 0 for mark in marks):.1f}"
        pieces.append({"text": _joined(words[start:stop]), "marks": marks, "space": space, "inner": inner, "room": room})
    hits = sum(span in (student or []) for span in gold or [])
    extra = sum(span not in (gold or []) for span in student or [])
    note = f"{hits} of {len(gold or [])} entities right" + (f", {extra} wrong" if extra else "")
    right = student == gold
    tutor = (
        ""
        if teacher is None or gold is None
        else "teacher right"
        if teacher == gold
        else "teacher wrong too"
        if not right
        else "teacher wrong"
    )
    cut = len(words) - shown
    return {"language": str(example.get("language") or ""), "pieces": pieces, "note": note, "right": right, "teacher": tutor, "cut": cut}


def _mark(span: WordSpan | None, start: int, stop: int, agreed: bool, styles: Mapping[str, int]) -> dict[str, Any] | None:
    if span is None:
        return None
    name = span.label if len(span.label) <= 24 else span.label[:23] + "…"
    return {"label": name, "style": styles[span.label], "first": span.start == start, "last": span.stop == stop, "agreed": agreed}


def _spaced(left: str, right: str) -> bool:
    """Whether a space stands between two words: none between letters of scripts that have none, nor before closing marks."""
    if _UNSPACED.match(left[-1:]) and _UNSPACED.match(right[:1]):
        return False
    return right not in {",", ".", ";", ":", "!", "?", ")", "]", "،", "؟", "।", "%"} and left not in {"(", "["}


def _joined(words: Sequence[str]) -> str:
    short = [word if len(word) <= _MOST_LETTERS else word[:_MOST_LETTERS] + "…" for word in words]
    return "".join(word + (" " if at + 1 < len(words) and _spaced(words[at], words[at + 1]) else "") for at, word in enumerate(short))
