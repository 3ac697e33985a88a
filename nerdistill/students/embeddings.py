"""The first embeddings that XtremeDistil (section 3.1) compares: the teacher's whole table, and fastText vectors, trained here or given.

The fourth, the teacher's table reduced, is `nerdistill.students.parts.reduction`. What every table here has in common with that one:
rows with a vector are scaled by one number to unit mean square, so that the LSTM that reads them starts in its working range. Padding is 0.

Deviation: the published code gives a piece without a vector uniform noise in ±0.1, which has the mean square of unit-length vectors of
300 numbers, such as the MUSE vectors that it reads. We keep that ratio, not the number: noise with the mean square of the other rows,
in ±√3.
"""

from __future__ import annotations

import importlib
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.students.parts.reduction import reduce_table
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.encoder import WordTable

Vector = npt.NDArray[np.float32]

PAD, UNK = 0, 1
LINE_END = "</s>"
"""What fastText reads at the end of every line; a word of its own with a vector of its own."""


@dataclass(frozen=True)
class PieceVectors:
    """First embeddings out of a source that need not know every piece.

    Attributes:
        table: ``[n_pieces, width]`` float32; row 0, padding, is 0.
        found: Share of the pieces, padding left out, that the source has a vector for; the others have noise.
    """

    table: Tensor
    found: float


def full_table(teacher_table: Tensor, rows: Sequence[int]) -> Tensor:
    """The teacher's own rows, neither centred nor reduced: as wide as the teacher, and most of a student's size.

    Args:
        teacher_table: ``[V, d]``, the teacher's embeddings.
        rows: Teacher ids of the student's pieces, padding first.

    Returns:
        ``[len(rows), d]`` float32; row 0 is 0, the others have unit mean square over all.
    """
    chosen = teacher_table.detach().to(torch.float32)[torch.tensor(rows)]
    chosen[PAD] = 0.0
    return chosen / _size(chosen[PAD + 1 :])


def train_fasttext(
    sentences: Iterable[Sequence[str]],
    vocabulary: Vocabulary,
    width: int,
    seed: int,
    model: Literal["skipgram", "cbow"] = "skipgram",
    epochs: int = 5,
) -> PieceVectors:
    """Train fastText on text that is cut into the student's pieces (Bojanowski et al. 2017, section 3.1, without their 3.2).

    Character n-grams, their section 3.2, are left out: they lend vectors to rare words, and pieces are the subwords already.
    Pieces are written by number: what stands in them, a space or a begin mark, is nothing to fastText then.

    fastText takes no seed, and each of its threads sets one tenth of the first vectors: with one thread the other nine tenths are what
    the memory held, so training ends in NaN or in other vectors each time. Therefore it is handed the first vector of every piece, drawn
    from our seed as it would have drawn them. With that and one thread, equal arguments give equal tables on one machine; what it
    samples while it trains does not depend on the seed.

    Args:
        sentences: Words, a sentence an item; gone through once and not held in memory.
        vocabulary: The student's. Words are read as the student reads them.
        width: Columns of the table.
        seed: Of the first vectors and of the noise for pieces that the text lacks.
        model: Whether a piece predicts its neighbours or they predict it.
        epochs: Passes over the text.

    Raises:
        DataError: There is not one word in the sentences.
        MissingExtraError: fasttext is not installed.
    """
    fasttext = _import_fasttext()
    generator = torch.Generator().manual_seed(seed)
    with tempfile.TemporaryDirectory(prefix="nerdistill-") as folder:
        text, first = Path(folder) / "text", Path(folder) / "first.vec"
        ids = _write_pieces(text, sentences, vocabulary.tokenizer)
        if not ids:
            raise DataError("fastText embeddings: no word in the text to train them on; name transfer text, or take other embeddings")
        words = [*map(str, ids), LINE_END]
        _write_vectors(first, words, _noise(len(words), width, 1 / width, generator))
        trained = fasttext.train_unsupervised(
            str(text), model=model, dim=width, epoch=epochs, minCount=1, minn=0, maxn=0, thread=1, verbose=0, pretrainedVectors=str(first)
        )
    rows = {word: row for row, word in enumerate(trained.get_words())}
    vectors = torch.from_numpy(trained.get_input_matrix())[[rows[str(i)] for i in ids]]
    return _assemble(ids, vectors, len(vocabulary.teacher_ids), generator)


