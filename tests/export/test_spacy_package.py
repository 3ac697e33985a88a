"""Tests of `nerdistill.export.spacy_package`."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import spacy
from packaging.requirements import Requirement

import nerdistill
from nerdistill.errors import BundleError, ConfigError
from nerdistill.export.bundle_writer import Manifest, write_bundle
from nerdistill.export.spacy_package import build_pipeline, build_wheel
from nerdistill.students.base import Student
from nerdistill.students.vocabulary import Vocabulary

TEXT = "Anna Schmidt besucht Berlin. La France a gagné contre l'Italie à Paris."

INSTALLED = """
import socket, sys
for heavy in ("torch", "transformers", "datasets", "onnx", "safetensors"):
    sys.modules[heavy] = None
def refuse(*_):
    raise OSError("no network")
socket.socket.connect = refuse
import json, spacy
nlp = spacy.load("xx_ner_tiny")
import xx_ner_tiny
assert xx_ner_tiny.__version__ == nlp.meta["version"] == "1.2.0"
assert "xx_ner_tiny" in spacy.util.get_installed_models()
strict = xx_ner_tiny.load(config={"components.nerdistill.threshold": 1.0})
print(json.dumps([[[ent.start, ent.end, ent.label_] for ent in made(sys.argv[1]).ents] for made in (nlp, strict)]))
"""


@pytest.fixture
def wheel(bundle_path: Path, tmp_path: Path) -> Path:
    """A wheel of the tiny bundle."""
    return build_wheel(bundle_path, tmp_path / "dist", "ner_tiny", "1.2.0")


def member(wheel: Path, name: str) -> str:
    """The text of the one file of a wheel whose path ends so."""
    with zipfile.ZipFile(wheel) as archive:
        (found,) = (file for file in archive.namelist() if file.endswith(name))
        return archive.read(found).decode()


def test_installs_and_runs_offline(wheel: Path, bundle_path: Path, tmp_path: Path) -> None:
    """Prevents a wheel that pip refuses, that spaCy does not find, or that needs torch, a network or the bundle's old place."""
    expected = [[ent.start, ent.end, ent.label_] for ent in build_pipeline(bundle_path)(TEXT).ents]
    bundle_path.rename(tmp_path / "gone")
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check", "--target"]
    subprocess.run([*install, str(target), str(wheel)], check=True, capture_output=True, timeout=60)
    paths = [str(target), str(Path(nerdistill.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", INSTALLED, TEXT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [expected, []]


def test_record_lists_every_file(wheel: Path) -> None:
    """Prevents a wheel whose list of hashes is wrong or incomplete, which installers and auditors refuse."""
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        contents = {name: archive.read(name) for name in archive.namelist()}
    rows = list(csv.reader(member(wheel, "RECORD").splitlines()))
    assert sorted(row[0] for row in rows) == sorted(contents)
    for name, digest, size in rows:
        if name.endswith("RECORD"):
            assert (digest, size) == ("", "")
        else:
            expected = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(contents[name])))


def test_layout_is_that_of_spacy_packages(wheel: Path) -> None:
    """Prevents names that `spacy.load`, `spacy info` or pip look for in vain."""
    assert wheel.name == "xx_ner_tiny-1.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = "xx_ner_tiny/xx_ner_tiny-1.2.0"
    assert {"xx_ner_tiny/__init__.py", "xx_ner_tiny/meta.json", f"{data}/meta.json", f"{data}/config.cfg", f"{data}/README.md"} <= names
    assert {f"{data}/nerdistill/bundle/bundle.json", f"{data}/tokenizer"} <= names
    assert not any(name.endswith((".pkl", ".pt", "model.onnx")) for name in names)
    assert member(wheel, "entry_points.txt") == "[spacy_models]\nxx_ner_tiny = xx_ner_tiny\n"


def test_metadata(wheel: Path, bundle_path: Path) -> None:
    """Prevents an install without what the pipeline needs, or with a nerdistill or a spaCy that reads another format."""
    metadata = Parser().parsestr(member(wheel, "METADATA"))
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == ("xx_ner_tiny", "1.2.0", ">=3.11")
    needs = {requirement.name: requirement.specifier for requirement in map(Requirement, metadata.get_all("Requires-Dist", []))}
    assert set(needs) == {"nerdistill", "spacy"}
    assert nerdistill.__version__ in needs["nerdistill"]
    assert "0.2.0" not in needs["nerdistill"]
    assert spacy.about.__version__ in needs["spacy"]
    assert metadata.get_payload() == (bundle_path / "README.md").read_text(encoding="utf-8")


def test_same_bundle_same_bytes(wheel: Path, bundle_path: Path, tmp_path: Path) -> None:
    """Prevents wheels that differ by clock, folder or hash seed, so that a digest says nothing."""
    code = "import sys, pathlib as p, nerdistill.export.spacy_package as s; s.build_wheel(*map(p.Path, sys.argv[1:]), 'ner_tiny', '1.2.0')"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "PYTHONPATH": str(Path(nerdistill.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, str(bundle_path), str(tmp_path / "again")], env=environment, check=True, timeout=60)
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_nothing_of_the_building_machine(wheel: Path, bundle_path: Path) -> None:
    """Prevents the builder's folders from being published, and the pipeline from looking for them."""
    with zipfile.ZipFile(wheel) as archive:
        assert not any(str(bundle_path.parent).encode() in archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("name", ["", "ner-small", "ner small", "1ner", "né", "../ner", "a__b", "ner_", "x\ny", "a.b"])
def test_names_that_python_cannot_import(bundle_path: Path, tmp_path: Path, name: str) -> None:
    """Prevents a package that installs but cannot be imported, or that is written outside its folder."""
    with pytest.raises(ConfigError, match="package name"):
        build_wheel(bundle_path, tmp_path / "dist", name, "1.0.0")
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("version", ["", "one", "1.0.0-beta", "v1.0", "1.0/../x"])
def test_versions_that_pip_cannot_read(bundle_path: Path, tmp_path: Path, version: str) -> None:
    """Prevents a wheel whose file name pip misreads."""
    with pytest.raises(ConfigError, match="package version"):
        build_wheel(bundle_path, tmp_path / "dist", "ner", version)


def test_bad_language_and_bundle(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents a traceback from inside spaCy where one line says what to change."""
    with pytest.raises(ConfigError, match="lang = 'klingon'"):
        build_pipeline(bundle_path, "klingon")
    with pytest.raises(BundleError):
        build_wheel(tmp_path / "nowhere", tmp_path / "dist", "ner", "1.0.0")


def test_language_is_not_doubled(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents `de_de_ner` where the full package name is given, as spaCy's own command allows."""
    assert build_wheel(bundle_path, tmp_path, "de_ner", "1.0.0", lang="de").name == "de_ner-1.0.0-py3-none-any.whl"


def test_meta_holds_what_is_known(student: Student, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Prevents a pipeline that says nothing of its scores, licence and origin, or that breaks a header with a line break."""
    metrics: dict[str, Any] = {
        "ents_per_type": {"PER": {"f": 0.9}},
        "f1_pooled": 0.8,
        "f1_mean": 0.7,
        "f1_by_language": {"de": 0.7},
        "seconds": 3,
    }
    provenance = {"licence": "CC-BY-SA-4.0\nEvil: yes", "teacher": "mBERT"}
    write_bundle(tmp_path / "b", student, vocabulary, Manifest("t", ("PER", "LOC", "ORG"), ("de",), {}, "2.0.0", provenance, metrics))
    nlp = build_pipeline(tmp_path / "b", "de")
    meta = nlp.meta
    assert (meta["name"], meta["version"], meta["lang"], meta["sources"]) == ("t", "2.0.0", "de", [{"name": "Distilled from mBERT"}])
    assert meta["performance"] == {
        "ents_f": 0.8,
        "ents_per_type": {"PER": {"f": 0.9}},
        "f1_mean": 0.7,
        "f1_by_language": {"de": 0.7},
    }
    assert meta["labels"] == {"nerdistill": ["PER", "LOC", "ORG"]}
    assert "PER, LOC, ORG" in meta["description"]
    metadata = Parser().parsestr(member(build_wheel(tmp_path / "b", tmp_path, "ner", "1.0.0"), "METADATA"))
    assert (metadata["License"], metadata["Evil"]) == ("CC-BY-SA-4.0 Evil: yes", None)
    assert json.loads(member(tmp_path / "xx_ner-1.0.0-py3-none-any.whl", "xx_ner/meta.json"))["performance"]["ents_f"] == 0.8
