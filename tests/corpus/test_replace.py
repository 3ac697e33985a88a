"""Replaced words: new sentences with the same entities, in the same places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nerdistill.config import RunConfig, load_config
from nerdistill.corpus import replace as replace_module
from nerdistill.corpus.replace import (
    MaskedModel,
    masked_words,
    near_words,
    neighbours,
    replace_words,
    shape,
    word_vectors,
    words_outside,
)
from nerdistill.errors import ConfigError
from nerdistill.labels import spans_of
from nerdistill.records import Sentence
from nerdistill.steps.prepare import prepare
from nerdistill.text.encoder import WordTable
from tests.toy_run import save_toy_teacher

VISIT = Sentence(("Anna", "Schmidt", "besucht", "Berlin", "."), ("B-PER", "I-PER", "O", "B-LOC", "O"), "de", "a:1")
WORDS = ["bor", "no", "gagné", "La", "France", "Berlin", "rahta", "है"]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("haus", "x"), ("Haus", "Xx"), ("ABC", "X"), ("GmbH", "XxX"), ("l'", "x'"), ("don't", "x'x"), ("Jean-Luc", "Xx-Xx"),
        ("дом", "x"), ("Дом", "Xx"), ("قاهرة", "arabic"), ("京", "cjk"), ("さん", "hiragana"), ("सिंह", "devanagari"),
        ("का\u200dम", "devanagari"), ("है।", "devanagari।"), ("gagne\u0301", "x"), ("3", ""), ("B2", ""),
        ("١", ""), ("1,000", ""), (".", ""), ("-", ""), ("\u0301", ""), ("", ""), ("😀", ""),
    ],
)  # fmt: skip
def test_shapes(word: str, found: str) -> None:
    """A capital, an elided article or a script that changes is a cue of names that changes; numbers and punctuation must stay."""
    assert shape(word) == found


def test_words_outside() -> None:
    """A name put in for a word would be an entity that the tags say nothing of; rare words must be those that a limit drops."""
    texts = [
        VISIT,
        Sentence(("Berlin", "besucht", "Anna", "und", "2", "und"), ("O", "O", "O", "O", "O", "O"), "de"),
        Sentence(("Anna", "bor"), ("B-PER", "O"), "no"),
        Sentence(("ohne", "Tags"), None, "de"),
    ]
    assert words_outside(texts) == {"de": ["besucht", "und"], "no": ["bor"]}  # Anna and Berlin are as often inside
    assert words_outside([*texts, Sentence(("und",), ("O",), "de")], limit=1) == {"de": ["und"], "no": ["bor"]}


def test_vectors_are_means_of_pieces(tokenizer: Tokenizer) -> None:
    """Padding or another word's pieces in the mean, or vectors of unknown pieces, make neighbours of strangers."""
    pieces = WordTable(tokenizer, unk_id=3, pad_id=1)
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 5)).astype(np.float32)
    words = [*WORDS[:-1], "δ"]
    vectors = word_vectors(words, pieces, table)
    for word, vector in zip(words[:-1], vectors, strict=False):
        mean = table[tokenizer.encode(word, add_special_tokens=False).ids].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-6)
    assert not vectors[-1].any()
    assert word_vectors([], pieces, table).shape == (0, 5)


def test_neighbours_by_hand() -> None:
    """The word itself, a word of another shape, or one without a vector among the nearest."""
    words = ["rot", "blau", "grün", "Rot", "grau", "Blau"]
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [1, 0], [0, 0], [0.8, 0.6]], dtype=np.float32)
    near = {"rot": ("blau",), "blau": ("rot",), "grün": ("blau",), "Rot": ("Blau",), "Blau": ("Rot",)}
    assert near_words(words, vectors, 1) == near
    assert near_words(words, vectors, 9)["grün"] == ("rot", "blau"), "fewer where there are fewer, in the words' order"
    assert near_words(words[:1], vectors[:1], 3) == {}
    assert near_words([], vectors[:0], 3) == {}


@given(number=st.integers(2, 40), count=st.integers(1, 8), block=st.integers(1, 7), seed=st.integers(0, 99))
def test_blocks_change_nothing(number: int, count: int, block: int, seed: int) -> None:
    """A word that is lost, or its own neighbour, where one block ends and the next begins."""
    words = [f"{chr(97 + n % 26)}{'x' * (n // 26)}" for n in range(number)]
    vectors = np.random.default_rng(seed).normal(size=(number, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replace_module, "_BLOCK", block)
        near = near_words(words, vectors, count)
    similar = vectors @ vectors.T - 9 * np.eye(number)
    for row, word in enumerate(words):
        best = np.sort(np.argsort(-similar[row], kind="stable")[: min(count, number - 1)])
        assert near[word] == tuple(words[other] for other in best)


def test_languages_stay_apart(tokenizer: Tokenizer) -> None:
    """A word of another language in the sentence is not the text that the student will meet."""
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 5)).astype(np.float32)
    found = neighbours({"de": ["und", "im"], "no": ["bor", "reiser"]}, WordTable(tokenizer, 3, 1), table, 3)
    assert found(Sentence(("und", "bor", "Anna"), ("O", "O", "B-PER"), "de")) == [("im",), (), ()]
    assert found(Sentence(("und", "bor"), ("O", "O"), "no")) == [(), ("reiser",)]
    assert found(Sentence(("und",), ("O",), "fr")) == [()]


