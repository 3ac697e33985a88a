"""Tests of `nerdistill.students.transformer` and its parts beyond what the contract asks of every student."""

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
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.errors import ConfigError
from nerdistill.export.onnx_variants import write_fp32, write_int8
from nerdistill.records import Sentence
from nerdistill.students.base import Shape, build_student, count_parameters
from nerdistill.students.parts.positioned import INITIAL_DEVIATION
from nerdistill.students.parts.self_attention import SelfAttention
from nerdistill.students.parts.transformer_layer import TransformerLayer
from nerdistill.students.transformer import Transformer
from nerdistill.students.vocabulary import TECHNICAL, Vocabulary, prune
from nerdistill.text.encoder import WordTable
from tests.conftest import TEXT

K, LAYERS, WIDTH, HEADS = 7, 3, 12, 3
OPTIONS: dict[str, Any] = {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "ffn": 20, "positions": 64}
SHAPES: dict[str, dict[str, Any]] = {"equal": {}, "factorised": {"embedding_width": 5}, "relu": {"activation": "relu"}}
N_PIECES = 90
BEGIN, END = 2, 3


def make(seed: int = 3, n_pieces: int = N_PIECES, table: Tensor | None = None, **options: Any) -> Transformer:
    """A student whose states differ from word to word, as those of a trained one do: first weights are small."""
    student = build_student("transformer", {**OPTIONS, **options}, Shape(n_pieces, K), table, seed).eval()
    assert isinstance(student, Transformer)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in student.named_parameters():
            scale = 0.2 if name.endswith("bias") or "norm" in name else 0.5
            weight.add_(torch.randn(weight.shape, generator=draw) * scale)
        student.embeddings.table.weight[0] = 0.0
    return student


def batch_of(sentences: Sequence[Sequence[int]], padding: int = 0) -> dict[str, Tensor]:
    """Arrays of sentences given as the numbers of pieces of their words."""
    sizes = [sum(sentence) + 2 for sentence in sentences]
    ids = torch.zeros(len(sentences), max(sizes) + padding, dtype=torch.int64)
    first = torch.zeros(len(sentences), max(map(len, sentences)), dtype=torch.int64)
    for row, (sentence, size) in enumerate(zip(sentences, sizes, strict=True)):
        ids[row, :size] = torch.tensor([BEGIN, *(4 + (7 * row + 13 * at) % (N_PIECES - 4) for at in range(size - 2)), END])
        first[row, : len(sentence)] = torch.tensor([1, *sentence[:-1]]).cumsum(0)
    mask = (torch.arange(ids.shape[1]) < torch.tensor(sizes)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "first_piece": first, "lengths": torch.tensor([len(s) for s in sentences])}


SENTENCES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=12), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def ended(tokenizer: Tokenizer) -> Vocabulary:
    """A vocabulary for students over pieces."""
    return prune(tokenizer, unk_id=3, pad_id=1, words=Counter(TEXT), budget=150, ends=(0, 2))


