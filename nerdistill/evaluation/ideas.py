"""Ways to make tagging faster that were tried, each measured beside the plain way: what was expected, what came out, what was kept.

Those that were kept are the program's own; of those that were not, only as much is written here as it takes to measure them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nerdistill.evaluation.network_ideas import network_ways
from nerdistill.evaluation.parts import Parts, fastest
from nerdistill.evaluation.tables import Results, markdown
from nerdistill.labels import LabelScheme
from nerdistill.runtime.decode import Floats, Ints, decode_tags, log_softmax, spans_of_tags, viterbi
from nerdistill.runtime.session import open_session
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import WORD, places, split_words

if TYPE_CHECKING:
    import onnx


class Idea(NamedTuple):
    """One line of the table.

    Attributes:
        what: What was tried.
        expected: Why it should be faster.
        kept: Whether the program does it.
    """

    what: str
    expected: str
    kept: bool


IDEAS = {
    "split": Idea(
        "cut text at white space, remember how each run splits", "most runs recur; a look-up in place of a regular expression", True
    ),
    "places": Idea("find offsets only in texts with entities", "no offsets of words where nothing is found", True),
    "decode": Idea("decode only the words around a forbidden tag", "a few words in place of a whole sentence", True),
    "softmax": Idea("normalise only the words of entities", "most words are in none", True),
    "scan": Idea("project the LSTM's input once a distinct word", "over half of the products depend on the word alone", False),
    "scan, one sentence": Idea("the same in a call of one sentence", "nothing recurs there", False),
    "vectors": Idea("remember every word's pooled vector and give the network those", "no pieces to look up, widen and pool", False),
    "rewriting": Idea("let ONNX Runtime rewrite the network", "several operators become one", True),
    "sleeping": Idea("two threads that sleep while they wait for work", "other processes get the core; waking up costs something", True),
    "arena": Idea("no memory arena", "less memory", False),
    "pattern": Idea("no memory plan for shapes met before", "shapes seldom recur", False),
}
"""By the key that `measure_ideas` gives its figures."""

_HIDDEN, _INPUT = 160, 192
_CALLS = {"scan": (40, 25, 450), "scan, one sentence": (1, 20, 20)}
"""Sentences, words of each, distinct words."""


def measure_ideas(tagger: Tagger, texts: Sequence[str]) -> dict[str, list[float]]:
    """Measure all of them, on one thread where nothing else is said.

    Args:
        tagger: In ONNX Runtime, on one thread.
        texts: What is read.

    Returns:
        Key of `IDEAS` to microseconds a word the plain way and the way that was tried: of the processor, the fastest of some rounds.
    """
    words, scheme = [split_words(text) for text in texts], tagger.scheme
    logits, offsets = tagger.logits(words)
    tags = decode_tags(logits, offsets, scheme)
    found = spans_of_tags(tags, logits, offsets, scheme)
    n_words = len(tags)
    pairs: dict[str, tuple[int, Callable[[], object], Callable[[], object]]] = {
        "split": (n_words, lambda: [WORD.findall(text) for text in texts], lambda: [split_words(text) for text in texts]),
        "places": (
            n_words,
            lambda: [places(*pair) for pair in zip(texts, words, strict=True)],
            lambda: [places(text, inside[: spans[-1].stop]) for text, inside, spans in zip(texts, words, found, strict=True) if spans],
        ),
        "decode": (n_words, lambda: _decode_sentences(logits, offsets, scheme), lambda: decode_tags(logits, offsets, scheme)),
        "softmax": (n_words, lambda: log_softmax(logits), lambda: log_softmax(logits[np.flatnonzero(tags)])),
    }
    for name, (n_sentences, length, distinct) in _CALLS.items():
        pairs[name] = (n_sentences * length, *_lstm_ways(n_sentences, length, distinct))
    if tagger.info.inputs == "words":
        ways = network_ways(tagger.bundle.network, Parts(tagger, texts, words).arrays)
        pairs.update({name: (n_words, *both) for name, both in ways.items()})
    return {
        name: [round(1e6 * seconds / count, 4) for seconds in fastest({"plain": plain, "tried": tried}).values()]
        for name, (count, plain, tried) in pairs.items()
    }


def ideas_table(results: Results) -> str:
    """The ideas with what was measured of them, as Markdown."""
    measured: Mapping[str, Sequence[float]] = results["ideas"]
    lines = [
        [idea.what, idea.expected, *(f"{value:.2f}" for value in measured[key]), "yes" if idea.kept else "no"]
        for key, idea in IDEAS.items()
        if key in measured
    ]
    return markdown(["tried", "expected", "before (µs a word)", "after (µs a word)", "kept"], lines)


def _decode_sentences(logits: Floats, offsets: Ints, scheme: LabelScheme) -> Ints:
    """`decode_tags` by the dynamic programme over every whole sentence whose best tags are not valid."""
    tags: Ints = logits.argmax(axis=1)
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        best = tags[start:stop]
        if stop > start and not scheme.allowed[[len(scheme.tags), *best[:-1]], best].all():
            tags[start:stop] = viterbi(logits[start:stop], scheme.allowed)
    return tags


def _lstm_ways(n_sentences: int, length: int, n_distinct: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """A random bidirectional LSTM over words of which some are the same: ONNX's operator, and a `Scan` over projected inputs."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, n_distinct, (length, n_sentences))
    given = {"distinct": rng.normal(size=(n_distinct, _INPUT)).astype(np.float32), "index": index}
    operator, scan = (open_session(network.SerializeToString(), threads=1) for network in _lstm_networks(rng))
    turned = {**given, "turned": index[::-1].copy()}
    return lambda: operator.run(None, given), lambda: scan.run(None, turned)


