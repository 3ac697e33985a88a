"""Tests of `nerdistill.pipeline.component` and `nerdistill.pipeline.factory`: what they do to docs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from confection import ConfigValidationError
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import ignore_error
from spacy.vocab import Vocab

from nerdistill.errors import BundleError, ConfigError
from nerdistill.pipeline.component import NerDistill, span_score
from nerdistill.records import WordSpan
from nerdistill.runtime.bundle import open_bundle
from nerdistill.runtime.tagger import Tagger
from tests.pipeline.shared import TEXT, TEXTS, Found, Make, pipe_of


def test_tags_as_the_tagger_does(nlp: Language, bundle_path: Path) -> None:
    """Prevents entities that are shifted, lost or scored differently on their way into a doc."""
    doc = nlp(TEXT)
    entities = Tagger.load(bundle_path)(TEXT)
    assert [(ent.start_char, ent.end_char, ent.text, ent.label_) for ent in doc.ents] == [
        (e.start, e.stop, e.text, e.label) for e in entities
    ]
    assert doc.spans["nerdistill"].attrs["scores"] == pytest.approx([entity.score for entity in entities])
    assert len(entities) > 3


def test_predict_changes_nothing(nlp: Language) -> None:
    """Prevents predictions that mark the doc before anyone decided to keep them."""
    doc = nlp.make_doc(TEXT)
    before = doc.to_bytes()
    assert pipe_of(nlp).predict([doc])[0]
    assert doc.to_bytes() == before


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_pipe_equals_call_in_order(with_config: Make, found: Found, bundle_path: Path, batch_size: int) -> None:
    """Prevents results that depend on the batch (in float32; in 8 bits they do a little), or that come out under another doc."""
    nlp = with_config(bundle_path, variant="fp32")
    docs = list(nlp.pipe(((text, at) for at, text in enumerate(TEXTS)), as_tuples=True, batch_size=batch_size))
    assert [(doc.text, context) for doc, context in docs] == [(text, at) for at, text in enumerate(TEXTS)]
    for doc, _ in docs:
        expected = found(nlp(doc.text))
        assert [span[:3] for span in found(doc)] == [span[:3] for span in expected]
        assert [span[3] for span in found(doc)] == pytest.approx([span[3] for span in expected], abs=1e-4)


@pytest.mark.parametrize("text", ["", " ", " \n\t ", "\u3000"])
def test_nothing_to_see(nlp: Language, text: str) -> None:
    """Prevents a crash, or a missing span group, on empty and white-space docs."""
    doc = nlp(text)
    assert (doc.text, doc.ents, len(doc.spans["nerdistill"])) == (text, (), 0)
    assert list(nlp.pipe([])) == []


def test_white_space_is_never_at_an_edge(nlp: Language) -> None:
    """Prevents entities that begin or end on a white-space token, and white space that changes what is found."""
    words = TEXT.split()
    doc = nlp("  \n " + " \n  ".join(words) + "\t ")
    plain = nlp(" ".join(words))
    assert [ent.text.split() for ent in doc.ents] == [ent.text.split() for ent in plain.ents]
    assert not any(ent[edge].is_space for ent in doc.ents for edge in (0, -1))


def test_longer_than_a_window_without_sentences(nlp: Language, bundle_path: Path) -> None:
    """Prevents text beyond the window from being cut silently, and a need for sentence boundaries."""
    words = TEXT.split() * 100
    doc = Doc(nlp.vocab, words=words)
    pipe_of(nlp)(doc)
    expected = Tagger.load(bundle_path).tag_words([words])[0]
    assert len(words) > open_bundle(bundle_path).info.window
    assert [(ent.start, ent.end, ent.label_) for ent in doc.ents] == [(span.start, span.stop, span.label) for span in expected]
    assert doc.ents[-1].end > len(words) - 20


def test_doc_from_another_vocab(nlp: Language) -> None:
    """Prevents labels that are unknown to the doc's own string store."""
    doc = Doc(Vocab(), words=TEXT.split())
    assert {ent.label_ for ent in pipe_of(nlp)(doc).ents} <= {"PER", "LOC", "ORG"}
    assert Doc(Vocab()).from_bytes(doc.to_bytes()).ents[0].label_ == doc.ents[0].label_


def test_scores(nlp: Language) -> None:
    """Prevents NumPy floats, which break msgpack, and a span extension that gives one entity another's score."""
    doc = nlp(TEXT)
    scores = doc.spans["nerdistill"].attrs["scores"]
    assert all(type(score) is float and 0 < score <= 1 for score in scores)
    assert [ent._.score for ent in doc.ents] == scores
    assert doc[0 : len(doc)]._.score is None
    pipe_of(nlp).set_annotations([doc], [[WordSpan(0, 1, "PER", np.float64(0.5))]])
    assert type(doc.spans["nerdistill"].attrs["scores"][0]) is float
    assert Span(doc, doc.ents[0].start, doc.ents[0].end, label="OTHER")._.score is None


