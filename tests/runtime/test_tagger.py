"""Tests of `nerdistill.runtime.tagger`, on a random student with opinions."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerdistill.errors import BundleError, ConfigError
from nerdistill.records import Entity
from nerdistill.runtime.bundle import open_bundle
from nerdistill.runtime.decode import Floats
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.collate import Arrays, Rows
from nerdistill.text.encoder import WordTable
from nerdistill.text.splitter import split, split_words
from nerdistill.text.windows import windows
from tests.runtime.shared import TEXTS, places_of, sentences_of


def test_the_student_has_opinions(tagger: Tagger) -> None:
    """Prevents the tests below from passing because every text gives the same: all types, lengths and scores occur."""
    found = [span for spans in tagger.tag_words(sentences_of(40, 20)) for span in spans]
    assert {span.label for span in found} == {"PER", "LOC", "ORG"}
    assert {span.stop - span.start for span in found} >= {1, 2}
    assert len({round(span.score, 3) for span in found}) > len(found) / 2


class TestText:
    @pytest.mark.parametrize("text", TEXTS)
    def test_offsets_are_of_the_text_as_given(self, tagger: Tagger, text: str) -> None:
        """Prevents offsets of a normalised, stripped or reordered text: emoji, right to left, decomposed, without spaces."""
        self.check(text, tagger(text))

    @staticmethod
    def check(text: str, found: list[Entity]) -> None:
        """Entities lie in the text, in order, apart, and begin and end at what can be seen."""
        end = 0
        for entity in found:
            assert end <= entity.start < entity.stop <= len(text)
            assert text[entity.start : entity.stop] == entity.text == entity.text.strip()
            assert 0 < entity.score <= 1
            end = entity.stop

    @given(text=st.text(max_size=30) | st.text(st.sampled_from("Aa1 \n\u200d👩🏽🇩🇪e\u0301م东ก'.-\ud83d\x00\x1c<pad>"), max_size=30))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_text(self, tagger: Tagger, text: str) -> None:
        """Prevents any text at all from stopping it or from giving offsets outside."""
        self.check(text, tagger(text))

    @pytest.mark.parametrize("text", ["", " ", "\n", "\r\n\t \u3000\u2028", "\x1c"])
    def test_no_words_no_entities(self, tagger: Tagger, text: str) -> None:
        """Prevents a failure on what has no words, alone and between others."""
        assert tagger(text) == []
        assert [bool(found) for found in tagger.pipe([text, "Anna Schmidt besucht Berlin", text])] == [False, True, False]

    def test_words_are_those_of_the_splitter(self, tagger: Tagger) -> None:
        """Prevents text and words from being two systems: the same words give the same entities."""
        words = [split_words(text) for text in TEXTS]
        found = tagger.tag_words(words)
        for text, spans, entities in zip(TEXTS, found, tagger.pipe(TEXTS), strict=True):
            places = split(text)
            expected = [(places[span.start][0], places[span.stop - 1][1], span.label, span.score) for span in spans]
            assert [(entity.start, entity.stop, entity.label, entity.score) for entity in entities] == expected


class TestWindows:
    def test_a_long_text_is_read_whole(self, tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a long text from being cut, a word from having no reading or one from the edge of a window."""
        words = [f"w{number % 997}" for number in range(5000)]
        longest, network = 0, tagger._open()
        collate = network.collate

        def watched(rows: Sequence[Rows], table: WordTable) -> Arrays:
            nonlocal longest
            longest = max(longest, *(len(row) for row in rows))
            return collate(rows, table)

        monkeypatch.setattr(network, "collate", watched)
        scores, offsets = tagger.log_probabilities([["Anna"], words, ["Berlin"]])
        assert offsets.tolist() == [0, 1, 5001, 5002]
        assert longest == tagger.info.window
        for part in windows(np.ones(5000, dtype=np.int64), tagger.info.window, tagger.info.overlap):
            alone, _ = tagger.log_probabilities([words[part.start : part.stop]])
            kept = alone[part.keep_start - part.start : part.keep_stop - part.start]
            np.testing.assert_allclose(scores[1 + part.keep_start : 1 + part.keep_stop], kept, atol=1e-4)

    def test_a_text_of_one_window_is_not_cut(self, tagger: Tagger) -> None:
        """Prevents a border off by one: the last word of the largest window sees the first ones."""
        words = ["Anna"] * tagger.info.window
        other = ["Berlin", *words[1:]]
        (one, _), (two, _) = tagger.log_probabilities([words]), tagger.log_probabilities([other])
        assert one.shape == two.shape
        assert not np.allclose(one[0], two[0])


