"""From a trained student to a bundle folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_model

from nerdistill.export.card import model_card
from nerdistill.export.onnx_variants import write_fp32, write_int8
from nerdistill.files import folder_beside
from nerdistill.fingerprint import sha256_file
from nerdistill.runtime.bundle import CARD, FORMAT, INFO, TOKENIZER, VARIANTS, WEIGHTS, BundleInfo, Variant
from nerdistill.runtime.tagger import Tagger
from nerdistill.students.base import Student, count_parameters
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.splitter import NAME

WINDOW, OVERLAP, MAX_PIECES = 256, 32, 16


def window_of(student: Student) -> int:
    """Words, or pieces without begin and end, that a student is given at once, in training as in serving."""
    return WINDOW if student.limit is None else min(WINDOW, student.limit)


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself beyond its network.

    Attributes:
        name: Name of the student.
        version: Its version.
        types: Entity types in tag order.
        languages: Language codes.
        student: Kind and options.
        provenance: Teacher, data, recipe, licences, versions.
        metrics: What was measured.
    """

    name: str
    types: tuple[str, ...]
    languages: tuple[str, ...]
    student: Mapping[str, Any]
    version: str = "0.1.0"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def write_bundle(
    path: Path,
    student: Student,
    vocabulary: Vocabulary,
    manifest: Manifest,
    score: Callable[[Tagger], Mapping[str, float]] | None = None,
    tolerance: float = 0.005,
    done: Mapping[str, Any] | None = None,
    fold: bool = False,
) -> BundleInfo:
    """Write a bundle; it appears complete or not at all.

    Args:
        path: The folder; replaced if it exists.
        student: Trained weights.
        vocabulary: The tokenizer that it was trained with.
        manifest: What to say of it.
        score: F1 by language of a tagger on held-out labelled text. With it the 8-bit network is made and becomes the default if no
            language loses more than `tolerance`; otherwise, or if it scores no language, float32 stays the default and the bundle says
            why. Without it there is only float32.
        tolerance: The gate, as a fraction of 1.
        done: Content of the completeness marker.
        fold: Write the networks of `Student.folded`, and count its parameters; the weights for training on stay as they are.

    Raises:
        ValueError: A student over pieces comes with a vocabulary that has no begin and end piece.
    """
    if student.inputs == "pieces" and vocabulary.ends is None:
        raise ValueError("a student over pieces needs begin and end pieces, and its vocabulary has none; give `prune` the teacher's")
    with folder_beside(path, dict(done or {})) as folder:
        vocabulary.tokenizer.save(str(folder / TOKENIZER))
        save_model(student, str(folder / WEIGHTS))
        student = student.folded() if fold else student
        write_fp32(student, folder / VARIANTS["fp32"])
        info = _describe(folder, student, vocabulary, manifest, "fp32", {})
        if score is not None:
            write_int8(folder / VARIANTS["fp32"], folder / VARIANTS["int8"])
            info = _describe(folder, student, vocabulary, manifest, "fp32", {})
            gate = _gate(folder, score, tolerance)
            info = _describe(folder, student, vocabulary, manifest, "int8" if gate["passed"] else "fp32", gate)
        write_card(folder, info)
    return info


def write_card(folder: Path, info: BundleInfo) -> None:
    """Write the model card and the description that holds its digest."""
    (folder / CARD).write_text(model_card(info), encoding="utf-8")
    digests = {**info.digests, CARD: sha256_file(folder / CARD)}
    (folder / INFO).write_text(info.model_copy(update={"digests": digests}).model_dump_json(indent=2), encoding="utf-8")


def _describe(
    folder: Path, student: Student, vocabulary: Vocabulary, manifest: Manifest, variant: Variant, gate: Mapping[str, Any]
) -> BundleInfo:
    bos_id, eos_id = vocabulary.ends or (None, None)
    files = sorted(file for file in folder.iterdir() if file.name not in (INFO, CARD))
    info = BundleInfo(
        format=FORMAT,
        name=manifest.name,
        version=manifest.version,
        types=manifest.types,
        languages=manifest.languages,
        splitter=NAME,
        inputs=student.inputs,
        unk_id=1,
        pad_id=0,
        bos_id=bos_id,
        eos_id=eos_id,
        max_pieces=MAX_PIECES,
        window=window_of(student),
        overlap=OVERLAP,
        parameters=count_parameters(student),
        variant=variant,
        gate=dict(gate),
        student=dict(manifest.student),
        provenance=dict(manifest.provenance),
        metrics=dict(manifest.metrics),
        digests={file.name: sha256_file(file) for file in files},
    )
    (folder / INFO).write_text(info.model_dump_json(indent=2), encoding="utf-8")
    return info


def _gate(folder: Path, score: Callable[[Tagger], Mapping[str, float]], tolerance: float) -> dict[str, Any]:
    """F1 by language of both networks on held-out text, and whether 8 bits lose too much anywhere."""
    full, small = dict(score(Tagger.load(folder, "fp32"))), dict(score(Tagger.load(folder, "int8")))
    losses = {language: full[language] - small[language] for language in full}
    worst = max(losses, key=lambda language: losses[language], default="")
    return {
        "tolerance": tolerance,
        "fp32": full,
        "int8": small,
        "worst_language": worst,
        "worst_loss": losses.get(worst, 0.0),
        "passed": bool(losses) and all(loss <= tolerance for loss in losses.values()),  # not-a-number passes no gate
    }
