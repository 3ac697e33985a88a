"""Tests of `nerdistill.students.mobilebert`, its wide teacher and their parts beyond what the contract asks of every student."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nerdistill.errors import ConfigError
from nerdistill.export.onnx_variants import write_fp32, write_int8
from nerdistill.students.base import Shape, build_student, count_parameters
from nerdistill.students.mobilebert import MobileBert
from nerdistill.students.parts.bottleneck import BottleneckBlock
from nerdistill.students.parts.norm import NoNorm

K, LAYERS, WIDTH, INNER, HEADS, FFNS = 7, 3, 12, 6, 3, 2
OPTIONS: dict[str, Any] = {
    "layers": LAYERS, "width": WIDTH, "inner_width": INNER, "heads": HEADS, "ffn": 10, "ffns": FFNS, "positions": 64, "embedding_width": 5,
}  # fmt: skip
DEFINE = {"width": 4, "expand": 10, "layers": 3, "groups": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "published": {},
    "tiny": {"attention": "bottleneck"},
    "without operational optimisations": {"norm": "layer", "activation": "gelu"},
    "inverted": {"attention": "block", "inner_width": 18, "ffns": 1, "norm": "layer", "activation": "gelu"},
    "table": {"table_width": 3},
    "define": {"define": DEFINE},
}
N_PIECES = 90
BEGIN, END = 2, 3


def make(seed: int = 3, table: Tensor | None = None, kind: str = "mobilebert", **options: Any) -> MobileBert:
    """A student whose states differ from word to word, as those of a trained one do: first weights are small."""
    student = build_student(kind, {**OPTIONS, **options}, Shape(N_PIECES, K), table, seed).eval()
    assert isinstance(student, MobileBert)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in student.named_parameters():
            scale = 0.2 if name.endswith("bias") or "norm" in name else 0.25
            weight.add_(torch.randn(weight.shape, generator=draw) * scale)
        student.embeddings.table.weight[0] = 0.0
    return student


def batch_of(sentences: Sequence[Sequence[int]], padding: int = 0) -> dict[str, Tensor]:
    """Arrays of sentences given as the numbers of pieces of their words."""
    sizes = [sum(sentence) + 2 for sentence in sentences]
    ids = torch.zeros(len(sentences), max(sizes) + padding, dtype=torch.int64)
    first = torch.zeros(len(sentences), max(map(len, sentences)), dtype=torch.int64)
    for row, (sentence, size) in enumerate(zip(sentences, sizes, strict=True)):
        ids[row, :size] = torch.tensor([BEGIN, *(4 + (7 * len(sentence) + 13 * at) % (N_PIECES - 4) for at in range(size - 2)), END])
        first[row, : len(sentence)] = torch.tensor([1, *sentence[:-1]]).cumsum(0)
    mask = (torch.arange(ids.shape[1]) < torch.tensor(sizes)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "first_piece": first, "lengths": torch.tensor([len(s) for s in sentences])}


SENTENCES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=12), min_size=1, max_size=9)


def block_of(student: MobileBert, number: int) -> BottleneckBlock:
    """A block, from 0."""
    block = student.layers[number]
    assert isinstance(block, BottleneckBlock)
    return block


def theirs(student: MobileBert) -> dict[str, Tensor]:
    """The weights of a student by the names of the transformers library."""
    own, found = student.state_dict(), {}
    names = {"embeddings.table": "embeddings.word_embeddings", "embeddings.positions": "embeddings.position_embeddings",
             "embeddings.convolution": "embeddings.embedding_transformation", "embeddings.norm": "embeddings.LayerNorm"}  # fmt: skip
    for number in range(LAYERS):
        ours, their = f"layers.{number}", f"encoder.layer.{number}"
        names |= {
            f"{ours}.enter": f"{their}.bottleneck.input.dense", f"{ours}.enter_norm": f"{their}.bottleneck.input.LayerNorm",
            f"{ours}.shared": f"{their}.bottleneck.attention.dense", f"{ours}.shared_norm": f"{their}.bottleneck.attention.LayerNorm",
            f"{ours}.attention.value": f"{their}.attention.self.value", f"{ours}.attention.output": f"{their}.attention.output.dense",
            f"{ours}.attention_norm": f"{their}.attention.output.LayerNorm",
            f"{ours}.networks.0.inner": f"{their}.ffn.0.intermediate.dense", f"{ours}.networks.0.outer": f"{their}.ffn.0.output.dense",
            f"{ours}.networks.0.norm": f"{their}.ffn.0.output.LayerNorm",
            f"{ours}.networks.1.inner": f"{their}.intermediate.dense", f"{ours}.networks.1.outer": f"{their}.output.dense",
            f"{ours}.networks.1.norm": f"{their}.output.LayerNorm",
            f"{ours}.leave": f"{their}.output.bottleneck.dense", f"{ours}.leave_norm": f"{their}.output.bottleneck.LayerNorm",
        }  # fmt: skip
        for kind in ("weight", "bias"):
            for name, part in zip(("query", "key"), own[f"{ours}.attention.query_key.{kind}"].chunk(2), strict=True):
                found[f"{their}.attention.self.{name}.{kind}"] = part
    for name, value in own.items():
        module, _, kind = name.rpartition(".")
        if module in names:
            found[f"{names[module]}.{kind}"] = value
    return found | {"embeddings.token_type_embeddings.weight": torch.zeros(1, WIDTH)}


class TestNetwork:
    @pytest.mark.parametrize(("norm", "activation"), [("none", "relu"), ("layer", "gelu")])
    @pytest.mark.parametrize("attention", ["shared", "bottleneck", "block"])
    def test_it_is_mobilebert(self, attention: str, norm: str, activation: str) -> None:
        """Prevents a network that is called MobileBERT and is another: what reads what, sums, order of networks, the convolution's."""
        from transformers import MobileBertConfig, MobileBertModel

        inner = WIDTH if attention == "block" else INNER  # the library's queries have the inner width whatever they read
        student = make(attention=attention, norm=norm, activation=activation, inner_width=inner)
        config: Any = MobileBertConfig(
            vocab_size=N_PIECES, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=10,
            max_position_embeddings=64, type_vocab_size=1, embedding_size=5, intra_bottleneck_size=inner, num_feedforward_networks=FFNS,
            hidden_act=activation, normalization_type="no_norm" if norm == "none" else "layer_norm",
            use_bottleneck_attention=attention == "bottleneck", key_query_shared_bottleneck=attention == "shared",
        )  # fmt: skip
        network: Any = MobileBertModel(config, add_pooling_layer=False)
        left = network.eval().load_state_dict(theirs(student), strict=False)
        assert not left.unexpected_keys
        assert not left.missing_keys
        batch = batch_of([[2, 1, 1, 4, 2], [1, 3, 1, 3, 2]])
        with torch.no_grad():
            found = student(batch).hidden
            expected = network(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states
        assert len(found) == LAYERS + 1
        index = batch["first_piece"][..., None].expand(-1, -1, WIDTH)
        for ours, whole in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, whole.gather(1, index), rtol=1e-3, atol=1e-4)

    def test_pieces_are_widened_by_a_convolution(self) -> None:
        """Prevents neighbours that are exchanged, or a sentence's ends that read each other, beyond what another library does."""
        embeddings = make().embeddings
        ids = torch.randint(4, N_PIECES, (2, 9))
        weight = embeddings.convolution.weight.view(WIDTH, 3, 5).flip(1).permute(0, 2, 1)  # torch slides from the piece before
        convolved = F.conv1d(embeddings.vectors(ids).transpose(1, 2), weight, embeddings.convolution.bias, padding=1).transpose(1, 2)
        expected = embeddings.norm(convolved + embeddings.positions.weight[:9])
        torch.testing.assert_close(embeddings(ids, torch.ones(2, 9).bool()), expected, rtol=1e-4, atol=1e-5)

    def test_padding_is_silent_behind_the_last_piece(self) -> None:
        """Prevents the convolution from carrying the next piece of a batch, even a real row that stands at padding, into a sentence."""
        embeddings = make().embeddings
        short, longer = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7, 8, 9]])
        real = torch.tensor([[True, True, True, False, False]])
        torch.testing.assert_close(embeddings(longer, real)[:, :3], embeddings(short, real[:, :3]))

    @pytest.mark.parametrize(("attention", "expected"), [("shared", 842_240), ("bottleneck", 463_232)])
    def test_published_blocks_have_their_size(self, attention: Any, expected: int) -> None:
        """Prevents a part too many or too few: these are MobileBERT's block and MobileBERT-tiny's, counted from their configurations."""
        block = BottleneckBlock(512, 128, 4, 512, 4 if attention == "shared" else 2, attention, "none", "relu", 0.0)
        assert count_parameters(block) == expected

    def test_the_wide_teacher_is_the_published_one(self) -> None:
        """Prevents an inverted bottleneck that is none: IB-BERT's block has 12.08 million weights."""
        block = BottleneckBlock(512, 1024, 4, 4096, 1, "block", "layer", "gelu", 0.1)
        assert round(count_parameters(block) / 1e6, 2) == 12.08
        student = build_student("inverted_bottleneck", {}, Shape(9, K), None, 0)
        assert isinstance(student, MobileBert)
        block = block_of(student, 0)
        assert (block.reads, len(block.networks), type(block.enter_norm)) == ("block", 1, torch.nn.LayerNorm)
        assert block.enter.out_features > block.enter.in_features

    def test_defaults_of_both_fit(self) -> None:
        """Prevents a default student that cannot learn from its default teacher: other feature maps, depth or heads."""
        student, teacher = (build_student(kind, {}, Shape(9, K), None, 0) for kind in ("mobilebert", "inverted_bottleneck"))
        assert student.state_widths == teacher.state_widths
        assert student.heads == teacher.heads
        mine, given_ = (network.groups()[-1].module.state_dict() for network in (student, teacher))
        assert {name: value.shape for name, value in mine.items()} == {name: value.shape for name, value in given_.items()}

    def test_no_norm_is_elementwise(self) -> None:
        """Prevents a NoNorm that normalises, or mixes features: state (2, -3), weight (1, 2), bias (5, 1) is (7, -5)."""
        norm = NoNorm(2)
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, 2.0]))
            norm.bias.copy_(torch.tensor([5.0, 1.0]))
        assert torch.equal(norm(torch.tensor([[2.0, -3.0]])), torch.tensor([[7.0, -5.0]]))

    @pytest.mark.parametrize("scale", [None, 0.02, 1.0, 30.0])
    def test_first_states_have_the_size_one(self, scale: float | None) -> None:
        """Prevents first states as small, or as large, as a given table: nothing behind them would bring them to a size."""
        table = None if scale is None else torch.randn(N_PIECES, 48) * scale
        options = {**OPTIONS, "width": 96, "inner_width": 48, "embedding_width": 48}
        student = build_student("mobilebert", options, Shape(N_PIECES, K), table, 1)
        assert isinstance(student, MobileBert)
        ids = torch.randint(4, N_PIECES, (4, 60))
        states = student.embeddings(ids, torch.ones(4, 60).bool())
        places = student.embeddings.positions.weight[:60]
        assert places.square().mean().sqrt().item() == pytest.approx(1.0, rel=0.1)
        assert (states - places).square().mean().sqrt().item() == pytest.approx(1.0, rel=0.3)
        assert build_student("mobilebert", OPTIONS, Shape(N_PIECES, K), torch.zeros(N_PIECES, 5), 1)  # no division by its size

    def test_groups_from_the_top(self) -> None:
        """Prevents blocks from being opened from the bottom."""
        student = make()
        assert [group.name for group in student.groups()] == ["head", "layer_3", "layer_2", "layer_1", "embeddings"]
        assert [group.module for group in student.groups()][1:-1] == list(student.layers)[::-1]

    def test_half_precision_stays_close(self) -> None:
        """Prevents logits in bfloat16, of which losses would be sums, or a part that breaks under it."""
        student, batch = make(), batch_of([[1, 2], [3, 1, 1]])
        student.with_attention = True
        whole = student(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = student(batch)
            half.logits.sum().backward()
        assert half.logits.dtype == torch.float32
        assert all(scores.dtype == torch.float32 for scores in half.attention)
        assert (half.logits - whole.logits).abs().max() < 0.1 * whole.logits.abs().max()

    def test_dropout_is_of_training_only(self) -> None:
        """Prevents dropout in a served network, or none in training."""
        student, batch = make(dropout=0.5), batch_of([[1, 2, 2]])
        assert torch.equal(student(batch).logits, student(batch).logits)
        student.train()
        assert not torch.equal(student(batch).logits, student(batch).logits)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"heads": 4}, "inner_width = 6 cannot be shared by heads = 4"),
            ({"define": DEFINE, "table_width": 3}, "leave one out"),
            ({"attention": "narrow"}, "attention"),
        ],
    )
    def test_wrong_shapes_are_a_message(self, options: dict[str, Any], message: str) -> None:
        """Prevents a traceback from the middle of the network."""
        with pytest.raises(ConfigError, match=message):
            make(**options)


