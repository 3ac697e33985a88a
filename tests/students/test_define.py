"""Tests of `nerdistill.students.parts.define`, of what stands around it in both students, and of its training on the teacher's table."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import Tensor

from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.errors import ConfigError
from nerdistill.export.bundle_writer import Manifest, write_bundle
from nerdistill.export.onnx_variants import write_fp32, write_int8
from nerdistill.records import Sentence
from nerdistill.runtime.bundle import WEIGHTS
from nerdistill.students.base import STUDENTS, Shape, Student, build_student, count_parameters, student_options
from nerdistill.students.bilstm import BiLSTM
from nerdistill.students.parts.define import Define, DefineOptions
from nerdistill.students.parts.piece_table import PAD, PieceTable
from nerdistill.students.parts.pooling import PieceEmbedding
from nerdistill.students.parts.reduction import reduce_table
from nerdistill.students.parts.regress import fit_to_table
from nerdistill.students.transformer import Transformer
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.encoder import WordTable

K = 7
N_PIECES = 40
SMALL = {"width": 4, "expand": 12, "layers": 3, "groups": 4}
BILSTM: dict[str, Any] = {"embedding_width": 6, "hidden_width": 5, "projection_width": 8}
TRANSFORMER: dict[str, Any] = {"layers": 1, "width": 12, "heads": 3, "ffn": 16, "positions": 32}
STUDENT_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bilstm": ("bilstm", {**BILSTM, "define": SMALL}),
    "bilstm, mean": ("bilstm", {**BILSTM, "define": SMALL, "pooling": "mean"}),
    "bilstm, linear unit": ("bilstm", {**BILSTM, "define": {**SMALL, "nonlinear": False}}),
    "bilstm, linear map": ("bilstm", {**BILSTM, "table_width": 3}),
    "bilstm, plain": ("bilstm", BILSTM),
    "transformer": ("transformer", {**TRANSFORMER, "define": SMALL}),
    "transformer, linear map": ("transformer", {**TRANSFORMER, "embedding_width": 4}),
}


def shaken(student: Student) -> Student:
    """The student with every weight moved, so that a norm's shift or a padding row at its first value cannot hide a fault."""
    chooser = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(torch.randn(weight.shape, generator=chooser), alpha=0.3)
        student.get_parameter("embeddings.table.weight")[PAD] = 0.0
    return student.eval()


def make(case: str, n_pieces: int = N_PIECES) -> BiLSTM | Transformer:
    name, options = STUDENT_CASES[case]
    made = shaken(build_student(name, options, Shape(n_pieces, K), None, seed=3))
    assert isinstance(made, BiLSTM | Transformer)
    return made


def batch_of(student: Student, sizes: list[int], seed: int = 0) -> dict[str, Tensor]:
    """A batch of random pieces: the sizes are pieces of distinct words for one kind, of sentences for the other, padded to the longest."""
    chooser = np.random.default_rng(seed)
    ids = np.full((len(sizes), max(sizes)), PAD)
    for row, size in enumerate(sizes):
        ids[row, :size] = chooser.integers(1, N_PIECES, size)
    if student.inputs == "words":
        order = chooser.integers(0, len(sizes), (2, 4))
        return {"word_pieces": torch.from_numpy(ids), "word_index": torch.from_numpy(order), "lengths": torch.tensor([4, 3])}
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy((ids != PAD).astype(np.int64)),
        "first_piece": torch.zeros((len(sizes), 1), dtype=torch.int64),
        "lengths": torch.ones(len(sizes), dtype=torch.int64),
    }


