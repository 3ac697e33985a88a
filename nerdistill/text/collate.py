"""Rows of a word table to the padded arrays that models take. The same functions feed training and serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nerdistill.text.encoder import WordTable

Rows: TypeAlias = npt.NDArray[np.int64]
Arrays: TypeAlias = dict[str, npt.NDArray[np.int64]]


def _padded(rows: Sequence[Rows]) -> tuple[Rows, Rows]:
    lengths = np.array([len(sentence) for sentence in rows], dtype=np.int64)
    index = np.zeros((len(rows), int(lengths.max(initial=1))), dtype=np.int64)
    index[np.arange(index.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return index, lengths


def collate_words(rows: Sequence[Rows], table: WordTable) -> Arrays:
    """For models that pool pieces to words.

    Returns:
        ``word_pieces`` ``[U, P]``, pieces of the batch's distinct words, padded with the table's `pad_id`; ``word_index`` ``[B, W]``, which
        of them stands where (0 on padding); ``lengths`` ``[B]``, words of each sentence.
    """
    padded, lengths = _padded(rows)
    distinct, index = np.unique(padded, return_inverse=True)
    longest = int(table.lengths[distinct].max(initial=1))
    pieces = table.pieces[distinct, :longest].astype(np.int64)
    return {"word_pieces": pieces, "word_index": index.reshape(padded.shape), "lengths": lengths}


def collate_pieces(rows: Sequence[Rows], table: WordTable, bos_id: int, eos_id: int) -> Arrays:
    """For models over sequences of pieces, one begin and one end piece around each sentence.

    Returns:
        ``input_ids`` and ``attention_mask`` ``[B, S]`` (mask 1 = a real piece); ``first_piece`` ``[B, W]``, position of each word's first
        piece (0 on padding); ``lengths`` ``[B]``, words of each sentence.
    """
    padded, lengths = _padded(rows)
    real = np.arange(padded.shape[1]) < lengths[:, None]
    counts = np.where(real, table.lengths[padded], 0)
    ends = np.cumsum(counts, axis=1)
    sizes = ends[:, -1] + 2
    input_ids = np.full((len(rows), int(sizes.max())), table.pad_id, dtype=np.int64)
    positions = np.arange(input_ids.shape[1])
    flat = table.pieces[padded[real]]
    kept = flat[np.arange(flat.shape[1]) < counts[real][:, None]]
    input_ids[(positions >= 1) & (positions < sizes[:, None] - 1)] = kept
    input_ids[:, 0] = bos_id
    input_ids[np.arange(len(rows)), sizes - 1] = eos_id
    return {
        "input_ids": input_ids,
        "attention_mask": (positions < sizes[:, None]).astype(np.int64),
        "first_piece": np.where(real, ends - counts + 1, 0),
        "lengths": lengths,
    }
