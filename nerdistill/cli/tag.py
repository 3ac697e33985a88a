"""``nerdistill tag``: text in, one JSON object a document out."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from nerdistill.errors import ConfigError, DataError


def tag(
    model: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Text (one document a line) or JSONL, also .gz; - for stdin.", show_default=False),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="JSONL file; stdout without it.", show_default=False)] = None,
    text_field: Annotated[str, typer.Option("--text-field", help="Field of the text in JSONL.")] = "text",
    threshold: Annotated[float, typer.Option("--threshold", min=0, max=1, help="Leave out entities scored below.")] = 0.0,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads.  [default: all cores]", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file.")] = False,
) -> None:
    """Tag text: each input record comes out with its entities.

    A record is ``{"id", "text", "entities": [{"start", "stop", "text", "label", "score"}]}``; records of JSONL keep their own fields.
    Lines that are not usable are skipped and reported on stderr with file and line; the exit code is 4 then.
    """
    from nerdistill.runtime.tagger import Tagger

    if out is not None and out.exists() and not force:
        raise ConfigError(f"{out}: exists already; --force replaces it")
    tagger = Tagger.load(model, threads=threads)
    skipped: list[str] = []
    records = (record for name in inputs for record in _records(name, text_field, skipped))
    beside = out.with_name(f".{out.name}.part") if out is not None else None
    sink: IO[str] = beside.open("w", encoding="utf-8") if beside is not None else sys.stdout
    try:
        while batch := list(islice(records, 1000)):
            for record, entities in zip(batch, tagger.pipe([record[text_field] for record in batch]), strict=True):
                record["entities"] = [
                    asdict(replace(entity, score=round(entity.score, 4))) for entity in entities if entity.score >= threshold
                ]
                sink.write(json.dumps(record, ensure_ascii=False) + "\n")
    finally:
        if beside is not None:
            sink.close()
    if out is not None and beside is not None:
        beside.replace(out)
    if out is None:
        sink.flush()
    if skipped:
        print(f"{len(skipped)} records skipped:", *skipped[:20], sep="\n  ", file=sys.stderr)  # noqa: T201
        raise typer.Exit(4)


def _records(name: str, text_field: str, skipped: list[str]) -> Iterator[dict[str, Any]]:
    as_json = name.removesuffix(".gz").endswith((".jsonl", ".json"))
    for number, line in enumerate(_lines(name), start=1):
        where = f"{name}:{number}"
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            skipped.append(f"{where}: not UTF-8 at byte {error.start} of the line")
            continue
        if not as_json:
            yield {"id": where, text_field: text}
            continue
        try:
            record = json.loads(text)
        except ValueError as error:
            skipped.append(f"{where}: not JSON ({error})")
            continue
        if not isinstance(record, dict) or not isinstance(record.get(text_field), str):
            skipped.append(f"{where}: expected an object with a string '{text_field}'")
            continue
        record[text_field] = record[text_field].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        yield {"id": where, **record}


def _lines(name: str) -> Iterator[bytes]:
    if name == "-":
        yield from sys.stdin.buffer
        return
    path = Path(name)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            first = True
            for line in file:
                yield line.removeprefix(b"\xef\xbb\xbf") if first else line
                first = False
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