def session_of(model: bytes | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"])


class TestUnit:
    def test_the_papers_size(self) -> None:
        """Prevents other widths, groups or inputs than the paper's.

        n = 256, k = 1024, N = 3, m = 256, g = 8, 4, 2. Widths lie evenly between n and k: 256, 640, 1024; the last layer goes to m. The
        first layer reads n, the others n and the width before: 256 * 640 / 8 = 20,480, (256 + 640) * 1024 / 4 = 229,376 and
        (256 + 1024) * 256 / 2 = 163,840, together 413,696 (0.41 M in the paper's table 1). Norms add a gain and a shift for each of the
        640 and the 1024: 3,328.
        """
        options = DefineOptions(width=256, expand=1024, layers=3, groups=8, nonlinear=False)
        assert (options.group_counts, options.expanded_widths) == ((8, 4, 2), (640, 1024))
        unit = Define(options, 256)
        assert [weight.numel() for weight in unit.parameters()] == [20_480, 229_376, 163_840]
        assert count_parameters(unit) == 413_696
        assert count_parameters(Define(options.model_copy(update={"nonlinear": True}), 256)) == 413_696 + 3_328

    def test_groups_mix_the_chunks_of_the_row_anew(self) -> None:
        """Prevents a row that is put before the states as a whole: early groups would read nothing else, late ones none of it.

        n = 2 in 2 groups, to a width of 4, to m = 2 in 2 groups. Row (1, 10): the first layer's groups read 1 and 10 and make (1, 2) and
        (30, 40) of them. The second layer's groups read (1; 1, 2) and (10; 30, 40), with the weights (1, 10, 100) and (1, 1, 1).
        """
        unit = Define(DefineOptions(width=2, expand=4, layers=2, groups=2, nonlinear=False), 2)
        first, second = unit.parameters()
        assert (first.shape, second.shape) == ((2, 1, 2), (1, 6, 2)), "by default the second layer is one group"
        second_grouped = torch.tensor([[[1.0], [10.0], [100.0]], [[1.0], [1.0], [1.0]]])
        layers: Any = unit.layers
        with torch.no_grad():
            first.copy_(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]))
        layers[1].groups, layers[1].weight = 2, torch.nn.Parameter(second_grouped)
        assert unit(torch.tensor([[1.0, 10.0]])).tolist() == [[1 + 10 + 200, 10 + 30 + 40]]

    def test_one_number_reaches_its_own_group_only_at_first(self) -> None:
        """Prevents groups that read each other, or that the next, larger ones do not bring together."""
        unit = Define(DefineOptions(width=8, expand=24, layers=3, groups=4), 6)
        layers: Any = unit.layers
        row = torch.randn(1, 8)
        changed = row.clone()
        changed[0, 0] += 1.0
        moved = (layers[0]([row]) - layers[0]([changed]))[0] != 0
        assert moved.tolist() == [True] * 4 + [False] * 12
        assert bool(((unit(row) - unit(changed)) != 0).all())

    def test_without_norms_it_is_one_matrix(self) -> None:
        """Prevents a "linear" unit that is not, and a default that adds nothing to a plain factorisation."""
        rows = torch.randn(5, 4)
        for nonlinear in (False, True):
            unit = Define(DefineOptions(**{**SMALL, "nonlinear": nonlinear}), 6)
            matrix = unit(torch.eye(4))
            assert torch.allclose(unit(rows), rows @ matrix, atol=1e-5) is not nonlinear

    @pytest.mark.parametrize("nonlinear", [True, False])
    def test_first_vectors_have_the_size_of_the_rows(self, nonlinear: bool) -> None:
        """Prevents vectors that drown, or are drowned by, the positions beside them, or that leave the LSTM's working range."""
        unit = Define(DefineOptions(width=64, expand=512, layers=3, groups=8, nonlinear=nonlinear), 96)
        assert unit(torch.randn(300, 64)).square().mean().sqrt().item() == pytest.approx(1.0, rel=0.15)

    @given(
        multiple=st.integers(1, 12), more=st.integers(0, 200), layers=st.integers(2, 7), groups=st.integers(1, 24), out=st.integers(1, 9)
    )
    @settings(max_examples=60)
    def test_any_shape_fits_together(self, multiple: int, more: int, layers: int, groups: int, out: int) -> None:
        """Prevents widths that one of the two neighbours' groups do not divide, for some shape only."""
        counts = [max(groups // 2**number, 1) for number in range(layers)]
        width = multiple * int(np.lcm.reduce(counts))
        if width > 4096:
            return
        options = DefineOptions(width=width, expand=width + more, layers=layers, groups=groups)
        assert options.group_counts == tuple(counts)
        widths = options.expanded_widths
        exact = np.linspace(width, width + more, layers)[1:]
        for found, even, neighbours in zip(widths, exact, pairwise(counts), strict=False):
            assert even - 1e-6 <= found < even + np.lcm(*neighbours)
        assert Define(options, out * counts[-1])(torch.randn(2, width)).shape == (2, out * counts[-1])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"width": 12, "groups": 8}, "width = 12 cannot be shared by 8 groups; take a multiple of 8"),
            ({"width": 64, "expand": 32}, "expand = 32 is less than width = 64"),
            ({"layers": 1}, "layers"),
            ({"no_such_option": 1}, "no_such_option"),
        ],
    )
    def test_shapes_that_do_not_fit_are_a_message(self, options: dict[str, Any], message: str) -> None:
        """Prevents a reshape's error in the middle of a run."""
        for name in ("bilstm", "transformer"):
            with pytest.raises(ConfigError, match=message):
                student_options(name, {"define": options})

    def test_a_result_that_its_groups_cannot_share_is_a_message(self) -> None:
        """Prevents a reshape's error for a width that the student's options and the unit's say only together."""
        options = {"embedding_width": 7, "define": {"width": 8, "layers": 2, "groups": 8}}
        with pytest.raises(ConfigError, match="the last layer has 4 groups, which do not divide the 7 columns"):
            build_student("bilstm", options, Shape(9, K), None, 0)