class TestAttention:
    @pytest.mark.parametrize("attention", ["shared", "bottleneck", "block"])
    def test_the_block_reads_by_these_scores(self, attention: str) -> None:
        """Prevents a loss over scores that are not those by which the block reads: of other states, without the scale, of a mixed head."""
        block = block_of(make(attention=attention), 1)
        states, real = torch.randn(2, 6, WIDTH), torch.tensor([[1] * 6, [1] * 4 + [0] * 2]).bool()[:, None, None]
        probabilities = block.scores(states).masked_fill(~real, -math.inf).softmax(dim=-1)
        inner = block.enter_norm(block.enter(states))
        value = block.attention.value(inner if attention == "bottleneck" else states).view(2, 6, HEADS, -1).transpose(1, 2)
        inner = block.attention_norm(block.attention.output((probabilities @ value).transpose(1, 2).flatten(2)) + inner)
        for network in block.networks:
            inner = network(inner)
        torch.testing.assert_close(block(states, real), block.leave_norm(block.leave(inner) + states), rtol=1e-4, atol=1e-5)

    def test_scores_are_those_of_first_pieces(self) -> None:
        """Prevents maps between other pieces than words' first ones, or of the states behind the block."""
        student, batch = make(), batch_of([[1, 2, 3], [2, 1, 1, 4, 2]])
        student.with_attention = True
        with torch.no_grad():
            found = student(batch).attention
            real = batch["attention_mask"].bool()
            states = student.embeddings(batch["input_ids"], real)
            for number, scores in enumerate(found):
                whole = block_of(student, number).scores(states)
                for row, places in enumerate(batch["first_piece"]):
                    torch.testing.assert_close(scores[row], whole[row][:, places][:, :, places], rtol=1e-4, atol=1e-4)
                states = student.layers[number](states, real[:, None, None])
        assert [scores.shape for scores in found] == [(2, HEADS, 5, 5)] * LAYERS

    def test_only_where_asked_for(self) -> None:
        """Prevents the cost of maps that nobody reads, and logits that change with them."""
        student, batch = make(), batch_of([[1, 2, 3]])
        plain = student(batch)
        student.with_attention = True
        assert plain.attention == ()
        assert torch.equal(student(batch).logits, plain.logits)

    def test_a_loss_over_scores_teaches_queries_and_keys(self) -> None:
        """Prevents maps without gradient."""
        student = make()
        student.with_attention = True
        total: Any = sum(scores.square().sum() for scores in student(batch_of([[1, 2], [2, 2]])).attention)
        total.backward()
        for number in range(LAYERS):
            grad = block_of(student, number).attention.query_key.weight.grad
            assert grad is not None
            assert bool(grad.any(dim=1).all())


