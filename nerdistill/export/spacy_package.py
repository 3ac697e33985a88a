"""From a bundle to a spaCy pipeline, and to a wheel that ``pip install`` takes and ``spacy.load`` finds.

The wheel is written directly: it is a zip archive with a list of hashes. No build tool runs and no network is needed, and the same bundle
gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import spacy
from packaging.version import InvalidVersion, Version
from spacy.about import __version__ as spacy_version
from spacy.language import Language
from spacy.util import get_minor_version_range

import nerdistill
from nerdistill.errors import ConfigError
from nerdistill.files import write_atomic
from nerdistill.pipeline.component import NerDistill
from nerdistill.runtime.bundle import CARD, Bundle, BundleInfo, open_bundle

COMPONENT = "nerdistill"

_INIT = '''"""A pipeline made by nerdistill: ``spacy.load("{package}")``."""

from pathlib import Path

from spacy.util import get_model_meta, load_model_from_init_py

__version__ = get_model_meta(Path(__file__).parent)["version"]


def load(**overrides):
    """The pipeline, as ``spacy.load`` gives it."""
    return load_model_from_init_py(__file__, **overrides)
'''


def build_pipeline(bundle: Path, lang: str = "xx") -> Language:
    """Make a pipeline of the project's word splitter and the component, with the bundle's weights inside.

    Args:
        bundle: A bundle folder; not needed any more afterwards.
        lang: Language code of the pipeline; ``xx`` is spaCy's code for several languages.

    Raises:
        BundleError: There is no sound bundle at that path.
        ConfigError: spaCy does not know the language.
    """
    return _pipeline(open_bundle(bundle), lang)


def build_wheel(bundle: Path, out: Path, name: str, version: str, lang: str = "xx") -> Path:
    """Write an installable pipeline; the file appears complete or not at all.

    Args:
        bundle: A bundle folder.
        out: Folder for the wheel.
        name: Name of the pipeline; the package is ``{lang}_{name}``.
        version: Its version.
        lang: Language code of the pipeline.

    Returns:
        Path of the wheel.

    Raises:
        BundleError: There is no sound bundle at that path.
        ConfigError: The name, the version or the language cannot be used in a package.
    """
    name = name.removeprefix(f"{lang}_")
    _check(name, version)
    opened = open_bundle(bundle)
    nlp = _pipeline(opened, lang)
    nlp.meta.update(name=name, version=version)
    package = f"{lang}_{name}"
    card = opened.files.get(CARD, b"").decode()
    members = _package(nlp, package, version, card) | _dist_info(nlp.meta, package, version, card)
    record = f"{package}-{version}.dist-info/RECORD"
    members[record] = _record(members, record)
    path = out / f"{package}-{version}-py3-none-any.whl"
    write_atomic(path, _zip(members))
    return path


def _pipeline(bundle: Bundle, lang: str) -> Language:
    config = {"nlp": {"tokenizer": {"@tokenizers": "nerdistill.Splitter.v1"}}}
    try:
        nlp = spacy.blank(lang, config=config, meta=_meta(bundle.info))
    except ImportError as error:
        raise ConfigError(f"lang = '{lang}': spaCy has no such language; use 'xx' for several languages") from error
    component = nlp.add_pipe(COMPONENT)
    assert isinstance(component, NerDistill)
    component.bundle = bundle
    return nlp


def _meta(info: BundleInfo) -> dict[str, Any]:
    release = Version(spacy_version).release
    spacy_range = f">={release[0]}.{release[1]}.0,<{release[0]}.{release[1] + 1}.0"
    teacher = info.provenance.get("teacher")
    return {
        "name": info.name,
        "version": info.version,
        "spacy_version": spacy_range,
        "description": f"Finds {', '.join(info.types)} in {', '.join(info.languages)}; {info.parameters:,} parameters.",
        "license": str(info.provenance.get("licence", "other")),
        "sources": [{"name": f"Distilled from {teacher}"}] if teacher else [],
        "performance": _performance(info.metrics),
        "requirements": [f"nerdistill{get_minor_version_range(nerdistill.__version__)}", f"spacy{spacy_range}"],
    }


def _performance(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the bundle measured, with spaCy's names where spaCy has one."""
    known = {key: metrics[key] for key in ("ents_p", "ents_r", "ents_f", "ents_per_type") if key in metrics}
    if "f1_pooled" in metrics:
        known.setdefault("ents_f", metrics["f1_pooled"])
    return known | {key: metrics[key] for key in ("f1_mean", "f1_std", "f1_by_language") if key in metrics}


def _check(name: str, version: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name):
        raise ConfigError(f"package name '{name}': expected letters, digits and single underscores, a letter first, such as 'ner_small'")
    try:
        normal = str(Version(version))
    except InvalidVersion as error:
        raise ConfigError(f"package version '{version}': expected a version such as '1.0.0'") from error
    if normal != version:
        raise ConfigError(f"package version '{version}': write it as '{normal}'")


def _package(nlp: Language, package: str, version: str, card: str) -> dict[str, bytes]:
    """The files of the Python package: code, meta and the saved pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        nlp.to_disk(root)
        saved = {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    data = f"{package}/{package}-{version}"
    return {
        f"{package}/__init__.py": _INIT.format(package=package).encode(),
        f"{package}/meta.json": saved["meta.json"],
        f"{data}/{CARD}": card.encode(),
        **{f"{data}/{file}": content for file, content in saved.items()},
    }


def _dist_info(meta: dict[str, Any], package: str, version: str, card: str) -> dict[str, bytes]:
    """The files that pip reads, but for the list of hashes."""
    headers = [
        ("Metadata-Version", "2.1"),
        ("Name", package),
        ("Version", version),
        ("Summary", meta["description"]),
        ("License", meta["license"]),
        ("Requires-Python", ">=3.11"),
        *(("Requires-Dist", requirement) for requirement in meta["requirements"]),
        ("Description-Content-Type", "text/markdown"),
    ]
    lines = [f"{key}: {' '.join(value.split())}" for key, value in headers]
    wheel = f"Wheel-Version: 1.0\nGenerator: nerdistill ({nerdistill.__version__})\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    texts = {
        "METADATA": "\n".join([*lines, "", card]),
        "WHEEL": wheel,
        "entry_points.txt": f"[spacy_models]\n{package} = {package}\n",
        "top_level.txt": f"{package}\n",
    }
    return {f"{package}-{version}.dist-info/{file}": text.encode() for file, text in texts.items()}


def _record(members: dict[str, bytes], record: str) -> bytes:
    """The list of all files with hash and size; its own line has neither."""
    lines = []
    for file, content in sorted(members.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{record},,", ""]).encode()


def _zip(members: dict[str, bytes]) -> bytes:
    """An archive whose bytes depend on its content only; what pip reads comes last, as the wheel format asks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(members, key=lambda file: (".dist-info/" in file, file)):
            entry = zipfile.ZipInfo(file, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[file])
    return buffer.getvalue()
