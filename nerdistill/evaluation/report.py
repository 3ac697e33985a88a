"""The HTML report of a run: one file, no script, nothing from elsewhere.

This file turns results, metric events and examples into what `report.html.j2` shows; `nerdistill.evaluation.charts` draws. A part
whose numbers are absent is None or empty, and the template leaves it out. Jinja escapes every text, and the page forbids itself
scripts and requests by a content security policy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Any

import regex

from nerdistill import files
from nerdistill.errors import MissingExtraError
from nerdistill.evaluation import tables
from nerdistill.evaluation.tables import Results, Row, number, percent, quotient
from nerdistill.labels import repair, spans_of
from nerdistill.records import WordSpan

try:
    from jinja2 import Environment, StrictUndefined

    from nerdistill.evaluation import charts
except ModuleNotFoundError as error:
    raise MissingExtraError("the HTML report", "report", error.name or "jinja2") from error

Events = Sequence[Mapping[str, Any]]
_STYLES = {"teacher": 0, "student": 1, "no_teacher": 2}
_RUNS = {"student": "Student", "no_teacher": "Student without a teacher", "teacher": "Teacher"}
_KINDS = {"correct": "correct", "missed": "missed", "spurious": "spurious", "wrong_type": "wrong type", "wrong_boundary": "wrong boundary"}
_MOST_EXAMPLES, _MOST_WORDS, _MOST_LETTERS, _MOST_POINTS = 40, 120, 80, 160
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u3000-\u303f\uff00-\uff65]")


def write_report(path: Path, results: Results, events: Events, examples: Sequence[Mapping[str, Any]]) -> None:
    """Write the report of a run as one self-contained HTML file.

    Args:
        path: Where it goes; replaced atomically.
        results: The results object (`nerdistill.evaluation.tables`).
        events: Metric events of training, in order; empty leaves the learning curves out.
        examples: Sentences with ``language``, ``words`` and IOB2 tags as ``gold``, ``teacher`` and ``student``.
    """
    results, events, examples = _clean(results), _clean(list(events)), _clean(list(examples))
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    page.filters.update(percent=percent, compact=tables.compact, size=tables.size_text, factor=tables.factor, duration=tables.duration)
    page.globals.update(key=charts.key, mean_f1=tables.mean_f1)
    template = page.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    shown = sorted((example for example in examples if example.get("words")), key=_is_right)
    styles = _entity_styles(results, shown)
    html = template.render(
        title=str(results.get("what") or "Distillation report"),
        results=results,
        systems=[(name, row, _style(row, at)) for at, (name, row) in enumerate(tables.systems(results))],
        figures=_figures(results),
        by_language=_by_language(results),
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


def _style(row: Row, at: int) -> int:
    return _STYLES.get(row["system"], 3 + at % 4)


def _series(results: Results, having: str) -> list[tuple[charts.Series, Row]]:
    named = enumerate(tables.systems(results))
    return [(charts.Series(name, _style(row, at)), row) for at, (name, row) in named if row.get(having)]



def _figures(results: Results) -> list[dict[str, str]]:
    """The headline: figure, unit, what it is, and the two numbers behind it."""
    teacher, student = tables.first(results, "teacher"), tables.first(results, "student")
    systems = tables.systems(results)
    one = student if student is not None else systems[0][1] if systems else {}
    who = "the student" if one is student else systems[0][0] if systems else ""
    big = teacher or {}
    found: list[dict[str, str]] = []
    for key, what, over, show in (
        ("parameters", "smaller", quotient(big.get("parameters"), one.get("parameters")), tables.compact),
        ("words_per_second", "faster", quotient(one.get("words_per_second"), big.get("words_per_second")), tables.compact),
    ):
        unit = "parameters" if key == "parameters" else "words/s"
        if over is not None and one is not teacher:
            note = f"{show(one[key])} {unit}, the teacher {show(big[key])}"
            found.append({"figure": tables.factor(over, ""), "unit": "×", "what": what, "note": note})
        elif number(one.get(key)) is not None:
            found.append({"figure": show(one[key]), "unit": "", "what": unit, "note": who})
    score, reference = tables.mean_f1(one), tables.mean_f1(teacher)
    kept = quotient(score, reference)
    if kept is not None and one is not teacher:
        found.append({"figure": percent(kept), "unit": "%", "what": "of the teacher's F1 kept", "note": f"the teacher: {percent(reference)}"})
    if score is not None:
        spread = f"standard deviation {percent(one.get('f1_std'))}" if number(one.get("f1_std")) is not None else who
        count = len([value for value in (one.get("f1_by_language") or {}).values() if value is not None])
        over_languages = f"mean F1 over {count} languages" if count > 1 else "F1"
        found.append({"figure": percent(score), "unit": "", "what": over_languages, "note": spread})
    return found


def _by_language(results: Results) -> dict[str, Any] | None:
    """The dumbbell chart, sorted by how far the student is behind the teacher, and one sentence on it."""
    series = _series(results, "f1_by_language")
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
        lead.append(f"The student is {100 * fmean(lost.values()):.1f} points behind its teacher on average: ")
        lead.append(f"{100 * lost[worst]:.1f} in {worst}, {100 * lost[best]:.1f} in {best}.")
    if gained:
        lead.append(f" The teacher's help is worth {100 * fmean(gained.values()):.1f} points of F1 to the student.")
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
    for stage in stages:
        steps = max([*stage["loss"], *stage["f1"]], default=0.0)
        if steps > 0:
            bands.append(charts.Stage(stage["name"], start, start + steps))
            losses.append(_thinned([(start + step, value) for step, value in sorted(stage["loss"].items())]))
            scores.append([(start + step, value) for step, value in sorted(stage["f1"].items())])
        best = number(stage["best"]) if number(stage["best"]) is not None else max(stage["f1"].values(), default=None)
        speed = median(stage["speed"]) if stage["speed"] else None
        lines.append({"name": stage["name"], "steps": steps or None, "best": best, "seconds": stage["seconds"], "speed": speed})
        start += steps
    title = _RUNS.get(name, name)
    panels = [charts.Panel("F1 on the development set, percent", scores, True), charts.Panel("training loss", losses, False)]
    chart = charts.curves(bands, panels, _STYLES.get(name, 3), f"{title}: development F1 and loss over {len(bands)} stages")
    return {"title": title, "chart": chart, "stages": lines}


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most so many points as a screen shows, each the mean of its neighbours."""
    size = -(-len(points) // _MOST_POINTS) or 1
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(fmean(step for step, _ in part), fmean(value for _, value in part)) for part in parts]


