"""Tests of how `nerdistill.pipeline.component` and what it found are saved and loaded."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.util import load_model_from_config
from spacy.vocab import Vocab

from nerdistill.errors import BundleError
from nerdistill.pipeline.component import NerDistill
from tests.pipeline.shared import TEXT, TEXTS, Found, Make, pipe_of


def test_docs_travel_in_a_docbin(found: Found, nlp: Language) -> None:
    """Prevents docs that cannot be stored, or that lose labels, scores or the way to them."""
    docs = list(nlp.pipe(TEXTS))
    binary = DocBin(docs=docs, store_user_data=True).to_bytes()
    for before, after in zip(docs, DocBin().from_bytes(binary).get_docs(Vocab()), strict=True):
        assert found(after) == found(before)
        assert [ent._.score for ent in after.ents] == [ent._.score for ent in before.ents]


def _through_disk(nlp: Language, folder: Path) -> Language:
    nlp.to_disk(folder)
    return spacy.load(folder)


def _through_bytes(nlp: Language, folder: Path) -> Language:
    return load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())


@pytest.mark.parametrize(
    "way", [_through_disk, _through_bytes, lambda nlp, _: pickle.loads(pickle.dumps(nlp)), lambda nlp, _: copy.deepcopy(nlp)]
)
@pytest.mark.parametrize("used", [False, True])
def test_round_trips(
    with_config: Make, found: Found, bundle_path: Path, tmp_path: Path, way: Callable[[Language, Path], Language], used: bool
) -> None:
    """Prevents a pipeline that saves only the path of its weights, or that cannot be saved once it has run."""
    nlp = with_config(bundle_path, threshold=0.3, spans_key="nerdistill")
    expected = found(with_config(bundle_path, threshold=0.3)(TEXT))
    if used:
        nlp(TEXT)
    if way is not _through_bytes:
        shutil.move(bundle_path, tmp_path / "elsewhere")
    again = way(nlp, tmp_path / "saved")
    assert found(again(TEXT)) == expected
    assert pipe_of(again).cfg == pipe_of(nlp).cfg
    assert again.config == nlp.config


def test_saving_leaves_out_what_is_excluded(nlp: Language, tmp_path: Path) -> None:
    """Prevents `exclude` from being ignored, which spaCy passes on every call, and `from_disk` from returning nothing."""
    component = pipe_of(nlp)
    component.to_disk(tmp_path / "part", exclude=["vocab", "bundle"])
    assert not (tmp_path / "part").exists()
    assert component.to_bytes(exclude=["bundle"]) == b""
    component.to_disk(tmp_path / "part", exclude=["vocab"])
    fresh = NerDistill()
    assert fresh.from_disk(tmp_path / "part", exclude=["bundle"]) is fresh
    assert fresh.from_bytes(component.to_bytes(), exclude=["bundle"]).labels == ()
    assert fresh.from_disk(tmp_path / "part", exclude=["vocab"]).labels == component.labels


def test_saving_over_another_variant(with_config: Make, bundle_path: Path, tmp_path: Path) -> None:
    """Prevents a stale, four times larger network from staying in a folder and being packed into a wheel."""
    with_config(bundle_path, variant="fp32").to_disk(tmp_path / "saved")
    with_config(bundle_path, variant="int8").to_disk(tmp_path / "saved")
    assert [file.name for file in (tmp_path / "saved").rglob("*.onnx")] == ["model.int8.onnx"]


def test_damaged_weights_are_refused(nlp: Language, tmp_path: Path) -> None:
    """Prevents a half-copied pipeline from tagging with broken weights."""
    nlp.to_disk(tmp_path / "saved")
    network = next((tmp_path / "saved").rglob("*.onnx"))
    network.write_bytes(network.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleError, match="damaged"):
        spacy.load(tmp_path / "saved")
    with pytest.raises(BundleError, match="packed bundle"):
        pipe_of(nlp).from_bytes(b"nonsense")
