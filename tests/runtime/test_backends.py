"""Tests of `nerdistill.runtime.backends` and `nerdistill.runtime.openvino_session`."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nerdistill.errors import BundleError, ConfigError, MissingExtraError
from nerdistill.runtime.backends import BACKENDS, open_for, open_network
from nerdistill.runtime.bundle import INFO, Bundle, open_bundle
from nerdistill.runtime.openvino_session import OpenVINOSession, Precision, _size
from nerdistill.runtime.tagger import Tagger
from tests.runtime.shared import TEXTS, places_of, sentences_of


class TestChoice:
    def test_the_default_depends_on_nothing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents tags that change because a package was installed."""
        monkeypatch.setitem(sys.modules, "openvino", None)
        assert Tagger.load(path).backend == "onnxruntime"

    def test_a_backend_that_is_not_there(self, path: Path) -> None:
        """Prevents a misspelt backend from being ignored."""
        message = "backend = 'openvin', expected one of onnxruntime, onnxruntime-cuda, openvino, openvino-bf16"
        with pytest.raises(ConfigError, match=message):
            Tagger.load(path, backend="openvin")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            Tagger(open_bundle(path), 1, "openvin")  # type: ignore[arg-type]

    def test_a_gpu_that_is_not_there(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents the CPU in a GPU's place: ONNX Runtime takes it without a word, whether its build or the driver is at fault."""
        import onnxruntime

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.raises(ConfigError, match="onnxruntime-gpu in the place of onnxruntime; this one has CPUExecutionProvider"):
            Tagger.load(path, "fp32", backend="onnxruntime-cuda")
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        opened = onnxruntime.InferenceSession
        monkeypatch.setattr(
            onnxruntime, "InferenceSession", lambda *given, **more: opened(*given, **{**more, "providers": ["CPUExecutionProvider"]})
        )
        with pytest.raises(ConfigError, match="fell back to CPUExecutionProvider"):
            Tagger.load(path, "fp32", backend="onnxruntime-cuda")
        with pytest.raises(ConfigError, match="only ONNX Runtime on a CPU runs it"):
            Tagger.load(path, "int8", backend="onnxruntime-cuda")

    @pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend.startswith("openvino")])
    def test_a_backend_that_is_not_installed(self, path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a bare ImportError, and another backend in its place."""
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'nerdistill\[openvino\]'"):
            Tagger.load(path, backend=backend)  # type: ignore[arg-type]

    def test_eight_bits_are_of_onnx_runtime(self, bundle_path: Path) -> None:
        """Prevents an obscure error of OpenVINO's, and the float32 network where 8 bits were asked for."""
        with pytest.raises(ConfigError, match="only ONNX Runtime on a CPU runs it; open the fp32 one"):
            open_for(bundle_path, "int8", "openvino")
        with pytest.raises(ConfigError, match="only ONNX Runtime on a CPU runs it"):
            open_network(open_bundle(bundle_path, "int8"), 1, "openvino")

    def test_a_bundle_of_eight_bits_opens_in_float32(self, bundle_path: Path) -> None:
        """Prevents a bundle whose own choice is 8 bits from being useless with OpenVINO; other backends keep to that choice."""
        info = open_bundle(bundle_path).info.model_copy(update={"variant": "int8"})
        (bundle_path / INFO).write_text(info.model_dump_json())
        assert open_for(bundle_path, None, "onnxruntime").variant == "int8"
        assert open_for(bundle_path, None, "openvino").variant == "fp32"


@pytest.fixture
def both(request: pytest.FixtureRequest) -> tuple[Tagger, Tagger]:
    """A student in ONNX Runtime and in OpenVINO, float32, one thread."""
    pytest.importorskip("openvino")
    path = request.getfixturevalue(request.param)
    return Tagger.load(path, "fp32", 1), Tagger.load(path, "fp32", 1, "openvino")


students = pytest.mark.parametrize("both", ["path", "transformer_path"], indirect=True)


class TestOpenVINO:
    @students
    def test_the_same_spans(self, both: tuple[Tagger, Tagger]) -> None:
        """Prevents another backend from finding other entities: alone, together, and in texts longer than a window."""
        one, other = both
        texts = [*TEXTS, " ".join(TEXTS) * 30]
        sentences = sentences_of(40, 30)
        assert places_of([*other.pipe(texts)]) == places_of([*one.pipe(texts)])
        assert places_of([other(text) for text in texts]) == places_of([one(text) for text in texts])
        for budget in (1, 200, 8192):
            other.budget = budget
            assert places_of(other.tag_words(sentences)) == places_of(one.tag_words(sentences))
        np.testing.assert_allclose(other.log_probabilities(sentences)[0], one.log_probabilities(sentences)[0], atol=1e-3)

    @students
    @given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=20), seed=st.integers(0, 99))
    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_padding_is_not_read(self, both: tuple[Tagger, Tagger], lengths: list[int], seed: int) -> None:
        """Prevents a sentence from being read differently beside a longer one, as OpenVINO's own bidirectional LSTM does."""
        choose = np.random.default_rng(seed)
        sentences = [[f"w{number}" for number in choose.integers(0, 50, length)] for length in lengths]
        one, other = both
        assert places_of(other.tag_words(sentences)) == places_of(one.tag_words(sentences))

    def test_bfloat16_is_close(self, path: Path) -> None:
        """Prevents a network that is another one in bfloat16, and another precision than was asked for."""
        pytest.importorskip("openvino")
        full, half = Tagger.load(path, "fp32", 1), Tagger.load(path, "fp32", 1, "openvino-bf16")
        network = full.bundle.network
        precisions = [OpenVINOSession(network, 1, precision, 0, 256).precision for precision in get_args(Precision)]
        assert precisions in (["f32", "bf16"], ["f32", "f32"]), "a processor without bfloat16 computes in float32"
        one, other = (tagger.log_probabilities(sentences_of(40, 20))[0] for tagger in (full, half))
        assert 0 < np.abs(np.exp(one) - np.exp(other)).mean() < 0.02

    def test_many_threads_as_one(self, path: Path) -> None:
        """Prevents one thread's result from being overwritten by another's."""
        pytest.importorskip("openvino")
        tagger = Tagger.load(path, None, 1, "openvino")
        sentences = [sentences_of(5, 30, seed) for seed in range(40)]
        expected = [tagger.tag_words(batch) for batch in sentences]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(tagger.tag_words, sentences)) == expected

    def test_pickle(self, path: Path) -> None:
        """Prevents a copy that runs in another backend."""
        pytest.importorskip("openvino")
        tagger = Tagger.load(path, None, 1, "openvino")
        copy = pickle.loads(pickle.dumps(tagger))
        assert copy.backend == "openvino"
        assert [copy(text) for text in TEXTS] == [tagger(text) for text in TEXTS]

    @pytest.mark.parametrize(("name", "says"), [("model.onnx", "cannot be opened"), ("types", "gives 7 scores a word, expected 5")])
    def test_networks_that_are_something_else(self, path: Path, name: str, says: str) -> None:
        """Prevents a traceback of a library where the content is wrong though its digest is right, and a network of another student."""
        pytest.importorskip("openvino")
        bundle = open_bundle(path)
        info = bundle.info.model_copy(update={"types": ("PER", "LOC")} if name == "types" else {})
        with pytest.raises(BundleError, match=says):
            open_network(Bundle(info, {**bundle.files, name: b"{}"}, bundle.variant), 1, "openvino")

    def test_other_recurrent_layers_are_refused(self) -> None:
        """Prevents a layer that would read padding from being run as it is."""
        pytest.importorskip("openvino")
        weight = numpy_helper.from_array(np.zeros((1, 9, 3), dtype=np.float32), "weight")
        node = helper.make_node("GRU", ["words", "weight", "weight"], ["logits"], hidden_size=3, direction="reverse")
        shape = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (None, None, 3)) for name in ("words", "logits")]
        graph = helper.make_graph([node], "other", shape[:1], shape[1:], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        with pytest.raises(BundleError, match="found a reverse GRUSequence, expected a bidirectional LSTMSequence"):
            OpenVINOSession(model.SerializeToString(), 1, "f32", 0, 256)


class TestShapes:
    @given(n=st.integers(1, 100_000), step=st.sampled_from([2, 8, 16]))
    def test_padding_is_little(self, n: int, step: int) -> None:
        """Prevents padding that costs more than it saves, or that cuts."""
        assert n <= _size(n, step) <= n + max(step, n / 8)
        assert _size(_size(n, step), step) == _size(n, step)

    def test_they_are_few(self, path: Path) -> None:
        """Prevents a preparation, and memory for it, with every new length."""
        pytest.importorskip("openvino")
        session = open_network(open_bundle(path, "fp32"), 1, "openvino").__self__  # type: ignore[attr-defined]
        widths = {session._padded("word_index", np.zeros((1, n), dtype=np.int64)).shape[1] for n in range(1, 257)}
        assert len(widths) < 80
        assert max(widths) == 256

    def test_no_wider_than_the_network(self, transformer_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents padding beyond the last position of a Transformer."""
        pytest.importorskip("openvino")
        bundle = open_bundle(transformer_path)
        info = bundle.info.model_copy(update={"window": 59})  # 61 pieces with both ends, padded to 62 if nothing held it
        session = open_network(Bundle(info, bundle.files, bundle.variant), 1, "openvino").__self__  # type: ignore[attr-defined]
        shapes = {n: session._padded("input_ids", np.ones((1, n), dtype=np.int64)).shape[1] for n in (9, 59, 61, 63)}
        assert shapes == {9: 10, 59: 60, 61: 61, 63: 63}


FORKED = """
import os, signal, sys
from nerdistill.runtime.tagger import Tagger

tagger = Tagger.load(sys.argv[1], threads=2, backend="openvino")
text = "Anna Schmidt besucht Berlin"
expected = tagger(text)
child = os.fork()
if not child:
    signal.alarm(30)
    if sys.argv[2] == "drop":
        del tagger
    elif sys.argv[2] == "use":
        assert tagger(text) == expected
    sys.exit(0)
print(os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("way", ["use", "exit", "drop"])
def test_after_a_fork(path: Path, way: str) -> None:
    """Prevents a forked worker from waiting for ever for the network's threads, which stayed in the parent."""
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", FORKED, str(path), way], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "0", done.stderr
