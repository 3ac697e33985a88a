"""``nerdistill study``: many students in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerdistill.cli.steps import Cpu, DataRoot, Set, called, training

Workers = Annotated[int, typer.Option("--workers", min=1, help="Rows made at a time, each with its share of the cores.")]


def study(
    paths: Annotated[list[Path], typer.Argument(metavar="STUDY...", help="TOML files; see configs/study/.", show_default=False)],
    data_root: DataRoot = None,
    out: Annotated[Path, typer.Option("--out", help="Folder shared by all rows.")] = Path("runs/study"),
    overrides: Set = None,
    workers: Workers = 1,
    cpu: Cpu = False,
    results: Annotated[Path | None, typer.Option("--results", help="Also write each study's results into this folder.")] = None,
) -> None:
    """Train the rows of studies and print their tables.

    Rows that are done are skipped, so the same command continues after an interruption.
    """
    with training():
        from nerdistill.evaluation.study_tables import study_table
        from nerdistill.files import write_json
        from nerdistill.steps.context import locked
        from nerdistill.steps.study import load_study, run_study

    loaded = [load_study(path, overrides or (), data_root) for path in paths]
    with locked(out):
        for plan, base, configs in loaded:
            made = run_study(plan, base, configs, out, workers, called(data_root), cpu)
            if results is not None:
                write_json(results / f"{plan.name}.json", made)
            print(f"\n{plan.title}\n\n{study_table(made)}")  # noqa: T201
