"""The benchmark: what is refused before it starts, what each kind of contestant does, and the whole of it on a handful of sentences."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from tokenizers import Tokenizer
from typer.testing import CliRunner

from nerdistill.cli.app import app
from nerdistill.errors import ConfigError, NerdistillError
from nerdistill.records import Sentence
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps import benchmark_worker as worker
from nerdistill.steps.benchmark import _check_types, documents
from nerdistill.steps.benchmark_config import BundleContestant, SpacyContestant, TeacherContestant, load_benchmark, read_text
from nerdistill.steps.benchmark_worker import Process
from nerdistill.steps.contestants import Contestant, one_folder, open_contestant
from nerdistill.steps.teacher_networks import make_ready
from tests.teachers.tiny_teacher import SCHEME, save_checkpoint, text
from tests.toy_run import SENTENCES, tagged

TOML = """
name = "toy"
types = ["PER", "LOC", "ORG"]
seconds = 0.001
threads = [1]
batches = [2]
lengths = [3, 20]
[texts.both]
languages = ["de", "zh"]
path = "{lang}.jsonl"
[texts.German]
languages = ["de"]
path = "{lang}.jsonl"
[contestants.student]
kind = "bundle"
path = "BUNDLE"
variant = "int8"
[contestants.pipeline]
kind = "spacy"
model = "bundle:BUNDLE"
languages = ["de"]
"""


@pytest.fixture
def config(tmp_path: Path, bundle_path: Path) -> Path:
    """A benchmark of two contestants on two texts."""
    for language in ("de", "zh"):
        lines = (json.dumps(tagged(line), ensure_ascii=False) for line in SENTENCES[language])
        (tmp_path / f"{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "toy.toml"
    path.write_text(TOML.replace("BUNDLE", str(bundle_path)), encoding="utf-8")
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A spaCy pipeline that finds Anna and Paris by rules, with a pipe that nobody needs."""
    nlp = spacy.blank("xx")
    nlp.add_pipe("sentencizer")
    ruler: Any = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Anna"}, {"label": "GPE", "pattern": [{"ORTH": "Paris-Nord"}]}])
    nlp.to_disk(tmp_path / "rules")
    return tmp_path / "rules"


