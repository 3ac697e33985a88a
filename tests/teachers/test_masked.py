"""Words that are masked for student and teacher alike, and what a masked language model says of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.errors import ConfigError
from nerdistill.students.vocabulary import Vocabulary, prune
from nerdistill.teachers.huggingface import load_masked_lm, load_pieces
from nerdistill.teachers.masked import UNK, _choose, masked_teacher, read_masked
from nerdistill.text.collate import Arrays
from nerdistill.text.encoder import WordTable
from tests.conftest import TEXT
from tests.teachers.tiny_teacher import LAYERS, WIDTH, save_masked_lm, text

SENTENCES = text([4, 9, 1, 7, 12, 3])
MASK = 4_000_000


class Listener:
    """A teacher that remembers what it was given."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.mask_id = encoder, MASK
        self.given: Arrays = {}

    def read(self, arrays: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
        self.given = arrays
        shape = arrays["first_piece"].shape
        return torch.zeros(*shape, 3), torch.zeros(*shape, 1, 2)


@pytest.fixture(scope="module")
def cut(tokenizer: Tokenizer) -> Vocabulary:
    """Too few pieces for some words to be cut as the teacher cuts them."""
    return prune(tokenizer, unk_id=3, pad_id=1, words=Counter(TEXT), budget=86, ends=(0, 2))


@pytest.fixture
def student(cut: Vocabulary) -> Encoder:
    return Encoder(WordTable(cut.tokenizer, UNK, 0), 2, 3, 200)


@pytest.fixture
def teacher(tokenizer: Tokenizer) -> Listener:
    return Listener(Encoder(WordTable(tokenizer, 3, 1), 0, 2, 200))


def pieces_of(arrays: Arrays, row: int, word: int) -> list[int]:
    """What stands in a word's place."""
    first, n_words = arrays["first_piece"][row], arrays["lengths"][row]
    end = first[word + 1] if word + 1 < n_words else arrays["attention_mask"][row].sum() - 1
    return [int(piece) for piece in arrays["input_ids"][row, first[word] : end]]


def test_both_lack_the_same_words(student: Encoder, teacher: Listener, cut: Vocabulary) -> None:
    """A teacher that sees what the student does not would teach it to guess what cannot be known; one mask too wide hides a neighbour."""
    both: Any = teacher
    corpus = EncodedCorpus(SENTENCES, student)
    learnt, _ = read_masked(both, corpus, SENTENCES, cut)
    plain = {name: encoder.collate([encoder.table.rows(s.words) for s in SENTENCES]) for name, encoder in
             (("mine", student), ("theirs", teacher.encoder))}  # fmt: skip
    assert learnt.reader is not None
    fates: Counter[str] = Counter()
    alike: Counter[bool] = Counter()
    for seed in range(150):
        torch.manual_seed(seed)
        said = learnt.reader(corpus.items)
        mine = {**plain["mine"], "input_ids": said["input_ids"].numpy()}
        asked, same = said["masked_pieces"].numpy(), said["same_piece"].numpy()
        n_askable = 0
        for row, sentence in enumerate(SENTENCES):
            for word in range(len(sentence.words)):
                was, theirs_was = pieces_of(plain["mine"], row, word), pieces_of(plain["theirs"], row, word)
                now, theirs_now = pieces_of(mine, row, word), pieces_of(teacher.given, row, word)
                n_askable += was[0] > UNK
                alike[bool(same[row, word])] += 1
                assert same[row, word] == (cut.teacher_ids[was[0]] == theirs_was[0])
                if asked[row, word] < 0:
                    assert (now, theirs_now) == (was, theirs_was)
                    continue
                assert asked[row, word] == was[0] > UNK
                if now == [UNK] * len(was):
                    assert theirs_now == [MASK] * len(theirs_was)
                    fates["masked"] += 1
                elif now == was:
                    assert theirs_now == theirs_was
                    fates["kept"] += 1
                else:
                    shorter = min(len(was), len(theirs_was))
                    assert [cut.teacher_ids[piece] for piece in now[:shorter]] == theirs_now[:shorter]
                    assert min(now) > 3, "a technical piece in a word's place"
                    fates["random"] += 1
        assert (asked >= 0).sum() == round(0.15 * n_askable)
        assert set(asked[:, :][np.arange(asked.shape[1]) >= plain["mine"]["lengths"][:, None]].tolist()) == {-1}
    assert all(alike.values())
    assert len(alike) == 2, "all words are cut alike, or none is: the test shows nothing"
    total = sum(fates.values())
    assert fates["masked"] / total == pytest.approx(0.8, abs=0.06)
    assert fates["random"] / total == pytest.approx(0.1, abs=0.04)


def test_rare_words_are_chosen_rather() -> None:
    """Without the weights most masks fall on full stops, which need no context. 100^-0.7 is 1/25 of 1."""
    rng = np.random.default_rng(0)
    frequency = np.array([[1, 100] * 20])
    askable = np.ones_like(frequency, dtype=bool)
    askable[0, 0] = False
    chosen = np.sum([_choose(frequency, askable, rng)[0] for _ in range(300)], axis=0)
    assert chosen[0] == 0
    assert chosen.sum() == 300 * 6
    assert chosen[1::2].sum() < 0.2 * chosen.sum()
    assert chosen[1::2].sum() > 0


def test_nothing_that_can_be_asked_for_is_nothing_chosen() -> None:
    """A batch of unknown words would end in an error of the sampler."""
    assert not _choose(np.ones((2, 3), dtype=np.int64), np.zeros((2, 3), dtype=bool), np.random.default_rng(0)).any()


def test_masks_follow_from_the_step_and_stand_still_where_losses_are_compared(student: Encoder, teacher: Listener, cut: Vocabulary) -> None:
    """A killed and continued run would take other steps; held-out losses of other masks would choose weights by luck."""
    both: Any = teacher
    corpus = EncodedCorpus(SENTENCES, student)
    learnt, held_out = read_masked(both, corpus, SENTENCES, cut)
    assert learnt.reader is not None
    assert held_out.reader is not None
    ids: dict[int, torch.Tensor] = {}
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        drawn = learnt.reader(corpus.items)["masked_pieces"], learnt.reader(corpus.items)["masked_pieces"]
        assert not torch.equal(*drawn), "the batches of a step are masked alike"
        assert seed not in ids or torch.equal(ids[seed], drawn[0])
        ids[seed] = drawn[0]
        assert torch.equal(held_out.reader(corpus.items)["masked_pieces"], held_out.reader(corpus.items)["masked_pieces"])
    assert not torch.equal(ids[1], ids[2])


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_scores_are_the_models_own(family: str, tmp_path: Path, tokenizer: Tokenizer, cut: Vocabulary) -> None:
    """The product that is done at words only must be the one that was taken off the network, its rows in the student's order."""
    folder = str(save_masked_lm(tmp_path / "t", tokenizer, family=family))
    made = load_masked_lm(folder, "it", "do without")
    encoder = load_pieces(folder).encoder(30)
    found = masked_teacher(made, encoder, cut, "float32")
    arrays = encoder.collate([encoder.table.rows(sentence.words) for sentence in SENTENCES])
    scores, states = found.read(arrays)
    direct: Any = getattr(transformers, f"{family}ForMaskedLM").from_pretrained(folder).eval()
    inputs = {name: torch.from_numpy(arrays[name]) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        expected = direct(**inputs, output_hidden_states=True)
    assert scores.shape[2] == len(cut.teacher_ids)
    assert states.shape[2:] == (LAYERS + 1, WIDTH)
    for row, sentence in enumerate(SENTENCES):
        places = arrays["first_piece"][row, : len(sentence.words)]
        torch.testing.assert_close(scores[row, : len(places)], expected.logits[row, places][:, list(cut.teacher_ids)], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(states[row, : len(places), -1], expected.hidden_states[-1][row, places], rtol=1e-4, atol=1e-4)
    assert found.mask_id == load_pieces(folder).tokenizer.token_to_id("<mask>")


def test_a_model_that_guesses_no_words_is_a_message(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A head that is made up at random would teach noise."""
    from tests.teachers.tiny_teacher import save_checkpoint, save_tokenizer

    folder = save_checkpoint(tmp_path / "t", tokenizer, tags=None)
    with pytest.raises(ConfigError, match=r"^it: .* is no masked language model \(its tokenizer has no mask\); do without$"):
        load_masked_lm(str(folder), "it", "do without")
    save_tokenizer(folder, tokenizer, mask_token="<mask>")
    with pytest.raises(ConfigError, match="the file lacks"):
        load_masked_lm(str(folder), "it", "do without")
