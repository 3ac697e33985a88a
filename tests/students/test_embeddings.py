"""Tests of `nerdistill.students.embeddings`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.students.embeddings import full_table, load_vectors, train_fasttext
from nerdistill.students.vocabulary import Vocabulary
from tests.conftest import TEXT

SENTENCES = [TEXT[start : start + 9] for start in range(0, len(TEXT), 4)] * 20
WIDTH = 4
BERLIN = [0.5, -1.0, 2.0, 0.25]


@pytest.fixture(scope="session")
def wordpiece() -> Vocabulary:
    """A vocabulary in BERT's form: a piece and its continuation differ by ``##``."""
    pieces = ["[PAD]", "[UNK]", "Berlin", "##Berlin", "Oslo", "##no", "no", "Paris", "à", "東", "zz"]
    made = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Vocabulary(made, tuple(range(len(pieces))))


def write_vec(path: Path, rows: Sequence[str], header: str | None = None, end: str = "\n") -> Path:
    """A ``.vec`` file of these lines."""
    path.write_text("\n".join([header or f"{len(rows)} {WIDTH}", *rows]) + end, encoding="utf-8")
    return path


def rows_of(*words: str) -> list[str]:
    """Lines of words with vectors that differ from each other; ``Berlin`` has `BERLIN`."""
    lines = []
    for number, word in enumerate(words):
        vector = BERLIN if word == "Berlin" else [math.sin(1.0 + 7 * number + column) for column in range(WIDTH)]
        lines.append(f"{word} {' '.join(map(str, vector))} ")  # fastText ends its lines with a space
    return lines


def mean_square(rows: Tensor) -> float:
    """Over all numbers."""
    return rows.square().mean().item()


def test_full_table_is_the_teachers() -> None:
    """Prevents rows that are mixed up, centred or out of the LSTM's range, padding that says something, and a teacher that changes."""
    teacher = torch.randn(9, 6) * 0.03 + 0.1
    before = teacher.clone()
    made = full_table(teacher.requires_grad_(), [1, 3, 8, 0])
    assert made.shape == (4, 6)
    assert made.dtype == torch.float32
    assert not made.requires_grad
    assert not made[0].any()
    assert mean_square(made[1:]) == pytest.approx(1.0, rel=1e-5)
    assert torch.allclose(made[1:] / before[[3, 8, 0]], made[1, 0] / before[3, 0])
    assert torch.equal(teacher.detach(), before)


def test_full_table_of_a_half_precision_teacher() -> None:
    """Prevents a table in the teacher's own precision, which the student's optimiser would then train in."""
    assert full_table(torch.ones(3, 2, dtype=torch.bfloat16), [0, 1]).dtype == torch.float32


def need_fasttext() -> Any:
    """The library; the test is skipped where there is none that trains: fasttext-predict has its name, and only predicts."""
    fasttext = pytest.importorskip("fasttext")
    if not hasattr(fasttext, "train_unsupervised"):
        pytest.skip("the installed fastText only predicts")
    return fasttext


@pytest.mark.parametrize("model", ["skipgram", "cbow"])
def test_fasttext_is_reproducible(vocabulary: Vocabulary, model: Literal["skipgram", "cbow"]) -> None:
    """Prevents vectors that begin as what the memory held: other ones each time, or none at all where it held NaN."""
    need_fasttext()
    text = [*SENTENCES, *[TEXT * 8] * 200]  # long lines: their ends are rare, so their vector is not in the part that fastText sets
    tables = []
    for number in range(3):
        dirt = [torch.full((size,), 1e30 * number) for size in range(100, 1000, 10)]
        del dirt
        tables.append(train_fasttext(text, vocabulary, WIDTH, seed=3, model=model, epochs=1).table)
    assert torch.equal(tables[0], tables[1])
    assert torch.equal(tables[0], tables[2])
    assert not torch.equal(tables[0], train_fasttext(text, vocabulary, WIDTH, seed=4, model=model, epochs=1).table)


def test_fasttext_fills_the_table(vocabulary: Vocabulary) -> None:
    """Prevents a table that the LSTM cannot start from: padding that is not 0, another range, pieces without a row."""
    need_fasttext()
    text = [["Anna", "Berlin"], ["Berlin", "Anna", "Oslo"], []]
    made = train_fasttext(iter(text), vocabulary, WIDTH, seed=0)
    occurring = {i for word in ("Anna", "Berlin", "Oslo") for i in vocabulary.tokenizer.encode(word).ids}
    rest = sorted({*range(1, len(vocabulary.teacher_ids))} - occurring)
    assert made.found == len(occurring) / (len(vocabulary.teacher_ids) - 1)
    assert made.table.shape == (len(vocabulary.teacher_ids), WIDTH)
    assert made.table.dtype == torch.float32
    assert not made.table[0].any()
    assert mean_square(made.table[sorted(occurring)]) == pytest.approx(1.0, rel=1e-5)
    assert mean_square(made.table[rest]) == pytest.approx(1.0, rel=0.2)
    assert made.table[rest].abs().max() <= math.sqrt(3)
    assert len({*map(tuple, made.table.tolist())}) == len(made.table)


