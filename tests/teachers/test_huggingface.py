"""Hugging Face checkpoints: which head, which tags, which piece of a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError, DataError
from nerdistill.records import Sentence
from nerdistill.teachers.huggingface import best_precision, checkpoint_tags, load_pieces, load_teacher, save_teacher
from tests.teachers.tiny_teacher import LAYERS, POSITIONS, SCHEME, WIDTH, save_checkpoint, save_tokenizer, text


@pytest.fixture
def checkpoint(tmp_path: Path, tokenizer: Tokenizer) -> str:
    """A token classifier over the scheme's tags."""
    return str(save_checkpoint(tmp_path / "teacher", tokenizer))


def head(model: Any) -> torch.Tensor:
    weight: torch.Tensor = model.network.classifier.weight.detach()
    return weight


def body(model: Any) -> torch.Tensor:
    weight: torch.Tensor = model.network.bert.encoder.layer[1].output.dense.weight.detach()
    return weight


# -- heads ---------------------------------------------------------------------------------------------------------------------------------


def test_its_own_head_is_taken_whole(checkpoint: str) -> None:
    """A teacher that is used as it is must say what it says elsewhere."""
    import transformers

    model = load_teacher(checkpoint, None, "float32", seed=1)
    direct: Any = transformers.BertForTokenClassification.from_pretrained(checkpoint)
    assert model.tags == SCHEME.tags == checkpoint_tags(checkpoint)
    assert torch.equal(head(model), direct.classifier.weight)
    assert (model.n_layers, model.word_embeddings.weight.shape[1]) == (LAYERS, WIDTH)
    again = load_teacher(checkpoint, SCHEME.tags, "float32", seed=2)
    assert torch.equal(head(again), head(model)), "fine-tuning goes on from a head that has the same tags"