class TestNetwork:
    def test_it_is_bert(self) -> None:
        """Prevents a network that is called BERT and is another: order of sums and norms, scale, biases, activation, positions."""
        from transformers import BertConfig, BertModel

        student = make()
        config = BertConfig(
            vocab_size=N_PIECES, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=20,
            max_position_embeddings=64, type_vocab_size=1,
        )  # fmt: skip
        bert: Any = BertModel(config, add_pooling_layer=False)
        bert.eval()
        own, theirs = dict(student.state_dict()), {}
        parts = {"table": "word_embeddings", "positions": "position_embeddings", "norm": "LayerNorm"}
        inside = {"attention.output": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
                  "inner": "intermediate.dense", "outer": "output.dense", "outer_norm": "output.LayerNorm"}  # fmt: skip
        for kind in ("weight", "bias"):
            for ours, name in parts.items():
                if f"embeddings.{ours}.{kind}" in own:
                    theirs[f"embeddings.{name}.{kind}"] = own[f"embeddings.{ours}.{kind}"]
            for layer in range(LAYERS):
                for ours, name in inside.items():
                    theirs[f"encoder.layer.{layer}.{name}.{kind}"] = own[f"layers.{layer}.{ours}.{kind}"]
                joined = own[f"layers.{layer}.attention.query_key_value.{kind}"].chunk(3)
                for name, part in zip(("query", "key", "value"), joined, strict=True):
                    theirs[f"encoder.layer.{layer}.attention.self.{name}.{kind}"] = part
        theirs["embeddings.token_type_embeddings.weight"] = torch.zeros(1, WIDTH)
        left = bert.load_state_dict(theirs, strict=False)
        assert not left.unexpected_keys
        assert not [name for name in left.missing_keys if not name.endswith("_ids")]
        batch = batch_of([[1, 2, 3], [2, 1, 1, 4, 2]])
        with torch.no_grad():
            found = student(batch).hidden
            expected = bert(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states
        assert len(found) == LAYERS + 1
        index = batch["first_piece"][..., None].expand(-1, -1, WIDTH)
        for ours, whole in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, whole.gather(1, index), rtol=1e-4, atol=1e-5)

    def test_logits_are_read_from_the_last_state(self) -> None:
        """Prevents a representation that is learnt at one place and read at another."""
        student = make()
        output = student(batch_of([[1, 3, 2]]))
        torch.testing.assert_close(output.logits, student.head(output.hidden[-1]))

    def test_a_narrow_table_is_widened(self) -> None:
        """Prevents a table of the states' width, whatever was asked for: most of the parameters."""
        table = torch.randn(N_PIECES, 5)
        student = build_student("transformer", {**OPTIONS, "embedding_width": 5}, Shape(N_PIECES, K), table, 1).eval()
        assert isinstance(student, Transformer)
        whole = build_student("transformer", OPTIONS, Shape(N_PIECES, K), None, 1)
        assert count_parameters(whole) - count_parameters(student) == N_PIECES * (WIDTH - 5) - 5 * WIDTH
        batch = batch_of([[2, 1]])
        embeddings = student.embeddings
        assert embeddings.widen is not None
        summed = table[batch["input_ids"]] @ embeddings.widen.weight.T + embeddings.positions.weight[:5]
        expected = F.layer_norm(summed, (WIDTH,))[:, [1, 3]]
        torch.testing.assert_close(student(batch).hidden[0], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("embedding_width", [WIDTH, 5])
    @pytest.mark.parametrize("scale", [None, 0.02, 1.0])
    def test_places_are_heard_beside_pieces(self, embedding_width: int, scale: float | None) -> None:
        """Prevents a table of unit variance from drowning the positions, or the other way round: order would be learnt late."""
        table = None if scale is None else torch.randn(400, embedding_width) * scale
        shape = Shape(400, K)
        student = build_student("transformer", {**OPTIONS, "width": 48, "embedding_width": embedding_width}, shape, table, 1).eval()
        assert isinstance(student, Transformer)
        vectors = student.embeddings.table.weight[1:]
        wide = vectors if student.embeddings.widen is None else student.embeddings.widen(vectors)
        expected = scale or INITIAL_DEVIATION
        for part in (wide, student.embeddings.positions.weight):
            assert part.square().mean().sqrt().item() == pytest.approx(expected, rel=0.25)

    def test_first_weights(self) -> None:
        """Prevents first weights of another scale, with which a network that is normalised last does not start to learn."""
        student = build_student("transformer", {**OPTIONS, "width": 96, "ffn": 200}, Shape(N_PIECES, K), None, 1)
        for name, weight in student.named_parameters():
            if "norm" in name or name.endswith("bias"):
                assert bool((weight == (1.0 if name.endswith("norm.weight") else 0.0)).all()), name
            else:
                assert weight.std().item() == pytest.approx(INITIAL_DEVIATION, rel=0.1), name

    def test_groups_from_the_top(self) -> None:
        """Prevents layers from being opened from the bottom."""
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

    def test_heads_must_divide_the_width(self) -> None:
        """Prevents a traceback from the middle of the network."""
        with pytest.raises(ConfigError, match="width = 12 cannot be shared by heads = 5"):
            make(heads=5)


def attention_of(student: Transformer, layer: int) -> SelfAttention:
    """The attention of a layer, from 0."""
    chosen = student.layers[layer]
    assert isinstance(chosen, TransformerLayer)
    return chosen.attention


class TestAttention:
    def direct(self, student: Transformer, batch: dict[str, Tensor]) -> list[Tensor]:
        """Scores between all pieces, head by head and pair by pair, ``[B, A, S, S]`` for each layer."""
        states, found = student.embeddings(batch["input_ids"]), []
        size = WIDTH // HEADS
        for number, layer in enumerate(student.layers):
            joined = attention_of(student, number).query_key_value
            weight, bias = joined.weight, joined.bias
            scores = torch.zeros(states.shape[0], HEADS, states.shape[1], states.shape[1])
            for head in range(HEADS):
                own = slice(head * size, (head + 1) * size)
                query = states @ weight[:WIDTH][own].T + bias[:WIDTH][own]
                key = states @ weight[WIDTH : 2 * WIDTH][own].T + bias[WIDTH : 2 * WIDTH][own]
                scores[:, head] = (query[:, :, None] * key[:, None]).sum(-1) / math.sqrt(size)
            found.append(scores)
            states = layer(states, batch["attention_mask"].bool()[:, None, None])
        return found

    def test_scores_are_those_of_first_pieces(self) -> None:
        """Prevents scores of other pieces, of a mixture of heads, without the scale, or with queries and keys exchanged."""
        student, batch = make(), batch_of([[1, 2, 3], [2, 1, 1, 4, 2]])
        student.with_attention = True
        with torch.no_grad():
            found, expected = student(batch).attention, self.direct(student, batch)
        assert [scores.shape for scores in found] == [(2, HEADS, 5, 5)] * LAYERS
        for ours, whole in zip(found, expected, strict=True):
            for row, places in enumerate(batch["first_piece"]):
                torch.testing.assert_close(ours[row], whole[row][:, places][:, :, places], rtol=1e-4, atol=1e-4)

    def test_the_layer_uses_these_scores(self) -> None:
        """Prevents a loss over scores that are not those by which the layer reads."""
        attention = attention_of(make(), 0)
        states, real = torch.randn(2, 6, WIDTH), torch.tensor([[1] * 6, [1] * 4 + [0] * 2]).bool()[:, None, None]
        value = attention.query_key_value(states)[..., 2 * WIDTH :].view(2, 6, HEADS, -1).transpose(1, 2)
        probabilities = attention.scores(states).masked_fill(~real, -math.inf).softmax(dim=-1)
        expected = attention.output((probabilities @ value).transpose(1, 2).flatten(2))
        torch.testing.assert_close(attention(states, real), expected, rtol=1e-4, atol=1e-5)

    def test_only_where_asked_for(self) -> None:
        """Prevents the cost of maps that nobody reads, and logits that change with them."""
        student, batch = make(), batch_of([[1, 2, 3]])
        plain = student(batch)
        student.with_attention = True
        assert plain.attention == ()
        assert torch.equal(student(batch).logits, plain.logits)

    def test_padding_and_neighbours_change_nothing(self) -> None:
        """Prevents maps of real words that depend on what stands beside their sentence."""
        student = make()
        student.with_attention = True
        together, alone = student(batch_of([[1, 2, 1], [4, 4, 4, 4]], padding=3)).attention, student(batch_of([[1, 2, 1]])).attention
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[0, :, :3, :3], other[0], rtol=1e-4, atol=1e-5)

    def test_a_loss_over_scores_teaches_queries_and_keys(self) -> None:
        """Prevents maps without gradient."""
        student = make()
        student.with_attention = True
        total: Any = sum(scores.square().sum() for scores in student(batch_of([[1, 2], [2, 2]])).attention)
        total.backward()
        for number in range(LAYERS):
            grad = attention_of(student, number).query_key_value.weight.grad
            assert grad is not None
            assert bool(grad[: 2 * WIDTH].any(dim=1).all())