class TestTable:
    def test_each_distinct_piece_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a unit that works anew for each time that a piece stands in the batch."""
        table = PieceTable(9, 6, 0.1, None, None, DefineOptions(**SMALL))
        read: list[int] = []
        forward = Define.forward

        def counting(unit: Define, rows: Tensor) -> Tensor:
            read.append(len(rows))
            return forward(unit, rows)

        monkeypatch.setattr(Define, "forward", counting)
        ids = torch.tensor([[3, 3, 5], [5, 3, PAD]])
        vectors = table.vectors(ids)
        assert read == [3]
        torch.testing.assert_close(vectors, torch.stack([table.all_vectors(row) for row in ids]))

    def test_padding_is_zero_whatever_the_unit_makes_of_it(self) -> None:
        """Prevents short words that are pooled with what the unit gives for a row of zeros."""
        student = make("bilstm")
        assert student.embeddings.define is not None
        assert bool(student.embeddings.define(torch.zeros(1, 4)).any()), "the unit would be 0 there anyway"
        alone, padded = (student.embeddings(torch.tensor([pieces])) for pieces in ([3, 4], [3, 4, PAD, PAD]))
        torch.testing.assert_close(alone, padded)
        assert not student.embeddings(torch.tensor([[PAD, PAD]])).any()
        for case in STUDENT_CASES:
            assert not make(case).embeddings.folded().table.weight[PAD].any(), case

    def test_pooling_is_the_mean_of_wide_vectors(self) -> None:
        """Prevents pooling before the unit, which is another network."""
        pool = PieceEmbedding(9, 6, "mean", None, define=DefineOptions(**SMALL))
        torch.testing.assert_close(pool(torch.tensor([[2, 7, PAD]]))[0], pool.all_vectors(torch.tensor([2, 7])).mean(dim=0))

    @pytest.mark.parametrize("case", STUDENT_CASES)
    def test_the_given_table_is_as_wide_as_promised(self, case: str) -> None:
        """Prevents a teacher's table reduced to the width of the vectors, which then fits no narrow table."""
        name, options = STUDENT_CASES[case]
        width = STUDENTS.get(name).embedding_width(student_options(name, options))
        given_table = torch.randn(N_PIECES, width)
        student = build_student(name, options, Shape(N_PIECES, K), given_table, 1)
        assert torch.equal(student.get_parameter("embeddings.table.weight")[1:], given_table[1:])
        expected = {"bilstm, linear map": 3, "bilstm, plain": 6}.get(case, 4)
        assert width == expected

    def test_two_widths_are_a_message(self) -> None:
        """Prevents one of two contradicting widths from being ignored."""
        with pytest.raises(ConfigError, match=r"define\.width = 64 and table_width = 50 both"):
            student_options("bilstm", {"define": {}, "table_width": 50})
        with pytest.raises(ConfigError, match=r"define\.width = 64 and embedding_width = 50 both"):
            student_options("transformer", {"define": {}, "embedding_width": 50})

    def test_what_is_not_asked_for_is_not_written(self) -> None:
        """Prevents another fingerprint, hence a second training, of students from before there were such options."""
        for name in ("bilstm", "transformer"):
            assert not {"define", "table_width"} & set(student_options(name, {}).model_dump())
            options = student_options(name, {"define": SMALL})
            assert options.model_dump()["define"] == {**SMALL, "nonlinear": True}
            assert student_options(name, options.model_dump()) == options
        assert "embedding_width" in student_options("transformer", {}).model_dump()
        assert student_options("bilstm", {"table_width": 3}).model_dump()["table_width"] == 3

    def test_the_unit_is_opened_with_the_embeddings(self) -> None:
        """Prevents a unit that learns while its table is still frozen."""
        for case in ("bilstm", "transformer"):
            student = make(case)
            unit = {id(weight) for weight in student.embeddings.define.parameters()}  # type: ignore[union-attr]
            holders = [group.name for group in student.groups() if unit & {id(weight) for weight in group.module.parameters()}]
            assert holders == ["embeddings"]

    def test_half_precision_stays_close(self) -> None:
        """Prevents a unit that breaks, or learns nothing, under autocast."""
        student = make("bilstm")
        batch = batch_of(student, [2, 3, 1])
        whole = student(batch).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = student(batch).logits
            half.float().sum().backward()
        assert (half.float() - whole).abs().max() < 0.1 * whole.abs().max()