@cache
def session_of(shape: str) -> tuple[MobileBert, onnxruntime.InferenceSession]:
    """A student and its exported network."""
    student = make(**SHAPES[shape])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return student, onnxruntime.InferenceSession(student.to_onnx().SerializeToString(), options, providers=["CPUExecutionProvider"])


def feed(batch: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: array.numpy() for name, array in batch.items()}


class TestExport:
    @pytest.mark.parametrize("shape", SHAPES)
    @given(sentences=SENTENCES, padding=st.integers(0, 5))
    @settings(max_examples=15)
    def test_onnx_says_the_same(self, shape: str, sentences: list[list[int]], padding: int) -> None:
        """Prevents a served network that differs from the trained one for some batch, length or amount of padding."""
        student, session = session_of(shape)
        batch = batch_of(sentences, padding)
        served = session.run(["logits"], feed(batch))[0]
        with torch.inference_mode():
            trained = student(batch).logits.numpy()
        assert served.dtype == np.float32
        assert served.shape == trained.shape
        for row, sentence in enumerate(sentences):
            np.testing.assert_allclose(served[row, : len(sentence)], trained[row, : len(sentence)], rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("shape", ["published", "inverted"])
    def test_padding_is_not_served(self, shape: str) -> None:
        """Prevents served tags that depend on the batch: on its padding, or on what stands at it."""
        _, session = session_of(shape)
        alone, beside = batch_of([[1, 2, 1]]), batch_of([[1, 2, 1], [3, 3, 3, 3]], padding=3)
        beside["input_ids"][beside["attention_mask"] == 0] = 9
        one, other = (session.run(["logits"], feed(batch))[0][0, :3] for batch in (alone, beside))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

    def test_the_longest_sequence(self) -> None:
        """Prevents a border off by one: as many pieces as there are positions."""
        student, session = session_of("published")
        batch = batch_of([[1] * 62, [1]])
        assert batch["input_ids"].shape[1] == OPTIONS["positions"] == student.limit + 2  # type: ignore[operator]
        served = session.run(["logits"], feed(batch))[0]
        np.testing.assert_allclose(served[0], student(batch).logits[0].detach().numpy(), rtol=1e-3, atol=1e-3)

    def test_nothing_is_normalised(self) -> None:
        """Prevents a NoNorm that is served as a normalisation; where it follows a layer it must not cost an operation of its own."""
        operators = Counter(node.op_type for node in make().to_onnx().graph.node)
        assert operators["LayerNormalization"] == 0
        # one a sum: of the embeddings; of attention, networks and block; beside them padding's embeddings and the mask
        assert operators["Mul"] == 1 + LAYERS * (2 + FFNS) + 2
        operators = Counter(node.op_type for node in make(norm="layer").to_onnx().graph.node)
        assert operators["LayerNormalization"] == 1 + LAYERS * (4 + FFNS)

    @pytest.mark.parametrize("shape", ["published", "inverted"])
    def test_eight_bits(self, tmp_path: Path, shape: str) -> None:
        """Prevents a table or a layer that stays in float32 in the 8-bit file, and a file that says something else."""
        student, full = session_of(shape)
        write_fp32(student, tmp_path / "full.onnx")
        write_int8(tmp_path / "full.onnx", tmp_path / "small.onnx")
        graph = onnx.load(tmp_path / "small.onnx").graph
        operators = Counter(node.op_type for node in graph.node)
        linears = sum(isinstance(module, torch.nn.Linear) for module in student.modules())
        assert operators["MatMulInteger"] == linears + LAYERS - 1, "queries and keys, one layer, are two products; the head stays"
        assert operators["MatMul"] == 2 * LAYERS + 1, "of queries with keys and of probabilities with values, and the head"
        large = {weight.name for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1}
        assert large == {"embeddings_positions", "logits_w"}
        small = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
        given_ = feed(batch_of([[1, 2, 3], [4, 1]]))
        exact, rounded = (session.run(["logits"], given_)[0] for session in (full, small))
        assert not np.array_equal(exact, rounded)
        assert np.abs(exact - rounded)[0].max() < 0.25 * np.abs(exact).max()

    @pytest.mark.parametrize("shape", ["table", "define"])
    def test_folded_says_the_same(self, shape: str) -> None:
        """Prevents a plain table that gives other vectors than the one that was trained."""
        student, batch = make(**SHAPES[shape]), batch_of([[1, 2, 3], [4, 1]])
        plain = student.folded()
        assert plain.embeddings.define is None
        assert plain.embeddings.widen is None
        torch.testing.assert_close(plain(batch).logits, student(batch).logits, rtol=1e-4, atol=1e-4)
