"""Tests of `nerdistill.export.bundle_writer`: the written network is the trained one, and the gate of the 8-bit one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import nerdistill
from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.errors import BundleError
from nerdistill.export import bundle_writer
from nerdistill.export.bundle_writer import Manifest, write_bundle
from nerdistill.files import DONE, finished
from nerdistill.records import Sentence
from nerdistill.runtime.bundle import CARD, INFO, VARIANTS, WEIGHTS, BundleInfo, open_bundle
from nerdistill.runtime.tagger import Tagger
from nerdistill.students.base import Shape, Student, build_student, count_parameters
from nerdistill.students.vocabulary import Vocabulary, prune
from nerdistill.text.collate import collate_words
from nerdistill.text.encoder import WordTable
from nerdistill.text.windows import windows
from tests.conftest import TEXT

MANIFEST = Manifest("tiny", ("PER", "LOC", "ORG"), ("no", "de"), {"kind": "bilstm"}, "1.2.3", {"teacher": "big", "licence": "mit"})

Write = Callable[..., BundleInfo]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the bundle goes."""
    return tmp_path / "holder" / "bundle"


@pytest.fixture
def write(path: Path, student: Student, vocabulary: Vocabulary) -> Write:
    """Write a bundle there."""

    def make(**arguments: Any) -> BundleInfo:
        return write_bundle(path, student, vocabulary, MANIFEST, **arguments)

    return make


def f1(fp32: Mapping[str, float], int8: Mapping[str, float]) -> Callable[[Tagger], Mapping[str, float]]:
    """A score that is known beforehand."""
    return lambda tagger: {"fp32": fp32, "int8": int8}[tagger.bundle.variant]


class TestNetwork:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_network_says_what_the_student_says(
        self, write: Write, path: Path, student: Student, vocabulary: Vocabulary, seed: int
    ) -> None:
        """Prevents an exported network that differs from the trained one, for any batch, length or amount of padding."""
        write()
        session = onnxruntime.InferenceSession(path / VARIANTS["fp32"], providers=["CPUExecutionProvider"])
        choose = np.random.default_rng(seed)
        table = WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0)
        words = ["Anna", "Schmidt", "東", "unbekanntes", "l'", "محمد", "x" * 30, "\u200b"]
        rows = [table.rows(choose.choice(words, size).tolist()) for size in choose.integers(1, 25, choose.integers(1, 9))]
        arrays = collate_words(rows, table)
        extra = int(choose.integers(0, 7))
        arrays["word_pieces"] = np.pad(arrays["word_pieces"], ((0, 0), (0, extra)))
        arrays["word_index"] = np.pad(arrays["word_index"], ((0, 0), (0, extra)))
        with torch.no_grad():
            expected = student({name: torch.from_numpy(array) for name, array in arrays.items()}).logits.numpy()
        found = session.run(["logits"], arrays)[0]
        assert found.shape == expected.shape
        for number, length in enumerate(arrays["lengths"]):
            np.testing.assert_allclose(found[number, :length], expected[number, :length], rtol=1e-3, atol=1e-3)

    def test_training_leaves_no_trace(self, write: Write, path: Path, student: Student) -> None:
        """Prevents dropout in a network that was written in the middle of training."""
        write()
        before = (path / VARIANTS["fp32"]).read_bytes()
        student.train()
        write()
        assert (path / VARIANTS["fp32"]).read_bytes() == before

    def test_weights_for_training_on(self, write: Write, path: Path, student: Student) -> None:
        """Prevents weights that differ from the student's, in value or name."""
        info = write()
        saved, weights = load_file(path / WEIGHTS), student.state_dict()
        assert saved.keys() == weights.keys()
        assert all(torch.equal(saved[name], weights[name]) for name in saved)
        assert info.parameters == count_parameters(student)

    def test_eight_bits_are_smaller_and_close(self, write: Write, path: Path) -> None:
        """Prevents an 8-bit network that is float32 by another name, or another network."""
        write(score=f1({"de": 0.5}, {"de": 0.5}))
        sentences = [["Anna", "Schmidt", "besucht", "Berlin", "."]]
        full, small = (Tagger.load(path, variant, threads=1).log_probabilities(sentences)[0] for variant in ("fp32", "int8"))
        assert np.abs(np.exp(full) - np.exp(small)).max() < 0.2
        assert not np.array_equal(full, small)
        assert b"Quantize" in (path / VARIANTS["int8"]).read_bytes()


