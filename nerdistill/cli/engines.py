"""``nerdistill engines``: what the teacher may read with, measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerdistill.cli.steps import ConfigPath, Cpu, DataRoot, Out, Quiet, Results, Set, Threads, opened

if TYPE_CHECKING:
    from rich.table import Table


def engines(
    config: ConfigPath,
    data_root: DataRoot = None,
    out: Out = None,
    overrides: Set = None,
    sentences: Annotated[int, typer.Option("--sentences", min=1, help="Sentences of the transfer text to read.")] = 2000,
    threads: Threads = None,
    cpu: Cpu = False,
    quiet: Quiet = False,
    results: Results = None,
) -> None:
    """Let the teacher read with torch and ONNX Runtime; print how fast each is and what it changes."""
    with opened(config, data_root, out, overrides, threads, cpu, quiet) as context:
        from nerdistill.steps.engines import measure_engines

        measured = measure_engines(context, sentences)
    if results is not None:
        from nerdistill.files import write_json

        write_json(results, measured)
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100).print(_table(measured))


def _table(measured: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    from nerdistill.evaluation.engine_tables import engine_lines

    table = Table(
        title="The teacher's engines", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.caption = "against torch float32: words with another tag, total variation distance of tag probabilities, error of the kept states"
    table.caption_justify = "left"
    heads, lines = engine_lines(measured)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=not number, overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table
