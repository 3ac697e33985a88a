"""Tables and pictures of pages from results files: what a page shows is made by a command, never typed.

A table stands between two lines of a page, the first of which names its file, from the folder that holds ``results/``::

    <!-- table: results/quickstart.json -->
    <!-- end of table -->

``scores`` or ``costs`` after the name shows only the first or the second table of that file, ``means`` the first without its languages;
of a benchmark's, ``speed``, ``latency``, ``batches``, ``scores`` or ``floor`` the tables of that kind, and ``speed of French`` that of one
text; of a profile's, ``parts``, ``operators``, ``batches`` or ``ideas``; of a training benchmark's, ``rates``, ``split`` or ``steps``. The
picture of all studies, `FIGURE`, is drawn from the files under ``results/study/``; the comparison, a benchmark, the forty-one
languages, tagging at scale and in spaCy have one each.
Run it with ``python -m nerdistill.evaluation.documents PAGE...``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from nerdistill.errors import DataError, NerdistillError
from nerdistill.evaluation.benchmark_plot import benchmark_plot
from nerdistill.evaluation.benchmark_tables import benchmark_tables, is_benchmark
from nerdistill.evaluation.bulk import bulk_table
from nerdistill.evaluation.engine_tables import KIND as ENGINES
from nerdistill.evaluation.engine_tables import engine_table
from nerdistill.evaluation.known_names_plot import known_names_plot
from nerdistill.evaluation.memory_chart import memory_chart, pipe_memory_chart
from nerdistill.evaluation.pareto import pareto
from nerdistill.evaluation.profile_tagger import KIND as PROFILE
from nerdistill.evaluation.profile_tagger import profile_tables
from nerdistill.evaluation.shape_tables import KIND as SHAPES
from nerdistill.evaluation.shape_tables import shapes_table
from nerdistill.evaluation.spacy_pipe import KIND as PIPE_KIND
from nerdistill.evaluation.spacy_pipe import pipe_tables
from nerdistill.evaluation.study_tables import study_table
from nerdistill.evaluation.tables import Results, markdown_costs, markdown_scores, markdown_table
from nerdistill.evaluation.training_tables import KIND as TRAINING
from nerdistill.evaluation.training_tables import training_tables
from nerdistill.files import read_json, write_atomic

FIGURE = "docs/images/pareto.svg"
STUDIES = "results/study"
COMPARISON = "results/compare.json"
COMPARISON_FIGURE = "docs/images/compare.svg"
BENCHMARK = "results/benchmark.json"
BENCHMARK_FIGURE = "docs/images/benchmark.svg"
BULK = "results/tagging.json"
BULK_FIGURE = "docs/images/tagging-memory.svg"
HEADLINE = "results/ner41.json"
NAMES_FIGURE = "docs/images/known-names.svg"
PIPE = "results/pipeline.json"
PIPE_FIGURE = "docs/images/pipeline-memory.svg"
PARTS = "scores|means|costs|speed|latency|batches|floor|parts|operators|ideas|rates|split|steps|memory|processes|transport"
WITH_PARTS = {"benchmark": benchmark_tables, PROFILE: profile_tables, TRAINING: training_tables, PIPE_KIND: pipe_tables}
WHOLE = {SHAPES: shapes_table, ENGINES: engine_table}
MARKER = re.compile(rf"<!-- table: (?P<file>\S+\.json)(?: (?P<part>{PARTS})(?: of (?P<text>[^<>]+))?)? -->")
_NEARLY = re.compile(r"[^`]*<!--\s*table\b")  # a marker with a slip in it; in backticks it is only spoken of
_END = "<!-- end of table -->"


def root_of(page: Path) -> Path:
    """The folder that names in a page start from: the page's own or the one above, whichever has ``results/``.

    Raises:
        DataError: Neither has.
    """
    near = page.resolve().parents[:2]
    for folder in near:
        if (folder / "results").is_dir():
            return folder
    raise DataError(f"{page}: no folder results/ in {' or '.join(map(str, near))}; expected a page of the repository or of its docs/")


def fill(text: str, root: Path, where: str) -> str:
    """The text of a page with every table made anew; what is outside the markers stays as it is.

    Args:
        text: Of the page.
        root: The folder that the files' names start from.
        where: Name of the page, for errors.

    Raises:
        DataError: A marker is malformed, not closed or not opened; its file is missing or has no such table.
    """
    lines: list[str] = []
    opened = 0
    for number, line in enumerate(text.split("\n"), start=1):
        found = MARKER.fullmatch(line)
        if opened and line != _END:
            if line and not line.startswith("|"):
                raise DataError(f"{where}:{opened}: the table is not closed before line {number}; put '{_END}' on a line of its own")
            continue
        if not found and _NEARLY.match(line):
            expected = "'<!-- table: results/NAME.json [PART] -->' alone on its line"
            raise DataError(f"{where}:{number}: found '{line.strip()}', expected {expected}")
        if line == _END and not opened:
            raise DataError(f"{where}:{number}: '{_END}' without a table before it; remove it or put a marker before the table")
        lines.append(line)
        opened = number if found else 0
        if found:
            lines += _table(root, found["file"], found["part"], f"{where}:{number}", found["text"]).rstrip("\n").split("\n")
    if opened:
        raise DataError(f"{where}:{opened}: the table is not closed; put '{_END}' on a line of its own after it")
    return "\n".join(lines)


def read_results(path: Path, where: str) -> Results:
    """A results file.

    Args:
        path: The file.
        where: Who names it, for errors.

    Raises:
        DataError: It is missing, no JSON, or no results file.
    """
    try:
        results = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"{where}: no file {path}; name one that is there, or run the command that writes it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {path} cannot be read as JSON ({error}); run the command that writes it anew") from error
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise DataError(
            f"{where}: {path} has no rows; expected a results file, as --results of `nerdistill run` and `nerdistill study` writes"
        )
    return results


def _table(root: Path, name: str, part: str | None, where: str, text: str | None = None) -> str:
    """The Markdown of one marker: a study's table, a benchmark's tables, or F1 by language and costs, or a part of these."""
    results = read_results(root / name, where)
    if text:
        results = {**results, "rows": [row for row in results["rows"] if row.get("text") == text]}
        if not results["rows"]:
            raise DataError(f"{where}: {name} has no row of the text '{text}'; name one of its texts, or none")
    if not is_benchmark(results) and ("columns" in results or name.startswith(f"{STUDIES}/")):
        if part:
            raise DataError(f"{where}: {name} is a study, which has one table; leave out '{part}'")
        return study_table(results)
    kind = results.get("kind")
    if kind in WITH_PARTS:
        chosen = WITH_PARTS[kind](results, part or "")
    elif kind in WHOLE:
        chosen = WHOLE[kind](results)
    elif "memory" in results:
        chosen = bulk_table(results)
    else:
        made = {"": markdown_table(results), "scores": markdown_scores(results), "costs": markdown_costs(results)}
        made["means"] = markdown_scores(results, summary_only=True)
        chosen = made.get(part or "", "")
    if not chosen.strip():
        raise DataError(
            f"{where}: {name} has no {part or 'scores or costs'} to show; remove the marker or run the command that writes the file"
        )
    return chosen


def figures(root: Path) -> dict[Path, str]:
    """The pictures by where they belong, of the results files that are there and have something to draw.

    Raises:
        DataError: A file is not a results file.
    """
    drawn = {root / FIGURE: pareto([read_results(path, STUDIES) for path in sorted((root / STUDIES).glob("*.json"))])}
    for file, figure, draw in (
        (COMPARISON, COMPARISON_FIGURE, lambda results: pareto([results])),
        (BENCHMARK, BENCHMARK_FIGURE, benchmark_plot),
        (BULK, BULK_FIGURE, memory_chart),
        (HEADLINE, NAMES_FIGURE, known_names_plot),
        (PIPE, PIPE_FIGURE, pipe_memory_chart),
    ):
        if (root / file).is_file():
            drawn[root / figure] = draw(read_results(root / file, file))
    return {path: text for path, text in drawn.items() if text}


def update(pages: Sequence[Path]) -> list[Path]:
    """Write the pages and pictures that are not what `fill` and `figures` make; none of them if any has an error.

    Returns:
        What was written.

    Raises:
        DataError: A page cannot be read, or see `fill`, `figures` and `root_of`.
    """
    wanted: dict[Path, str] = {}
    for page in pages:
        root = root_of(page)
        try:
            wanted[page] = fill(page.read_text(encoding="utf-8"), root, str(page))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{page}: cannot be read ({error}); expected a page of Markdown in UTF-8") from error
        wanted |= figures(root)
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        write_atomic(path, wanted[path])
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring pages up to date and say which ones changed; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nerdistill.evaluation.documents", description="Make tables and pictures from results files."
    )
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE", help="Markdown with <!-- table: results/NAME.json --> markers.")
    try:
        changed = update(parser.parse_args(arguments).pages)
    except NerdistillError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    for path in changed:
        print(f"written  {path}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