class TestGate:
    @pytest.mark.parametrize(
        ("fp32", "int8", "passed"),
        [
            ({"de": 0.8, "no": 0.7}, {"de": 0.796, "no": 0.71}, True),
            ({"de": 0.8, "no": 0.7}, {"de": 0.9, "no": 0.694}, False),
            ({"de": 0.8, "no": 0.7}, {"de": 0.8, "no": float("nan")}, False),
            ({"de": float("nan"), "no": 0.7}, {"de": 0.8, "no": 0.7}, False),
            ({}, {}, False),
        ],
        ids=["passes", "one language loses", "no number", "no number before", "no language"],
    )
    def test_decides_and_says_so(self, write: Write, path: Path, fp32: dict[str, float], int8: dict[str, float], passed: bool) -> None:
        """Prevents 8 bits from becoming the default where one language loses by it, behind a mean or for want of evidence."""
        info = write(score=f1(fp32, int8), tolerance=0.005)
        assert info.variant == open_bundle(path).variant == ("int8" if passed else "fp32")
        assert info.gate["passed"] is passed
        assert f"8-bit network: {'passed' if passed else 'refused'}" in (path / CARD).read_text()
        assert open_bundle(path, "int8").variant == "int8", "it can still be asked for"

    def test_names_the_worst_language(self, write: Write, path: Path) -> None:
        """Prevents a refusal that nobody can look into."""
        info = write(score=f1({"de": 0.8, "no": 0.7}, {"de": 0.79, "no": 0.6}), tolerance=0.02)
        assert info.gate["worst_language"] == "no"
        assert info.gate["worst_loss"] == pytest.approx(0.1)
        assert info.gate["int8"] == {"de": 0.79, "no": 0.6}
        assert "10.00 points (no), allowed 2.00" in (path / CARD).read_text()

    def test_without_a_score_there_is_only_float32(self, write: Write, path: Path) -> None:
        """Prevents an 8-bit network that was never tried."""
        assert write().variant == "fp32"
        assert not (path / VARIANTS["int8"]).exists()
        with pytest.raises(BundleError, match="has no int8 network; it offers fp32"):
            open_bundle(path, "int8")