def test_the_whole_of_it(config: Path, tmp_path: Path) -> None:
    """Prevents a row without what it should hold, contestants on texts that they do not read, and results that no page can show."""
    results = tmp_path / "results.json"
    arguments = ["benchmark", str(config), "--out", str(tmp_path / "out"), "--results", str(results), "--compare", str(results), "--quiet"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "| both | given | parameters |" in done.stdout
    assert "not there" in done.stdout
    found = json.loads(results.read_text(encoding="utf-8"))
    assert [(row["system"], row["text"], row["takes"]) for row in found["rows"]] == [
        ("student", "both", "words"), ("student", "German", "words"), ("pipeline", "German", "text"),
    ]  # fmt: skip
    assert {"what", "command", "commit", "date", "machine", "data", "versions", "repeats", "kind"} <= set(found)
    for row in found["rows"]:
        assert min(row["words_per_second"], row["words_per_second_new_words"]["median"], row["parameters"], row["bytes"]) > 0
        assert set(row["latency_ms"]) == {"3", "20"}
        assert row["latency_ms"]["3"]["documents"] >= 5 * worker.LEAST_CALLS
        assert set(row["by_batch"]) == {"2"}
        assert set(row["by_threads"]) == {"1"}
        assert set(row["f1_by_language"]) == ({"de", "zh"} if row["text"] == "both" else {"de"})
    german = [row["f1_mean"] for row in found["rows"] if row["text"] == "German"]
    assert german[0] == german[1], "the same student on the same words, alone and in a pipeline"
    assert [one["system"] for one in found["floor"]] == ["student"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "bundle"', 'kind = "bundel"', "contestants.student"),
        ("seconds = 0.001", "repeats = 3", "repeats"),
        ('languages = ["de"]\npath', 'language = ["de"]\npath', "texts.German.language"),
        ('path = "{lang}.jsonl"\n[texts.German]', 'path = "de.jsonl"\n[texts.German]', r"texts.both: .*\{lang\}"),
        ('BUNDLE"\nlanguages = ["de"]', 'BUNDLE"\ntexts = ["Dutch"]', "contestant 'pipeline' reads Dutch, but the texts are"),
        ('BUNDLE"\nlanguages = ["de"]', 'BUNDLE"\nlanguages = ["fr"]', "no text is in the languages of pipeline"),
    ],
)
def test_slips_in_the_file_are_named(config: Path, old: str, new: str, message: str) -> None:
    """Prevents a slip from being found after the first contestants were measured."""
    bundle = str(config.with_name("bundle"))
    content = config.read_text(encoding="utf-8")
    assert old.replace("BUNDLE", bundle) in content
    config.write_text(content.replace(old.replace("BUNDLE", bundle), new.replace("BUNDLE", bundle)), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_benchmark(config)


def test_overrides_root_and_choice(config: Path, tmp_path: Path) -> None:
    """Prevents settings from the command line that do not reach a contestant, and a choice that is not followed."""
    found = load_benchmark(config, ["contestants.student.variant=fp32", "texts.both.limit=1"], only=["student"])
    assert list(found.contestants) == ["student"]
    assert found.contestants["student"].variant == "fp32"  # type: ignore[union-attr]
    assert [sentence.language for sentence in read_text(found, found.texts["both"])] == ["de", "zh"]
    assert load_benchmark(config, data_root=tmp_path / "there").root == str(tmp_path / "there")
    with pytest.raises(ConfigError, match="no contestant is called tutor; there are student, pipeline"):
        load_benchmark(config, only=["tutor"])


def test_types_that_are_not_mapped_are_refused(config: Path) -> None:
    """Prevents a rival whose PERSON counts as wrong, which looks like a low F1."""
    rival = 'kind = "spacy"\nmodel = "rival"\nlabel_map = { PERSON = "PER" }'
    config.write_text(f"{config.read_text(encoding='utf-8')}\n[contestants.rival]\n{rival}\n", encoding="utf-8")
    loaded = load_benchmark(config)
    _check_types("rival", loaded, ["PERSON", "LOC"])
    with pytest.raises(ConfigError, match=r"found 'GPE'.* \[contestants\.rival\.label_map\]: GPE = \"O\""):
        _check_types("rival", loaded, ["PERSON", "GPE"])


def test_a_spacy_pipeline_is_scored_on_the_words_it_is_given(rules: Path) -> None:
    """Prevents spaCy's tokenizer from costing it entities whose words it would have split otherwise, and pipes that should be left out."""
    opened = open_contestant(SpacyContestant(kind="spacy", model=str(rules), pipes=("entity_ruler",)), 1)
    assert opened.takes == "text"
    assert opened.facts["pipes"] == ["entity_ruler"]
    assert opened.types == ("GPE", "PERSON")
    assert opened.tags([("Anna", "in", "Paris-Nord"), ("Nord",)]) == [("B-PERSON", "O", "B-GPE"), ("O",)]
    (rules / "sentencizer").write_bytes(bytes(1000))
    whole = open_contestant(SpacyContestant(kind="spacy", model=str(rules)), 1)
    assert whole.facts["bytes"] >= opened.facts["bytes"] + 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pipes": ["ner"]}, "has no pipe ner; it has sentencizer, entity_ruler"),
        ({"pipes": ["sentencizer"]}, "finds entities"),
        ({"model": "none_core_news_xl"}, "neither installed nor a folder"),
        ({"variant": "int8"}, "variant and backend are for bundle:PATH only"),
    ],
)
def test_pipelines_that_cannot_take_part_say_why(rules: Path, settings: dict[str, Any], message: str) -> None:
    """Prevents tracebacks of spaCy's for what a user can mend."""
    with pytest.raises(ConfigError, match=message):
        open_contestant(SpacyContestant.model_validate({"kind": "spacy", "model": str(rules), **settings}), 1)


def test_weights_are_counted_once() -> None:
    """Prevents a network that two pipes share from being counted twice, and a count without the table of vectors."""
    from nerdistill.steps.contestants import _weights

    nlp: Language = spacy.blank("xx")
    tok2vec: Any = nlp.add_pipe("tok2vec")
    nlp.initialize()
    alone = _weights(nlp)
    assert alone == sum(node.get_param(name).size for node in tok2vec.model.walk() for name in node.param_names)
    shared = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96}
    ner: Any = nlp.add_pipe("ner", config={"model": {"@architectures": "spacy.TransitionBasedParser.v2", "tok2vec": shared}})
    ner.add_label("PER")
    nlp.initialize()
    own = sum(node.get_param(name).size for node in ner.model.walk() for name in node.param_names if node.has_param(name))
    assert _weights(nlp) == alone + own


