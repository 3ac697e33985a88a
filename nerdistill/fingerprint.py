"""Fingerprints: one short hash for a declaration and the content it applies to.

A finished step is reused only where the fingerprint of everything that could change its result is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nerdistill.records import Sentence


def fingerprint(*declarations: Any) -> str:
    """The hash of JSON-like values; key order does not matter.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(declarations, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fingerprint_sentences(sentences: Iterable[Sentence]) -> str:
    """The hash of words, tags and languages, in order; origins do not count."""
    digest = hashlib.sha256()
    for sentence in sentences:
        fields = (sentence.language, sentence.words, sentence.tags, sorted(sentence.unannotated))
        line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
