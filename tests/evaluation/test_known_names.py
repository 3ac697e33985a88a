"""What training text knows of the names in the test text."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from nerdistill.evaluation.known_names import known_names, known_names_and_kept
from nerdistill.evaluation.known_names_plot import known_names_plot
from nerdistill.evaluation.report import write_report
from nerdistill.evaluation.tables import known_and_kept
from nerdistill.records import Sentence


def sentence(language: str, text: str, tags: str) -> Sentence:
    return Sentence(tuple(text.split()), tuple(tags.split()), language=language)


def test_words_inside_entities_count_and_no_others() -> None:
    """Prevents names that count as known because they stand outside an entity, in another language or in other letters."""
    train = [
        sentence("de", "Anna Berg wohnt in Rom", "B-PER I-PER O O B-LOC"),
        sentence("de", "Paris liest Hilton", "O O O"),
        sentence("fr", "Lyon", "B-LOC"),
    ]
    test = [
        sentence("de", "Rom Berg Hilton Lyon rom", "B-LOC B-LOC B-ORG B-LOC B-LOC"),  # Rom and Berg, two of five
        sentence("de", "nichts", "O"),
        sentence("fr", "rien", "O"),
        sentence("it", "Roma", "B-LOC"),
    ]
    assert known_names(train, test) == {"de": 0.4}


def test_a_trend_needs_enough_languages_and_is_of_ranks() -> None:
    """Prevents a correlation of two languages in a report, and one that a single outlier makes."""
    known = {f"l{at}": at / 10 for at in range(8)}
    teacher = dict.fromkeys(known, 0.5)
    student = {name: share**3 for name, share in known.items()}
    assert known_names_and_kept(known, teacher, student)["rank_correlation"] == 1.0
    few = {name: known[name] for name in list(known)[:7]}
    assert known_names_and_kept(few, teacher, student) == {"by_language": few}
    assert "rank_correlation" not in known_names_and_kept(known, teacher, dict.fromkeys(known, 0.3))  # nothing differs


def test_the_picture_names_every_language_and_the_trend() -> None:
    """Prevents a picture that loses languages, and results without these facts that break the page."""
    rows = [
        {"system": "teacher", "f1_by_language": {"de": 0.8, "no": 0.8}},
        {"system": "student", "f1_by_language": {"de": 0.8, "no": 0.4}},
    ]
    results = {"rows": rows, "known_names": {"by_language": {"de": 0.75, "no": 0.25}, "rank_correlation": 0.5}}
    assert known_and_kept(results) == [("no", 0.25, 0.5), ("de", 0.75, 1.0)]
    picture = known_names_plot(results)
    ElementTree.fromstring(picture)
    assert "rank correlation 0.50" in picture
    assert "no: 25.0, 50.0" in picture
    assert "de: 75.0, 100.0" in picture
    assert known_names_plot({"rows": rows}) == ""


def test_a_report_shows_the_picture_only_with_a_trend(tmp_path: Path) -> None:
    """Prevents a chart of two dots in the report of two languages."""
    rows = [{"system": name, "f1_by_language": {"de": 0.8, "no": 0.4}} for name in ("teacher", "student")]
    names = {"by_language": {"de": 0.75, "no": 0.25}}
    for at, known in enumerate((names, {**names, "rank_correlation": 0.5})):
        write_report(tmp_path / "report.html", {"rows": rows, "known_names": known}, [], [])
        assert (tmp_path / "report.html").read_text().count("Rank correlation 0.50") == at
