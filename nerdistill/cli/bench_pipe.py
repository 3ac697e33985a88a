"""``nerdistill bench-pipe``: how fast and how flat a student is in spaCy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from nerdistill.cli.steps import Results, called


def bench_pipe(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT...", help="What the documents are made of, in any format of docs/data.md.", show_default=False),
    ],
    documents: Annotated[int, typer.Option("--documents", min=1, help="Short documents that are read while memory is noted.")] = 1_000_000,
    variant: Annotated[str | None, typer.Option("--variant", help="fp32 or int8.  [default: the bundle's own]", show_default=False)] = None,
    results: Results = None,
) -> None:
    """Measure nlp.pipe: memory with and without memory zones, two processes against one, and where the time goes; print the tables."""
    from nerdistill.errors import ConfigError
    from nerdistill.evaluation.spacy_pipe import measure_pipe, pipe_tables
    from nerdistill.evaluation.texts import read_texts
    from nerdistill.files import write_json
    from nerdistill.runtime.bundle import VARIANTS, Variant

    if variant is not None and variant not in VARIANTS:
        raise ConfigError(f"--variant {variant}: expected one of {', '.join(VARIANTS)}")

    def say(text: str) -> None:
        print(text, file=sys.stderr)  # noqa: T201

    measured = measure_pipe(bundle, read_texts(texts), documents, called(None), say, cast("Variant | None", variant))
    if results is not None:
        write_json(results, measured)
    print(pipe_tables(measured))  # noqa: T201
