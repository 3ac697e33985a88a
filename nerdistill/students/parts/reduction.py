"""The student's first embeddings: the teacher's table, reduced (XtremeDistil section 3.1; SVD of the fine-tuned table was its best)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def reduce_table(table: Tensor, rows: Sequence[int], width: int) -> Tensor:
    """Principal directions of the chosen rows.

    The teacher's table is the fine-tuned one only where fine-tuning changes it; by default (``teacher.freeze_embeddings``) it is the
    pre-trained one, which the paper found 0.1 F1 behind.

    Rows are centred over the chosen ones, so the directions are those of the student's own languages, and scaled by one number to unit
    mean square: the LSTM that reads them starts in its working range.

    Args:
        table: ``[V, d]``, the teacher's embeddings.
        rows: Teacher ids of the student's pieces.
        width: Columns to keep, at most d.

    Returns:
        ``[len(rows), width]``.
    """
    chosen = table.detach().to(torch.float32)[torch.tensor(rows)]
    centred = chosen - chosen.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T.double() @ centred.double())
    directions = vectors[:, values.argsort(descending=True)[:width]]
    signs = directions[directions.abs().argmax(dim=0), torch.arange(directions.shape[1])].sign()
    reduced = centred @ (directions * signs).float()
    scaled: Tensor = reduced / reduced.square().mean().sqrt()
    return scaled