def test_fasttext_learns_which_pieces_share_contexts() -> None:
    """Prevents vectors that are read out in another order than they were trained in, or that were not trained."""
    need_fasttext()
    words = [f"{group}{number}" for group in "ab" for number in range(8)]
    made = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(["[PAD]", "[UNK]", *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    order = torch.randint(8, (4000, 6), generator=torch.Generator().manual_seed(1)).tolist()
    text = [[f"{'ab'[line % 2]}{number}" for number in numbers] for line, numbers in enumerate(order)]
    table = train_fasttext(text, Vocabulary(made, tuple(range(18))), 16, seed=0, epochs=20).table[2:]
    likeness = torch.nn.functional.normalize(table, dim=1) @ torch.nn.functional.normalize(table, dim=1).T
    assert likeness[:8, :8].mean() > likeness[:8, 8:].mean() + 0.3


def test_fasttext_tells_begin_and_middle_of_a_word_apart(wordpiece: Vocabulary) -> None:
    """Prevents one vector for ``no`` and ``##no``, and technical characters of a piece from being read as something else."""
    need_fasttext()
    made = train_fasttext([["no", "Oslono", "Oslono", "</s>", "__label__x"]] * 30, wordpiece, WIDTH, seed=0)
    names = [wordpiece.tokenizer.id_to_token(i) for i in range(len(wordpiece.teacher_ids))]
    assert made.found == pytest.approx(4 / 10), "no, Oslo, ##no and the unknown piece"
    assert not torch.equal(made.table[names.index("no")], made.table[names.index("##no")])


def test_fasttext_says_nothing(vocabulary: Vocabulary, capfd: pytest.CaptureFixture[str]) -> None:
    """Prevents a progress bar of fastText's own in the middle of the run's output."""
    need_fasttext()
    train_fasttext(SENTENCES, vocabulary, WIDTH, seed=0, epochs=1)
    assert capfd.readouterr() == ("", "")


def test_fasttext_leaves_nothing_behind(vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a second copy of the transfer text in the folder for temporary files."""
    need_fasttext()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    train_fasttext(SENTENCES, vocabulary, WIDTH, seed=0, epochs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [[], [[]]])
def test_fasttext_needs_text(vocabulary: Vocabulary, text: list[list[str]]) -> None:
    """Prevents an error of the library's own, or a table of noise, where a recipe has no transfer text."""
    need_fasttext()
    with pytest.raises(DataError, match="no word in the text"):
        train_fasttext(text, vocabulary, WIDTH, seed=0)


def test_fasttext_missing_is_named(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a bare ImportError where fastText, which a run need not have, is asked for."""
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nerdistill\[fasttext\]'"):
        train_fasttext(SENTENCES, vocabulary, WIDTH, seed=0)


def test_vec_gives_each_piece_its_words_vector(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents vectors on the wrong pieces: of the line before, of another case, or of no piece because of its mark."""
    path = write_vec(tmp_path / "some.vec", rows_of("the", "Oslo", "berlin", "no", "Berlin", "東"))
    made = load_vectors(path, wordpiece, WIDTH, seed=0)
    table = made.table
    assert table.shape == (11, WIDTH)
    assert table.dtype == torch.float32
    assert made.found == pytest.approx(6 / 10), "Berlin twice, Oslo, no twice, 東"
    assert not table[0].any()
    assert torch.allclose(table[2] / table[2, 0], torch.tensor(BERLIN) / BERLIN[0])
    assert torch.equal(table[2], table[3])
    assert torch.equal(table[5], table[6])
    assert mean_square(table[[2, 3, 4, 5, 6, 9]]) == pytest.approx(1.0, rel=1e-5)
    assert table[[1, 7, 8, 10]].abs().max() <= math.sqrt(3)
    assert len({*map(tuple, table.tolist())}) == 9
    assert torch.equal(table, load_vectors(path, wordpiece, WIDTH, seed=0).table)
    assert not torch.equal(table[7], load_vectors(path, wordpiece, WIDTH, seed=1).table[7])


def test_vec_finds_pieces_of_unigram(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Prevents the begin mark U+2581 from hiding every piece that begins a word."""
    path = write_vec(tmp_path / "some.vec", rows_of("▁", "Anna", "a", "b", "e", "n"))
    made = load_vectors(path, vocabulary, WIDTH, seed=0)
    first, second = (made.table[vocabulary.tokenizer.token_to_id(piece)] for piece in ("▁Anna", "a"))
    expected = torch.tensor([[float(number) for number in row.split()[1:]] for row in rows_of("▁", "Anna", "a")[1:]])
    assert torch.allclose(torch.stack([first, second]) / first[0], expected / expected[0, 0], rtol=1e-4)
    assert made.found == pytest.approx(5 / (len(vocabulary.teacher_ids) - 1)), "all but the mark alone, which is no word"


def test_vec_wider_than_the_student(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents columns that are cut off instead of reduced: distances between rows survive as far as the width lets them."""
    plane = torch.randn(5, 2, generator=torch.Generator().manual_seed(2)) @ torch.tensor([[0.0, 0.0, 3.0, 1.0], [0.0, 0.1, -1.0, 2.0]])
    words = ["Oslo", "Paris", "à", "東", "zz"]
    path = write_vec(tmp_path / "some.vec", [f"{word} {' '.join(map(str, row.tolist()))}" for word, row in zip(words, plane, strict=True)])
    table = load_vectors(path, wordpiece, 2, seed=0).table
    assert table.shape == (11, 2)
    reduced = table[[4, 7, 8, 9, 10]]
    assert mean_square(reduced) == pytest.approx(1.0, rel=1e-5)
    ratio = torch.pdist(reduced) / torch.pdist(plane)
    assert torch.allclose(ratio, ratio[0].expand(len(ratio)), rtol=1e-4)


def test_vec_narrower_than_the_student(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents columns of nothing; the message names a width that works."""
    path = write_vec(tmp_path / "some.vec", rows_of("Oslo"))
    with pytest.raises(ConfigError, match=r"some\.vec: vectors of 4 numbers, .* width 5; use one of at most 4"):
        load_vectors(path, wordpiece, 5, seed=0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("Rom 1 2 3", r"some\.vec:3: 3 numbers after the word, expected 4"),
        ("Rom 1 2 3 4 5", r"some\.vec:3: 5 numbers after the word, expected 4"),
        ("New York 1 2 3 4", r"some\.vec:3: 5 numbers after the word, expected 4"),
        ("", r"some\.vec:3: 1 numbers after the word, expected 4"),
        ("Paris 1 2 x 4", r"some\.vec:3: not a number \(.*'x'\)"),
        ("Paris 1 2 nan 4", r"some\.vec:3: a number is not finite"),
        ("Paris 1 2 inf 4", r"some\.vec:3: a number is not finite"),
    ],
)
def test_vec_malformed_lines_are_named(wordpiece: Vocabulary, tmp_path: Path, bad: str, message: str) -> None:
    """Prevents vectors shifted by a number, or NaN that shows only when training has failed."""
    first, *others = rows_of("Berlin", "Oslo", "no", "東", "à")
    with pytest.raises(DataError, match=message):
        load_vectors(write_vec(tmp_path / "some.vec", [first, bad, *others]), wordpiece, WIDTH, seed=0)


@pytest.mark.parametrize("header", ["Berlin 1 2 3 4", "5", "5 x", "5 0", "5 -4", "5 4 3", "\x93NUMPY"])
def test_vec_without_its_first_line(wordpiece: Vocabulary, tmp_path: Path, header: str) -> None:
    """Prevents a file of another kind, such as GloVe's, from losing its first word or being read with a wrong width."""
    path = write_vec(tmp_path / "some.vec", rows_of("Berlin", "Oslo", "no", "東", "à"), header)
    with pytest.raises(DataError, match=r"some\.vec:1: found '.*', expected two numbers"):
        load_vectors(path, wordpiece, WIDTH, seed=0)


def test_vec_that_ends_early(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents a download that broke off from passing for one that lacks many pieces."""
    path = write_vec(tmp_path / "some.vec", rows_of("Berlin", "Oslo", "no", "東", "à"), "700 4")
    with pytest.raises(DataError, match=r"some\.vec:6: the file ends after 5 vectors, expected 700"):
        load_vectors(path, wordpiece, WIDTH, seed=0)


def test_vec_empty(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents a crash on a file that was made and never filled."""
    (tmp_path / "some.vec").touch()
    with pytest.raises(DataError, match=r"some\.vec:1: found ''"):
        load_vectors(tmp_path / "some.vec", wordpiece, WIDTH, seed=0)


def test_vec_of_real_words(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents trips over what web text has: bytes that are not UTF-8, odd line ends inside words, doublets, and no last line end."""
    odd = [b"\xff\xfe 1 2 3 4", "a\u2028b 1 2 3 4".encode(), "\u3000 1 2 3 4".encode(), b"a\x85\x0c 1 2 3 4", b"Berlin 9 9 9 9"]
    lines = [row.encode() for row in rows_of("Berlin", "Oslo", "no", "東", "à")] + odd
    path = tmp_path / "some.vec"
    path.write_bytes(b"10 4\r\n" + b"\r\n".join(lines))
    table = load_vectors(path, wordpiece, WIDTH, seed=0).table
    assert torch.allclose(table[2] / table[2, 0], torch.tensor(BERLIN) / BERLIN[0]), "the first of two rows counts"


def test_vec_of_another_language(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents a table of noise, or a division by nothing, from passing for pre-trained vectors; zeros are no vectors."""
    rows = [*rows_of("ulica", "dom"), "Oslo 0 0 0 0", "Paris 0 0 0 0", *rows_of("no", "Berlin")]
    with pytest.raises(DataError, match=r"some\.vec: has vectors for 4 of the student's 11 pieces, expected more than the 4 columns"):
        load_vectors(write_vec(tmp_path / "some.vec", rows), wordpiece, WIDTH, seed=0)


@pytest.mark.parametrize("name", ["some.txt", "some.vec.gz", "some"])
def test_other_files_are_refused(wordpiece: Vocabulary, tmp_path: Path, name: str) -> None:
    """Prevents a packed file from being read as text."""
    with pytest.raises(ConfigError, match=r"vectors are read from \.vec and \.bin"):
        load_vectors(tmp_path / name, wordpiece, WIDTH, seed=0)


def test_no_such_file(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents a traceback on a misspelt path."""
    with pytest.raises(DataError, match=r"none\.vec: cannot be read"):
        load_vectors(tmp_path / "none.vec", wordpiece, WIDTH, seed=0)
    need_fasttext()
    with pytest.raises(DataError, match=r"none\.bin: not a model that fastText reads"):
        load_vectors(tmp_path / "none.bin", wordpiece, WIDTH, seed=0)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text to train a model of whole words on."""
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text("".join(" ".join(sentence) + "\n" for sentence in SENTENCES), encoding="utf-8")
    return path


def test_bin_gives_what_the_model_gives(vocabulary: Vocabulary, tmp_path: Path, text_file: Path) -> None:
    """Prevents vectors on the wrong pieces, and pieces left out that n-grams have a vector for."""
    fasttext = need_fasttext()
    # Ten threads and ten columns: with fewer, fastText leaves a part of its first vectors to chance.
    model = fasttext.train_unsupervised(str(text_file), dim=10, minCount=1, epoch=1, thread=10, verbose=0, bucket=200, minn=1, maxn=4)
    model.save_model(str(tmp_path / "some.bin"))
    made = load_vectors(tmp_path / "some.bin", vocabulary, 10, seed=0)
    assert made.found > 0.95
    assert not made.table[0].any()
    for name, word in (("▁Anna", "Anna"), ("h", "h")):
        row, vector = made.table[vocabulary.tokenizer.token_to_id(name)], torch.from_numpy(model.get_word_vector(word))
        assert torch.allclose(row / row[0], vector / vector[0], rtol=1e-4)
    assert load_vectors(tmp_path / "some.bin", vocabulary, 3, seed=0).table.shape == (len(vocabulary.teacher_ids), 3)
    with pytest.raises(ConfigError, match="at most 10"):
        load_vectors(tmp_path / "some.bin", vocabulary, 11, seed=0)


def test_bin_without_ngrams_lacks_words(vocabulary: Vocabulary, tmp_path: Path, text_file: Path) -> None:
    """Prevents rows of zeros for words that a model does not know, which would count as found."""
    fasttext = need_fasttext()
    model = fasttext.train_unsupervised(str(text_file), dim=10, minCount=1, epoch=1, thread=10, verbose=0, maxn=0)
    model.save_model(str(tmp_path / "some.bin"))
    made = load_vectors(tmp_path / "some.bin", vocabulary, 10, seed=0)
    assert 0 < made.found < 0.9
    assert made.table[1:].any(dim=1).all()


def test_bin_of_another_kind(wordpiece: Vocabulary, tmp_path: Path) -> None:
    """Prevents the weights of some network, which are called ``.bin`` too, from being read as a fastText model."""
    need_fasttext()
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(DataError, match=r"pytorch_model\.bin: not a model that fastText reads"):
        load_vectors(tmp_path / "pytorch_model.bin", wordpiece, WIDTH, seed=0)