def _lstm_networks(rng: np.random.Generator) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    from onnx import TensorProto, helper, numpy_helper

    floats, ints, node = TensorProto.FLOAT, TensorProto.INT64, helper.make_node

    def model(nodes: Sequence[Any], inputs: Mapping[str, tuple[int, Any]], **weights: Any) -> onnx.ModelProto:
        graph = helper.make_graph(
            nodes,
            "lstm",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info("states", floats, None)],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    inputs = {"distinct": (floats, ("U", _INPUT)), "index": (ints, ("W", "B"))}
    from_words = rng.normal(0, 0.1, (2, 4 * _HIDDEN, _INPUT)).astype(np.float32)
    from_states = rng.normal(0, 0.1, (2, 4 * _HIDDEN, _HIDDEN)).astype(np.float32)
    layer = node("LSTM", ["words", "from_words", "from_states"], ["states"], direction="bidirectional", hidden_size=_HIDDEN)
    operator = model([node("Gather", ["distinct", "index"], ["words"]), layer], inputs, from_words=from_words, from_states=from_states)

    step = helper.make_graph(
        [
            *(node("Gather", [f"projected_{way}", f"at_{way}"], [f"of_{way}"]) for way in "fb"),
            *(node("Unsqueeze", [f"of_{way}", "zero"], [f"one_{way}"]) for way in "fb"),
            node("Concat", ["one_f", "one_b"], ["of_words"], axis=0),
            node("MatMul", ["state", "by_state"], ["of_state"]),
            node("Add", ["of_words", "of_state"], ["gates"]),
            node("Split", ["gates", "gate_widths"], ["open", "new"], axis=2),
            node("Sigmoid", ["open"], ["opened"]),
            node("Split", ["opened", "three"], ["input", "output", "forget"], axis=2),
            node("Tanh", ["new"], ["candidate"]),
            node("Mul", ["input", "candidate"], ["taken"]),
            node("Mul", ["forget", "cell"], ["kept"]),
            node("Add", ["taken", "kept"], ["next_cell"]),
            node("Tanh", ["next_cell"], ["shown"]),
            node("Mul", ["output", "shown"], ["next_state"]),
            node("Identity", ["next_state"], ["said"]),
        ],
        "step",
        [
            *(helper.make_tensor_value_info(name, floats, (2, None, _HIDDEN)) for name in ("state", "cell")),
            *(helper.make_tensor_value_info(f"at_{way}", ints, (None,)) for way in "fb"),
        ],
        [helper.make_tensor_value_info(name, floats, (2, None, _HIDDEN)) for name in ("next_state", "next_cell", "said")],
    )
    scan = model(
        [
            *(node("MatMul", ["distinct", f"by_word_{way}"], [f"projected_{way}"]) for way in "fb"),
            node("Shape", ["index"], ["sentences"], start=1),
            node("Concat", ["two", "sentences", "width"], ["shape"], axis=0),
            node("ConstantOfShape", ["shape"], ["zeros"]),
            node("Scan", ["zeros", "zeros", "index", "turned"], ["last", "last_cell", "states"], body=step, num_scan_inputs=2),
        ],
        {**inputs, "turned": (ints, ("W", "B"))},
        by_word_f=from_words[0].T.copy(),
        by_word_b=from_words[1].T.copy(),
        by_state=from_states.transpose(0, 2, 1).copy(),
        zero=np.array([0]),
        two=np.array([2]),
        width=np.array([_HIDDEN]),
        gate_widths=np.array([3 * _HIDDEN, _HIDDEN]),
        three=np.array([_HIDDEN] * 3),
    )
    return operator, scan
