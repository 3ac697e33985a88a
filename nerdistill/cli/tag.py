"""``nerdistill tag``: text in, entities out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nerdistill.errors import ConfigError

if TYPE_CHECKING:
    from nerdistill.runtime.backends import Backend
    from nerdistill.runtime.bundle import Variant
    from nerdistill.tagging.run import Summary
    from nerdistill.tagging.sources import Reject

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def tag(
    model: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Text (a document a line), .jsonl, .parquet or .spacy, also .gz or .zst; files, patterns in quotes, - for stdin.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None, typer.Option("-o", "--out", metavar="FILE|FOLDER/", help="Output; stdout without it.", show_default=False)
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="jsonl, parquet, conll or spacy; by default what the output's suffix says", show_default=False),
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option("--input-format", help="text, jsonl, parquet or spacy; by default what each input's suffix says", show_default=False),
    ] = None,
    text_field: Annotated[str, typer.Option("--text-field", help="Field of the text.")] = "text",
    id_field: Annotated[str, typer.Option("--id-field", help="Field of the id; file:line where it is missing.")] = "id",
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="A,B", help="Other fields to keep, '' for none; by default all", show_default=False)
    ] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="fp32 or int8; by default the model's own choice", show_default=False)
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="onnxruntime, onnxruntime-cuda, openvino or openvino-bf16.")] = "onnxruntime",
    threshold: Annotated[float, typer.Option("--threshold", min=0, max=1, help="Leave out entities scored below.")] = 0.0,
    languages: Annotated[
        str | None,
        typer.Option("--languages", metavar="DE,FR", help="Tag only text in these; 'model' for the model's own.", show_default=False),
    ] = None,
    lid: Annotated[
        Path | None, typer.Option("--lid", help="fastText model that tells languages; by default lid.176", show_default=False)
    ] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="Of text and JSONL.")] = "utf-8",
    replace: Annotated[bool, typer.Option("--replace", help="U+FFFD for what is not in the encoding, in place of a reject.")] = False,
    max_length: Annotated[
        int, typer.Option("--max-length", min=1, help="Characters of the longest document; longer ones are rejected.")
    ] = 5_000_000,
    engine: Annotated[
        str, typer.Option("--engine", help="local: processes of this machine; ray: actors of a Ray cluster; with -o.")
    ] = "local",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; by default one a core", show_default=False)] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of each; by default cores / workers, on Ray 1", show_default=False)
    ] = None,
    gpus: Annotated[
        float,
        typer.Option("--gpus", min=0, help="GPUs of each Ray actor, a part of one lets several share it; with --backend onnxruntime-cuda."),
    ] = 0.0,
    shard_size: Annotated[
        str | None,
        typer.Option("--shard-size", metavar="64M", help="Input of a shard; by default as the whole input asks for", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Begin anew, and replace the output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object; with -o.")] = False,
) -> None:
    """Tag text: each input record comes out with its entities.

    A record keeps its id and fields and gets "entities" (start, stop, text, label, score), "n_words" and "n_windows".

    With -o, worker processes tag it shard by shard. Break it off as you like: the same command continues, to the same bytes.
    A FILE is joined when all is done, a FOLDER/ keeps a file for each shard.

    Records that cannot be used go to OUT.rejects.jsonl with id, reason and file:line; the exit code is 4 then.
    """
    from nerdistill.tagging.run import ENGINES, Request, tag_files, tag_stream
    from nerdistill.tagging.sources import ReadOptions

    if lid is not None and languages is None:
        raise ConfigError("--lid: says how languages are told, not which to tag; add --languages")
    if variant not in (None, "fp32", "int8"):
        raise ConfigError(f"--variant {variant}: expected fp32 or int8")
    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: expected one of {', '.join(ENGINES)}")
    if engine == "ray" and out is None:
        raise ConfigError("--engine ray: writes no stream; name a file or a folder that all machines see with -o")
    if gpus and engine != "ray":
        raise ConfigError("--gpus: shares a cluster's GPUs out to Ray's actors; add --engine ray, or leave it out")
    if gpus and backend != "onnxruntime-cuda":
        raise ConfigError(
            f"--gpus: --backend {backend} computes on none, so they would be held for nothing; add --backend onnxruntime-cuda"
        )
    if as_json and out is None:
        raise ConfigError("--json: stdout has the records already; name an output with -o")
    options = ReadOptions(
        text_field=text_field,
        id_field=id_field,
        fields=None if fields is None else _names(fields),
        encoding=encoding,
        replace=replace,
        max_length=max_length,
    )
    request = Request(
        bundle=model,
        inputs=tuple(inputs),
        out=out,
        format=format,
        input_format=input_format,
        options=options,
        variant=cast("Variant | None", variant),
        backend=cast("Backend", backend),
        threshold=threshold,
        languages=_languages(languages, model) if languages else None,
        lid=lid,
        engine=engine,
        workers=workers,
        threads=threads,
        gpus=gpus,
        shard_bytes=size_of(shard_size) if shard_size else None,
        force=force,
        quiet=quiet,
    )
    summary = tag_stream(request, sys.stdout.buffer, _say_reject) if out is None else tag_files(request)
    if as_json:
        print(json.dumps({**summary.counts, "out": out, "rejects": summary.rejects and str(summary.rejects)}))  # noqa: T201
    _say_summary(summary, quiet or as_json)
    if summary.counts["rejected"]:
        raise typer.Exit(4)


def size_of(text: str) -> int:
    """Bytes of a size such as ``64M`` or ``1.5G`` (powers of 1024).

    Raises:
        ConfigError: It is none.
    """
    number, unit = (text[:-1], _UNITS[text[-1:].upper()]) if text[-1:].upper() in _UNITS else (text, 1)
    try:
        size = int(float(number) * unit)
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise ConfigError(f"{text}: not a size; expected a number of bytes, or one such as 64M or 1G")
    return size


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _languages(text: str, model: Path) -> tuple[str, ...]:
    if text != "model":
        return _names(text)
    from nerdistill.runtime.bundle import open_bundle

    return open_bundle(model).info.languages


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _say_reject(reject: Reject) -> None:
    _say(f"rejected: {reject.location}: {reject.reason}")


def _say_summary(summary: Summary, quiet: bool) -> None:
    """What came out, and what has to be looked at, which is said even to those who want no progress."""
    counts = summary.counts
    if summary.out is not None and not quiet:
        _say(f"{counts['documents']:,} documents, {counts['words']:,} words, {counts['entities']:,} entities in {summary.out}")
    for reject in summary.first:
        _say_reject(reject)
    if counts["rejected"]:
        _say(f"{counts['rejected']:,} records rejected" + (f", all of them in {summary.rejects}" if summary.rejects else ""))
    if counts["untagged"]:
        _say(f"{counts['untagged']:,} documents in other languages: kept with a note, without entities")
    if counts["odd"]:
        _say(f"warning: {counts['odd']:,} texts hold control characters; they are kept as they are")