class TestFolder:
    def test_every_file_has_its_digest(self, write: Write, path: Path) -> None:
        """Prevents a file that can change unseen, or a digest of an earlier state of the folder."""
        write(score=f1({"de": 0.5}, {"de": 0.5}), done={"identity": "abc"})
        digests = json.loads((path / INFO).read_text())["digests"]
        files = {file.name for file in path.iterdir()} - {INFO, DONE}
        assert digests == {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in files}
        assert finished(path, identity="abc")

    def test_says_what_it_is(self, write: Write, path: Path) -> None:
        """Prevents a bundle that lies about types, languages, version or origin; ``no`` is a language in the card's YAML too."""
        write()
        info = open_bundle(path).info
        assert (info.name, info.version, info.types, info.languages) == ("tiny", "1.2.3", ("PER", "LOC", "ORG"), ("no", "de"))
        card = (path / CARD).read_text()
        for line in ('language: ["no", "de"]', 'license: "mit"', 'base_model: "big"'):
            assert f"\n{line}\n" in card

    @pytest.mark.parametrize("step", ["write_fp32", "write_int8", "score", "write_card", "sha256_file"])
    @pytest.mark.parametrize("before", [False, True])
    def test_an_error_leaves_nothing_half_written(
        self, write: Write, path: Path, step: str, before: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Prevents a folder that looks like a bundle, or the loss of the one that was there, after an error at any step."""
        if before:
            write()
        old = {file.name: file.read_bytes() for file in path.iterdir()} if before else {}

        def fail(*_: object) -> Any:
            raise RuntimeError("on purpose")

        if step != "score":
            monkeypatch.setattr(bundle_writer, step, fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            write(score=fail if step == "score" else f1({"de": 0.5}, {"de": 0.5}))
        assert [file.name for file in path.parent.iterdir()] == ([path.name] if before else [])
        if before:
            assert {file.name: file.read_bytes() for file in path.iterdir()} == old
            assert open_bundle(path).files


class TestOverPieces:
    @pytest.fixture
    def pieces(self, tokenizer: Tokenizer) -> Vocabulary:
        """A vocabulary with begin and end pieces."""
        return prune(tokenizer, unk_id=3, pad_id=1, words=Counter(TEXT), budget=150, ends=(0, 2))

    @pytest.fixture
    def reader(self, pieces: Vocabulary) -> Student:
        """A Transformer with opinions that reads 62 pieces at once."""
        options = {"layers": 2, "width": 12, "heads": 3, "ffn": 24, "positions": 64, "embedding_width": 8}
        made = build_student("transformer", options, Shape(pieces.tokenizer.get_vocab_size(), 7), None, seed=3).eval()
        draw = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in made.parameters():
                weight.add_(torch.randn(weight.shape, generator=draw) * (1.0 if weight.ndim > 1 else 0.0))
        return made

    @pytest.fixture
    def written(self, path: Path, reader: Student, pieces: Vocabulary) -> BundleInfo:
        """Its bundle, 8-bit network included."""
        return write_bundle(path, reader, pieces, MANIFEST, score=f1({"de": 0.5}, {"de": 0.5}))

    SENTENCES: tuple[list[str], ...] = (
        ["Anna", "Schmidt", "besucht", "Berlin", "."],
        ["東"],
        ["محمد", "علي", "زار", "القاهرة", "unbekanntes", "<s>"],
        ["Ola", "x" * 30, "i", "Oslo"],
        [],
        ["\u200b", "Paris"],
    )

    def test_says_how_to_read_it(self, written: BundleInfo, path: Path) -> None:
        """Prevents a bundle that is opened and then reads sentences without their ends, or more pieces than it has positions."""
        info = open_bundle(path).info
        assert info == written.model_copy(update={"digests": info.digests})
        assert (info.inputs, info.bos_id, info.eos_id, info.window) == ("pieces", 2, 3, 62)

    def test_the_tagger_says_what_the_student_says(self, written: BundleInfo, path: Path, reader: Student, pieces: Vocabulary) -> None:
        """Prevents serving from making other arrays of the same words than training does."""
        found, _ = Tagger.load(path, "fp32", threads=1).log_probabilities(self.SENTENCES)
        encoder = Encoder(WordTable(pieces.tokenizer, unk_id=1, pad_id=0), 2, 3, bundle_writer.window_of(reader))
        corpus = EncodedCorpus([Sentence(tuple(words)) for words in self.SENTENCES if words], encoder)
        with torch.no_grad():
            (expected,) = corpus.predict(lambda batch: (reader(batch).logits.log_softmax(dim=-1),), budget=100)
        np.testing.assert_allclose(found, expected, atol=1e-3)

    def test_a_batch_changes_nothing(self, written: BundleInfo, path: Path) -> None:
        """Prevents tags that depend on the sentences beside: one at a time, 64 at once, padded or not."""
        tagger = Tagger.load(path, "fp32", threads=1)
        choose = np.random.default_rng(0)
        sentences = [choose.choice(TEXT, size).tolist() for size in (*choose.integers(1, 20, 63), 19)]
        together, alone = tagger.tag_words(sentences), [tagger.tag_words([words])[0] for words in sentences]
        assert len({span.label for spans in alone for span in spans}) > 1
        for one, other in zip(together, alone, strict=True):
            assert [(span.start, span.stop, span.label) for span in one] == [(span.start, span.stop, span.label) for span in other]
            np.testing.assert_allclose([span.score for span in one], [span.score for span in other], atol=1e-4)

    def test_a_long_text_is_windowed_by_pieces(self, written: BundleInfo, path: Path, pieces: Vocabulary) -> None:
        """Prevents more pieces than there are positions, and words that are lost, or read at the edge of a window, in a long text."""
        tagger = Tagger.load(path, "fp32", threads=1)
        words = np.random.default_rng(1).choice([*TEXT, "unbekanntes", "x" * 99], 700).tolist()
        table = WordTable(pieces.tokenizer, unk_id=1, pad_id=0)
        costs = table.lengths[table.rows(words)]
        assert costs.sum() > 20 * 62
        found, _ = tagger.log_probabilities([words])
        for part in windows(costs, 62, written.overlap):
            assert costs[part.start : part.stop].sum() <= 62
            alone, _ = tagger.log_probabilities([words[part.start : part.stop]])
            kept = alone[part.keep_start - part.start : part.keep_stop - part.start]
            np.testing.assert_allclose(found[part.keep_start : part.keep_stop], kept, atol=1e-3)
        text = " ".join(TEXT * 20)
        entities = tagger(text)
        assert entities
        assert all(text[entity.start : entity.stop] == entity.text for entity in entities)
        assert entities[-1].start > len(text) * 0.9, "the end of the text was read"

    def test_eight_bits_tag(self, written: BundleInfo, path: Path) -> None:
        """Prevents an 8-bit network that cannot be opened, or is another one."""
        full, small = (Tagger.load(path, variant, threads=1).log_probabilities(self.SENTENCES)[0] for variant in ("fp32", "int8"))
        assert not np.array_equal(full, small)
        assert np.abs(np.exp(full) - np.exp(small)).mean() < 0.05
        assert len(nerdistill.load(path).tag_words(self.SENTENCES)) == len(self.SENTENCES)

    def test_a_vocabulary_without_ends_is_refused(self, path: Path, reader: Student, vocabulary: Vocabulary) -> None:
        """Prevents a bundle that no tagger opens, found after hours of training."""
        with pytest.raises(ValueError, match="needs begin and end pieces"):
            write_bundle(path, reader, vocabulary, MANIFEST)
        assert not path.exists()
