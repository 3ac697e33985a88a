"""A teacher that reads along with the student, batch by batch: for what is too big to store, every layer and every attention map.

A hidden layer of 13 and twelve maps a layer would take a hundred times the space of the text's logits (see `store`), so recipes that
learn from them run the teacher in the step, on less text. The teacher is frozen, in evaluation mode, without gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.records import Sentence
from nerdistill.teachers.annotate import Annotator
from nerdistill.teachers.reconcile import merge_logits


def read_along(annotator: Annotator, text: EncodedCorpus, sentences: Sequence[Sentence]) -> EncodedCorpus:
    """The student's text with the teacher reading each batch.

    Its batches have ``teacher_logits`` ``[B, W, K]`` over the data's tags, ``teacher_hidden`` ``[B, W, L + 1, d]``, all layers with the
    embeddings first, and ``teacher_attention`` ``[B, L, A, W, W]``, raw scores between the first pieces of words; float32. Batches are
    measured in the teacher's pieces, which are what costs.

    Args:
        annotator: The teacher.
        text: Encoded for the student.
        sentences: The same text.
    """
    both, rows = text.read_by(annotator.encoder, sentences)
    both.targets = None
    both.reader = _reader(annotator, rows)
    return both


def _reader(annotator: Annotator, rows: npt.NDArray[np.int64]) -> Callable[[npt.NDArray[np.int64]], dict[str, Tensor]]:
    def read(ranges: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        arrays = annotator.encoder.collate([rows[start:stop] for start, stop in ranges])
        batch = {name: torch.from_numpy(array).to(annotator.device) for name, array in arrays.items()}
        with torch.no_grad():
            output = annotator.model(batch, with_attention=True)
        return {
            "teacher_logits": merge_logits(output.logits, annotator.targets, len(annotator.scheme.tags)),
            "teacher_hidden": torch.stack([states.float() for states in output.hidden], dim=2),
            "teacher_attention": torch.stack(output.attention, dim=1),
        }

    return read
