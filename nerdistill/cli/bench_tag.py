"""``nerdistill bench-tag``: how fast, how flat and how safe corpus tagging is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nerdistill.cli.steps import Results, called
from nerdistill.cli.tag import size_of


def bench_tag(
    model: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="What the corpus is made of; any input of tag.", show_default=False)
    ],
    size: Annotated[str, typer.Option("--size", help="Bytes of the corpus.")] = "1G",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker processes.")] = 2,
    shard_size: Annotated[str | None, typer.Option("--shard-size", help="As in tag.", show_default=False)] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="For which each timing in memory goes on.")] = 20.0,
    folder: Annotated[Path, typer.Option("--folder", help="For corpus and outputs, about six times its size; removed at the end.")] = Path(
        "runs/bench-tag"
    ),
    results: Results = None,
) -> None:
    """Measure tag: words a second against the tagger in memory, memory over time, every id, and the bytes after kills."""
    from nerdistill.evaluation.bulk import Bench, bulk_table, measure
    from nerdistill.files import write_json

    bench = Bench(model, folder, workers, seconds, shard_size)
    measured = measure(bench, texts, size_of(size), called(None), lambda text: print(text, file=sys.stderr))  # noqa: T201
    if results is not None:
        write_json(results, measured)
    print(bulk_table(measured))  # noqa: T201
