"""Tests of `nerdistill.pipeline` across threads, workers and fresh processes."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from spacy.language import Language

from nerdistill.text.encoder import WordTable
from tests.pipeline.shared import TEXT, Found, Make, pipe_of


def test_many_threads(nlp: Language, found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents wrong tags where a web server calls one pipeline from several threads: the tagger's word table is not made for that."""
    texts = [f"{TEXT} word{at} {at}name" for at in range(40)]
    expected = [found(nlp(text)) for text in texts]
    inside: list[int] = []
    most = 0
    rows = WordTable.rows

    def watched(table: WordTable, words: Sequence[str]) -> npt.NDArray[np.int64]:
        nonlocal most
        inside.append(1)
        most = max(most, len(inside))
        time.sleep(0.001)
        result = rows(table, words)
        inside.pop()
        return result

    monkeypatch.setattr(WordTable, "rows", watched)
    with ThreadPoolExecutor(4) as pool:
        assert [found(doc) for doc in pool.map(nlp, texts)] == expected
    assert most == 1


def test_a_fresh_process_without_what_trains(
    found: Found, nlp: Language, bundle_path: Path, tmp_path: Path, run_fresh: Callable[..., str]
) -> None:
    """Prevents a saved pipeline that needs the bundle, torch, a network, or an import of nerdistill before `spacy.load`."""
    nlp.to_disk(tmp_path / "saved")
    shutil.rmtree(bundle_path)
    code = """
import spacy
nlp = spacy.load(sys.argv[1], config={"components.nerdistill.threshold": 0.1})
doc = nlp(sys.argv[2])
print([(ent.start, ent.end, ent.label_, ent._.score) for ent in doc.ents])
"""
    assert run_fresh(code, tmp_path / "saved", TEXT).strip() == str(found(nlp(TEXT)))


def test_the_factory_is_light(run_fresh: Callable[..., str]) -> None:
    """Prevents every `spacy.blank` in an environment from paying for, or breaking with, what only the component needs."""
    code = """
import spacy
spacy.blank("en")
assert "nerdistill.pipeline.factory" in sys.modules, "no entry point"
heavy = {"onnxruntime", "tokenizers", "nerdistill.runtime", "nerdistill.pipeline.component", "nerdistill.text", "regex"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run_fresh(code).strip() == "[]"


WORKERS = """
import gc, multiprocessing, spacy

TEXTS = ["Anna Schmidt besucht Berlin", "", "Siemens AG opens in London", " ", "Ola Nordmann bor i Oslo"] * 4

def entities(doc):
    return [(ent.text, ent.label_, round(ent._.score, 4)) for ent in doc.ents]

@spacy.Language.component("threads")
def threads(doc):
    component, = (thing for thing in gc.get_objects() if type(thing).__name__ == "NerDistill")
    doc.user_data["threads"] = (component._tagger.threads, multiprocessing.parent_process() is not None)
    return doc

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    nlp = spacy.load(sys.argv[1])
    nlp.add_pipe("threads")
    alone = [entities(doc) for doc in nlp.pipe(TEXTS)]
    for _ in range(2):
        docs = list(nlp.pipe(TEXTS, n_process=2, batch_size=3))
        assert [doc.text for doc in docs] == TEXTS
        assert [entities(doc) for doc in docs] == alone
        assert {tuple(doc.user_data["threads"]) for doc in docs} == {(1, True)}
    print(sum(map(len, alone)) > 0)
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_worker_processes(with_config: Make, bundle_path: Path, tmp_path: Path, run_fresh: Callable[..., str], method: str) -> None:
    """Prevents workers that hang on threads left in the parent, do not pickle, or start every core's worth of threads each."""
    with_config(bundle_path, variant="fp32").to_disk(tmp_path / "saved")
    assert run_fresh(WORKERS, tmp_path / "saved", method, timeout=45).strip() == "True"


def test_a_forked_child_may_drop_the_pipeline(nlp: Language, tmp_path: Path, run_fresh: Callable[..., str]) -> None:
    """Prevents a forked server worker from waiting for ever for threads that stayed in its parent."""
    pipe_of(nlp).threads = 2
    nlp.to_disk(tmp_path / "saved")
    code = """
import gc, os, signal, spacy
nlp = spacy.load(sys.argv[1], config={"components.nerdistill.threads": 2})
expected = [ent.text for ent in nlp("Anna besucht Berlin").ents]
child = os.fork()
if not child:
    signal.alarm(20)
    assert [ent.text for ent in nlp("Anna besucht Berlin").ents] == expected
    del nlp
    gc.collect()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    assert run_fresh(code, tmp_path / "saved").strip() == "0"
