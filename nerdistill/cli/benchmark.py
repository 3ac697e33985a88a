"""``nerdistill benchmark``, ``benchmark-rival``, ``benchmark-training`` and ``floor``: speed beside others and what the machine allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nerdistill.cli.steps import ConfigPath, Cpu, DataRoot, Json, Out, Quiet, Results, Set, Threads, called, opened, training

if TYPE_CHECKING:
    from nerdistill.runtime.backends import Backend
    from nerdistill.runtime.bundle import Variant

Only = Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="A contestant that takes part; may be repeated.")]
Compare = Annotated[Path | None, typer.Option("--compare", help="Earlier results: say which ratios moved.", show_default=False)]


def benchmark(
    config: Annotated[Path, typer.Argument(help="TOML file; see configs/benchmark.toml.", show_default=False)],
    data_root: DataRoot = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for what is made of teachers.")] = Path("runs/benchmark"),
    overrides: Set = None,
    only: Only = None,
    quiet: Quiet = False,
    results: Results = None,
    compare: Compare = None,
) -> None:
    """Time and score models side by side on the same texts; print the tables."""
    from nerdistill.steps.benchmark_config import load_benchmark

    settings = load_benchmark(config, overrides or (), data_root, only or ())
    with training():
        from nerdistill.evaluation import guard
        from nerdistill.evaluation.benchmark_tables import benchmark_tables
        from nerdistill.evaluation.documents import read_results
        from nerdistill.files import write_json
        from nerdistill.steps.benchmark import run_benchmark
        from nerdistill.training.runlog import RunLog

        earlier = read_results(compare, "--compare") if compare is not None and compare.is_file() else None
        measured = run_benchmark(settings, out, called(data_root), RunLog(None, quiet))
    if results is not None:
        write_json(results, measured)
    print(benchmark_tables(measured))  # noqa: T201
    if compare is not None:
        nothing = [f"{compare}: not there; --results {compare} writes it, and the next benchmark compares with it"]
        told = nothing if earlier is None else guard.compare(earlier, measured)
        print("\n".join(told))  # noqa: T201


def benchmark_rival(
    config: ConfigPath,
    data_root: DataRoot = None,
    out: Annotated[Path | None, typer.Option("--out", help="Its folder.  [default: runs/<name>-rival]", show_default=False)] = None,
    overrides: Set = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Training sentences of each language; 0 takes all.")] = 0,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Steps of training, at most; 0 leaves spaCy's own number.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Train spaCy's own small network on a run's labelled sentences, for the benchmark; print its folder."""
    from nerdistill.config import load_config

    settings = load_config(config, overrides or (), data_root)
    with training():
        from nerdistill.steps.rival import train_rival
        from nerdistill.training.runlog import RunLog

        path = train_rival(settings, out or Path("runs") / f"{settings.name}-rival", limit, steps, RunLog(None, quiet))
    print(path)  # noqa: T201


def benchmark_training(
    config: ConfigPath,
    data_root: DataRoot = None,
    out: Out = None,
    overrides: Set = None,
    sentences: Annotated[int, typer.Option("--sentences", min=1, help="Sentences of the transfer text to train on.")] = 600,
    batch: Annotated[int, typer.Option("--batch", min=16, help="Padded pieces in a batch.")] = 1024,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timings of each contestant.")] = 5,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs that share one reading of stored signals, beside 1.")] = 8,
    threads: Threads = None,
    cpu: Cpu = False,
    quiet: Quiet = False,
    results: Results = None,
) -> None:
    """Train a small Transformer with TextBrewer and with ours, in turn; print words per second and where a step's time goes."""
    with opened(config, data_root, out, overrides, threads, cpu, quiet) as context:
        from nerdistill.evaluation.training_tables import training_tables
        from nerdistill.files import write_json
        from nerdistill.steps.benchmark_training import TrainingBench, measure_training

        measured = measure_training(context, TrainingBench(sentences, batch, rounds, epochs))
    if results is not None:
        write_json(results, measured)
    print(training_tables(measured))  # noqa: T201


def floor(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="Files to read, in any format of docs/data.md.", show_default=False)
    ],
    variant: Annotated[str | None, typer.Option("--variant", help="fp32 or int8.  [default: the bundle's own]", show_default=False)] = None,
    backend: Annotated[str, typer.Option("--backend", help="onnxruntime, onnxruntime-cuda, openvino or openvino-bf16.")] = "onnxruntime",
    as_json: Json = False,
) -> None:
    """Measure what one core takes for a word, part by part, beside what it must take at least; print the table."""
    from nerdistill.errors import ConfigError
    from nerdistill.runtime.bundle import VARIANTS

    if variant is not None and variant not in VARIANTS:
        raise ConfigError(f"--variant {variant}: expected one of {', '.join(VARIANTS)}")
    with training():
        from nerdistill.corpus.readers import ReadOptions, read
        from nerdistill.evaluation.benchmark_tables import floor_table
        from nerdistill.steps.benchmark_worker import Process, measure_floor_here

        words = [sentence.words for path in texts for sentence in read(path, options=ReadOptions(labelled=False))]
        with Process(bundle.name, threads=1) as process:
            found = process(measure_floor_here, bundle, words, cast("Variant | None", variant), cast("Backend", backend))
    if as_json:
        print(json.dumps(found))  # noqa: T201
        return
    print(floor_table(found))  # noqa: T201
    print(f"{found['times_floor']:.1f} times the floor; most above its own: {found['largest']}")  # noqa: T201