def load_vectors(path: Path, vocabulary: Vocabulary, width: int, seed: int) -> PieceVectors:
    """Take vectors from a file, each piece by its text without the mark of a word's begin or middle.

    A word of the file stands for a piece wherever in a word that piece is, and upper and lower case differ. The paper found 38 % of
    mBERT's pieces among the words of its vectors. A ``.bin`` that has character n-grams finds a vector for almost every piece. Vectors
    wider than the student's are reduced to the principal directions of the rows found, and centred by that; others are only scaled.

    Args:
        path: ``.vec``, fastText's text form, of which only the rows of pieces are held in memory; or ``.bin``, its model, which is
            held as a whole.
        vocabulary: The student's.
        width: Columns of the table.
        seed: Of the noise for pieces without a vector.

    Raises:
        ConfigError: The file has another suffix, or its vectors are narrower than `width`.
        DataError: The file cannot be read, is malformed (with its line), or has vectors for hardly any piece.
        MissingExtraError: fasttext, which reads ``.bin``, is not installed.
    """
    if path.suffix not in (".vec", ".bin"):
        raise ConfigError(f"{path}: vectors are read from .vec and .bin files of fastText, not from '{path.suffix}'; unpack or convert it")
    n_pieces = len(vocabulary.teacher_ids)
    pieces = defaultdict(list)
    for piece, i in sorted(vocabulary.tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if i > UNK and (bare := piece.removeprefix("##").removeprefix("▁")):
            pieces[bare].append(i)
    found = dict((_vectors_of_text if path.suffix == ".vec" else _vectors_of_model)(path, pieces, width))
    ids = [i for bare in found for i in pieces[bare]]
    if len(ids) <= width:
        raise DataError(
            f"{path}: has vectors for {len(ids)} of the student's {n_pieces} pieces, expected more than the {width} columns to fill; "
            "take vectors of the same languages, in the same case"
        )
    vectors = torch.from_numpy(np.stack([found[bare] for bare in found for _ in pieces[bare]]))
    if vectors.shape[1] > width:
        vectors = reduce_table(vectors, range(len(ids)), width)
    return _assemble(ids, vectors, n_pieces, torch.Generator().manual_seed(seed))


def _assemble(ids: Sequence[int], vectors: Tensor, n_pieces: int, generator: torch.Generator) -> PieceVectors:
    table = _noise(n_pieces, vectors.shape[1], math.sqrt(3), generator)
    table[ids] = vectors / _size(vectors)
    table[PAD] = 0.0
    return PieceVectors(table, len(ids) / (n_pieces - 1))


def _size(rows: Tensor) -> Tensor:
    return rows.square().mean().sqrt()


def _noise(rows: int, width: int, bound: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(rows, width, generator=generator) - 1) * bound


def _import_fasttext() -> ModuleType:
    what = "training fastText embeddings or reading a .bin of them"
    try:
        module = importlib.import_module("fasttext")
    except ImportError as error:
        raise MissingExtraError(what, "fasttext", "fasttext") from error
    if not hasattr(module, "train_unsupervised"):  # fasttext-predict, which language identification brings, has the same name
        raise MissingExtraError(what, "fasttext", "fasttext")
    return module


def _write_pieces(path: Path, sentences: Iterable[Sequence[str]], tokenizer: Tokenizer) -> list[int]:
    """Write the numbers of each sentence's pieces to a line, and return those that occur."""
    words, seen = WordTable(tokenizer, unk_id=UNK, pad_id=PAD), set()
    with path.open("w", encoding="ascii") as file:
        for sentence in sentences:
            words.make_room()
            rows = words.rows(sentence)  # before `pieces`, which it may replace
            cut = words.pieces[rows]
            ids = cut[cut != PAD].tolist()
            seen.update(ids)
            file.write(" ".join(map(str, ids)) + "\n")
    return sorted(seen)


def _write_vectors(path: Path, words: Sequence[str], vectors: Tensor) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(words, vectors.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{number:.5g}' for number in vector)}\n")


def _vectors_of_model(path: Path, words: Iterable[str], width: int) -> Iterator[tuple[str, Vector]]:
    fasttext = _import_fasttext()
    try:
        model = fasttext.load_model(str(path))
    except ValueError as error:
        raise DataError(f"{path}: not a model that fastText reads ({error}); fetch it again, or take its .vec") from error
    _check_width(path, model.get_dimension(), width)
    for word in words:
        vector = model.get_word_vector(word)
        if not np.isfinite(vector).all():
            raise DataError(f"{path}: the vector of '{word}' is not finite; fetch the file again, or train it with a lower rate")
        if vector.any():  # zeros: an unknown word to a model without n-grams
            yield word, vector


def _vectors_of_text(path: Path, words: Mapping[str, object], width: int) -> Iterator[tuple[str, Vector]]:
    """Read a ``.vec`` as bytes: words of real files have characters in them that decoding or splitting into lines would trip over."""
    wanted = {word.encode(): word for word in words}
    try:
        with path.open("rb") as file:
            rows, columns = _header(path, file.readline(100))
            _check_width(path, columns, width)
            number = 1
            for number, line in enumerate(file, start=2):
                word, _, numbers = line.rstrip().partition(b" ")
                if (got := numbers.count(b" ") + 1) != columns:
                    raise DataError(f"{path}:{number}: {got} numbers after the word, expected {columns} as line 1 says; repair the line")
                if piece := wanted.pop(word, None):  # a word's first row is the one that counts
                    vector = _numbers(f"{path}:{number}", numbers)
                    if vector.any():
                        yield piece, vector
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if number - 1 != rows:
        raise DataError(f"{path}:{number}: the file ends after {number - 1} vectors, expected {rows} as line 1 says; fetch it again")


def _header(path: Path, line: bytes) -> tuple[int, int]:
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() and int(field) for field in fields):
        shown = line[:40].decode("utf-8", "replace").rstrip()
        raise DataError(f"{path}:1: found '{shown}', expected two numbers, how many vectors and how wide; put such a line first")
    return int(fields[0]), int(fields[1])


def _numbers(where: str, text: bytes) -> Vector:
    try:
        vector = np.array([float(number) for number in text.split(b" ")], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: not a number ({error}); expected numbers with spaces between them; repair the line") from error
    if not np.isfinite(vector).all():
        raise DataError(f"{where}: a number is not finite; repair the line or remove it")
    return vector


def _check_width(path: Path, found: int, width: int) -> None:
    if found < width:
        raise ConfigError(
            f"{path}: vectors of {found} numbers, narrower than the student's embedding width {width}; use one of at most {found}"
        )
