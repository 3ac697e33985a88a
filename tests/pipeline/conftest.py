"""Pipelines of the tiny bundle, what they wrote into a doc, and a way to run code in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.tokens.underscore import Underscore

from nerdistill.export.spacy_package import build_pipeline

BARE = """
import socket, sys
for heavy in ("torch", "transformers", "datasets", "onnx", "safetensors"):
    sys.modules[heavy] = None
connect = socket.socket.connect
def refuse(self, address):
    if self.family != socket.AF_UNIX:
        raise OSError("no network")
    return connect(self, address)
socket.socket.connect = refuse
"""
"""What every fresh interpreter begins with: a machine where nothing that trains is installed, without a network."""


@pytest.fixture(autouse=True)
def _own_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without span extensions, and leave those of other tests as they were."""
    monkeypatch.setattr(Underscore, "span_extensions", {})


@pytest.fixture
def nlp(bundle_path: Path) -> Language:
    """The tiny bundle as a pipeline."""
    return build_pipeline(bundle_path)


@pytest.fixture
def with_config() -> Callable[..., Language]:
    """Make a spaCy pipeline as a user does, from a bundle and settings."""

    def make(bundle: Path, **settings: Any) -> Language:
        nlp = spacy.blank("xx")
        nlp.add_pipe("nerdistill", config={"bundle": str(bundle), **settings})
        return nlp

    return make


@pytest.fixture
def found() -> Callable[[Doc], list[tuple[int, int, str, float]]]:
    """Give what the component wrote into a doc, in a form that compares."""

    def read(doc: Doc) -> list[tuple[int, int, str, float]]:
        group = doc.spans["nerdistill"]
        return [(span.start, span.end, span.label_, score) for span, score in zip(group, group.attrs["scores"], strict=True)]

    return read


@pytest.fixture
def run_fresh(tmp_path: Path) -> Callable[..., str]:
    """Run code as the main module of a new interpreter in an empty folder; gives what it printed."""

    def run(code: str, *arguments: Any, timeout: float = 60) -> str:
        script = tmp_path / "fresh" / "script.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text(BARE + code, encoding="utf-8")
        command = [sys.executable, "-W", "error::UserWarning", str(script), *map(str, arguments)]
        done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