def test_by_hand() -> None:
    """Entities stay though there are candidates for them; sentences without tags, or without candidates, give nothing."""
    made = replace_words([VISIT, Sentence(("besucht",), None, "de")], lambda s: [("X", "Y")] * len(s.words), 2, 1.0, seed=0)
    assert len(made) == 2
    for sentence in made:
        assert sentence.words[:2] + sentence.words[3:4] == ("Anna", "Schmidt", "Berlin")
        assert {sentence.words[2], sentence.words[4]} <= {"X", "Y"}
        assert (sentence.tags, sentence.language, sentence.origin) == (VISIT.tags, "de", "a:1 (replaced)")
    assert replace_words([VISIT], lambda s: [()] * len(s.words), 2, 1.0, seed=0) == []


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    """Entities next to each other and at both ends among them."""
    tags = draw(st.lists(st.sampled_from(["O", "O", "B-PER", "B-LOC"]), max_size=8))
    return Sentence(tuple(f"w{n}" for n in range(len(tags))), tuple(tags), "de")


@given(texts=st.lists(sentences(), max_size=4), copies=st.integers(0, 3), probability=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_tags_and_places_are_kept(texts: list[Sentence], copies: int, probability: float, seed: int) -> None:
    """A word lost or an entity changed; the same seed with another result."""
    made = replace_words(texts, lambda s: [(f"{word}'",) for word in s.words], copies, probability, seed)
    assert made == replace_words(texts, lambda s: [(f"{word}'",) for word in s.words], copies, probability, seed)
    assert len(made) <= copies * len(texts)
    for new in made:
        old = next(text for text in texts if text.tags == new.tags and len(text.words) == len(new.words))
        changed = [word != before for word, before in zip(new.words, old.words, strict=True)]
        assert any(changed), "a copy of the original"
        assert all(new.words[at] in (word, f"{word}'") for at, word in enumerate(old.words))
        assert not any(changed[at] for span in spans_of(new.tags or ()) for at in range(span.start, span.stop))


def test_probability_is_that_of_a_word() -> None:
    """A probability drawn once for a sentence, or not at all, gives other text than was asked for."""
    text = Sentence(("w",) * 1000, ("O",) * 1000, "de")
    (new,) = replace_words([text], lambda s: [("a", "b")] * 1000, 1, 0.4, seed=0)
    assert 340 < sum(word != "w" for word in new.words) < 460
    assert 140 < new.words.count("a") < 260


def masked_model(tokenizer: Tokenizer, limit: int = 30) -> MaskedModel:
    """A random one; its mask is the unknown piece of a table that meets no unknown words."""
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=limit + 2, initializer_range=0.8,
    )  # fmt: skip
    network: torch.nn.Module = transformers.BertForMaskedLM(config)
    return MaskedModel(network.eval(), WordTable(tokenizer, 3, 1), 0, 2, 3, limit)