class TestServing:
    @pytest.mark.parametrize("case", STUDENT_CASES)
    def test_folded_says_the_same(self, case: str) -> None:
        """Prevents a served table that is not what was trained: another order of pieces, chunks, or padding."""
        student = make(case)
        batch = batch_of(student, [2, 4, 1])
        before = {name: weight.clone() for name, weight in student.state_dict().items()}
        plain = student.folded()
        torch.testing.assert_close(plain(batch).logits, student(batch).logits, rtol=0, atol=1e-5)
        assert {name: value.shape for name, value in plain.state_dict().items()} == {
            name: value.shape for name, value in build_plain(case).state_dict().items()
        }
        with torch.no_grad():
            for weight in plain.parameters():
                weight.zero_()
        assert all(torch.equal(weight, before[name]) for name, weight in student.state_dict().items()), "the two share weights"

    def test_a_table_is_folded_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents rows that are lost or doubled at the border of two parts."""
        monkeypatch.setattr("nerdistill.students.parts.piece_table._AT_ONCE", 7)
        embeddings = make("bilstm").embeddings
        torch.testing.assert_close(embeddings.folded().table.weight, embeddings.all_vectors(torch.arange(N_PIECES)))

    @pytest.mark.parametrize("folded", [False, True])
    @pytest.mark.parametrize("case", STUDENT_CASES)
    def test_onnx_says_the_same(self, case: str, folded: bool) -> None:
        """Prevents a served network that differs from the trained one, with the unit written out or folded away."""
        student = make(case)
        graph = (student.folded() if folded else student).to_onnx()
        session = session_of(graph.SerializeToString())
        for number, sizes in enumerate([[1], [3, 1], [1, 1, 1], [2, 9, 5, 4]]):
            batch = batch_of(student, sizes, number)
            served = session.run(["logits"], {key: value.numpy() for key, value in batch.items()})[0]
            trained = student(batch).logits.detach().numpy()
            real = (
                np.ones(trained.shape[:2], dtype=bool) if student.inputs == "pieces" else np.arange(4) < batch["lengths"].numpy()[:, None]
            )
            np.testing.assert_allclose(served[real], trained[real], rtol=1e-4, atol=2e-5)
        held = sum(numpy_helper.to_array(weight).size for weight in graph.graph.initializer if weight.data_type == onnx.TensorProto.FLOAT)
        constants = held - count_parameters(student.folded() if folded else student)
        assert 0 <= constants <= 3, "constants apart, what is served has as many numbers as are counted"

    @pytest.mark.parametrize("case", ["bilstm", "transformer", "bilstm, linear map"])
    def test_eight_bits(self, case: str, tmp_path: Path) -> None:
        """Prevents a unit or a table that stays in float32 in the 8-bit file, and a file that says something else."""
        student = make(case)
        write_fp32(student, tmp_path / "full.onnx")
        write_int8(tmp_path / "full.onnx", tmp_path / "small.onnx")
        graph = onnx.load(tmp_path / "small.onnx").graph
        large = {weight.name for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1}
        assert large <= {"embeddings_positions", "lstm_b", "head_w", "logits_w"}
        assert Counter(node.op_type for node in graph.node)["MatMulInteger"] >= 2
        feed = {key: value.numpy() for key, value in batch_of(student, [2, 3, 1]).items()}
        exact, rounded = (session_of(tmp_path / name).run(["logits"], feed)[0] for name in ("full.onnx", "small.onnx"))
        assert not np.array_equal(exact, rounded)
        assert np.abs(exact - rounded)[0].max() < 0.25 * np.abs(exact).max()

    def test_a_folded_bundle_counts_what_it_holds(self, vocabulary: Vocabulary, tmp_path: Path) -> None:
        """Prevents a card that promises the small student's size for a bundle with the large table."""
        student = make("bilstm", vocabulary.tokenizer.get_vocab_size())
        manifest = Manifest("tiny", ("PER", "LOC", "ORG"), ("de",), {"kind": "bilstm"})
        small = write_bundle(tmp_path / "small", student, vocabulary, manifest)
        served = write_bundle(tmp_path / "served", student, vocabulary, manifest, fold=True)
        n_pieces = vocabulary.tokenizer.get_vocab_size()
        unit = count_parameters(student.embeddings.define)  # type: ignore[arg-type]
        assert small.parameters == count_parameters(student)
        assert served.parameters == small.parameters - unit - 4 * n_pieces + 6 * n_pieces
        assert (tmp_path / "served" / WEIGHTS).read_bytes() == (tmp_path / "small" / WEIGHTS).read_bytes(), "for training on"
        table = WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0)
        batch = EncodedCorpus([Sentence(("Anna", "gagné", "."))], Encoder(table)).collate(np.arange(1))
        feed = {key: batch[key].numpy() for key in ("word_pieces", "word_index", "lengths")}
        one, other = (session_of(tmp_path / name / "model.onnx").run(["logits"], feed)[0] for name in ("small", "served"))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def build_plain(case: str) -> Student:
    """A student of the case's shape with a table that is read as it is."""
    name, options = STUDENT_CASES[case]
    kept = {
        key: value
        for key, value in options.items()
        if key not in ("define", "table_width") and (name, key) != ("transformer", "embedding_width")
    }
    return build_student(name, kept, Shape(N_PIECES, K), None, seed=4)