@pytest.mark.parametrize(
    "tags",
    [("O", "B-X", "I-X"), ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"), ("O", "B-A", "I-A", "B-B", "I-B")],
    ids=["another size", "another order", "other types"],
)
def test_a_new_head_is_new(checkpoint: str, tags: tuple[str, ...]) -> None:
    """A head of the same size would be taken over with its rows under other names: fine-tuning would first have to unlearn it."""
    old, one, same, other = (
        load_teacher(checkpoint, given, "float32", seed) for given, seed in ((None, 1), (tags, 1), (tags, 1), (tags, 2))
    )
    assert one.tags == tags
    assert head(one).shape == (len(tags), WIDTH)
    assert torch.equal(body(one), body(old)), "the rest of the network is kept"
    assert torch.equal(head(one), head(same))
    assert not torch.equal(head(one), head(other))
    assert not (head(one).shape == head(old).shape and torch.equal(head(one), head(old)))
    assert [one.network.config.id2label[n] for n in range(len(tags))] == list(tags)  # type: ignore[union-attr,index]


def test_an_encoder_gets_a_head_and_keeps_the_generator(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """An encoder without a head is what most teachers are made of; its head's weights come from the seed alone."""
    folder = str(save_checkpoint(tmp_path / "encoder", tokenizer, tags=None))
    assert checkpoint_tags(folder) is None
    state = torch.get_rng_state()
    one = load_teacher(folder, SCHEME.tags, "float32", 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(head(one), head(load_teacher(folder, SCHEME.tags, "float32", 1)))


def test_a_missing_head_is_a_message(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A random head that passes for a teacher would teach noise, without a word."""
    folder = save_checkpoint(tmp_path / "encoder", tokenizer, tags=None)
    with pytest.raises(ConfigError, match=r"no token-classification head.*fine_tune"):
        load_teacher(str(folder), None, "float32", 0)


def test_numbered_labels_are_no_tags(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """LABEL_3 could be anything; matched by position it would be silently wrong. For a new head the old names do not matter."""
    folder = str(save_checkpoint(tmp_path / "numbered", tokenizer, tags=[f"LABEL_{n}" for n in range(5)]))
    with pytest.raises(ConfigError, match=r"LABEL_0.*id2label"):
        load_teacher(folder, None, "float32", 0)
    with pytest.raises(ConfigError, match="LABEL_0"):
        checkpoint_tags(folder)
    assert load_teacher(folder, SCHEME.tags, "float32", 0).tags == SCHEME.tags


def test_no_checkpoint_is_a_message(tmp_path: Path) -> None:
    """A wrong path must not end in a traceback, nor in a search of the network."""
    with pytest.raises(DataError, match=r"nothing-here.*cannot be loaded"):
        load_teacher(str(tmp_path / "nothing-here"), None, "float32", 0)
    with pytest.raises(DataError, match=r"nothing-here.*cannot be loaded"):
        load_pieces(str(tmp_path / "nothing-here"))


# -- reading -------------------------------------------------------------------------------------------------------------------------------


def test_words_are_read_at_their_first_piece(checkpoint: str) -> None:
    """A gather that is off by the begin piece, or at the last piece: every tag belongs to a neighbour."""
    sentences = [Sentence(("internationally", "Anna", "Berlin", ".")), *text([1, 3])]
    pieces = load_pieces(checkpoint)
    model = load_teacher(checkpoint, None, "float32", 0).eval()
    assert len(pieces.tokenizer.encode("internationally", add_special_tokens=False).ids) > 2
    batch = EncodedCorpus(sentences, pieces.encoder(30)).collate(np.arange(3))
    with torch.inference_mode():
        output = model(batch)
        for row, sentence in enumerate(sentences):
            split = [pieces.tokenizer.encode(word, add_special_tokens=False).ids for word in sentence.words]
            ids = [pieces.bos_id, *(piece for word in split for piece in word), pieces.eos_id]
            direct = model.network(input_ids=torch.tensor([ids]), output_hidden_states=True)
            for at in range(len(sentence.words)):
                first = 1 + sum(map(len, split[:at]))
                torch.testing.assert_close(output.logits[row, at], direct.logits[0, first], rtol=1e-4, atol=1e-4)
                for depth, states in enumerate(direct.hidden_states):
                    torch.testing.assert_close(output.hidden[depth][row, at], states[0, first], rtol=1e-4, atol=1e-4)
    assert len(output.hidden) == LAYERS + 1


def test_precision_is_what_was_asked_for(checkpoint: str) -> None:
    """Signals in bfloat16 carry eight bits; float32 must not be lowered by an autocast around it."""
    batch = EncodedCorpus(text([4]), load_pieces(checkpoint).encoder(30)).collate(np.arange(1))
    kinds: dict[str, set[torch.dtype]] = {}
    for precision in ("float32", "bfloat16"):
        model = load_teacher(checkpoint, None, precision, 0).eval()
        seen = kinds[precision] = set()
        model.network.classifier.register_forward_hook(lambda module, given, made, seen=seen: seen.add(made.dtype))  # type: ignore[union-attr]
        with torch.inference_mode():
            assert model(batch).logits.dtype == torch.float32
    assert kinds == {"float32": {torch.float32}, "bfloat16": {torch.bfloat16}}


def test_automatic_precision_never_overrules() -> None:
    """What the user sets is what is measured."""
    assert best_precision("float32", torch.device("cpu")) == "float32"
    assert best_precision("bfloat16", torch.device("cpu")) == "bfloat16"
    assert best_precision("auto", torch.device("meta")) == "float32"


def test_hidden_states_are_kept_in_evaluation_only(checkpoint: str) -> None:
    """Three times the memory in fine-tuning for states that nothing reads."""
    batch = EncodedCorpus(text([4]), load_pieces(checkpoint).encoder(30)).collate(np.arange(1))
    assert load_teacher(checkpoint, None, "float32", 0).train()(batch).hidden == ()


# -- tokenizers ----------------------------------------------------------------------------------------------------------------------------


def test_technical_pieces_and_limit(checkpoint: str) -> None:
    """A begin piece that is the padding one, or an input longer than the positions, fails far from its cause."""
    pieces = load_pieces(checkpoint)
    assert (pieces.bos_id, pieces.pad_id, pieces.eos_id, pieces.unk_id) == (0, 1, 2, 3)
    assert pieces.limit == POSITIONS - 2
    assert pieces.encoder(1000).limit == POSITIONS - 2
    assert pieces.encoder(10).limit == 10


def test_a_tokenizer_without_a_piece_is_a_message(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A generative model's tokenizer has no padding piece; the message names what is missing."""
    save_checkpoint(tmp_path / "t", tokenizer)
    save_tokenizer(tmp_path / "t", tokenizer, pad_token=None)
    with pytest.raises(ConfigError, match="no piece for pad"):
        load_pieces(str(tmp_path / "t"))


def test_stored_truncation_does_not_cut_words(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Many published tokenizer.json files truncate at 128 and pad; words would come back with padding inside the sentence."""
    save_checkpoint(tmp_path / "t", tokenizer)
    cut = Tokenizer.from_str(tokenizer.to_str())
    cut.enable_truncation(2)
    cut.enable_padding(length=9)
    cut.save(str(tmp_path / "t" / "tokenizer.json"))
    table = load_pieces(str(tmp_path / "t")).encoder(30).table
    (row,) = table.rows(["internationally"])
    expected = tokenizer.encode("internationally", add_special_tokens=False).ids
    assert len(expected) > 2
    assert table.pieces[row, : table.lengths[row]].tolist() == expected


def test_byte_level_words_keep_their_space(tmp_path: Path) -> None:
    """RoBERTa's pieces of a word inside a sentence begin with a space; without it every word is read as a continuation."""
    from tokenizers import models, pre_tokenizers

    plain = Tokenizer(models.BPE({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "Ġ": 4, "a": 5, "Ġa": 6}, [("Ġ", "a")], unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=False)])
    save_checkpoint(tmp_path / "t", plain)
    pieces = load_pieces(str(tmp_path / "t"))
    assert pieces.tokenizer.encode("a", add_special_tokens=False).ids == [6]


def test_saved_and_loaded_says_the_same(checkpoint: str, tmp_path: Path) -> None:
    """The fine-tuned teacher is read back from disk before it labels anything."""
    pieces, model = load_pieces(checkpoint), load_teacher(checkpoint, ("O", "B-X", "I-X"), "float32", 5).eval()
    save_teacher(model, pieces, tmp_path / "saved")
    again, back = load_pieces(str(tmp_path / "saved")), load_teacher(str(tmp_path / "saved"), None, "float32", 6).eval()
    assert back.tags == ("O", "B-X", "I-X")
    assert (again.bos_id, again.eos_id, again.pad_id, again.unk_id, again.limit) == (
        pieces.bos_id, pieces.eos_id, pieces.pad_id, pieces.unk_id, pieces.limit,
    )  # fmt: skip
    sentence = [Sentence(("Anna", "internationally", "东"))]
    with torch.inference_mode():
        one = model(EncodedCorpus(sentence, pieces.encoder(30)).collate(np.arange(1))).logits
        other = back(EncodedCorpus(sentence, again.encoder(30)).collate(np.arange(1))).logits
    assert torch.equal(one, other)
    assert not list((tmp_path / "saved").glob("*.bin")), "weights without pickle"
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == ["BertForTokenClassification"]
