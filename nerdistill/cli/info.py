"""``nerdistill info``: what is installed, or what a bundle is."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from nerdistill import __version__

PACKAGES = ("numpy", "onnxruntime", "openvino", "tokenizers", "spacy", "torch", "transformers", "accelerate", "datasets", "seqeval", "onnx")


def info(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; without it, the installation.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Describe a bundle, or this installation (for bug reports)."""
    facts = _installation() if bundle is None else _bundle(bundle)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))  # noqa: T201
        return
    for key, value in facts.items():
        print(f"{key:<14} {value if not isinstance(value, dict) else json.dumps(value, ensure_ascii=False)}")  # noqa: T201


def _installation() -> dict[str, Any]:
    found: dict[str, Any] = {"nerdistill": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _bundle(path: Path) -> dict[str, Any]:
    from nerdistill.runtime.bundle import open_bundle

    bundle = open_bundle(path)
    about = bundle.info
    return {
        "name": about.name,
        "version": about.version,
        "types": " ".join(about.types),
        "languages": " ".join(about.languages),
        "student": about.student,
        "parameters": about.parameters,
        "network": f"{bundle.variant}, {len(bundle.network):,} bytes",
        "f1_mean": about.metrics.get("f1_mean"),
        "teacher": about.provenance.get("teacher"),
        "recipe": (about.provenance.get("recipe") or {}).get("name"),
        "licence": about.provenance.get("licence"),
        "splitter": about.splitter,
    }