class TestRegression:
    def teacher(self, n_pieces: int = 200, width: int = 24) -> tuple[Tensor, Tensor]:
        """Rows on a curved surface of four dimensions, and frequencies that fall as those of words do."""
        made = torch.Generator().manual_seed(2)
        inner = torch.randn(n_pieces, 4, generator=made)
        rows = torch.tanh(1.5 * inner @ torch.randn(4, width, generator=made)) + 3.0
        return rows, 1000.0 / torch.arange(1, n_pieces + 1)

    def part(self, target: Tensor, define: bool = True) -> PieceTable:
        start = reduce_table(target, range(len(target)), 4)
        torch.manual_seed(1)
        options = DefineOptions(width=4, expand=48, layers=3, groups=2)
        return PieceTable(len(target), 12, 0.1, start, None if define else 4, options if define else None)

    def test_a_unit_learns_the_teachers_rows(self) -> None:
        """Prevents weights that do not learn, or rows of other pieces: four linear columns reach the weighted principal directions."""
        target, frequencies = self.teacher()
        weights = frequencies.sqrt()
        weights[PAD] = 0.0
        centred = (target - weights @ target / weights.sum()) * weights.sqrt()[:, None]
        values = torch.linalg.eigvalsh((centred.T @ centred).double())
        linear = float(values[:-4].sum() / values.sum())
        assert fit_to_table(self.part(target, define=False), target, frequencies, 200, seed=0) == pytest.approx(linear, rel=0.01)
        assert fit_to_table(self.part(target), target, frequencies, 200, seed=0) < 0.8 * linear

    def test_all_of_it_learns_but_the_padding(self) -> None:
        """Prevents a table that stays, a unit that stays, or a padding row that moves."""
        target, frequencies = self.teacher()
        part = self.part(target)
        before = {name: weight.clone() for name, weight in part.state_dict().items()}
        fit_to_table(part, target, frequencies + 100.0, 30, seed=0)
        assert all(not torch.equal(weight, before[name]) for name, weight in part.state_dict().items())
        assert not part.table.weight[PAD].any()

    @pytest.mark.parametrize("define", [True, False])
    def test_vectors_keep_their_size(self, define: bool) -> None:
        """Prevents vectors that the positions beside them, or the network that reads them, were not made for."""
        target, frequencies = self.teacher()
        part = self.part(target, define)
        ids = torch.arange(len(target))
        before, start = part.all_vectors(ids).square().mean(), part.all_vectors(ids)
        fit_to_table(part, 100.0 * target, frequencies, 60, seed=0)
        torch.testing.assert_close(part.all_vectors(ids).square().mean(), before)
        assert not torch.allclose(part.all_vectors(ids), start, atol=0.1)

    def test_equal_seeds_equal_weights(self) -> None:
        """Prevents a continued run that is another run."""
        target, frequencies = self.teacher()
        made = []
        for seed, noise in ((0, 1), (0, 2), (5, 1)):
            part = self.part(target)
            torch.manual_seed(noise)
            state = torch.get_rng_state()
            error = fit_to_table(part, target, frequencies, 20, seed)
            assert torch.equal(torch.get_rng_state(), state), "the global generator was moved"
            made.append((error, part.table.weight.detach()))
        assert made[0][0] == made[1][0]
        assert torch.equal(made[0][1], made[1][1])
        assert not torch.equal(made[0][1], made[2][1])

    def test_frequent_pieces_count_more(self) -> None:
        """Prevents weights that are dropped: every other piece is noise, which is hardly ever met, and must not be in the way."""
        target, _ = self.teacher()
        target[::2] = 3.0 + 2.0 * torch.randn(target[::2].shape)
        even = torch.ones(len(target))
        uneven = even.clone()
        uneven[::2] = 1e-8
        assert fit_to_table(self.part(target), target, even, 60, 0) > 0.3
        assert fit_to_table(self.part(target), target, uneven, 60, 0) < 0.2

    def test_the_callers_arguments_stay(self) -> None:
        """Prevents frequencies or a teacher's table that are changed in place."""
        target, frequencies = self.teacher()
        copies = target.clone(), frequencies.clone()
        fit_to_table(self.part(target), target, frequencies, 2, 0)
        assert torch.equal(target, copies[0])
        assert torch.equal(frequencies, copies[1])

    @pytest.mark.parametrize("wrong", ["rows", "frequencies", "negative", "nan", "zero"])
    def test_wrong_arguments_are_a_message(self, wrong: str) -> None:
        """Prevents rows of other pieces, or weights that are no numbers, from being learnt silently."""
        target, frequencies = self.teacher()
        part = self.part(target)
        given_rows = target[1:] if wrong == "rows" else target
        changed = {"frequencies": frequencies[1:], "negative": -frequencies, "nan": frequencies * float("nan"), "zero": frequencies * 0}
        with pytest.raises(ValueError, match=r"expected a row for each|at least 0"):
            fit_to_table(part, given_rows, changed.get(wrong, frequencies), 1, 0)