@pytest.mark.parametrize("engine", ["onnx", "onnx-int8"])
def test_a_teacher_in_onnx_runtime_tags_as_in_torch(tmp_path: Path, tokenizer: Tokenizer, engine: str) -> None:
    """Prevents logits in the checkpoint's order of tags where the bundle has its own, and a network made again for nothing."""
    order = ["B-LOC", "O", "I-PER", "B-PER", "I-LOC"]
    checkpoint = save_checkpoint(tmp_path / "checkpoint", tokenizer, order)
    settings = TeacherContestant.model_validate(
        {"kind": "teacher", "model": str(tmp_path / "check*"), "engine": engine, "precision": "float32"}
    )
    sentences = text([1, 3, 7, 40])
    ready = make_ready(settings, SCHEME.types, sentences, tmp_path / "made")
    assert isinstance(ready, BundleContestant)
    before = Path(ready.path).stat().st_mtime_ns
    assert make_ready(settings, SCHEME.types, sentences, tmp_path / "made") == ready
    assert Path(ready.path).stat().st_mtime_ns == before
    words = [sentence.words for sentence in sentences]
    plain = open_contestant(settings.model_copy(update={"model": str(checkpoint), "engine": "torch"}), 1)
    network = open_contestant(ready, 1)
    assert network.facts["parameters"] == plain.facts["parameters"]
    assert set(network.types) == set(plain.types) == {"PER", "LOC"}
    same = [one == other for part in zip(network.tags(words), plain.tags(words), strict=True) for one, other in zip(*part, strict=True)]
    assert sum(same) >= (len(same) if engine == "onnx" else 0.7 * len(same))
    assert Tagger.load(ready.path).info.window == 38


def test_a_pattern_must_fit_one_folder(tmp_path: Path) -> None:
    """Prevents an old teacher from being measured in place of the new one."""
    (tmp_path / "teacher-1").mkdir()
    assert one_folder(f"{tmp_path}/teacher-*") == str(tmp_path / "teacher-1")
    assert one_folder("org/teacher") == "org/teacher"
    (tmp_path / "teacher-2").mkdir()
    with pytest.raises(ConfigError, match="fits 2 folders"):
        one_folder(f"{tmp_path}/teacher-*")


def test_documents_have_their_length_and_one_language() -> None:
    """Prevents latencies of documents that are shorter than they are said to be, or mixed of languages, or of one language alone."""
    sentences = [Sentence(("a", "b", "c"), None, "de"), Sentence(("x",), None, "fr"), Sentence(("d", "e"), None, "de")]
    assert documents(sentences, 2) == [("a", "b"), ("x", "x"), ("c", "d")]
    assert documents(sentences, 7) == [tuple("abcdeab"), ("x",) * 7]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """This process with a contestant open that takes raw text and notes what it is given."""
    given: list[Any] = []
    contestant = Contestant("text", lambda texts, size: given.append((list(texts), size)), given.append, lambda words: [], ("PER",), {})
    state = worker._Open(SpacyContestant(kind="spacy", model=""), 1, contestant, 0)
    monkeypatch.setattr(worker, "_HERE", [state])
    return given


def test_timings_read_what_they_say(here: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents words per second of the contestant's own words, of less text than is counted, or of joined text that is cut otherwise."""
    worker.take_texts({"t": [("a", "b"), ("c",)]}, {"t": {2: [("a", "b"), ("c", "a")]}})
    monkeypatch.setattr(worker, "_seconds", lambda do: (do(), 0.5)[1])
    assert worker.words_per_second("t", 7, worker.Share(2, 3)) == 3 * 3 / 0.5
    assert here == [(["a b", "c"], 7)] * 3
    assert worker.share("t", None, 2.0) == worker.Share(2, 4)
    here.clear()
    assert worker.latencies("t", 2, 3) == [0.5] * 3
    assert here == ["a b", "c a", "a b"]
    assert worker.calls("t", 2, 0.1) == worker.LEAST_CALLS


def test_a_process_that_is_killed_is_named() -> None:
    """Prevents a bare BrokenProcessPool, or a wait without end, where the system ends a contestant for its memory."""
    with Process("big", threads=1) as process, pytest.raises(NerdistillError, match="contestant 'big': its process was ended"):
        process(os._exit, 9)


def test_threads_are_set_before_libraries_are_loaded() -> None:
    """Prevents a contestant that computes with more threads than its row says."""
    with Process("one", threads=1) as process:
        assert process(os.getenv, "OMP_NUM_THREADS") == "1"
        assert process(os.getenv, "RAYON_NUM_THREADS") == "1"