class TestMaskedModel:
    TEXT = Sentence(("Anna", "Schmidt", "bor", "no", "gagné", "."), ("B-PER", "I-PER", "O", "O", "O", "O"), "de")

    def test_candidates_are_the_most_probable(self, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mask in another place, padding that is read, or a score of another piece: candidates that fit anywhere but here."""
        model = masked_model(tokenizer)
        single = [w for w in ("besucht", "gagné", "contre", "bor", "no") if len(tokenizer.encode(w, add_special_tokens=False).ids) == 1]
        assert len(single) > 2
        words = {"de": [*single, "x", "zzz"], "no": ["i"]}
        text = Sentence((*self.TEXT.words, "zzz"), (*(self.TEXT.tags or ()), "O"), "de")
        found = masked_words(words, model, 2)(text)
        for batch in (1, 1000):
            monkeypatch.setattr(replace_module, "_BATCH", batch)
            assert masked_words(words, model, 2)(text) == found
        for place, word in enumerate(text.words):
            if place < 2 or word not in words["de"]:
                assert found[place] == ()
                continue
            parts = [[3] if at == place else tokenizer.encode(w, add_special_tokens=False).ids for at, w in enumerate(text.words)]
            ids = torch.tensor([[0, *(piece for part in parts for piece in part), 2]])
            logits = model.network(input_ids=ids).logits[0, ids[0].tolist().index(3)].detach()
            scores = {other: float(logits[tokenizer.encode(other, add_special_tokens=False).ids[0]]) for other in single if other != word}
            assert list(found[place]) == sorted(scores, key=lambda w: -scores[w])[:2]

    def test_long_sentences(self, tokenizer: Tokenizer) -> None:
        """More pieces than the model has positions for end in an error, or in one mask for two words."""
        text = Sentence(("bor",) * 50, ("O",) * 50, "de")
        model = masked_model(tokenizer, limit=10)
        found = masked_words({"de": ["bor", "no", "contre", "besucht", "gagné"]}, model, 3)(text)
        length = len(tokenizer.encode("bor", add_special_tokens=False).ids)
        assert [bool(pool) for pool in found] == [at < 10 // length for at in range(50)]

    def test_nothing_to_ask(self, tokenizer: Tokenizer) -> None:
        """Empty batches, and shapes or languages without a word of one piece."""
        found = masked_words({"de": ["zzz"]}, masked_model(tokenizer), 3)
        assert found(Sentence(("zzz", "zzz"), ("O", "B-PER"), "de")) == [(), ()]
        assert found(Sentence(("zzz",), ("O",), "no")) == [()]
        assert found(Sentence((), (), "de")) == []


def configured(path: Path, *overrides: str) -> RunConfig:
    return load_config(path, ["data.replace.copies=2", "data.replace.probability=1.0", *overrides])


class TestPrepare:
    def test_off_changes_nothing(self, toy_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Runs that never asked for it must find their text, and need no model to read it."""
        from nerdistill.teachers import huggingface

        monkeypatch.setattr(huggingface, "load_table", None)
        data = prepare(load_config(toy_config))
        assert data.counts["transfer_replaced"] == 0
        assert not [sentence for sentence in data.transfer if "replaced" in sentence.origin]

    def test_replaced_sentences_are_transfer_text(self, toy_config: Path) -> None:
        """A made-up sentence with tags would count as labelled by hand; and what was there before must stay as it was."""
        before, data = prepare(load_config(toy_config, ["data.swap.copies=0"])), prepare(configured(toy_config, "data.swap.copies=0"))
        made = [sentence for sentence in data.transfer if sentence.origin.endswith("(replaced)")]
        assert made
        assert data.counts["transfer_replaced"] >= len(made)
        assert all(sentence.tags is None for sentence in data.transfer)
        assert [s for s in data.transfer if s not in made] == list(before.transfer)
        assert (data.train, data.dev) == (before.train, before.dev)
        assert prepare(configured(toy_config, "data.swap.copies=0")).transfer == data.transfer

    def test_entities_are_swapped_too(self, toy_config: Path) -> None:
        """Sentences without an entity, which swapping leaves out, must not be lost; the others have new names."""
        data = prepare(configured(toy_config))
        made = [sentence for sentence in data.transfer if "(replaced)" in sentence.origin]
        assert {sentence.origin.endswith("(swapped)") for sentence in made} == {True, False}
        plain = {sentence.origin for sentence in data.train if not spans_of(sentence.tags or ())}
        assert {sentence.origin.removesuffix(" (replaced)") for sentence in made if not sentence.origin.endswith("(swapped)")} <= plain
        assert [s for s in data.transfer if s not in made] == list(prepare(load_config(toy_config)).transfer)

    def test_a_masked_model_is_asked_where_named(self, toy_config: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
        """The source that is named must be the one that is used."""
        folder = tmp_path / "masked"
        save_masked_model(folder, tokenizer)
        data = prepare(configured(toy_config, "data.replace.source=masked_lm", f"data.replace.model='{folder}'"))
        assert data.counts["transfer_replaced"]

    def test_a_model_without_a_masked_head_is_a_message(self, toy_config: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
        """A head that the file lacks is made up at random, and with it the words."""
        with pytest.raises(ConfigError, match=r"no masked language model .*tokenizer has no mask"):
            prepare(configured(toy_config, "data.replace.source=masked_lm"))
        folder = tmp_path / "encoder"
        save_toy_teacher(folder, tokenizer)
        name_mask(folder, tokenizer)
        with pytest.raises(ConfigError, match=r"data\.replace\.source = 'masked_lm': '.*encoder' .*the file lacks cls\."):
            prepare(configured(toy_config, "data.replace.source=masked_lm", f"data.replace.model='{folder}'"))

    @pytest.mark.parametrize(
        "setting", ["copies=-1", "probability=0", "probability=1.5", "candidates=0", "source='glove'", "sources='masked_lm'"]
    )
    def test_values_that_cannot_be_meant(self, setting: str, toy_config: Path) -> None:
        """A misspelt or senseless setting must not be a run without it."""
        with pytest.raises(ConfigError, match=rf"data\.replace\.{setting.partition('=')[0]}"):
            load_config(toy_config, [f"data.replace.{setting}"])


def save_masked_model(folder: Path, tokenizer: Tokenizer) -> None:
    """A random BERT with a masked head, whose tied weights are in the file once."""
    shape_of: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    size = tokenizer.get_vocab_size() + 1
    transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=size, pad_token_id=1, **shape_of)).save_pretrained(folder)
    name_mask(folder, tokenizer)


def name_mask(folder: Path, tokenizer: Tokenizer) -> None:
    """The tokenizer with a piece for masks."""
    fast: Any = transformers.PreTrainedTokenizerFast
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    fast(tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), model_max_length=64, **names).save_pretrained(folder)
