"""The ways to tag a corpus beside each other: worker processes, Ray's actors and spaCy's ``nlp.pipe`` have to find the same entities.

In float32: in 8 bits activations are scaled by what else is in their batch, so that a tag may depend on where batches begin.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nerdistill.errors import DataError
from nerdistill.evaluation.spacy_pipe import make_pipeline
from nerdistill.runtime.bundle import open_bundle

Found = list[tuple[int, int, str]]
"""Of a document: start, stop, label."""


def agreement(bundle: Path, corpus: Path, folder: Path) -> dict[str, Any]:
    """Tag a corpus in every way that there is.

    Args:
        bundle: Folder of the student.
        corpus: JSONL with ``id`` and ``text``.
        folder: For outputs, which are removed.

    Returns:
        ``documents`` and ``entities``, how many; for each other way whether all its entities are those of the local engine, to the last
        offset and label; None for Ray where it is not installed.

    Raises:
        DataError: An engine failed.
    """
    local = list(_tagged(bundle, corpus, folder / "local.jsonl", "local"))
    nlp = make_pipeline(open_bundle(bundle, "fp32"), None)
    docs = nlp.pipe(_texts(corpus))
    piped = [[(span.start_char, span.end_char, span.label_) for span in doc.ents] for doc in docs]
    by_ray = list(_tagged(bundle, corpus, folder / "ray.jsonl", "ray")) if importlib.util.find_spec("ray") else None
    return {
        "documents": len(local),
        "entities": sum(map(len, local)),
        "nlp.pipe": piped == local,
        "ray": by_ray and by_ray == local,
    }


def _texts(corpus: Path) -> Iterator[str]:
    with corpus.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def _tagged(bundle: Path, corpus: Path, out: Path, engine: str) -> Iterator[Found]:
    """What an engine finds in each document, in their order."""
    words = [sys.executable, "-m", "nerdistill", "tag", str(bundle), str(corpus), "-o", str(out), "--engine", engine]
    words += ["--variant", "fp32", "--force", "--quiet"]
    ended = subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode
    if ended:
        raise DataError(f"{corpus}: nerdistill tag --engine {engine} ended with exit code {ended}; see what it said")
    with out.open(encoding="utf-8") as lines:
        for line in lines:
            yield [(one["start"], one["stop"], one["label"]) for one in json.loads(line)["entities"]]
    out.unlink()