def test_extension_of_someone_else_stays(with_config: Make, bundle_path: Path) -> None:
    """Prevents the component from taking over an attribute that the user registered first."""
    Span.set_extension("score", default=7)
    assert with_config(bundle_path)(TEXT).ents[0]._.score == 7


def test_threshold(with_config: Make, found: Found, bundle_path: Path) -> None:
    """Prevents a threshold that is ignored, or that leaves scores and spans out of step."""
    everything = found(with_config(bundle_path)(TEXT))
    threshold = sorted(span[3] for span in everything)[len(everything) // 2]
    kept = found(with_config(bundle_path, threshold=threshold)(TEXT))
    assert kept == [span for span in everything if span[3] >= threshold]
    assert 0 < len(kept) < len(everything)


@pytest.mark.parametrize(
    ("policy", "stays"), [("spacy.prioritize_existing_ents_filter.v1", True), ("spacy.prioritize_new_ents_filter.v1", False)]
)
def test_entities_that_are_set_already(with_config: Make, bundle_path: Path, policy: str, stays: bool) -> None:
    """Prevents E1010 on overlap, and a rule component's entities from being erased unless that was asked for."""
    nlp = with_config(bundle_path, ents_filter={"@misc": policy})
    target = nlp(TEXT).ents[0]
    nlp.add_pipe("entity_ruler", before="nerdistill").add_patterns([{"label": "MINE", "pattern": target.text, "id": "q1"}])  # type: ignore[attr-defined]
    doc = nlp(TEXT)
    assert [(ent.label_, ent.ent_id_) for ent in doc.ents if ent.label_ == "MINE"] == ([("MINE", "q1")] if stays else [])
    assert len(doc.ents) > 1
    assert len(doc.spans["nerdistill"]) >= len(doc.ents) - stays


def test_default_policy_keeps_and_blocked_stays_blocked(nlp: Language) -> None:
    """Prevents the default from overwriting, and tokens marked as never an entity from becoming one."""
    doc = nlp.make_doc(TEXT)
    spans = pipe_of(nlp).predict([doc])[0]
    first, second = doc[spans[0].start : spans[0].stop], doc[spans[1].start : spans[1].stop]
    doc.set_ents([Span(doc, first.start, first.end, label="MINE")], blocked=[second], default="missing")
    pipe_of(nlp)(doc)
    assert doc.ents[0].label_ == "MINE"
    assert all(token.ent_iob == 3 and not token.ent_type for token in second)
    assert [ent.start for ent in doc.ents[1:]] == [span.start for span in spans[2:]]


def test_two_components(with_config: Make, bundle_path: Path) -> None:
    """Prevents two students in one pipeline from overwriting each other."""
    nlp = with_config(bundle_path, spans_key="one")
    nlp.add_pipe("nerdistill", "second", config={"bundle": str(bundle_path), "spans_key": "two", "threshold": 1.0})
    doc = nlp(TEXT)
    assert len(doc.ents) == len(doc.spans["one"]) > len(doc.spans["two"])
    assert [ent._.score for ent in doc.ents] == doc.spans["one"].attrs["scores"]


class Failing(NerDistill):
    """Fails on docs with a certain word, as a whole batch, as a network would."""

    def predict(self, docs: Iterable[Doc]) -> list[list[WordSpan]]:
        """As the component does, or fail."""
        docs = list(docs)
        if any("London" in doc.text for doc in docs):
            raise ValueError("broken doc")
        return super().predict(docs)


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_handler_gets_exactly_the_failing_doc(bundle_path: Path, batch_size: int) -> None:
    """Prevents a whole batch from being lost to one bad doc, and a user who cannot tell which one it was."""
    component = Failing("mine", bundle=bundle_path)
    calls: list[tuple[str, Any, list[str], str]] = []
    component.set_error_handler(lambda name, proc, docs, error: calls.append((name, proc, [doc.text for doc in docs], str(error))))  # type: ignore[arg-type,return-value]
    docs = [spacy.blank("xx").make_doc(text) for text in TEXTS]
    out = list(component.pipe(iter(docs), batch_size=batch_size))
    assert calls == [("mine", component, [TEXTS[2]], "broken doc")]
    assert [doc.text for doc in out] == [text for text in TEXTS if text != TEXTS[2]]
    assert all("nerdistill" in doc.spans for doc in out)


def test_errors_are_raised_by_default(with_config: Make, bundle_path: Path) -> None:
    """Prevents failures that nobody notices; `nlp(text)` with a lenient handler returns the doc as it was."""
    component = Failing("mine", bundle=bundle_path)
    docs = [spacy.blank("xx").make_doc(text) for text in TEXTS]
    with pytest.raises(ValueError, match="broken doc"):
        list(component.pipe(docs))
    nlp = with_config(bundle_path)
    nlp.set_error_handler(ignore_error)
    pipe_of(nlp).ents_filter = lambda before, spans: [*before, *spans, *spans]
    assert nlp(TEXT).ents == ()
    assert [doc.text for doc in nlp.pipe(TEXTS)] == [text for text in TEXTS if not text.strip()]


def test_without_weights(with_config: Make, tmp_path: Path) -> None:
    """Prevents an obscure error, a lenient handler that swallows every doc, and a saved pipeline with nothing in it."""
    nlp = spacy.blank("xx")
    component = nlp.add_pipe("nerdistill")
    nlp.set_error_handler(ignore_error)
    assert pipe_of(nlp).labels == ()
    for use in (lambda: list(nlp.pipe(TEXTS)), lambda: nlp.to_disk(tmp_path / "saved"), nlp.to_bytes, lambda: component(nlp.make_doc("x"))):
        with pytest.raises(ConfigError, match=r"'nerdistill' has no weights.*bundle"):
            use()
    with pytest.raises(ConfigError, match=r"no bundle at .*nowhere"):
        with_config(tmp_path / "nowhere")(TEXT)


@pytest.mark.parametrize("settings", [{"threshold": 1.5}, {"threads": 0}])
def test_settings_out_of_range(with_config: Make, bundle_path: Path, settings: dict[str, Any]) -> None:
    """Prevents a setting that silently finds nothing, or that fails deep inside the network's library."""
    with pytest.raises(ConfigError, match=next(iter(settings))):
        with_config(bundle_path, **settings)


@pytest.mark.parametrize("settings", [{"threads": "many"}, {"variant": "int4"}, {"backend": "torch"}, {"treshold": 0.5}])
def test_settings_of_the_wrong_kind(with_config: Make, bundle_path: Path, settings: dict[str, Any]) -> None:
    """Prevents misspelt settings from being ignored: spaCy checks them against the factory's annotations."""
    with pytest.raises(ConfigValidationError):
        with_config(bundle_path, **settings)


def test_backend_is_taken_and_held_to(with_config: Make, found: Found, bundle_path: Path, tmp_path: Path) -> None:
    """Prevents a pipeline that runs its network in something else than its config says, or has a network that this does not run."""
    pytest.importorskip("openvino")
    nlp = with_config(bundle_path, backend="openvino")
    assert (pipe_of(nlp).bundle.variant, pipe_of(nlp).cfg["backend"]) == ("fp32", "openvino")
    expected = found(with_config(bundle_path, variant="fp32")(TEXT))
    nlp.to_disk(tmp_path / "saved")
    for made in (nlp, spacy.load(tmp_path / "saved")):
        assert [span[:3] for span in found(made(TEXT))] == [span[:3] for span in expected]
        assert pipe_of(made)._tagging().backend == "openvino"
    with pytest.raises(ConfigError, match="component 'nerdistill': backend = 'openvino' with the int8 network"):
        with_config(bundle_path, backend="openvino", variant="int8")
    with pytest.raises(ConfigError, match="component 'mine': backend = 'openvino' with the int8 network"):
        NerDistill("mine", backend="openvino").from_bytes(NerDistill(bundle=bundle_path, variant="int8").to_bytes())


def test_variant_is_taken_and_held_to(with_config: Make, bundle_path: Path) -> None:
    """Prevents a pipeline that asks for one network from running another one."""
    full = with_config(bundle_path, variant="fp32")
    assert pipe_of(full).bundle.variant == "fp32"
    small = NerDistill(variant="int8")
    with pytest.raises(BundleError, match="int8"):
        small.from_bytes(pipe_of(full).to_bytes())


def test_scoring(nlp: Language) -> None:
    """Prevents `spacy evaluate` without entity scores, which is what a missing scorer or missing weights give."""
    gold = nlp(TEXT)
    examples = [Example(nlp.make_doc(TEXT), gold), Example(nlp.make_doc(TEXTS[2]), nlp.make_doc(TEXTS[2]))]
    scores = nlp.evaluate(examples[:1])
    assert scores["ents_f"] == 1.0
    assert set(scores["ents_per_type"]) == {ent.label_ for ent in gold.ents}
    assert nlp.config["training"]["score_weights"] == {"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None}


def test_what_it_says_of_itself(nlp: Language) -> None:
    """Prevents wrong pipe analysis, missing labels in meta.json, and a trainer that tries to train it."""
    analysis = nlp.analyze_pipes()
    assert analysis is not None
    assert analysis["summary"]["nerdistill"]["assigns"] == ["doc.ents", "doc.spans", "token.ent_iob", "token.ent_type", "span._.score"]
    assert analysis["problems"] == {"nerdistill": []}
    component = pipe_of(nlp)
    assert nlp.meta["labels"] == {"nerdistill": component.label_data} == {"nerdistill": ["PER", "LOC", "ORG"]}
    assert component.is_trainable is False
    expected = {"threads": None, "variant": None, "backend": "onnxruntime", "threshold": 0.0, "spans_key": "nerdistill"}
    assert component.cfg == expected
    nlp.initialize()
    assert nlp(TEXT).ents


def test_the_getter_reads_only_our_groups(nlp: Language) -> None:
    """Prevents another component's span scores from passing for ours."""
    doc = nlp(TEXT)
    doc.spans["other"] = doc.spans.pop("nerdistill").copy()
    doc.spans["other"].attrs = {"scores": [0.5] * len(doc.ents)}
    assert span_score(doc.ents[0]) is None
