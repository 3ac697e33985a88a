"""The command ``nerdistill``: its commands, and what every one of them does with errors.

stdout carries data, stderr everything else. Exit codes: 0 done; 1 unexpected failure; 2 wrong usage or configuration; 3 bad input data;
4 finished, but some records were skipped; 5 a student folder that is damaged or unsafe; 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from nerdistill.cli import steps, study, tag
from nerdistill.cli.bench_pipe import bench_pipe
from nerdistill.cli.bench_tag import bench_tag
from nerdistill.cli.benchmark import benchmark, benchmark_rival, benchmark_training, floor
from nerdistill.cli.engines import engines
from nerdistill.cli.info import info
from nerdistill.cli.listing import plan, recipes, students
from nerdistill.errors import NerdistillError

app = typer.Typer(
    name="nerdistill",
    help="Distil big multilingual NER teachers into small, fast spaCy pipelines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(steps.run)
app.command("teach")(steps.teach)
app.command("annotate")(steps.annotate)
app.command("distill")(steps.distill)
app.command()(steps.evaluate)
app.command()(steps.package)
app.command()(study.study)
app.command()(engines)
app.command()(benchmark)
app.command("benchmark-rival")(benchmark_rival)
app.command("benchmark-training")(benchmark_training)
app.command()(floor)
app.command()(tag.tag)
app.command("bench-tag")(bench_tag)
app.command("bench-pipe")(bench_pipe)
app.command()(info)
app.command()(plan)
app.command()(recipes)
app.command()(students)


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Distil big multilingual NER teachers into small, fast spaCy pipelines."""


def main() -> None:
    """Run the command line; errors end in one line and an exit code."""
    debug = "--debug" in sys.argv
    try:
        app()
    except NerdistillError as error:
        if debug:
            raise
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted; the same command continues")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        _say(f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else "") + " (--debug shows where)")
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _say(f"error: {type(error).__name__}: {error} (this is a fault of nerdistill; --debug shows where)")
        sys.exit(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