class TestBatches:
    def test_order_is_kept(self, tagger: Tagger) -> None:
        """Prevents results from coming back in the order of length, in which they are read."""
        sentences = sentences_of(60, 30)
        assert [len(spans) for spans in tagger.tag_words(sentences)] == [len(tagger.tag_words([words])[0]) for words in sentences]

    @pytest.mark.parametrize("budget", [1, 50, 8192])
    def test_a_batch_changes_nothing(self, tagger: Tagger, budget: int) -> None:
        """Prevents a sentence from being read differently because of what stands beside it: padding, budget, other sentences."""
        sentences = sentences_of(40, 30)
        alone = [tagger.log_probabilities([words])[0] for words in sentences]
        spans = [tagger.tag_words([words])[0] for words in sentences]
        tagger.budget = budget
        together, offsets = tagger.log_probabilities(sentences)
        assert offsets.tolist() == [0, *np.cumsum([len(words) for words in sentences])]
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4)
        assert places_of(tagger.tag_words(sentences)) == places_of(spans)

    def test_padded_words_stay_within_the_budget(self, tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents memory that grows with the number of texts."""
        tagger.budget = 100
        sizes: list[int] = []
        network = tagger._open()
        run = network.run

        def watched(arrays: Mapping[str, Rows]) -> Floats:
            sizes.append(arrays["word_index"].size)
            return run(arrays)

        monkeypatch.setattr(network, "run", watched)
        tagger.tag_words(sentences_of(200, 20))
        assert max(sizes) <= 100
        assert len(sizes) < 100, "short ones share a call"

    def test_nothing_to_do(self, tagger: Tagger) -> None:
        """Prevents a failure over no texts."""
        assert tagger.tag_words([]) == []
        assert tagger.tag_words([[], []]) == [[], []]
        assert list(tagger.pipe([])) == []

    def test_a_stream_is_read_as_it_is_needed(self, tagger: Tagger) -> None:
        """Prevents a corpus from being read into memory, and a result from waiting for the end of a stream."""
        read = 0

        def endless() -> Iterator[str]:
            nonlocal read
            while True:
                read += 1
                yield f"Anna Schmidt {read}"

        results = tagger.pipe(endless(), batch_size=3)
        assert read == 0
        next(results)
        assert read == 3
        for _ in range(3):
            next(results)
        assert read == 6

    @pytest.mark.parametrize("size", [0, -1])
    def test_batches_of_nothing_are_refused(self, tagger: Tagger, size: int) -> None:
        """Prevents a size of 0 from ending the stream at once, as if there were no texts."""
        with pytest.raises(ConfigError, match="batch_size"):
            list(tagger.pipe(["Anna"], batch_size=size))

    def test_a_full_table_changes_nothing(self, tagger: Tagger) -> None:
        """Prevents stale rows when the table of words starts anew between two calls."""
        expected = [tagger(text) for text in TEXTS]
        tagger._open()._table.capacity = 4
        assert [tagger(text) for text in TEXTS] == expected
        assert len(tagger._open()._table) < 30


WORDS = st.sampled_from([*split_words(" ".join(TEXTS)), "Müller", "w7", "北京大学", "'s", "\u200d", "x" * 300, "https://a.b/c?d=e"])
SPACES = st.sampled_from([" ", " ", "", "\n", "\u3000 ", "\t"])
MIXED = st.lists(st.tuples(WORDS, SPACES), max_size=30).map(lambda parts: "".join(word + space for word, space in parts))


class TestSameSpans:
    @pytest.fixture
    def others(self, path: Path) -> list[Tagger]:
        """The same student with other threads and budgets; a budget of 1 never pads."""
        found = []
        for threads, budget in ((1, 1), (1, 300), (1, 8192), (2, 1024), (2, 16), (3, 1)):
            found.append(Tagger.load(path, threads=threads))
            found[-1].budget = budget
        return found

    @given(texts=st.lists(MIXED | MIXED.map(lambda text: text * 15) | st.text(max_size=40), min_size=1, max_size=6))
    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_however_they_are_read(self, tagger: Tagger, others: list[Tagger], texts: list[str]) -> None:
        """Prevents entities that depend on how texts are read: alone or together, padded or not, words new or known, one thread or two."""
        tagger._open()._table._clear()
        new = [tagger(text) for text in texts]
        expected = places_of(new)
        assert places_of([tagger(text) for text in texts]) == expected
        for other in others:
            for size in (256, 1):
                assert places_of([*other.pipe(texts, size)]) == expected
        for text, entities in zip(texts, new, strict=True):
            TestText.check(text, entities)


class TestProcesses:
    def test_many_threads_as_one(self, tagger: Tagger) -> None:
        """Prevents wrong tags where threads share a tagger, also when its table starts anew under them."""
        tagger._open()._table.capacity = 50
        sentences = [sentences_of(5, 30, seed) for seed in range(60)]
        expected = [tagger.tag_words(batch) for batch in sentences]
        switch = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(tagger.tag_words, sentences)) == expected
        finally:
            sys.setswitchinterval(switch)

    def test_pickle(self, tagger: Tagger, path: Path) -> None:
        """Prevents a tagger that cannot go to a worker, or takes all the cores of the machine there."""
        copy = pickle.loads(pickle.dumps(tagger))
        assert [copy(text) for text in TEXTS] == [tagger(text) for text in TEXTS]
        assert copy.threads == 1
        assert pickle.loads(pickle.dumps(Tagger.load(path)))._threads is None

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.parametrize("way", ["use", "exit", "drop", "grandchild", "locked"])
    def test_after_a_fork(self, tagger: Tagger, path: Path, way: str) -> None:
        """Prevents a forked worker from waiting for ever: for the network's threads, which stayed in the parent, or for a lock."""
        code = """
import gc, os, signal, sys, threading
import nerdistill

tagger = nerdistill.load(sys.argv[1], threads=2)
tagger.budget = 8
text = "Anna Schmidt besucht Berlin"
expected = tagger(text)
together = [*tagger.pipe([text] * 20)]
assert together == [expected] * 20 and tagger._network._beside
if sys.argv[2] == "locked":
    tagger._network._lock.acquire()
    threading.Thread(target=tagger, args=[text], daemon=True).start()
child = os.fork()
if not child:
    signal.alarm(15)
    if sys.argv[2] == "grandchild":
        assert tagger(text) == expected
        child = os.fork()
        if child:
            sys.exit(os.waitpid(child, 0)[1] != 0)
        signal.alarm(10)
    if sys.argv[2] == "drop":
        del tagger
        gc.collect()
    elif sys.argv[2] != "exit":
        assert tagger(text) == expected
        assert [*tagger.pipe([text] * 20)] == together
        assert nerdistill.load(sys.argv[1]).threads == 1, "a worker shares the machine"
    sys.exit(0)
print(os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""
        command = [sys.executable, "-c", code, str(path), way]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == "0", done.stderr

    def test_nothing_is_reported(self) -> None:
        """Prevents what is tagged, and where, from being reported to others: builds of the network's runtime do so unless told."""
        code = "import os, nerdistill.runtime.tagger, onnxruntime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
        for setting in ({}, {"ORT_DISABLE_TELEMETRY": "0"}):
            environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"} | setting
            done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
            assert done.stdout.strip() == setting.get("ORT_DISABLE_TELEMETRY", "1")


class TestThreads:
    def test_batches_are_read_at_once_and_one_alone(self, path: Path) -> None:
        """Prevents threads that do nothing where there are many batches, and a second network where there is only ever one."""
        tagger = Tagger.load(path, threads=2)
        tagger("Anna Schmidt besucht Berlin")
        network = tagger._open()
        assert network._beside is None
        tagger.budget = 8
        expected = tagger.tag_words(sentences_of(30, 6, 0))
        assert network._beside is not None
        alone = Tagger.load(path, threads=1)
        alone.budget = 8
        assert alone.tag_words(sentences_of(30, 6, 0)) == expected
        assert alone._open()._beside is None

    def test_an_error_in_a_batch_reaches_the_caller(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents words without logits where a thread failed."""
        tagger = Tagger.load(path, threads=2)
        tagger.budget = 8
        tagger.tag_words(sentences_of(30, 6, 0))
        monkeypatch.setattr(tagger._open(), "collate", lambda rows, table: {})
        with pytest.raises(Exception, match=r"(?i)input"):
            tagger.tag_words(sentences_of(30, 6, 0))


class TestOpening:
    def test_threads(self, path: Path) -> None:
        """Prevents a number of threads that nobody asked for."""
        assert Tagger.load(path, threads=3).threads == 3
        assert Tagger.load(path).threads >= 1
        for bad in (0, -1):
            with pytest.raises(ConfigError, match="expected 1 or more"):
                Tagger.load(path, threads=bad)

    def test_types_that_the_network_does_not_score(self, path: Path) -> None:
        """Prevents a network of another student from being opened, to fail or be wrong later."""
        bundle = open_bundle(path)
        info = bundle.info.model_copy(update={"types": ("PER", "LOC")})
        with pytest.raises(BundleError, match=r"model\.onnx: gives 7 scores a word, expected 5"):
            Tagger(type(bundle)(info, bundle.files, bundle.variant))

    @pytest.mark.parametrize(("name", "says"), [("tokenizer.json", "tokenizer.json: not readable"), ("model.onnx", "cannot be opened")])
    def test_files_that_are_something_else(self, path: Path, name: str, says: str) -> None:
        """Prevents a traceback of a library where the content is wrong though its digest is right."""
        bundle = open_bundle(path)
        with pytest.raises(BundleError, match=says):
            Tagger(type(bundle)(bundle.info, {**bundle.files, name: b"{}"}, bundle.variant))

    def test_a_network_over_pieces_needs_its_ends(self, path: Path) -> None:
        """Prevents sentences without begin and end pieces."""
        bundle = open_bundle(path)
        info = bundle.info.model_copy(update={"inputs": "pieces"})
        with pytest.raises(BundleError, match="needs bos_id and eos_id"):
            Tagger(type(bundle)(info, bundle.files, bundle.variant))

    def test_what_it_says_of_itself(self, tagger: Tagger) -> None:
        """Prevents labels and languages from differing from the bundle's."""
        assert tagger.labels == ("PER", "LOC", "ORG")
        assert tagger.languages == ("de", "fr")
