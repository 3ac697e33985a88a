"""The bundle: one folder that holds a finished student.

::

    bundle.json          what it is: format, labels, languages, splitter, provenance, metrics, digests   (`BundleInfo`)
    model.onnx           the network in float32
    model.int8.onnx      the network in 8 bits, where it passed its gate
    model.safetensors    the weights, for training on; not needed to tag
    tokenizer.json       words to pieces
    README.md            model card

Nothing in it can run code: JSON, safetensors and ONNX only. Every file is checked against its digest when a bundle is opened.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nerdistill.errors import BundleError
from nerdistill.labels import LabelScheme
from nerdistill.text import splitter

FORMAT = 1
INFO = "bundle.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
VARIANTS = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
CARD = "README.md"
_LARGEST = 4 << 30
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle"}

Variant = Literal["fp32", "int8"]


class BundleInfo(BaseModel):
    """Content of ``bundle.json``.

    Attributes:
        format: Version of this layout.
        name: Name of the student.
        version: Its version, such as ``1.0.0``.
        types: Entity types in tag order.
        languages: Language codes that it was trained for.
        splitter: Name of the rule that splits raw text into words.
        inputs: What the network takes: distinct words as pieces (``words``) or sequences of pieces (``pieces``).
        unk_id: Piece id for words that have no pieces.
        pad_id: Piece id of padding.
        bos_id: Piece before a sentence, for ``pieces``.
        eos_id: Piece after a sentence, for ``pieces``.
        max_pieces: Pieces read of one word.
        window: Words (``words``) or pieces (``pieces``) that are read at once; longer text is windowed.
        overlap: Words shared by neighbouring windows.
        parameters: Number of weights, embeddings included.
        variant: The variant opened by default.
        gate: What the int8 variant was held to and what it reached.
        student: Kind and options of the student, enough to build it again for training on.
        provenance: Teacher, data, recipe, licences, versions.
        metrics: F1 by language and what else was measured.
        digests: SHA-256 of every other file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    version: str = Field(default="0.1.0", pattern=r"^\d+\.\d+\.\d+[A-Za-z0-9.+-]*$")
    types: tuple[str, ...] = Field(min_length=1, max_length=1000)
    languages: tuple[str, ...] = Field(min_length=1)
    splitter: str = splitter.NAME
    inputs: Literal["words", "pieces"]
    unk_id: int = Field(ge=0, lt=1 << 31)
    pad_id: int = Field(ge=0, lt=1 << 31)
    bos_id: int | None = Field(default=None, ge=0, lt=1 << 31)
    eos_id: int | None = Field(default=None, ge=0, lt=1 << 31)
    max_pieces: int = Field(ge=1, le=256)
    window: int = Field(ge=8, le=1 << 20)
    overlap: int = Field(ge=0, le=1 << 16)
    parameters: int = Field(ge=0)
    variant: Variant
    gate: dict[str, Any] = Field(default_factory=dict)
    student: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    digests: dict[str, str]

    @field_validator("types")
    @classmethod
    def _distinct(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        return LabelScheme(types).types


@dataclass(frozen=True)
class Bundle:
    """What serving needs of a bundle, in memory: it outlives the folder it came from.

    Attributes:
        info: Content of ``bundle.json``.
        files: File name to bytes: the card, the tokenizer and one network.
        variant: Which network.
    """

    info: BundleInfo
    files: dict[str, bytes]
    variant: Variant

    @property
    def network(self) -> bytes:
        """The ONNX model."""
        return self.files[VARIANTS[self.variant]]

    def to_disk(self, path: Path) -> None:
        """Write the files kept in memory as a bundle that holds only them."""
        path.mkdir(parents=True, exist_ok=True)
        for name, content in self._packed().items():
            (path / name).write_bytes(content)

    def to_bytes(self) -> bytes:
        """The same as one uncompressed zip archive."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self._packed().items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()

    def _packed(self) -> dict[str, bytes]:
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        info = self.info.model_copy(update={"digests": digests, "variant": self.variant})
        return {INFO: info.model_dump_json(indent=2).encode(), **self.files}


def read_info(raw: bytes, where: str) -> BundleInfo:
    """Parse and check ``bundle.json``.

    Raises:
        BundleError: Not JSON, a newer format, a splitter that this version has not, or a field of the wrong form.
    """
    try:
        content = json.loads(raw)
        found = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{where}: not a bundle description ({error}); expected JSON with a 'format'") from error
    if found != FORMAT:
        raise BundleError(f"{where}: bundle format {found}, this version reads format {FORMAT}; install a matching nerdistill")
    try:
        info = BundleInfo.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(f"{where}: field '{'.'.join(map(str, first['loc']))}': {first['msg']}") from error
    if info.splitter != splitter.NAME:
        raise BundleError(f"{where}: made with the word splitter '{info.splitter}', this version has '{splitter.NAME}'")
    return info


def open_bundle(path: Path, variant: Variant | None = None) -> Bundle:
    """Read a bundle folder and check every file that serving needs.

    Args:
        path: The folder.
        variant: ``fp32`` or ``int8``; None takes the one that the bundle names as its default.

    Raises:
        BundleError: The folder is no bundle, a file is missing, or its content differs from its digest.
    """
    if not (path / INFO).is_file():
        pickled = any(file.suffix in _PICKLES for file in path.glob("*"))
        hint = " (a pickle is never opened; export the student with 'nerdistill distill')" if pickled else ""
        raise BundleError(f"{path}: no {INFO} in it; expected a folder written by nerdistill{hint}")
    info = read_info(_read(path / INFO), str(path / INFO))
    chosen = variant or info.variant
    files: dict[str, bytes] = {}
    for name in (TOKENIZER, VARIANTS[chosen], CARD):
        file = path / name
        if name not in info.digests:
            if name == CARD:
                continue
            raise BundleError(f"{path}: has no {chosen} network; it offers {_offered(info)}")
        files[name] = _read(file)
        _check(file, files[name], info.digests[name])
    return Bundle(info, files, chosen)


def bundle_from_bytes(raw: bytes) -> Bundle:
    """The inverse of `Bundle.to_bytes`.

    Raises:
        BundleError: Not such an archive, an unexpected member, or a digest that differs.
    """
    expected = {INFO, TOKENIZER, CARD, *VARIANTS.values()}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = archive.namelist()
            if not {INFO, TOKENIZER} <= set(names) <= expected or len(names) > len(set(names)):
                raise BundleError(f"packed bundle: found the members {sorted(names)[:10]}, expected some of {sorted(expected)}")
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise BundleError("packed bundle: found compressed members, expected them stored as they are, as to_bytes does")
            files = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"packed bundle: {error}; expected bytes made by to_bytes") from error
    info = read_info(files.pop(INFO), INFO)
    if files.keys() != info.digests.keys() or VARIANTS[info.variant] not in files:
        expected = {*info.digests, VARIANTS[info.variant]}
        raise BundleError(f"packed bundle: found the members {sorted(files)}, expected {sorted(expected)}")
    for name, content in files.items():
        _check(Path(name), content, info.digests[name])
    return Bundle(info, files, info.variant)


def _read(file: Path) -> bytes:
    if file.is_symlink():
        raise BundleError(f"{file}: found a symbolic link, expected a plain file; copy the bundle's files themselves")
    if not file.is_file():
        raise BundleError(f"{file}: missing, but {INFO} lists it; copy the whole folder")
    size = file.stat().st_size
    if size > _LARGEST:
        raise BundleError(f"{file}: {size} bytes, expected at most {_LARGEST}")
    return file.read_bytes()


def _check(file: Path, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BundleError(f"{file}: damaged (sha256 {found[:12]}..., expected {expected[:12]}...); fetch or export the bundle again")


def _offered(info: BundleInfo) -> str:
    return ", ".join(variant for variant, name in VARIANTS.items() if name in info.digests) or "none"