@cache
def session_of(shape: str) -> tuple[Transformer, onnxruntime.InferenceSession]:
    """A student and its exported network."""
    student = make(**SHAPES[shape])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return student, onnxruntime.InferenceSession(student.to_onnx().SerializeToString(), options, providers=["CPUExecutionProvider"])


class TestExport:
    @pytest.mark.parametrize("shape", SHAPES)
    @given(sentences=SENTENCES, padding=st.integers(0, 5))
    @settings(max_examples=40)
    def test_onnx_says_the_same(self, shape: str, sentences: list[list[int]], padding: int) -> None:
        """Prevents a served network that differs from the trained one for some batch, length or amount of padding."""
        student, session = session_of(shape)
        batch = batch_of(sentences, padding)
        served = session.run(["logits"], {name: array.numpy() for name, array in batch.items()})[0]
        with torch.inference_mode():
            trained = student(batch).logits.numpy()
        assert served.dtype == np.float32
        assert served.shape == trained.shape
        for row, sentence in enumerate(sentences):
            np.testing.assert_allclose(served[row, : len(sentence)], trained[row, : len(sentence)], rtol=1e-4, atol=1e-4)

    def test_the_longest_sequence(self) -> None:
        """Prevents a border off by one: as many pieces as there are positions."""
        student, session = session_of("equal")
        batch = batch_of([[1] * 62, [1]])
        assert batch["input_ids"].shape[1] == OPTIONS["positions"] == student.limit + 2  # type: ignore[operator]
        served = session.run(["logits"], {name: array.numpy() for name, array in batch.items()})[0]
        np.testing.assert_allclose(served[0], student(batch).logits[0].detach().numpy(), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_eight_bits(self, tmp_path: Path, shape: str) -> None:
        """Prevents a table or a layer that stays in float32 in the 8-bit file, and a file that says something else."""
        student, full = session_of(shape)
        write_fp32(student, tmp_path / "full.onnx")
        write_int8(tmp_path / "full.onnx", tmp_path / "small.onnx")
        graph = onnx.load(tmp_path / "small.onnx").graph
        operators = Counter(node.op_type for node in graph.node)
        dense = 6 * LAYERS + ("embedding_width" in SHAPES[shape])
        assert operators["MatMulInteger"] == dense
        assert operators["MatMul"] == 2 * LAYERS + 1, "of queries with keys and of probabilities with values, and the head"
        large = {weight.name for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1}
        assert large == {"embeddings_positions", "logits_w"}
        small = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
        feed = {name: array.numpy() for name, array in batch_of([[1, 2, 3], [4, 1]]).items()}
        exact, rounded = (session.run(["logits"], feed)[0] for session in (full, small))
        assert not np.array_equal(exact, rounded)
        assert np.abs(exact - rounded)[0].max() < 0.25 * np.abs(exact).max()


class TestVocabulary:
    def test_ends_are_pieces_two_and_three(self, tokenizer: Tokenizer, ended: Vocabulary) -> None:
        """Prevents begin and end pieces that start from another piece's row, or that a word of some text is read as."""
        plain = prune(tokenizer, unk_id=3, pad_id=1, words=Counter(TEXT), budget=148)
        assert plain.ends is None
        assert ended.ends == (BEGIN, END)
        assert ended.teacher_ids == (1, 3, 0, 2, *plain.teacher_ids[2:])
        assert [ended.tokenizer.id_to_token(number) for number in range(4)] == list(TECHNICAL)
        for word in (*TEXT, "<s>", "</s>", "a</s>"):
            assert not {0, BEGIN, END} & {*ended.tokenizer.encode(word).ids}
            known = [ended.teacher_ids[piece] for piece in ended.tokenizer.encode(word).ids]
            assert known == [plain.teacher_ids[piece] for piece in plain.tokenizer.encode(word).ids]

    def test_ends_count_in_the_budget(self, tokenizer: Tokenizer) -> None:
        """Prevents a vocabulary of more pieces than asked for, and a message with which it is still too small."""
        words = Counter({"abc": 1})
        with pytest.raises(ConfigError, match=r"characters alone need (\d+); allow more") as refused:
            prune(tokenizer, unk_id=3, pad_id=1, words=words, budget=4, ends=(0, 2))
        least = int(str(refused.value).split("need ")[1].split(";")[0])
        assert prune(tokenizer, unk_id=3, pad_id=1, words=words, budget=least, ends=(0, 2)).tokenizer.get_vocab_size() == least

    def test_batches_carry_them(self, ended: Vocabulary) -> None:
        """Prevents a student that reads sentences without begin and end, or padding in their place."""
        table = WordTable(ended.tokenizer, unk_id=1, pad_id=0)
        corpus = EncodedCorpus([Sentence(("Anna", "gagné")), Sentence(("Oslo",))], Encoder(table, *(ended.ends or ())))
        batch = corpus.collate(np.arange(2))
        assert batch["input_ids"][:, 0].tolist() == [BEGIN, BEGIN]
        assert [int(row[mask.bool()][-1]) for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)] == [END, END]
        assert make(n_pieces=ended.tokenizer.get_vocab_size())(batch).logits.shape == (2, 2, K)