def _speed(results: Results) -> str:
    """The scatter, where there are two systems to compare."""
    named = enumerate(tables.systems(results))
    points = [
        charts.Point(charts.Series(name, _style(row, at)), row.get("words_per_second"), tables.mean_f1(row), row.get("parameters"))
        for at, (name, row) in named
        if quotient(1, row.get("words_per_second")) is not None and tables.mean_f1(row) is not None
    ]
    return charts.scatter(points) if len(points) > 1 else ""


def _outcomes(results: Results) -> dict[str, Any] | None:
    """Stacked bars: every system over all languages, then the first one (the student if there) by language."""
    series = _series(results, "errors_by_language")
    if not series:
        return None

    def counts(row: Mapping[str, Any]) -> list[float]:
        return [number(row.get(kind)) or 0.0 for kind in _KINDS]

    totals = [(one.name, [sum(column) for column in zip(*map(counts, row["errors_by_language"].values()), strict=True)]) for one, row in series]
    who, row = tables.having(results, "errors_by_language")[0]
    rows = [(str(name), counts(value)) for name, value in row["errors_by_language"].items()]
    rows.sort(key=lambda pair: quotient(pair[1][0], sum(pair[1])) or 0.0)
    by_language = charts.stacked(rows, list(_KINDS.values())) if len(rows) > 1 else ""
    return {"kinds": list(_KINDS.values()), "totals": charts.stacked(totals, list(_KINDS.values())), "system": who, "chart": by_language}



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
        pieces.append({"text": _joined(words[start:stop]), "marks": marks, "space": space, "inner": any(mark and not mark["last"] for mark in marks)})
    hits = sum(span in (student or []) for span in gold or [])
    extra = sum(span not in (gold or []) for span in student or [])
    note = f"{hits} of {len(gold or [])} entities right" + (f", {extra} wrong" if extra else "")
    right = student == gold
    tutor = "" if teacher is None or gold is None else "teacher right" if teacher == gold else "teacher wrong too" if not right else "teacher wrong"
    cut = len(words) - shown
    return {"language": str(example.get("language") or ""), "pieces": pieces, "note": note, "right": right, "teacher": tutor, "cut": cut}


def _mark(span: WordSpan | None, start: int, stop: int, agreed: bool, styles: Mapping[str, int]) -> dict[str, Any] | None:
    if span is None:
        return None
    return {"label": span.label, "style": styles[span.label], "first": span.start == start, "last": span.stop == stop, "agreed": agreed}


def _spaced(left: str, right: str) -> bool:
    """Whether a space stands between two words: none between letters of scripts that have none, nor before closing marks."""
    if _UNSPACED.match(left[-1:]) and _UNSPACED.match(right[:1]):
        return False
    return right not in {",", ".", ";", ":", "!", "?", ")", "]", "،", "؟", "।", "%"} and left not in {"(", "["}


def _joined(words: Sequence[str]) -> str:
    short = [word if len(word) <= _MOST_LETTERS else word[:_MOST_LETTERS] + "…" for word in words]
    return "".join(word + (" " if at + 1 < len(words) and _spaced(words[at], words[at + 1]) else "") for at, word in enumerate(short))
