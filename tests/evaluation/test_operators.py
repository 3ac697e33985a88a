"""Tests of `nerdistill.evaluation.operators`: not of any time, but of what is timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nerdistill.evaluation import operators
from nerdistill.evaluation.machine_rates import product
from nerdistill.evaluation.operators import LSTMS, lstm_alone, operator_seconds
from nerdistill.evaluation.parts import Parts
from nerdistill.runtime.bundle import Variant
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import split_words

TEXTS = ["Anna Schmidt besucht Berlin .", "Siemens AG opens in London"]


@pytest.fixture(autouse=True)
def _one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round beside the first."""
    monkeypatch.setattr(operators, "ROUNDS", 1)


@pytest.mark.parametrize(("int8", "operator"), [(False, "MatMul"), (True, "MatMulInteger")])
def test_an_operator_has_its_time(int8: bool, operator: str) -> None:
    """Prevents a profile that names nothing, as when ONNX Runtime's format changes."""
    states = np.ones((64, 32), np.uint8 if int8 else np.float32)
    seconds = operator_seconds(product(32, 64, int8).SerializeToString(), [{"states": states}])
    assert operator in seconds
    assert all(taken >= 0 for taken in seconds.values())


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_layer_and_its_parts(bundle_path: Path, variant: Variant) -> None:
    """Prevents an LSTM that is not found, and parts computed in another precision than the layer's."""
    tagger = Tagger.load(bundle_path, variant, 1)
    parts = Parts(tagger, TEXTS, [split_words(text) for text in TEXTS])
    assert LSTMS.keys() & operator_seconds(tagger.bundle.network, parts.arrays).keys()
    alone = lstm_alone(tagger.bundle.network, parts.arrays)
    assert set(alone) == {"words", "states", "activations"}
    assert min(alone.values()) >= 0


def test_no_layer_no_parts() -> None:
    """Prevents a failure with a student that has no LSTM."""
    assert lstm_alone(product(4, 4, int8=False).SerializeToString(), []) == {}
