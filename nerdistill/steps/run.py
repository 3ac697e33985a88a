"""The whole way, from text to an installable pipeline."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerdistill.export.spacy_package import build_wheel
from nerdistill.records import Entity
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.context import Context
from nerdistill.steps.distill import distill
from nerdistill.steps.evaluate import evaluate


@dataclass(frozen=True)
class Finished:
    """What a run leaves.

    Attributes:
        results: As in ``results.json``.
        bundle: The student.
        wheel: The installable pipeline.
        report: The page to look at.
        tagged: The configured sentences with what the student finds in them.
    """

    results: dict[str, Any]
    bundle: Path
    wheel: Path
    report: Path
    tagged: list[tuple[str, list[Entity]]]


def run(context: Context) -> Finished:
    """Do every step that is not done yet."""
    results = evaluate(context)
    bundle = publish(context)
    wheel = package(context, bundle)
    tagger = Tagger.load(bundle)
    sentences = context.config.package.sentences
    tagged = list(zip(sentences, tagger.pipe(sentences), strict=True))
    return Finished(results, bundle, wheel, context.folder / "report.html", tagged)


def publish(context: Context) -> Path:
    """Copy the run's student to ``bundle/``, where it is easy to find."""
    target = context.folder / "bundle"
    student = distill(context).bundle
    if context.main:
        beside = context.folder / ".bundle.part"
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(student, beside)
        shutil.rmtree(target, ignore_errors=True)
        beside.replace(target)
    context.wait()
    return target


def package(context: Context, bundle: Path) -> Path:
    """Build the wheel of the run's student."""
    config, folder = context.config.package, context.folder / "dist"
    with context.accelerator.main_process_first():
        if context.main:
            return build_wheel(bundle, folder, config.name, config.version)
        return max(folder.glob(f"*-{config.version}-*.whl"), key=lambda wheel: wheel.stat().st_mtime_ns)
