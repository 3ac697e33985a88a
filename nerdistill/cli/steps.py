"""The commands that make a student, each of them the steps up to its own."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerdistill.errors import MissingExtraError

if TYPE_CHECKING:
    from nerdistill.steps.context import Context

ConfigPath = Annotated[Path, typer.Argument(help="TOML file; see configs/.", show_default=False)]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", envvar="NERDISTILL_DATA", help="Folder that the configuration's data paths start from.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder.  [default: runs/<name>]", show_default=False)]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as teacher.epochs=2.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to compute with.  [default: all cores]", show_default=False)]
Cpu = Annotated[bool, typer.Option("--cpu", help="Stay off any accelerator.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object in place of text.")]
Results = Annotated[Path | None, typer.Option("--results", help="Also write the results to this JSON file.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, print what would be done, train nothing.")]


@contextmanager
def training() -> Iterator[None]:
    """Settings that must stand before torch is loaded, and a plain message where it is not installed."""
    # Threads that wait in a busy loop take the core from whoever else needs it: beside one other process, steps become ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        yield
    except ImportError as error:
        raise MissingExtraError("training", "train", error.name or "torch") from error


@contextmanager
def opened(
    config: Path, data_root: Path | None, out: Path | None, overrides: list[str] | None, threads: int | None, cpu: bool, quiet: bool
) -> Iterator[Context]:
    """The run of a command's arguments, its folder kept from other processes."""
    from nerdistill.config import load_config

    settings = load_config(config, overrides or (), data_root)
    folder = out or Path("runs") / settings.name
    with training():
        import torch

        from nerdistill.steps.context import Context, locked

    if threads:
        torch.set_num_threads(threads)
    with locked(folder):
        yield Context(settings, folder, quiet, called(data_root), cpu)


def called(data_root: Path | None) -> str:
    """How the program was called, for results that are published: where somebody keeps their files is left out."""

    def public(word: str) -> str:
        key, equals, value = word.rpartition("=")
        return key + equals + "PATH" if Path(value).is_absolute() or (data_root is not None and word == str(data_root)) else word

    return "nerdistill " + shlex.join(public(word) for word in sys.argv[1:])


def _print(text: str) -> None:
    print(text)  # noqa: T201


def run(
    config: ConfigPath,
    data_root: DataRoot = None,
    out: Out = None,
    overrides: Set = None,
    threads: Threads = None,
    cpu: Cpu = False,
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
    results: Results = None,
) -> None:
    """Do the whole way: teach, annotate, distill, evaluate, package.

    Finished steps are skipped, so the same command continues after an interruption.
    """
    with opened(config, data_root, out, overrides, threads, cpu, quiet) as context:
        if dry_run:
            _print(
                json.dumps({"counts": context.data.counts, "config": context.config.model_dump(mode="json")}, ensure_ascii=False, indent=2)
            )
            return
        from nerdistill.files import write_json
        from nerdistill.steps.run import run as run_steps

        finished = run_steps(context)
    if not context.main:
        return
    if results is not None:
        write_json(results, finished.results)
    places = {"results": context.folder / "results.json", "report": finished.report, "bundle": finished.bundle, "wheel": finished.wheel}
    if as_json:
        _print(json.dumps({**finished.results, **{name: str(path) for name, path in places.items()}}, ensure_ascii=False))
        return
    _show_tables(finished.results)
    for text, entities in finished.tagged:
        _print(_marked(text, [(entity.start, entity.stop, entity.label) for entity in entities]))
    _print("")
    for name, path in places.items():
        _print(f"{name:<8} {path}")


def _command(do: Callable[[Context], str], about: str) -> Callable[..., None]:
    """A command that does one step, with those before it, and prints where the result is."""

    def command(
        config: ConfigPath,
        data_root: DataRoot = None,
        out: Out = None,
        overrides: Set = None,
        threads: Threads = None,
        cpu: Cpu = False,
        quiet: Quiet = False,
    ) -> None:
        with opened(config, data_root, out, overrides, threads, cpu, quiet) as context:
            made = do(context)
        if context.main:
            _print(made)

    command.__doc__ = about
    return command


def _teach(context: Context) -> str:
    from nerdistill.steps.teach import teach

    return teach(context).model


def _annotate(context: Context) -> str:
    from nerdistill.steps.annotate import annotate_transfer

    return str(annotate_transfer(context).folder)


def _distill(context: Context) -> str:
    from nerdistill.steps.run import publish

    return str(publish(context))


teach = _command(_teach, "Fine-tune the teacher, or take it as it is; print its folder.")
annotate = _command(_annotate, "Let the teacher read the transfer text; print the folder of its signals.")
distill = _command(_distill, "Train the student; print its bundle's folder.")


def evaluate(
    config: ConfigPath,
    data_root: DataRoot = None,
    out: Out = None,
    overrides: Set = None,
    threads: Threads = None,
    cpu: Cpu = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score teacher, student and baseline on the test set; print the tables."""
    from nerdistill.steps.evaluate import evaluate as step

    with opened(config, data_root, out, overrides, threads, cpu, quiet) as context:
        results = step(context)
    if not context.main:
        return
    if as_json:
        _print(json.dumps(results, ensure_ascii=False))
    else:
        _show_tables(results)


def package(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the wheel.")] = Path("dist"),
    name: Annotated[str, typer.Option("--name", help="Name of the pipeline, without the language.")] = "ner",
    version: Annotated[str, typer.Option("--version", help="Version of the package.")] = "0.1.0",
    language: Annotated[str, typer.Option("--lang", help="spaCy language code.")] = "xx",
    force: Annotated[bool, typer.Option("--force", help="Replace a wheel of the same name.")] = False,
) -> None:
    """Pack a bundle as an installable spaCy pipeline; print the wheel's path."""
    from nerdistill.errors import ConfigError
    from nerdistill.export.spacy_package import build_wheel

    wheel = out / f"{language}_{name}-{version}-py3-none-any.whl"
    if wheel.exists() and not force:
        raise ConfigError(f"{wheel}: exists already; --force replaces it")
    _print(str(build_wheel(bundle, out, name, version, language)))


def _show_tables(results: dict[str, Any]) -> None:
    from rich.console import Console

    from nerdistill.evaluation.tables import terminal_table

    console = Console(width=None if sys.stdout.isatty() else 100)
    for table in terminal_table(results):
        console.print(table)


def _marked(text: str, spans: list[tuple[int, int, str]]) -> str:
    """A text with its entities in brackets."""
    parts, at = [], 0
    for start, stop, label in spans:
        parts += [text[at:start], f"[{text[start:stop]} {label}]"]
        at = stop
    return "".join([*parts, text[at:]])
